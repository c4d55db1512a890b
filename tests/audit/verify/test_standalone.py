"""The verifier alone: a folder that holds `audit` and nothing else, and the programs that a bundle's README prints."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from audit.verify.__main__ import main
from audit.verify.errors import CheckUnavailable
from audit.verify.manifest import bundle_text
from audit.verify.merkle import leaf_hash
from audit.verify.readme import readme_text
from audit.verify.report import sentences
from audit.verify.timestamp import timestamp_request
from tests.bundles import HOUSE, STRANGER, WITNESS, Draft, receipt, signed, verified
from tests.timestamp_authority import TimestampAuthority
from tests.verifiers.outside import go_environment

ROOT = Path(__file__).resolve().parents[3]
KEY = str(HOUSE.verifier)

WITH_WATCH = """
import runpy, socket, sys
def shut(*_): raise AssertionError("the network was asked")
socket.socket.connect = socket.getaddrinfo = shut
sys.argv = ["audit.verify", *sys.argv[1:]]
try:
    runpy.run_module("audit.verify", run_name="__main__")
finally:
    ours = {"domain", "ledger", "projections", "retention", "api", "psycopg", "orjson", "pydantic"}
    loaded = ours & {name.partition(".")[0] for name in sys.modules}
    assert not loaded, loaded
"""


LARGE = 66_000
"""Events of a log whose tiles stand on three levels."""


def _bundle(folder: Path, others: int = 600) -> Path:
    told = receipt()
    told.story.fill(others)
    path = folder / "bundle.zip"
    path.write_bytes(told.draft(older=(3, 300), witnesses=(WITNESS,)).zipped())
    return path


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """A folder with a copy of `audit`, and a place elsewhere to run it from."""
    shutil.copytree(ROOT / "audit", tmp_path / "copy" / "audit", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "elsewhere").mkdir()
    return tmp_path


def _run(alone: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(alone / "copy"), "PATH": os.environ["PATH"], "HOME": str(alone)}
    command = [sys.executable, "-P", "-W", "error", "-c", WITH_WATCH, *arguments]
    return subprocess.run(
        command, cwd=alone / "elsewhere", env=environment, capture_output=True, text=True, check=False, timeout=100
    )


def test_a_copy_of_the_folder_verifies_alone(alone: Path) -> None:
    """Given `audit` alone, no settings, no network, another folder to stand in, then it verifies, and loads no more."""
    done = _run(alone, str(_bundle(alone)), "--key", KEY, "--witness", str(WITNESS.verifier), "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["verified"], said["events"], said["keys"]) == (True, 5, "given")
    assert said["cosigned"][0]["witness"] == str(WITNESS.verifier)


def test_it_refuses_alone(alone: Path) -> None:
    """Given a bundle with one byte changed, then the copy ends with 6 and says in which file."""
    path = _bundle(alone)
    content = bytearray(path.read_bytes())
    at = content.index(b"contact.added.v1")
    content[at] ^= 1
    path.write_bytes(content)
    done = _run(alone, str(path), "--json")
    assert done.returncode == 6
    assert json.loads(done.stdout)["file"] == "entries.tsv"
    assert "entries.tsv is not what its checksum (CRC-32) says" in done.stderr


def test_its_sentences_begin_with_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Given no key, then the first line warns and the second does not say verified; with the key it does."""
    path = str(_bundle(tmp_path))
    assert main([path]) == 0
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("ATTENTION: The keys were taken from the bundle itself")
    assert second.startswith("SELF-CONSISTENT")
    assert main([path, "--key", KEY]) == 0
    assert capsys.readouterr().out.startswith("VERIFIED")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["{bundle}", "--key", str(STRANGER.verifier)], 6),
        (["{bundle}", "--key", "x"], 2),
        (["{bundle}", "--key", KEY[:-4]], 2),
        (["{bundle}", "--key", str(WITNESS.verifier)], 2),
        (["{bundle}", "--witness", KEY], 2),
        (["{bundle}", "--timestamp-roots", "{missing}"], 5),
        (["{missing}"], 5),
        (["{folder}"], 5),
        (["{bundle}", "--witness", str(WITNESS.verifier), "--witnesses-needed", "2"], 6),
    ],
)
def test_its_exit_codes(tmp_path: Path, arguments: list[str], code: int) -> None:
    """Given a wrong key, no key, a file that is not there, or a witness too few, then each has its exit code."""
    places = {"bundle": _bundle(tmp_path), "missing": tmp_path / "none", "folder": tmp_path}
    assert main([argument.format(**places) for argument in arguments]) == code


