"""What a replay of tombstones must not bring back, and what an older vault has lost besides months."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from api.bootstrap import Instance, running
from domain.personal import Erased
from ledger.application import Ledger, tenants
from ledger.backup.gate import keep_heads
from ledger.backup.restoring import restore
from ledger.backup.writing import LEDGER, VAULT, Database, write_backup
from ledger.embedded import EmbeddedPostgres
from ledger.holds import HoldOn
from ledger.keys.lost import LOST_CAUSE
from ledger.keys.names import KeyName
from projections.campaign_view import CampaignView
from projections.rebuild import rebuild
from projections.standing import InlineStanding
from projections.worker import catch_up
from retention.plans.schedule import run_retention
from retention.restoring.reopening import Gatekeeper, Opening
from tests.acts import ask, person, register, report, willing
from tests.drills import databases, installation
from tests.retention.plans import ANNA, DUE, JANUARY, a_month_of_engagement, hold
from tests.support import SettableClock

REASON = "The disks burnt."


def both(instance: Instance) -> tuple[Database, Database]:
    return Database(LEDGER, instance.services.writer), Database(VAULT, instance.vault_pool)


def back_up(instance: Instance, file: Path) -> Path:
    services = instance.services
    keep_heads(services.writer, instance.custody, tenants(services.writer))
    write_backup(file, both(instance), services.vault.provider, now=services.clock(), notes=instance.custody.count())
    return file


def opened(ledger: Ledger) -> Ledger:
    ledger.open_account(name="Acme GmbH", pack="mailkai", country="DE", minimum_age=16, actor="cli")
    return ledger


@contextmanager
def reopened(
    server: EmbeddedPostgres, keys: Path, clock: SettableClock, ledger_from: Path, vault_from: Path
) -> Iterator[tuple[Instance, Opening]]:
    """An installation restored from these two backups, opened with the loss accepted, and started anew."""
    with databases(server, keys) as settings:
        with running(settings, clock=clock, gated=False) as target:
            services = target.services
            restore(ledger_from, [both(target)[0]], services.vault.provider, now=clock())
            restore(vault_from, [both(target)[1]], services.vault.provider, now=clock())
            book = InlineStanding(services.vault.provider)
            keeper = Gatekeeper(services.writer, services.vault, target.custody, book, target.ledger)
            opening = keeper.open(reason=REASON, actor="cli")
        with running(settings, clock=clock) as target:
            yield target, opening


def test_a_hold_that_came_too_late_is_not_made_early_by_a_restore(
    server: EmbeddedPostgres, tmp_path: Path, clock: SettableClock
) -> None:
    """Given a hold widened to somebody after a plan destroyed a month, when a vault from before it is restored, then
    that month of theirs stays destroyed; who was held before the plan keeps theirs."""
    clock.set(JANUARY - timedelta(days=1))
    with installation(server, tmp_path / "keys", clock=clock) as source:
        ledger = opened(source.ledger(uuid4()))
        early, late = "early@example.com", "late@example.com"
        a_month_of_engagement(ledger, clock, (early, late))
        kids = {address: person(ledger, address).person.kid for address in (early, late)}
        held = hold(ledger, early)
        before = back_up(source, tmp_path / "before.lethe")
        clock.set(DUE)
        run_retention(ledger)
        clock.advance(timedelta(days=1))
        ledger.holds.widen(held.hold_id, target=HoldOn("person", (late,)), actor="cli")
        after = back_up(source, tmp_path / "after.lethe")
        with reopened(server, tmp_path / "keys", clock, after, before) as (target, _):
            keyring = target.ledger(ledger.tenant).keyring
            assert isinstance(keyring.opening_scope(kids[early], "engagement", "2040-01"), bytes)
            assert isinstance(keyring.opening_scope(kids[late], "engagement", "2040-01"), Erased)


def test_engagement_keys_that_an_old_vault_lacks_are_told_and_read_as_erased(
    server: EmbeddedPostgres, tmp_path: Path, clock: SettableClock
) -> None:
    """Given a vault from before somebody's first click, in a month that others clicked in, when its loss is accepted,
    then their key is told as lost, the click reads as erased, and the others' keys stay."""
    clock.set(JANUARY - timedelta(days=1))
    with installation(server, tmp_path / "keys", clock=clock) as source:
        ledger = opened(source.ledger(uuid4()))
        a_month_of_engagement(ledger, clock, (ANNA,))
        willing(ledger, ["clicks@example.com"])
        campaign = register(ledger)
        token = ask(ledger, campaign, ["clicks@example.com"]).allowed["clicks@example.com"]
        report(ledger, [(token, "dispatched")], at=clock())
        kids = {address: person(ledger, address).person.kid for address in (ANNA, "clicks@example.com")}
        before = back_up(source, tmp_path / "before.lethe")
        clock.advance(timedelta(hours=2))
        report(ledger, [(token, "clicked")], at=clock(), ip="192.0.2.1", url="https://example.com/shoes")
        after = back_up(source, tmp_path / "after.lethe")
        with reopened(server, tmp_path / "keys", clock, after, before) as (target, opening):
            lost = {name for account in opening.accounts for name in account.lost_keys}
            names = {KeyName(kids["clicks@example.com"], c) for c in ("engagement", "engagement_technical")}
            assert lost == names
            keyring = target.ledger(ledger.tenant).keyring
            scope = keyring.opening_scope(kids["clicks@example.com"], "engagement", "2040-01")
            assert isinstance(scope, Erased)
            assert scope.why == LOST_CAUSE
            assert isinstance(keyring.opening_scope(kids[ANNA], "engagement", "2040-01"), bytes)


def test_hours_of_a_destroyed_month_are_not_counted_again_by_a_rebuild(
    server: EmbeddedPostgres, tmp_path: Path, clock: SettableClock
) -> None:
    """Given databases from before a month was published and destroyed, when they are opened and the campaign view is
    built again, then that month has no hourly counts."""
    clock.set(datetime(2040, 1, 2, tzinfo=UTC))
    with installation(server, tmp_path / "keys", clock=clock) as source:
        ledger = opened(source.ledger(uuid4()))
        a_month_of_engagement(ledger, clock)
        before = back_up(source, tmp_path / "before.lethe")
        catch_up(ledger)
        assert _hours(source, ledger) > 0, "Control: they are counted."
        clock.set(DUE)
        run_retention(ledger)
        with reopened(server, tmp_path / "keys", clock, before, before) as (target, _):
            again = target.ledger(ledger.tenant)
            catch_up(again)
            rebuild(again, target.rebuilder, CampaignView.name, grace_seconds=0)
            assert _hours(target, ledger) == 0


def _hours(instance: Instance, ledger: Ledger) -> int:
    with instance.services.writer.transaction() as connection:
        statement = "SELECT count(*) FROM lethe.campaign_count WHERE tenant_id = %s"
        row = connection.execute(statement, (ledger.tenant,)).fetchone()
    assert row is not None
    return int(row[0])
