"""Runs `lethe` in this process, on the session's instance and a fresh account."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import structlog
from typer.testing import CliRunner

from api.bootstrap import Instance
from api.cli.main import app
from ledger.application import Ledger


class CommandLine:
    """The command line as somebody at a terminal has it; standard output and standard error apart."""

    def __init__(self, instance: Instance, ledger: Ledger, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.instance = instance
        self.ledger = ledger
        self.folder = folder
        self._runner = CliRunner()
        settings = instance.settings
        monkeypatch.setenv("LETHE_DATA_DIR", str(settings.data_dir))
        for name in ("ledger", "reader", "rebuilder", "vault", "ledger_owner", "vault_owner"):
            monkeypatch.setenv(f"LETHE_{name.upper()}_URL", str(getattr(settings, f"{name}_url")))
        monkeypatch.setenv("LETHE_ACCOUNT", str(ledger.tenant))
        monkeypatch.chdir(folder)
        # Commands set logs up for their process, which here is the test's.
        monkeypatch.setattr(logging.getLogger(), "handlers", list(logging.getLogger().handlers))
        monkeypatch.setattr(logging.getLogger(), "level", logging.getLogger().level)

    def __call__(self, *arguments: object, stdin: str | None = None, code: int = 0) -> str:
        """Run a command that must end with `code`; returns its standard output."""
        done = self._runner.invoke(app, [str(a) for a in arguments], input=stdin)
        structlog.reset_defaults()
        self.said = done.stderr
        assert done.exit_code == code, f"exit code {done.exit_code}: {done.stderr}{done.stdout}"
        return done.stdout

    def json(self, *arguments: object, stdin: str | None = None, code: int = 0) -> Any:
        """Run a command with `--json` that prints one object."""
        (found,) = self.lines(*arguments, stdin=stdin, code=code)
        return found

    def lines(self, *arguments: object, stdin: str | None = None, code: int = 0) -> list[Any]:
        """Run a command with `--json`; returns the object of each line."""
        return [json.loads(line) for line in self(*arguments, "--json", stdin=stdin, code=code).splitlines()]

    def file(self, name: str, *lines: str) -> Path:
        """A text file in the test's folder."""
        path = self.folder / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    def topics(self) -> list[str]:
        """The topics of the account's log, in order."""
        return [event.topic for event in self.ledger.log.select_log(None, 10_000)]

    def end(self) -> int:
        """The last position of the account's log."""
        return self.ledger.log.max_notification_id() or 0

    def campaign(self, purpose: str = "newsletter") -> UUID:
        """A registered campaign that discloses its tracking."""
        options = ("--name", "Spring", "--purpose", purpose, "--tracking-disclosed")
        return UUID(self.json("campaign", "create", *options)["campaign_id"])
