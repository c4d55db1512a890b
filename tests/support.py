"""What several tests share: a clock that can be set, and the settings of an instance on a server that runs already."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from api.bootstrap import embedded_urls
from api.settings import Settings
from ledger.embedded import EmbeddedPostgres


class SettableClock:
    """A clock for `running`: real time until it is told otherwise; times are aware and UTC."""

    def __init__(self) -> None:
        self._fixed: datetime | None = None
        self._offset = timedelta()

    def __call__(self) -> datetime:
        """The time it is."""
        return self._fixed if self._fixed is not None else datetime.now(UTC) + self._offset

    def set(self, moment: datetime) -> None:
        """Stand still at a moment."""
        self._fixed = moment

    def advance(self, span: timedelta) -> None:
        """Jump forward, or backward by a negative span; a clock that stands still keeps standing."""
        if self._fixed is not None:
            self._fixed += span
        else:
            self._offset += span

    def reset(self) -> None:
        """Back to real time."""
        self._fixed, self._offset = None, timedelta()


def chosen_bin_dir() -> Path | None:
    """The PostgreSQL that the tests run on: LETHE_TEST_PG_BIN, or the wheel's own."""
    named = os.environ.get("LETHE_TEST_PG_BIN")
    return Path(named) if named else None


def settings_for(server: EmbeddedPostgres, data_dir: Path) -> Settings:
    """Settings of an instance on a started server; its epoch keys live below `data_dir`."""
    urls = embedded_urls(server)
    return Settings(
        data_dir=data_dir,
        ledger_url=urls.writer,
        reader_url=urls.reader,
        rebuilder_url=urls.rebuilder,
        vault_url=urls.vault,
        ledger_owner_url=server.url("lethe_ledger"),
        vault_owner_url=server.url("lethe_vault"),
    )
