"""The embedded server starts, keeps quiet, is shared, and is never left behind."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from ledger.embedded import SILENT_LOG, EmbeddedPostgres, EmbeddedPostgresError, wheel_bin_dir

PG15 = Path("/usr/lib/postgresql/15/bin")
DEADLINE_SECONDS = 60

pytestmark = pytest.mark.store

USER_PROGRAM = """
import sys
from pathlib import Path
from ledger.embedded import EmbeddedPostgres
with EmbeddedPostgres(Path(sys.argv[1]), fsync=False) as server:
    print(server.url(), flush=True)
    sys.stdin.read()
"""


@pytest.fixture(
    params=[
        pytest.param(None, id="wheel"),
        pytest.param(
            PG15,
            id="pg15",
            marks=[pytest.mark.pg15, pytest.mark.skipif(not PG15.is_dir(), reason="no PostgreSQL 15 here")],
        ),
    ]
)
def bin_dir(request: pytest.FixtureRequest) -> Path | None:
    """The binaries of the wheel, then those of Debian."""
    chosen: Path | None = request.param
    return chosen


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """One running server for the tests that do no harm to it."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("shared"), fsync=False) as server:
        yield server


def ask(server: EmbeddedPostgres, question: str) -> str:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        row = connection.execute(question.encode()).fetchone()
    assert row is not None
    return str(row[0])


