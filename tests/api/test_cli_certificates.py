"""`lethe certificate` and `lethe signing-key`: shown, listed, checked with and without a ledger, exported."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest

from api.bootstrap import Instance
from api.cli import certificates
from ledger.application import Ledger
from retention.daily import run_daily
from retention.erasure.erasing import finish_erasures
from tests.acts import emails, willing
from tests.api.cli_support import CommandLine
from tests.support import SettableClock

pytestmark = pytest.mark.store

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def clock(clock: SettableClock) -> SettableClock:
    """Noon of a day, standing still."""
    clock.set(NOON)
    return clock


@pytest.fixture
def lethe(
    instance: Instance, clock: SettableClock, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> CommandLine:
    """An account of which three persons were erased, and their day is over."""
    willing(ledger, emails(4))
    ledger.erasures.intend(emails(3), reason="subject_request", actor="cli")
    finish_erasures(ledger)
    clock.advance(timedelta(days=1))
    run_daily(ledger)
    return CommandLine(instance, ledger, tmp_path, monkeypatch)


@pytest.fixture
def certificate_id(lethe: CommandLine) -> str:
    """The first of the day's certificates."""
    return str(lethe.lines("certificate", "list", "2026-11-21")[0]["certificate_id"])


def test_a_day_lists_its_certificates(lethe: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given three erasures of a day, when it is listed, then three certificates come, by id, in pages."""
    rows = lethe.lines("certificate", "list", "2026-11-21")
    ids = [row["certificate_id"] for row in rows]
    assert len(ids) == 3
    assert ids == sorted(ids)
    assert {(row["about"], row["stage"], row["unreachable_from"]) for row in rows} == {("erasure", 1, "2026-11-21")}
    monkeypatch.setattr(certificates, "LISTED_MAX", 2)
    assert len(lethe.lines("certificate", "list", "2026-11-21")) == 2
    assert [row["certificate_id"] for row in lethe.lines("certificate", "list", "2026-11-21", "--after", ids[1])] == [
        ids[2]
    ]
    assert "No certificate is of this day" in lethe("certificate", "list", "2026-11-20")


def test_it_is_shown_to_people_and_to_machines(lethe: CommandLine, certificate_id: str) -> None:
    """Given a certificate, when it is shown, then a person reads its sentences and a machine its document."""
    text = lethe("certificate", "show", certificate_id)
    for said in ("Unreachable from 2026-11-21", "Horizon: ", "What was kept", "out of reach", "3 erasures together"):
        assert said in " ".join(text.split())
    document = lethe.json("certificate", "show", certificate_id)
    assert (document["id"], document["stage"]) == (certificate_id, 1)


def test_an_exported_file_is_checked_without_a_ledger(
    lethe: CommandLine, certificate_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a file and a public key, when it is verified, then no database is asked; a changed file is refused."""
    path = lethe.folder / "certificate.json"
    wrote = lethe.json("certificate", "export", certificate_id, "--out", path)
    assert wrote["bytes"] == path.stat().st_size
    key = lethe.json("signing-key")["public_key"]
    assert lethe("signing-key").strip() == key
    stored = lethe.json("certificate", "verify", certificate_id)

    def no_ledger(*_: object) -> None:
        raise AssertionError("Checking a file asks no ledger.")

    monkeypatch.setattr(certificates, "ledger_of", no_ledger)
    assert lethe.json("certificate", "verify", path, "--public-key", key) == stored
    said = " ".join(lethe("certificate", "verify", path, "--public-key", key).split())
    assert "is signed by this key and was not changed" in said
    assert "What this does not show" in said
    changed = path.read_text().replace("2026-11-21", "2026-11-20")
    path.write_text(changed)
    assert lethe.json("certificate", "verify", path, "--public-key", key, code=1)["error"] == "signature_refused"
    path.write_text("{}")
    assert lethe.json("certificate", "verify", path, "--public-key", key, code=1)["error"] == "certificate_refused"


@pytest.mark.parametrize("key", [None, "", "00", "zz" * 32])
def test_a_file_is_not_checked_by_its_own_word(lethe: CommandLine, certificate_id: str, key: str | None) -> None:
    """Given a file, when no public key is given, or none that is one, then nothing is checked."""
    path = lethe.folder / "certificate.json"
    lethe("certificate", "export", certificate_id, "--out", path)
    options = [] if key is None else ["--public-key", key]
    assert lethe.json("certificate", "verify", path, *options, code=2)["error"] == "public_key_needed"


def test_the_pdf_is_written(lethe: CommandLine, certificate_id: str) -> None:
    """Given a certificate, when it is exported as PDF, then the file is one, the same each time."""
    one, other = lethe.folder / "one.pdf", lethe.folder / "other.pdf"
    for path in (one, other):
        lethe("certificate", "export", certificate_id, "--format", "pdf", "--out", path)
    assert one.read_bytes().startswith(b"%PDF-")
    assert one.read_bytes() == other.read_bytes()


def test_without_a_file_it_goes_to_standard_output(lethe: CommandLine, certificate_id: str) -> None:
    """Given no --out, when a certificate is exported, then it stands on standard output, whole."""
    held: Any = orjson.loads(lethe("certificate", "export", certificate_id))
    assert held["certificate"]["id"] == certificate_id
    assert held["destroyed_keys"]["erasures"] == 3


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (("show", "7"), 2, "invalid_certificate"),
        (("show", str(uuid4())), 5, "unknown_certificate"),
        (("verify", str(uuid4())), 5, "unknown_certificate"),
        (("verify", "no-such-file.json"), 2, "invalid_certificate"),
        (("export", str(uuid4())), 5, "unknown_certificate"),
        (("list", "yesterday"), 2, "invalid_day"),
        (("list", "2026-11-21", "--after", "x"), 2, "invalid_certificate"),
    ],
)
def test_what_is_wrong_is_said(lethe: CommandLine, arguments: tuple[str, ...], code: int, error: str) -> None:
    """Given an id, day or file that is none, when a command runs, then it says so by name and exit code."""
    assert lethe.json("certificate", *arguments, code=code)["error"] == error


def test_pdf_and_json_do_not_share_an_output(lethe: CommandLine, certificate_id: str) -> None:
    """Given --format pdf and --json without --out, when it runs, then it asks for a file."""
    said = lethe.json("certificate", "export", certificate_id, "--format", "pdf", code=2)
    assert said["error"] == "out_needed"
    path = lethe.folder / "no" / "such" / "folder.json"
    assert lethe.json("certificate", "export", certificate_id, "--out", path, code=1)["error"] == "unwritable_file"


def test_an_older_export_is_not_written_over(lethe: CommandLine, certificate_id: str) -> None:
    """Given a file of that name, when a certificate is exported, then it is left as it is: it may be filed evidence."""
    path = lethe.folder / "certificate.json"
    path.write_text("filed")
    assert lethe.json("certificate", "export", certificate_id, "--out", path, code=1)["error"] == "file_exists"
    assert path.read_text() == "filed"
