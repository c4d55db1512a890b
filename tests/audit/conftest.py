"""Fixtures for what checks a log: one published log for all of them, and leave to damage it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from api.bootstrap import Instance
from ledger.embedded import EmbeddedPostgres
from tests.audit.published_log import PublishedLog, published_log


@pytest.fixture(scope="session")
def whole(
    instance: Instance, server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PublishedLog]:
    """A log of some hundred events of many kinds, published six times under two keys, cosigned and stamped."""
    with published_log(instance, server, tmp_path_factory.mktemp("authority")) as log:
        yield log


@pytest.fixture
def log(whole: PublishedLog) -> Iterator[PublishedLog]:
    """The log, to be damaged: everything is taken back afterwards."""
    with whole.superuser.transaction(force_rollback=True):
        yield whole


@pytest.fixture
def _small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every check goes through several windows of rows."""
    monkeypatch.setattr("audit.fsck.check.ROWS_PER_WINDOW", 256)