def start_user(data_dir: Path) -> subprocess.Popen[str]:
    """Another process that uses the server until its standard input ends."""
    user = subprocess.Popen(
        [sys.executable, "-c", USER_PROGRAM, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert user.stdout is not None
    assert user.stdout.readline().startswith("postgresql://")
    return user


def end_user(user: subprocess.Popen[str], kill: bool = False) -> None:
    if kill:
        user.kill()
    user.communicate()


def eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds()


@pytest.mark.parametrize("tcp", [False, True], ids=["socket", "tcp"])
def test_it_starts_answers_and_stops(tmp_path: Path, bin_dir: Path | None, tcp: bool) -> None:
    """Given an empty directory, a server of the asked version comes up, and stop() leaves none behind."""
    server = EmbeddedPostgres(tmp_path / "data", bin_dir, tcp=tcp, fsync=False)

    with server:
        said = ask(server, "SHOW server_version")
        address = ask(server, "SELECT coalesce(host(inet_server_addr()), 'socket')")
        url = server.url()

    assert said.startswith(server.version)
    assert server.version.startswith("18." if bin_dir is None else "15.")
    assert address == ("127.0.0.1" if tcp else "socket")
    assert not server.running
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)


def test_data_and_settings_outlive_a_stop(tmp_path: Path, bin_dir: Path | None) -> None:
    """Given a stopped server, the same directory starts again with its databases and its silent log."""
    server = EmbeddedPostgres(tmp_path / "data", bin_dir)
    with server:
        ask(server, "SELECT set_config('x.y', 'z', false)")
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE kept")
            connection.execute("ALTER SYSTEM SET log_statement = 'all'")

    with server, psycopg.connect(server.url("kept"), autocommit=True) as connection:
        shown = {
            name: str(row[0])
            for name in (*SILENT_LOG, "max_connections", "fsync", "timezone")
            if (row := connection.execute(f"SHOW {name}".encode()).fetchone())
        }

    assert shown == {**SILENT_LOG, "max_connections": "100", "fsync": "on", "timezone": "UTC"}


def test_its_log_repeats_no_statement_and_no_parameter(shared: EmbeddedPostgres) -> None:
    """Given statements that fail with an address in text, parameter and key, the log shows none of it."""
    with psycopg.connect(shared.url(), autocommit=True) as connection:
        connection.execute("CREATE TABLE t (a text PRIMARY KEY)")
        connection.execute("INSERT INTO t VALUES ('canary@example.com')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("INSERT INTO t VALUES (%s)", ["canary@example.com"])
        with pytest.raises(psycopg.errors.UndefinedColumn):
            connection.execute("SELECT nowhere, 'canary@example.com'")

    log = shared.log_path.read_text()
    assert "duplicate key" in log
    assert "canary" not in log


def test_strangers_are_kept_out_by_the_directory(shared: EmbeddedPostgres) -> None:
    """Given no password, the cluster and its socket lie in directories that only the server's user enters."""
    cluster = shared.data_dir / "cluster"
    sockets = Path((cluster / "postmaster.pid").read_text().splitlines()[4])
    for folder in (cluster, sockets):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert (sockets / ".s.PGSQL.5432").is_socket()


def test_a_crash_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Given committed rows and an immediate stop, start() recovers them and joins the same guard."""
    with EmbeddedPostgres(tmp_path / "data", fsync=False) as server:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("CREATE TABLE t AS SELECT 1 AS a")

        server.stop_immediately()
        assert not server.running
        server.start()
        assert ask(server, "SELECT count(*) FROM t") == "1"
        server.restart(immediately=True)
        assert ask(server, "SELECT count(*) FROM t") == "1"


def test_processes_share_one_server_and_the_last_stops_it(tmp_path: Path) -> None:
    """Given two processes on one directory, the first may leave, and the server stops with the second."""
    server = EmbeddedPostgres(tmp_path / "data", fsync=False)
    first = start_user(server.data_dir)
    second = start_user(server.data_dir)

    end_user(first)
    assert server.running
    end_user(second)
    assert not server.running


@pytest.mark.parametrize("crashed_before", [False, True], ids=["plain", "restarted"])
def test_a_killed_process_leaves_no_server_behind(tmp_path: Path, crashed_before: bool) -> None:
    """Given users that die by SIGKILL, also after a crash of the server, the guard stops it."""
    server = EmbeddedPostgres(tmp_path / "data", fsync=False)
    first = start_user(server.data_dir)
    second = start_user(server.data_dir)
    if crashed_before:
        server.restart(immediately=True)
        server.stop()

    end_user(first, kill=True)
    assert server.running
    end_user(second, kill=True)
    assert eventually(lambda: not server.running)


def test_sigterm_leaves_no_server_behind(tmp_path: Path) -> None:
    """Given a process ended by SIGTERM, which runs no atexit hook, the guard stops the server."""
    server = EmbeddedPostgres(tmp_path / "data", fsync=False)
    user = start_user(server.data_dir)
    user.send_signal(signal.SIGTERM)
    end_user(user)
    assert eventually(lambda: not server.running)


def test_a_forked_child_leaves_its_parents_server_alone(shared: EmbeddedPostgres) -> None:
    """Given a fork, the child's stop() is not the parent's."""
    child = os.fork()
    if child == 0:
        shared.stop()
        os._exit(0)
    os.waitpid(child, 0)
    assert ask(shared, "SELECT 1") == "1"


def test_a_path_too_long_for_a_socket_still_works(tmp_path: Path) -> None:
    """Given a directory whose socket path the kernel would refuse, a short one is used and taken away."""
    server = EmbeddedPostgres(tmp_path / ("deep" * 30) / "data", fsync=False)
    with server:
        sockets = Path((server.data_dir / "cluster" / "postmaster.pid").read_text().splitlines()[4])
        assert ask(server, "SELECT 1") == "1"
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    assert not sockets.exists()


def test_a_restart_is_found_at_the_old_address(tmp_path: Path) -> None:
    """Given a path too long for a socket, when the server crashes and starts again, then its address is the same."""
    with EmbeddedPostgres(tmp_path / ("deep" * 30) / "data", fsync=False) as server:
        before = server.url()
        server.stop_immediately()
        server.start()
        assert server.url() == before
        server.restart()
        assert server.url() == before
        assert ask(server, "SELECT 1") == "1"


def test_a_socket_folder_that_others_may_enter_is_not_used(tmp_path: Path) -> None:
    """Given a note that names somebody else's folder, when the server starts, then it makes one of its own."""
    server = EmbeddedPostgres(tmp_path / ("deep" * 30) / "data", fsync=False)
    theirs = tmp_path / "lethe-theirs"
    theirs.mkdir(mode=0o777)
    theirs.chmod(0o777)
    server.data_dir.mkdir(parents=True)
    (server.data_dir / "sockets").write_text(str(theirs))
    with server:
        assert "lethe-theirs" not in server.url()
        assert ask(server, "SELECT 1") == "1"
    assert theirs.exists()


def test_a_server_found_in_the_other_mode_is_refused(shared: EmbeddedPostgres) -> None:
    """Given a running server on a socket, asking for TCP in the same directory is an error that says so."""
    other = EmbeddedPostgres(shared.data_dir, tcp=True)
    with pytest.raises(EmbeddedPostgresError, match="another directory"):
        other.start()
    assert shared.running


@pytest.mark.pg15
@pytest.mark.skipif(not PG15.is_dir(), reason="no PostgreSQL 15 here")
def test_a_directory_of_another_version_is_refused(tmp_path: Path) -> None:
    """Given a directory made by 18, the binaries of 15 do not touch it."""
    with EmbeddedPostgres(tmp_path / "data", fsync=False):
        pass
    with pytest.raises(EmbeddedPostgresError, match="was made by PostgreSQL 18"):
        EmbeddedPostgres(tmp_path / "data", PG15).start()


def test_what_cannot_run_says_what_to_do(tmp_path: Path) -> None:
    """Given a folder without programs, or a server that is not up, the error names the way out."""
    with pytest.raises(EmbeddedPostgresError, match="Name a folder"):
        EmbeddedPostgres(tmp_path / "data", tmp_path).start()
    with pytest.raises(EmbeddedPostgresError, match=r"Call start\(\)"):
        EmbeddedPostgres(tmp_path / "data").url()
    assert (wheel_bin_dir() / "postgres").is_file()


def test_bad_settings_show_the_end_of_the_log(tmp_path: Path) -> None:
    """Given a setting that PostgreSQL refuses, the error carries the reason and nothing stays behind."""
    server = EmbeddedPostgres(tmp_path / "data", fsync=False, settings={"shared_buffers": "no"})
    with pytest.raises(EmbeddedPostgresError, match="shared_buffers"):
        server.start()
    assert not server.running


def test_the_container_settings_are_as_silent(tmp_path: Path) -> None:
    """Given the settings that compose mounts, PostgreSQL takes them, and they say the same of the log."""
    conf = Path(__file__).parents[2] / "deploy" / "postgres" / "lethe.conf"
    mounted = tmp_path / "lethe.conf"
    mounted.write_text(conf.read_text())
    mounted.chmod(0o644)

    settings = {"config_file": str(mounted)}
    with EmbeddedPostgres(tmp_path / "data", fsync=False, settings=settings) as server:
        assert ask(server, "SHOW checkpoint_timeout") == "15min"

    lines = (line for line in conf.read_text().splitlines() if not line.startswith("#"))
    stated = dict(line.split(" = ") for line in lines if " = " in line)
    assert {name: stated.get(name) for name in SILENT_LOG} == SILENT_LOG


def test_a_half_made_cluster_is_made_again(tmp_path: Path) -> None:
    """Given what a kill in the middle of initdb leaves, start() begins anew."""
    (tmp_path / "data" / "cluster.new").mkdir(parents=True)
    (tmp_path / "data" / "cluster.new" / "PG_VERSION").write_text("18")
    with EmbeddedPostgres(tmp_path / "data", fsync=False) as server:
        assert ask(server, "SELECT 1") == "1"
