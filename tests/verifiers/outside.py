"""Verifiers that are not ours, run on a folder in C2SP tlog-tiles layout: one in Go, and one of tlog-scales.

`go_verify(folder, key)` and `scales_verify(folder, key)` return what they said, or raise `Refused` with it. The Go
programs are built once per process. Where Go is missing that is a failure, here as in CI: whoever runs these tests is
told what to install, and nothing is skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
GO_SECONDS_MAX = 100
"""Below the limit of a single test, so that a hanging program is named."""

GO_SOURCES = Path("/usr/share/gocode")
"""Where Debian puts the sources of Go packages, which are used without modules and without a network."""


class Refused(Exception):
    """A verifier exited with 1; the text is its reason."""


def go_verify(folder: Path, key: object) -> None:
    """Let Go's note and tlog packages check a folder. Raises `Refused`."""
    _run([str(go_program("checkpoints")), str(folder), str(key)])


def scales_verify(folder: Path, key: object) -> None:
    """Let tlog-scales check a folder. Raises `Refused`."""
    _run([sys.executable, str(HERE / "checkpoints.py"), str(folder), str(key)])


@cache
def go_program(name: str) -> Path:
    """The program of one of the Go files beside this module, built."""
    go = shutil.which("go")
    if go is None or not (GO_SOURCES / "src/golang.org/x/mod/sumdb/tlog").is_dir():
        raise AssertionError("These tests need Go: apt-get install golang-go golang-golang-x-mod-dev")
    target = Path(_builds().name) / name
    command = [go, "build", "-o", str(target), str(HERE / f"{name}.go")]
    built = subprocess.run(command, env=go_environment(), capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return target


def go_environment() -> dict[str, str]:
    """How Go builds here: without modules or a network, and with a cache of ours, since not everybody has a home."""
    cache = str(Path(_builds().name) / "cache")
    return {**os.environ, "GO111MODULE": "off", "GOPATH": str(GO_SOURCES), "GOFLAGS": "", "GOCACHE": cache}


@cache
def _builds() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="lethe-go-")


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=GO_SECONDS_MAX)
    if done.returncode == 1 and "refused:" in done.stderr:
        raise Refused(done.stderr.strip())
    assert done.returncode == 0, done.stderr
