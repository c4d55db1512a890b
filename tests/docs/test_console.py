"""The pages that show commands are walked through: every command is typed, every answer compared (STYLE 17)."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from api.cli.main import app
from ledger.embedded import EmbeddedPostgres
from tests.docs.console import masked, walk
from tests.docs.pages import DOCS

CREATED = "campaign create"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in, with no setting but the defaults; its server runs until the page is done."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".lethe").mkdir()
    with EmbeddedPostgres(tmp_path / ".lethe" / "postgres"):
        yield tmp_path


def _typed(words: list[str]) -> str:
    assert words[0] == "lethe", words
    result = CliRunner().invoke(app, words[1:])
    return result.stdout + result.stderr


def _learn(variables: dict[str, str], typed: str, answered: str, folder: Path) -> None:
    """What a reader notes down: the campaign's id, and who has which message id."""
    if CREATED in typed:
        found = re.search(r"campaign ([0-9a-f-]{36})", answered)
        assert found is not None
        variables["CAMPAIGN"] = found[1]
    for path in folder.glob("answers.csv"):
        with path.open(encoding="utf-8", newline="") as table:
            for row in csv.DictReader(table):
                variables[row["email"].partition("@")[0].upper()] = row["message_id"]


@pytest.mark.parametrize("page", ["tutorial/first-ledger.md"])
def test_a_page_can_be_followed(page: str, folder: Path) -> None:
    """Given an empty folder, when a reader does what the page says, then each answer is as the page shows it."""
    variables: dict[str, str] = {}
    for command, answered in walk((DOCS / page).read_text(), folder, _typed, variables):
        assert masked(answered) == masked(command.answer), command.typed
        _learn(variables, command.typed, answered, folder)
    assert "CAMPAIGN" in variables, "The page does less than it is tested for."
