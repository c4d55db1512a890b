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
from pathlib import Path

import pytest

from audit.verify.__main__ import main
from audit.verify.merkle import leaf_hash
from audit.verify.readme import readme_text
from audit.verify.timestamp import timestamp_request
from tests.bundles import HOUSE, STRANGER, WITNESS, receipt, verified
from tests.timestamp_authority import TimestampAuthority
from tests.verifiers.outside import GO_SOURCES

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


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a log whose tiles stand on three levels."""
    return _bundle(tmp_path_factory.mktemp("large"), LARGE)


def _unpacked(folder: Path, language: str, program: str, bundle: Path | None = None) -> Path:
    """A bundle unpacked by Python's own reader, and a program of its README beside it."""
    with zipfile.ZipFile(io.BytesIO((bundle or _bundle(folder)).read_bytes())) as file:
        file.extractall(folder / "unpacked")
    found = re.search(rf"```{language}\n(.*?)```", readme_text(), re.DOTALL)
    assert found is not None
    (folder / "unpacked" / program).write_text(found[1])
    return folder / "unpacked"


def _forge(folder: Path) -> None:
    entries = folder / "entries.tsv"
    entries.write_bytes(entries.read_bytes().replace(b"consent.withdrawn", b"consent.withdrawm"))


def _forge_leaf(folder: Path) -> None:
    """Put another hash for the first entry of the bundle into its leaf tile, as somebody would who forges it."""
    position, _, entry = (folder / "entries.tsv").read_bytes().splitlines()[0].partition(b"\t")
    index = int(position) - 1
    tile = folder / "log" / "tile" / "0" / f"{index // 256:03d}"
    hashes = tile.read_bytes()
    at = index % 256 * 32
    tile.write_bytes(hashes[:at] + leaf_hash(entry) + hashes[at + 32 :])


def _built(folder: Path) -> None:
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": str(GO_SOURCES), "GOFLAGS": ""}
    subprocess.run(["go", "build", "-o", "check", "check.go"], cwd=folder, env=environment, check=True, timeout=100)  # noqa: S607


@pytest.mark.parametrize(("language", "program"), [("go", "check.go"), ("python", "check.py")])
def test_the_readmes_programs_refuse_an_entry_forged_with_its_tile(
    large: Path, tmp_path: Path, language: str, program: str
) -> None:
    """Given a large log, when an entry and its hash in the leaf tile are forged, then both programs refuse it.

    Go's reader of tiles believes such a tile before x/mod 0.40 (CVE-2026-56865), and Debian 12 has an older one.
    """
    folder = _unpacked(tmp_path, language, program, large)
    if language == "go":
        _built(folder)
    command = ["./check", KEY] if language == "go" else [sys.executable, "-I", program, KEY]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=100)

    assert run().stdout == f"5 events stand in the log of size {LARGE + 7}\n"
    lines = (folder / "entries.tsv").read_bytes().splitlines(keepends=True)
    lines[0] = lines[0].replace(b"api", b"apj")
    (folder / "entries.tsv").write_bytes(b"".join(lines))
    _forge_leaf(folder)
    assert run().returncode == 1


def test_the_readmes_go_program_verifies_and_refuses(tmp_path: Path) -> None:
    """Given an unpacked bundle, when the Go program of the README is run as it says, then it verifies, and refuses."""
    folder = _unpacked(tmp_path, "go", "check.go")
    _built(folder)

    def run(key: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["./check", key], cwd=folder, capture_output=True, text=True, check=False, timeout=100)

    assert run(KEY).stdout == "5 events stand in the log of size 607\n"
    assert "refused" in run(str(STRANGER.verifier)).stderr
    _forge(folder)
    assert "the log has another event at position 7" in run(KEY).stderr


def test_the_readmes_python_program_verifies_and_refuses(tmp_path: Path) -> None:
    """Given an unpacked bundle, when the README's program for tlog-scales is run, then it verifies, and refuses."""
    folder = _unpacked(tmp_path, "python", "check.py")

    def run(key: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "check.py", key]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=100)

    assert run(KEY).stdout == "5 events stand in the log of size 607\n"
    assert run(str(STRANGER.verifier)).returncode == 1
    _forge(folder)
    assert run(KEY).returncode == 1
