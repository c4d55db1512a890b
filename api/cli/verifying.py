"""`lethe verify`: an evidence bundle, checked offline. No database, no settings and no ledger take part."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

import typer

from api.cli.failures import CommandFailed, ExitCode
from api.cli.options import JsonFlag
from api.cli.output import Output
from audit.verify.bundle import Trusted, verify_bundle
from audit.verify.errors import BundleRefused, VerificationRefused
from audit.verify.note import COSIGNATURE, ED25519, VerifierKey
from audit.verify.report import as_object, sentences, shown

WHOSE: Final = {ED25519: "a log, for --key", COSIGNATURE: "a witness, for --witness"}

_PEM_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"


def verify(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle, a zip file.")],
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key",
            metavar="VKEY",
            help="The log's verifier key, got from elsewhere than the bundle; may be repeated. Only these count then.",
            show_default=False,
        ),
    ] = None,
    witness: Annotated[
        list[str] | None,
        typer.Option(
            "--witness",
            metavar="VKEY",
            help="The verifier key of a witness; may be repeated. Only these count then.",
            show_default=False,
        ),
    ] = None,
    witnesses_needed: Annotated[
        int | None,
        typer.Option(
            "--witnesses-needed",
            metavar="N",
            min=0,
            help="How many witnesses must have cosigned. One, where any are given.",
            show_default=False,
        ),
    ] = None,
    timestamp_roots: Annotated[
        Path | None,
        typer.Option(
            "--timestamp-roots",
            metavar="PEM",
            help="Root certificates of timestamp authorities. Only these count then.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Verify an evidence bundle, offline, without a database or settings. Stops at the first lie, says which event."""
    output = Output(as_json)
    trusted = Trusted(
        _keys(key, "--key", ED25519),
        _keys(witness, "--witness", COSIGNATURE),
        witnesses_needed,
        _roots(timestamp_roots) if timestamp_roots is not None else None,
    )
    try:
        with output.progress("Verifying, bytes") as bar:
            verified = verify_bundle(bundle, trusted, bar.to)
    except VerificationRefused as refused:
        raise typer.Exit(_refused(output, refused)) from None
    except OSError as error:
        raise _unreadable(bundle, error) from None
    output.answer(as_object(verified), *sentences(verified))


def _refused(output: Output, refused: VerificationRefused) -> int:
    """Say why, and for a program in which file and at which event; returns the exit code."""
    code, text = ExitCode.INCIDENT, shown(str(refused))
    output.note(f"REFUSED: {text}")
    if output.as_json:
        place = {"file": refused.file, "position": refused.position} if isinstance(refused, BundleRefused) else {}
        output.line({"error": "bundle_refused", "message": text, "exit_code": int(code), **place})
    return code


def _keys(texts: list[str] | None, option: str, kind: int) -> list[VerifierKey]:
    """The keys of an option. One that was taken for another's is a slip of whoever asks, and no lie of the bundle."""
    try:
        keys = [VerifierKey.parse(text) for text in texts or ()]
    except VerificationRefused as refused:
        raise CommandFailed(ExitCode.USAGE, "invalid_key", f"{option}: {refused}") from None
    odd = next((key for key in keys if key.kind != kind), None)
    if odd is not None:
        raise CommandFailed(
            ExitCode.USAGE, "invalid_key", f"{option}: the key of {odd.name} is one of {WHOSE[odd.kind]}."
        )
    return keys


def _roots(path: Path) -> bytes:
    """Certificates in PEM. A file of something else would go unnoticed where a bundle has no timestamp."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None
    if _PEM_CERTIFICATE not in content:
        raise CommandFailed(
            ExitCode.USAGE, "invalid_roots", f"--timestamp-roots: {path.name} holds no certificate in PEM."
        )
    return content


def _unreadable(path: Path, error: OSError) -> CommandFailed:
    return CommandFailed(
        ExitCode.NOT_FOUND, "unreadable_file", f"{path.name or path} cannot be read: {os.strerror(error.errno or 0)}."
    )
