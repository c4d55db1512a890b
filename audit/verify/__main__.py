"""`python -m audit.verify BUNDLE`: the verifier by itself, for whoever has no more of Lethe than this folder.

0   verified (or self-consistent, where no key was given, and then it says so)
2   the command was not understood
5   a file cannot be read
6   refused: a byte, a file or a statement of the bundle is not what it is said to be
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from audit.verify.bundle import Trusted, verify_bundle
from audit.verify.errors import BundleRefused, VerificationRefused
from audit.verify.note import VerifierKey
from audit.verify.report import as_object, sentences, shown

DONE: Final = 0
USAGE: Final = 2
UNREADABLE: Final = 5
REFUSED: Final = 6


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify the bundle that is named; returns the exit code."""
    asked = _parser().parse_args(arguments)
    try:
        trusted = Trusted(
            [VerifierKey.parse(text) for text in asked.key],
            [VerifierKey.parse(text) for text in asked.witness],
            asked.witnesses_needed,
            asked.timestamp_roots.read_bytes() if asked.timestamp_roots else None,
        )
    except VerificationRefused as refused:
        return _told(asked, "invalid_key", str(refused), USAGE)
    except OSError as error:
        return _told(asked, "unreadable_file", f"{asked.timestamp_roots}: {error.strerror or error}.", UNREADABLE)
    try:
        verified = verify_bundle(asked.bundle, trusted, _bar if sys.stderr.isatty() else None)
    except VerificationRefused as refused:
        place = {"file": refused.file, "position": refused.position} if isinstance(refused, BundleRefused) else {}
        return _told(asked, "bundle_refused", shown(str(refused)), REFUSED, **place)
    except OSError as error:
        return _told(asked, "unreadable_file", f"{asked.bundle}: {error.strerror or error}.", UNREADABLE)
    _say(json.dumps(as_object(verified)) if asked.json else "\n".join(sentences(verified)))
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m audit.verify",
        description="Verify an evidence bundle, offline. Stops at the first lie and says which event.",
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle, a zip file")
    parser.add_argument("--key", action="append", default=[], metavar="VKEY", help="the log's key; then only it counts")
    parser.add_argument("--witness", action="append", default=[], metavar="VKEY", help="the key of a witness")
    parser.add_argument("--witnesses-needed", type=_count, metavar="N", help="how many have to have cosigned")
    parser.add_argument("--timestamp-roots", type=Path, metavar="PEM", help="roots of timestamp authorities")
    parser.add_argument("--json", action="store_true", help="answer with one JSON object")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("not a number from 0 on")
    return int(text)


def _told(asked: argparse.Namespace, name: str, text: str, code: int, **place: Any) -> int:
    if asked.json:
        _say(json.dumps({"error": name, "message": text, "exit_code": code, **place}))
    sys.stderr.write(f"REFUSED: {text}\n" if code == REFUSED else f"{text}\n")
    return code


def _say(text: str) -> None:
    """Write a line. What the terminal or file cannot hold is spelt out, and no reason to give no answer."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def _bar(done: int, total: int) -> None:
    sys.stderr.write(f"\r{done * 100 // total if total else 100:3d} %" + ("\r     \r" if done == total else ""))
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
