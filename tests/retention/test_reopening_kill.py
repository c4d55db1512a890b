"""Opening a restored ledger, killed at each step and run again, converges; nothing is opened half-way (FAULTS 7)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from api.bootstrap import Instance, running
from domain.personal import Erased
from domain.restore import LedgerRestored
from ledger.application import Ledger
from ledger.backup.restoring import restore
from ledger.backup.writing import LEDGER, VAULT, Database, write_backup
from ledger.embedded import EmbeddedPostgres
from ledger.errors import GateShut
from projections.standing import InlineStanding
from retention.erasure.erasing import finish_erasures
from retention.restoring import reopening
from retention.restoring.reopening import Gatekeeper, LossNotAccepted
from tests.acts import ask, person, register, willing
from tests.drills import databases, installation
from tests.kills import killed_at
from tests.support import SettableClock

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
STAYS, GOES, LATER = "stays@example.com", "goes@example.com", "later@example.com"
REASON = "The disks burnt."


@dataclass
class Drill:
    """What was backed up, and what came after it: an erasure, and somebody new."""

    ledger: Ledger
    gone_stream: UUID
    data_dir: Path
    before: Path
    after: Path

    def restore(self, instance: Instance, ledger_from: Path, vault_from: Path) -> None:
        provider, now = instance.services.vault.provider, instance.services.clock()
        ledger, vault = both(instance)
        restore(ledger_from, [ledger], provider, now=now)
        restore(vault_from, [vault], provider, now=now)


def both(instance: Instance) -> tuple[Database, Database]:
    return Database(LEDGER, instance.services.writer), Database(VAULT, instance.vault_pool)


def open_gate(instance: Instance, reason: str | None = None) -> None:
    services = instance.services
    book = InlineStanding(services.vault.provider)
    Gatekeeper(services.writer, services.vault, instance.custody, book, instance.ledger).open(
        reason=reason, actor="cli"
    )


@pytest.fixture
def drill(server: EmbeddedPostgres, tmp_path: Path, clock: SettableClock) -> Iterator[Drill]:
    """Given a backup of two willing persons, of whom one was erased after it, and one more came."""
    clock.set(NOON)
    with installation(server, tmp_path / "keys", clock=clock) as source:
        ledger = source.ledger(uuid4())
        ledger.open_account(name="Acme GmbH", pack="mailkai", country="DE", minimum_age=16, actor="cli")
        willing(ledger, [STAYS, GOES])
        gone = UUID(bytes=person(ledger, GOES).person.subject)
        files = tmp_path / "before.lethe", tmp_path / "after.lethe"

        def back_up(file: Path) -> None:
            write_backup(file, both(source), source.services.vault.provider, now=clock(), notes=source.custody.count())

        back_up(files[0])
        clock.advance(timedelta(hours=2))
        ledger.erasures.intend([GOES], reason="subject_request", actor="cli")
        finish_erasures(ledger)
        willing(ledger, [LATER])
        back_up(files[1])
        yield Drill(ledger, gone, tmp_path / "keys", *files)


def killed_after(monkeypatch: pytest.MonkeyPatch, name: str) -> AbstractContextManager[None]:
    """The process ends right after the first call of a step, which is right before the one that follows."""
    return killed_at(monkeypatch, Gatekeeper if hasattr(Gatekeeper, name) else reopening, name, after=True)


def restored_facts(ledger: Ledger) -> list[LedgerRestored]:
    facts = [ledger.sealing.open(event) for event in ledger.log.select_streams([ledger.tenant])]
    return [fact for fact in facts if isinstance(fact, LedgerRestored)]


def assert_forgotten(ledger: Ledger, drill: Drill) -> None:
    """Who was erased does not open and is not mailed; who stayed is."""
    added = ledger.sealing.open(next(iter(ledger.log.select_streams([drill.gone_stream]))))
    assert isinstance(added.email, Erased)  # type: ignore[attr-defined]  # The first fact of a person.
    asked = ask(ledger, register(ledger), [STAYS, GOES])
    assert (set(asked.allowed), asked.refused) == ({STAYS}, {GOES: "erased"})


def assert_shut(settings: Any, clock: SettableClock) -> None:
    with pytest.raises(GateShut), running(settings, clock=clock):
        pytest.fail("It serves half-way.")


@pytest.mark.parametrize(
    ("step", "by_hand"),
    [
        *((step, False) for step in ("_replay", "_say", "_keep_head", "_write_off", "_forget", "finish_replay")),
        *((step, True) for step in ("_keep_shut", "_say", "_keep_head")),
    ],
)
def test_killed_at_each_step_with_an_older_ledger_and_vault(
    server: EmbeddedPostgres,
    drill: Drill,
    clock: SettableClock,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    by_hand: bool,
) -> None:
    """Given both databases from before an erasure, restored or put back by hand, when opening is killed, then nothing
    is served until it is run again, and the log says what it lost."""
    with databases(server, drill.data_dir) as settings:
        with running(settings, clock=clock, gated=False) as target:
            drill.restore(target, drill.before, drill.before)
            if by_hand:
                _forget_the_restore(settings)
            with pytest.raises(LossNotAccepted):
                open_gate(target)
            with killed_after(monkeypatch, step):
                open_gate(target, REASON)
        assert_shut(settings, clock)
        with running(settings, clock=clock, gated=False) as target:
            open_gate(target, REASON)
        with running(settings, clock=clock) as target:
            ledger = target.ledger(drill.ledger.tenant)
            said = restored_facts(ledger)
            assert next(fact.lost_from for fact in said) == said[0].position
            assert [opened.reason.reveal() for opened in said if opened.reason] == [REASON] * len(said)
            assert_forgotten(ledger, drill)


def _forget_the_restore(settings: Any) -> None:
    for url, schema in ((settings.ledger_owner_url, "lethe"), (settings.vault_owner_url, "lethe_vault")):
        with psycopg.connect(url, autocommit=True) as hand:
            hand.execute(f"DELETE FROM {schema}.restore_gate".encode())


@pytest.mark.parametrize("step", ["_say", "list_again", "_write_off", "finish_replay"])
def test_killed_at_each_step_with_an_older_vault(
    server: EmbeddedPostgres,
    drill: Drill,
    clock: SettableClock,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    """Given a vault from before an erasure and a person, when opening is killed and run again, then the lost keys are
    told in the log, and the erased person stays on the list, also after the day's key is gone."""
    with databases(server, drill.data_dir) as settings:
        with running(settings, clock=clock, gated=False) as target:
            drill.restore(target, drill.after, drill.before)
            with killed_after(monkeypatch, step):
                open_gate(target, REASON)
        assert_shut(settings, clock)
        with running(settings, clock=clock, gated=False) as target:
            open_gate(target, REASON)
        with running(settings, clock=clock) as target:
            ledger = target.ledger(drill.ledger.tenant)
            assert max(fact.keys_missing for fact in restored_facts(ledger)) >= 6
            assert_forgotten(ledger, drill)
            clock.advance(timedelta(days=1))
            ledger.erasures.intend([STAYS], reason="subject_request", actor="cli")
            assert len(finish_erasures(ledger)) == 1, "The next day erasures go on."
