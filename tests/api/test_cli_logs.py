"""Log lines: what may stand in them is decided by type, and nothing personal ever does (I4)."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import pytest
import structlog

from api.logs import ADDRESS_MASK, MASK, configure_logs, fit
from api.settings import Settings
from domain.personal import Erased, Personal
from domain.subject import ContactAdded
from ledger.errors import KeyMissing

ADDRESS = "ann.secret@example.com"


@pytest.fixture
def production() -> Iterator[None]:
    """Logs as in production; what the test found is put back."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    configure_logs(Settings(environment="production"))
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


@pytest.mark.parametrize(
    "value",
    [
        Personal(ADDRESS),
        ContactAdded(email=Personal(ADDRESS)),
        {"deep": [{"er": Personal(ADDRESS)}]},
        f"failed for {ADDRESS} twice",
        ADDRESS.encode(),
        ValueError(ADDRESS),
        {ADDRESS: 1},
        object(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_value_of_a_person_passes(value: object) -> None:
    """Personal values, facts, bytes, texts with addresses and foreign errors are masked or refused."""
    assert "secret" not in str(fit(value))


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (7, 7),
        (True, True),
        (None, None),
        ("a word", "a word"),
        (datetime(2026, 11, 21, tzinfo=UTC), "2026-11-21 00:00:00+00:00"),
        (UUID(int=1), str(UUID(int=1))),
        (Personal("x"), MASK),
        (Erased(datetime(2026, 1, 1, tzinfo=UTC), "asked"), "‹erased›"),
        ([1, "two"], [1, "two"]),
        (KeyMissing("A key is gone."), "A key is gone."),
        (object(), "‹refused: object›"),
        (f"to {ADDRESS}", f"to {ADDRESS_MASK}"),
    ],
)
def test_what_is_harmless_is_kept(value: object, kept: object) -> None:
    """Numbers, times, ids, names and our own errors stand in a line as they are."""
    assert fit(value) == kept


@pytest.mark.usefixtures("production")
def test_production_logs_are_json_lines_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """One object a line with time, level and logger; standard output stays empty."""
    structlog.get_logger("lethe.test").info("contact seen", email=Personal(ADDRESS), position=3)

    printed = capsys.readouterr()

    line = json.loads(printed.err)
    assert (line["event"], line["level"], line["position"], line["email"]) == ("contact seen", "info", 3, MASK)
    assert line["timestamp"].endswith("Z")
    assert printed.out == ""


@pytest.mark.usefixtures("production")
def test_an_exception_is_logged_by_kind_and_place(capsys: pytest.CaptureFixture[str]) -> None:
    """The traceback keeps files, lines and functions; the text of a foreign error and locals are left out."""
    try:
        int(ADDRESS)
    except ValueError:
        structlog.get_logger("lethe.test").exception("it failed")
        logging.getLogger("a.library").exception("it failed for %s", ADDRESS)

    printed = capsys.readouterr().err

    assert "secret" not in printed
    ours, theirs = map(json.loads, printed.splitlines())
    assert ours["exception"]["type"] == theirs["exception"]["type"] == "ValueError"
    assert "test_cli_logs.py" in ours["exception"]["at"][0]
