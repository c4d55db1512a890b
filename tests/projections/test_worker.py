"""The worker takes every tenant's projections on, parks what cannot be read, and never counts anything twice."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread
from uuid import UUID, uuid4

import psycopg
import pytest
from eventsourcing.persistence import IntegrityError

from api.bootstrap import Instance, make_worker
from domain.ids import unix_ms, uuid7
from domain.message import SendRefused
from ledger.application import Ledger
from ledger.errors import Unavailable
from projections import batches
from projections.batches import PARKED_PER_BATCH_MAX
from projections.campaign_view import CampaignView, campaign_counts
from projections.errors import TooManyUnreadable
from projections.tracking import Tracked, all_tracked, move, parked_events, take, tenants_behind
from projections.worker import ASYNC_PROJECTIONS, Chore, Worker, catch_up, take_next
from tests.projections.scenes import add, authorise, erase, grant, register
from tests.rolls import new_account

pytestmark = pytest.mark.store

PEOPLE = [f"person{number}@example.com" for number in range(5)]


def refusal(ledger: Ledger, campaign: str) -> None:
    """A refusal for a campaign, well-formed or not, in a stream of its own."""
    stream = uuid7(unix_ms(ledger.clock()), uuid4().bytes[:10])
    fact = SendRefused(
        campaign=campaign,
        rule="no_permission",
        originator_id=stream,
        originator_version=1,
        event_id=uuid4(),
        occurred_at=ledger.clock(),
        actor="cli",
    )
    ledger.save(fact)


def refused(ledger: Ledger, campaign: UUID) -> int:
    return campaign_counts(ledger.services.reader, ledger.tenant, campaign).by_kind["refused"]


def worker_for(instance: Instance, *ledgers: Ledger, chores: tuple[Chore, ...] = ()) -> Worker:
    """A worker that knows these ledgers, and the instance's own way to any other."""
    known = {ledger.tenant: ledger for ledger in ledgers}

    def ledger_of(tenant: UUID) -> Ledger:
        return known.get(tenant) or instance.ledger(tenant)

    return Worker(instance.services.writer, ledger_of, chores=chores, poll_seconds=0.01)


def test_a_turn_takes_every_tenant_on(own_ledger: Ledger, own_instance: Instance) -> None:
    """After one turn nobody who was behind is behind; the next turn finds nothing of them to do."""
    # given two accounts with events
    other = own_instance.ledger(uuid4())
    other.open_account(name="Other", pack="mailkai", country="DE", minimum_age=16, actor="cli")
    names = [projection.name for projection in ASYNC_PROJECTIONS]
    with own_instance.services.writer.connection() as connection:
        assert {own_ledger.tenant, other.tenant} <= set(tenants_behind(connection, names))
    # when
    done = worker_for(own_instance).run_once()
    # then
    assert done.events >= 4
    with own_instance.services.writer.connection() as connection:
        assert not {own_ledger.tenant, other.tenant} & set(tenants_behind(connection, names))
        tracked = all_tracked(connection, own_ledger.tenant)
    assert [(t.projection, t.generation, t.position, live) for t, live in tracked] == [
        ("campaign_view", 1, 1, True),
        ("change_feed", 1, 1, True),
        ("observed", 1, 1, True),
    ]


def test_two_workers_never_take_the_same_batch(ledger: Ledger) -> None:
    """What one worker holds the other passes by, and finds done when it comes again."""
    catch_up(ledger)
    campaign = register(ledger)
    refusal(ledger, campaign.hex)
    with ledger.services.writer.transaction() as connection:
        held = take(connection, ledger.tenant, "campaign_view")
        assert held is not None
        assert take_next(ledger, CampaignView()) is None
    assert catch_up(ledger).events
    assert refused(ledger, campaign) == 1


