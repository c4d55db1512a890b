"""Fixtures for every test that needs a ledger: one server and one instance per session, a fresh account per test.

`server` runs without fsync: what was acknowledged survives the death of any process, which is all that tests kill.
LETHE_TEST_PG_BIN names another PostgreSQL than the wheel's (CI runs the tests marked `store` on version 15 again).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings

from api.bootstrap import Instance, running
from ledger.application import Ledger
from ledger.embedded import EmbeddedPostgres
from tests.rolls import new_account, own_settings
from tests.support import SettableClock, chosen_bin_dir, settings_for

# A busy machine makes examples slow, and slow is not wrong: no test of ours measures time.
settings.register_profile("lethe", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("lethe")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """The session's PostgreSQL, with nothing in it yet."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), chosen_bin_dir(), fsync=False) as started:
        yield started


@pytest.fixture(scope="session")
def _session_clock() -> SettableClock:
    return SettableClock()


@pytest.fixture(scope="session")
def instance(
    server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory, _session_clock: SettableClock
) -> Iterator[Instance]:
    """A running Lethe on the session's server, as the composition root wires it."""
    with running(settings_for(server, tmp_path_factory.mktemp("lethe")), clock=_session_clock) as started:
        started.services.epochs.adopt(_session_clock())  # Before any test dates keys back, and makes a roll due.
        yield started


@pytest.fixture
def clock(_session_clock: SettableClock) -> Iterator[SettableClock]:
    """The instance's clock: real time, until the test sets it."""
    _session_clock.reset()
    yield _session_clock
    _session_clock.reset()


@pytest.fixture
def ledger(instance: Instance, clock: SettableClock) -> Ledger:
    """A fresh account: a German controller under the Mailkai policy."""
    opened = instance.ledger(uuid4())
    opened.open_account(name="Acme GmbH", pack="mailkai", country="DE", minimum_age=16, actor="cli")
    return opened


@pytest.fixture
def own_instance(server: EmbeddedPostgres, tmp_path: Path, clock: SettableClock) -> Iterator[Instance]:
    """A running Lethe with databases and epoch keys of its own, for what is about everything in them."""
    with running(own_settings(server, tmp_path / "own"), clock=clock) as started:
        yield started


@pytest.fixture
def own_ledger(own_instance: Instance) -> Ledger:
    """The only account of `own_instance`."""
    return new_account(own_instance)