def test_text_from_a_bundle_steers_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Given control characters in what a bundle says, then they are shown as a sign."""
    told = receipt()
    told.claim["authorised"] = told.story.add(bytes(16), "\x1b[2Jevil\u202e")
    told.positions.append(told.claim["authorised"])
    path = tmp_path / "bundle.zip"
    path.write_bytes(told.draft().zipped())
    assert main([str(path)]) == 6
    said = capsys.readouterr().err
    assert "\N{REPLACEMENT CHARACTER}[2Jevil\N{REPLACEMENT CHARACTER}" in said
    assert "\x1b" not in said


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_an_answer_is_given_on_every_terminal(alone: Path, encoding: str) -> None:
    """Given a name of letters that a terminal does not have, then the answer is given all the same, in both forms."""
    made = receipt().draft().sign()
    made.manifest = made.manifest.replace(b'"by":"cli"', '"by":"Łukasz \u202e\u200b…"'.encode())
    made.signature = signed(bundle_text(made.manifest), HOUSE)
    path = alone / "bundle.zip"
    path.write_bytes(made.zipped())
    environment = {"PYTHONPATH": str(alone / "copy"), "PATH": os.environ["PATH"], "PYTHONIOENCODING": encoding}
    said = []
    for form in ((), ("--json",)):
        command = [sys.executable, "-P", "-m", "audit.verify", str(path), "--key", KEY, *form]
        done = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=100)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert ("Łukasz" if encoding == "utf-8" else "\\u0141ukasz").encode() in said[0]
    assert json.loads(said[1])["by"].startswith("Łukasz")


@pytest.mark.parametrize("number", ["-1", "x", "1.5"])
def test_witnesses_are_needed_in_whole_numbers(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Given a number of witnesses that is none, then the command is not understood."""
    with pytest.raises(SystemExit) as stopped:
        main(["bundle.zip", f"--witnesses-needed={number}"])
    assert stopped.value.code == 2
    assert "not a number" in capsys.readouterr().err