def test_a_batch_cut_off_has_not_happened(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts and position move together: killed before the position is written, nothing is counted twice."""
    # given a worker that dies between the counts and the tracking
    campaign = register(ledger)
    refusal(ledger, campaign.hex)

    def die(*_: object) -> Tracked:
        raise KeyboardInterrupt

    monkeypatch.setattr(batches, "move", die)
    with pytest.raises(KeyboardInterrupt):
        take_next(ledger, CampaignView())
    assert refused(ledger, campaign) == 0
    # when another one comes
    monkeypatch.undo()
    catch_up(ledger)
    # then
    assert refused(ledger, campaign) == 1


def test_the_tracking_never_moves_backwards(ledger: Ledger) -> None:
    """A worker that was overtaken is refused and its batch undone."""
    catch_up(ledger)
    with ledger.services.writer.transaction() as connection:
        tracked = take(connection, ledger.tenant, "campaign_view")
        assert tracked is not None
        assert tracked.tracking().application_name == str(ledger.tenant)
        with pytest.raises(IntegrityError):
            move(connection, tracked, tracked.position - 1)


def test_a_poison_event_is_parked_and_the_rest_goes_on(ledger: Ledger) -> None:
    """An event that cannot be counted is put aside with a reason that quotes nothing of it; its neighbours count."""
    # given three refusals, the middle one of a campaign that is none
    campaign = register(ledger)
    refusal(ledger, campaign.hex)
    refusal(ledger, "canary@example.com")
    poisoned = ledger.log.max_notification_id()
    refusal(ledger, campaign.hex)
    # when
    done = catch_up(ledger)
    # then
    assert done.parked == 1
    assert refused(ledger, campaign) == 2
    with ledger.services.writer.transaction() as connection:
        parked = parked_events(connection, ledger.tenant, 10)
    assert [(event.projection, event.position) for event in parked] == [("campaign_view", poisoned)]
    assert parked[0].reason == "send.refused.v1: ValueError"


def test_when_everything_fails_nothing_is_parked(ledger: Ledger) -> None:
    """More failures than single events explain are a fault of the program: the batch waits for it to be mended."""
    campaign = register(ledger)
    refusal(ledger, campaign.hex)
    for _ in range(PARKED_PER_BATCH_MAX + 1):
        refusal(ledger, "none")
    with pytest.raises(TooManyUnreadable):
        take_next(ledger, CampaignView())
    assert refused(ledger, campaign) == 0
    with ledger.services.writer.transaction() as connection:
        assert parked_events(connection, ledger.tenant, 10) == []


def test_one_tenant_that_fails_does_not_stop_the_others(ledger: Ledger, instance: Instance) -> None:
    """A turn goes over a tenant whose projection fails, says so, and takes the next one on."""
    other = instance.ledger(uuid4())
    other.open_account(name="Other", pack="mailkai", country="DE", minimum_age=16, actor="cli")
    for _ in range(PARKED_PER_BATCH_MAX + 1):
        refusal(other, "none")
    campaign = register(ledger)
    refusal(ledger, campaign.hex)
    done = worker_for(instance).run_once()
    assert done.failed >= 1
    assert refused(ledger, campaign) == 1


def test_chores_run_for_everybody_and_a_failing_one_stops_nobody(ledger: Ledger, instance: Instance) -> None:
    """A chore that fails for one tenant is done for the others, and not again before its time."""
    new_account(instance)
    seen: list[UUID] = []

    def chore(of: Ledger) -> None:
        seen.append(of.tenant)
        if of.tenant == ledger.tenant:
            raise ValueError("canary@example.com")

    chores = (Chore("tidy", chore, 3600.0),)
    worker = Worker(instance.services.writer, instance.ledger, chores=chores, projections=())
    assert worker.run_once().failed == 1
    assert len(seen) == len(set(seen)) > 1
    assert worker.run_once().failed == 0
    assert len(seen) == len(set(seen))


def test_runs_until_it_is_stopped_and_survives_a_database_that_is_away(
    own_ledger: Ledger, own_instance: Instance
) -> None:
    """While the database does not answer the worker waits and tries again; then it works; then it ends."""
    campaign = register(own_ledger)
    refusal(own_ledger, campaign.hex)
    away: list[Callable[[], Ledger]] = []
    stop = Event()

    def ledger_of(tenant: UUID) -> Ledger:
        if len(away) < 2:
            away.append(lambda: own_ledger)
            raise Unavailable("The database does not answer.")
        if not len(away) % 50:
            stop.set()
        away.append(lambda: own_ledger)
        return own_instance.ledger(tenant)

    chores = (Chore("look", lambda _: None, 0.0),)
    worker = Worker(own_instance.services.writer, ledger_of, chores=chores, poll_seconds=0.001)
    thread = Thread(target=worker.run, args=(stop,))
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert refused(own_ledger, campaign) == 1


def test_the_wired_worker_finishes_erasures(own_ledger: Ledger, own_instance: Instance) -> None:
    """The worker of the composition root destroys the keys of whoever's erasure was intended."""
    add(own_ledger, *PEOPLE)
    grant(own_ledger, *PEOPLE)
    authorise(own_ledger, register(own_ledger), PEOPLE)
    erase(own_ledger, PEOPLE[0])
    assert len(own_ledger.erasures.unfinished(10)) == 1
    make_worker(own_instance).run_once()
    assert own_ledger.erasures.unfinished(10) == []


def test_a_reader_cannot_write_the_tracking(instance: Instance) -> None:
    """The reader's role has no way to move a projection."""
    with psycopg.connect(instance.urls.reader) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("UPDATE lethe.tracking SET position = 0")