def test_timestamps_that_cannot_be_read_here_are_not_believed(
    authority: TimestampAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a machine without the library for timestamps, then it says what to install; without timestamps it does not
    need it."""
    made = receipt().draft()
    text = made.files["log/checkpoint"].rpartition(b"\n\n")[0] + b"\n"
    monkeypatch.setitem(sys.modules, "audit.verify.timestamp", None)
    assert "No timestamp of an authority was checked." in list(sentences(verified(made.zipped())))
    made.files["log/timestamps/7.tsr"] = authority.answer(timestamp_request(text).content)
    made.files["keys/timestamp-roots.pem"] = authority.roots_pem
    with pytest.raises(CheckUnavailable, match="pip install rfc3161-client"):
        verified(made.sign().zipped())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TimestampAuthority:
    """An authority played by OpenSSL."""
    return TimestampAuthority(tmp_path_factory.mktemp("authority"))


def test_timestamps_are_checked(authority: TimestampAuthority) -> None:
    """Given timestamps of the checkpoint and an older one, then both are told; another text's or root's is refused."""
    told = receipt()
    told.story.fill(300)
    made = told.draft(older=(3,))
    for size, name in ((3, "log/checkpoints/3"), (307, "log/checkpoint")):
        text = made.files[name].rpartition(b"\n\n")[0] + b"\n"
        made.files[f"log/timestamps/{size}.tsr"] = authority.answer(timestamp_request(text).content)
    unchecked = verified(made.zipped())
    assert unchecked.timestamps == []
    assert any("no root certificate" in sentence for sentence in unchecked.not_proven)
    made.files["keys/timestamp-roots.pem"] = authority.roots_pem
    assert [stamp["size"] for stamp in verified(made.sign().zipped()).timestamps] == [3, 307]
    made.files["log/timestamps/3.tsr"] = made.files["log/timestamps/307.tsr"]
    with pytest.raises(Exception, match=r"log/timestamps/3\.tsr: .*Mismatch"):
        verified(made.sign().zipped())


def test_a_timestamp_of_no_checkpoint_or_by_a_stranger_is_refused(
    authority: TimestampAuthority, tmp_path: Path
) -> None:
    """Given a timestamp without its checkpoint, or by an authority that the reader does not trust, then refused."""
    made = receipt().draft()
    text = made.files["log/checkpoint"].rpartition(b"\n\n")[0] + b"\n"
    token = authority.answer(timestamp_request(text).content)
    made.files |= {"log/timestamps/7.tsr": token, "keys/timestamp-roots.pem": authority.roots_pem}
    assert verified(made.zipped()).timestamps
    with pytest.raises(Exception, match=r"log/timestamps/7\.tsr: .*certificates"):
        verified(made.zipped(), timestamp_roots=TimestampAuthority(tmp_path / "stranger").roots_pem)
    made.files["log/timestamps/5.tsr"] = token
    with pytest.raises(Exception, match="no checkpoint of size 5 to go with"):
        verified(made.sign().zipped())


# The programs that the README prints ----------------------------------------------------------------------------------


class Printed:
    """A program of the README, as somebody would run it in a folder that a bundle was unpacked to."""

    def __init__(self, language: str, folder: Path) -> None:
        found = re.search(rf"```{language}\n(.*?)```", readme_text(), re.DOTALL)
        assert found is not None
        source = folder / ("check.go" if language == "go" else "check.py")
        source.write_text(found[1])
        self.command = [sys.executable, "-I", str(source)]
        if language == "go":
            build = ["go", "build", "-o", "check", source.name]
            subprocess.run(build, cwd=folder, env=go_environment(), check=True, timeout=100)
            self.command = [str(folder / "check")]

    def __call__(self, folder: Path, key: str = KEY) -> subprocess.CompletedProcess[str]:
        """Run it there."""
        command = [*self.command, key]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=100)


@pytest.fixture(scope="module", params=["go", "python"])
def printed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Printed:
    """Each of the programs."""
    return Printed(request.param, tmp_path_factory.mktemp(request.param))


def _unpacked(folder: Path, made: Draft) -> Path:
    """A bundle unpacked by Python's own reader."""
    with zipfile.ZipFile(io.BytesIO(made.zipped())) as file:
        file.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def large() -> Draft:
    """A bundle of a log whose tiles stand on three levels."""
    told = receipt()
    told.story.fill(LARGE)
    return told.draft(older=(3, 300), witnesses=(WITNESS,))


def _with_files(made: Draft, **changes: bytes) -> Draft:
    """The same with other files, signed for by the house."""
    return Draft({**made.files, **changes}, made.kind, made.size)


def test_the_readmes_programs_verify(printed: Printed, large: Draft, tmp_path: Path) -> None:
    """Given an unpacked bundle, when a program of the README is run with the log's key, then it says so; with
    another's it refuses."""
    folder = _unpacked(tmp_path, large)
    assert printed(folder).stdout == f"5 events stand in the log of size {LARGE + 7}\n"
    done = printed(folder, str(STRANGER.verifier))
    assert (done.returncode, done.stdout) == (1, "")


def test_the_readmes_programs_refuse_any_file_that_was_changed_or_removed(printed: Printed, tmp_path: Path) -> None:
    """Given an unpacked bundle, when a byte of any of its files is changed, or the file removed, then refused."""
    told = receipt()
    told.story.fill(600)
    folder = _unpacked(tmp_path, told.draft(older=(3,), witnesses=(WITNESS,)))
    assert printed(folder).returncode == 0
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert len(files) > 15
    for path in files:
        content = path.read_bytes()
        path.write_bytes(content[:-2] + bytes((content[-2] ^ 1,)) + content[-1:])
        done = printed(folder)
        assert (done.returncode, done.stdout) == (1, ""), path
        path.unlink()
        assert printed(folder).returncode == 1, path
        path.write_bytes(content)
    assert printed(folder).returncode == 0


def test_the_readmes_programs_refuse_an_entry_forged_with_its_tile(
    printed: Printed, large: Draft, tmp_path: Path
) -> None:
    """Given a large log, when the house forges an entry and its hash in the leaf tile, then both programs refuse it.

    Go's reader of tiles believes such a tile before x/mod 0.40 (CVE-2026-56865), and Debian 12 has an older one.
    """
    first, *rest = large.files["entries.tsv"].splitlines(keepends=True)
    forged = first.replace(b"api", b"apj")
    index = int(first.partition(b"\t")[0]) - 1
    name = f"log/tile/0/{index // 256:03d}"
    hashes, at = large.files[name], index % 256 * 32
    leaf = leaf_hash(forged.removesuffix(b"\n").partition(b"\t")[2])
    tile = hashes[:at] + leaf + hashes[at + 32 :]
    folder = _unpacked(tmp_path, _with_files(large, **{"entries.tsv": b"".join([forged, *rest]), name: tile}))
    done = printed(folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert "signed for" not in done.stderr


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [*lines, lines[-1]],
        lambda lines: [lines[1], lines[0], *lines[2:]],
        lambda lines: [lines[0].replace(b"contact.added", b"contact.adder"), *lines[1:]],
        lambda lines: [b"x" + lines[0], *lines[1:]],
        lambda lines: [*lines[:-1], lines[-1].replace(b"7\t", b"8\t")],
    ],
    ids=["twice", "out of order", "another event", "no number", "another place"],
)
def test_the_readmes_programs_refuse_what_is_not_in_the_log(
    printed: Printed, tmp_path: Path, change: Callable[[list[bytes]], list[bytes]]
) -> None:
    """Given events that stand twice, elsewhere or not in the log, signed for by the house, then they are refused."""
    made = receipt().draft()
    lines = made.files["entries.tsv"].splitlines(keepends=True)
    done = printed(_unpacked(tmp_path, _with_files(made, **{"entries.tsv": b"".join(change(lines))})))
    assert (done.returncode, done.stdout) == (1, "")
    assert "signed for" not in done.stderr
