"""A rebuilt projection equals the live one, is built while writers write, and brings nobody back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from threading import Event, Thread
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import Connection

from api.bootstrap import Instance
from domain.subject_commands import AddContact, CorrectContact, LiftByHand, RecordConsent, Restrict, SayNo
from ledger.application import Ledger
from ledger.errors import KeyMissing
from ledger.subjects import Act
from ledger.suppressing import SuppressionRequest
from projections import rebuild_inline
from projections.campaign_view import campaign_counts
from projections.errors import RebuildRunning, UnknownProjection
from projections.rebuild import clear_leftovers, rebuild
from projections.rebuild_inline import InlineRebuild
from projections.refold import Refolded, refold
from projections.tracking import all_tracked
from projections.worker import ASYNC_PROJECTIONS as ASYNC
from projections.worker import catch_up, take_next
from retention.daily import close_suppression_days
from retention.erasure.erasing import finish_erasures
from tests.projections.scenes import (
    add,
    authorise,
    erase,
    feed,
    grant,
    inline_rows,
    move,
    register,
    report,
    say,
    serving_generation,
    withdraw,
)
from tests.support import SettableClock

pytestmark = pytest.mark.store

PEOPLE = [f"person{number}@example.com" for number in range(12)]
WAIT_SECONDS_MAX = 60


class Killed(Exception):
    """Stands for a process that dies at this point."""


def build(ledger: Ledger, instance: Instance, name: str, progress: Callable[[int, int], None] | None = None) -> int:
    """Rebuild without the pause for readers; returns the position at which the new one took over."""
    return rebuild(ledger, instance.rebuilder, name, progress, grace_seconds=0).position


def live(ledger: Ledger) -> dict[str, list[Any]]:
    """What the serving inline projections hold."""
    return inline_rows(ledger, serving_generation(ledger))


def lead_full_lives(ledger: Ledger, clock: SettableClock) -> None:
    """Every command that leaves something in the inline projections, and several persons erased and come back."""
    add(ledger, *PEOPLE)
    grant(ledger, *PEOPLE[:10])
    campaign = register(ledger)
    authorise(ledger, campaign, PEOPLE)
    ledger.close_campaign(register(ledger, tracking=False), actor="cli")
    withdraw(ledger, PEOPLE[0], campaign)
    clock.advance(timedelta(minutes=1))
    grant(ledger, PEOPLE[0])
    say(ledger, PEOPLE[1], SayNo("complaint", "marketing", campaign=campaign.hex))
    say(ledger, PEOPLE[1], SayNo("hard_bounce", "all"))
    say(ledger, PEOPLE[2], SayNo("manual", "purpose:newsletter"))
    say(ledger, PEOPLE[2], SayNo("legal", "all"))
    say(ledger, PEOPLE[2], LiftByHand("purpose:newsletter"))
    say(ledger, PEOPLE[3], Restrict())
    say(ledger, PEOPLE[4], RecordConsent("offers", "email", "grant", basis="soft-opt-in"))
    say(ledger, PEOPLE[4], RecordConsent("news", "email", "request"))
    say(ledger, PEOPLE[4], RecordConsent("events", "email", "refuse"))
    say(ledger, PEOPLE[4], CorrectContact({"country": "FR", "birth_date": "1990-01-02"}))
    move(ledger, PEOPLE[5], "moved@example.com")
    move(ledger, "moved@example.com", "twice@example.com")
    move(ledger, PEOPLE[6], "away@example.com")
    move(ledger, "away@example.com", PEOPLE[6])
    move(ledger, PEOPLE[7], PEOPLE[7].upper())
    move(ledger, PEOPLE[8], "former@example.com")
    ledger.suppressions.impose(
        [
            SuppressionRequest("listed@example.com", "manual", "all"),
            SuppressionRequest("lifted@example.com", "manual", "all"),
            SuppressionRequest("lifted@example.com", "complaint", "marketing", clock() - timedelta(days=40)),
            SuppressionRequest(PEOPLE[9], "objection", "all"),
        ],
        actor="cli",
    )
    ledger.suppressions.lift("lifted@example.com", "all", actor="cli")
    ledger.suppressions.impose([SuppressionRequest("lifted@example.com", "manual", "all")], actor="cli")
    erase(ledger, PEOPLE[8], PEOPLE[10], "stranger@example.com")
    finish_erasures(ledger)
    erase(ledger, PEOPLE[11])  # Intended only: the keys still live.
    add(ledger, PEOPLE[10])  # Comes back as somebody new.
    grant(ledger, PEOPLE[10])


def test_rebuilt_equals_live(ledger: Ledger, instance: Instance, clock: SettableClock) -> None:
    """Row by row: persons with their secrets and standing, aliases, suppressions, campaigns."""
    # given
    lead_full_lives(ledger, clock)
    before, generation = live(ledger), serving_generation(ledger)
    assert [len(before[name]) for name in ("standing", "aliases", "campaigns")] == [10, 3, 2]
    # when
    position = build(ledger, instance, "standing")
    # then
    assert live(ledger) == before
    assert serving_generation(ledger) == generation + 1
    assert position == ledger.log.max_notification_id()
    assert not any(inline_rows(ledger, generation).values())


def test_rebuilt_equals_live_after_the_day_was_closed(ledger: Ledger, instance: Instance, clock: SettableClock) -> None:
    """The suppressions of erased persons come from the daily batch once the intents no longer open."""
    lead_full_lives(ledger, clock)
    finish_erasures(ledger)
    clock.advance(timedelta(days=1))
    before = live(ledger)
    assert close_suppression_days(ledger, clock())
    assert live(ledger) == before
    build(ledger, instance, "standing")
    assert live(ledger) == before


def test_decisions_are_the_same_afterwards(ledger: Ledger, instance: Instance, clock: SettableClock) -> None:
    """What may be sent before a rebuild may be sent after it, with the same evidence, and nothing else."""
    lead_full_lives(ledger, clock)
    asked = [(email, "newsletter", "email") for email in [*PEOPLE, "twice@example.com", "listed@example.com"]]
    before = ledger.check(asked)
    assert {decision.allowed for decision in before} == {True, False}
    build(ledger, instance, "standing")
    assert ledger.check(asked) == before


def test_the_log_can_be_written_while_it_is_rebuilt(ledger: Ledger, instance: Instance) -> None:
    """Writers write all the time; what serves afterwards is what another rebuild, at rest, makes of the log."""
    # given writers that add, move, withdraw and erase without pause
    add(ledger, *PEOPLE)
    errors: list[BaseException] = []
    built = Event()

    def write(name: str) -> None:
        try:
            for number in range(15):
                assert number < 8 or built.wait(WAIT_SECONDS_MAX), "Nothing was built meanwhile."
                here, there = f"{name}{number}@example.com", f"{name}{number}b@example.com"
                add(ledger, here)
                grant(ledger, here)
                move(ledger, here, there)
                withdraw(ledger, there)
                if number % 3 == 0:
                    erase(ledger, there)
                    finish_erasures(ledger)
        except BaseException as error:  # noqa: BLE001  Handed to the test.
            errors.append(error)

    writers = [Thread(target=write, args=(name,)) for name in ("x", "y")]
    for writer in writers:
        writer.start()
    # when it is rebuilt again and again until they are done
    rebuilds = 0
    try:
        while any(writer.is_alive() for writer in writers) and rebuilds < 200:
            build(ledger, instance, "standing")
            built.set()
            rebuilds += 1
    finally:
        for writer in writers:
            writer.join()
    # then
    assert not errors
    served = live(ledger)
    build(ledger, instance, "standing")
    assert rebuilds > 1
    assert live(ledger) == served
    assert len(served["standing"]) == len(PEOPLE) + 2 * 10
    assert not [row for row in served["standing"] if row.standing.erasing]


def test_who_is_erased_while_on_the_way_does_not_come_back(
    ledger: Ledger, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Erased and moved between being read and being written: the reader's picture of them is not written."""
    # given a person erased, keys and all, and another one moved, just after the rebuild has read them
    add(ledger, *PEOPLE)
    happened: list[bool] = []

    def refold_and_look_away(
        connection: Connection[Any], of: Ledger, streams: Sequence[UUID], last: int
    ) -> list[Refolded]:
        found = refold(connection, of, streams, last)
        if not happened:
            happened.append(True)
            erase(ledger, PEOPLE[0])
            finish_erasures(ledger)
            move(ledger, PEOPLE[1], "moved@example.com")
        return found

    monkeypatch.setattr(rebuild_inline, "refold", refold_and_look_away)
    # when
    build(ledger, instance, "standing")
    # then
    served = live(ledger)
    assert len(served["standing"]) == len(PEOPLE) - 1
    assert ledger.person(PEOPLE[0]) is None
    moved, alias = ledger.person("moved@example.com"), ledger.person(PEOPLE[1])
    assert moved is not None
    assert moved == alias
    build(ledger, instance, "standing")
    assert live(ledger) == served


def test_who_is_erased_after_being_written_does_not_come_back(
    ledger: Ledger, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An intent takes the person out of the generation that is being built as well, though the keys then die."""
    add(ledger, *PEOPLE)
    move(ledger, PEOPLE[1], "moved@example.com")
    next_generation = serving_generation(ledger) + 1
    rows_between: list[int] = []
    catch_up_really = InlineRebuild._catch_up

    def erase_first(self: InlineRebuild, after: int) -> int:
        erase(ledger, PEOPLE[0], "moved@example.com")
        finish_erasures(ledger)
        built = inline_rows(ledger, next_generation)
        rows_between.extend((len(built["standing"]), len(built["aliases"])))
        return catch_up_really(self, after)

    monkeypatch.setattr(InlineRebuild, "_catch_up", erase_first)
    build(ledger, instance, "standing")
    assert rows_between == [len(PEOPLE) - 2, 0]
    assert len(live(ledger)["standing"]) == len(PEOPLE) - 2
    assert ledger.check([(PEOPLE[0], "newsletter", "email")])[0].rule == "erased"


@pytest.mark.parametrize("step", ["_fill", "_take_lists", "_catch_up", "_serve"])
def test_a_killed_rebuild_changes_nothing_and_can_be_run_again(
    ledger: Ledger, instance: Instance, clock: SettableClock, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Killed at any step the old generation serves on; the next run clears the ruins and gives the same rows."""
    lead_full_lives(ledger, clock)
    before, generation = live(ledger), serving_generation(ledger)
    really = getattr(InlineRebuild, step)

    def die_after(self: InlineRebuild, *args: Any) -> None:
        really(self, *args)
        raise Killed

    # when: the last stretch dies inside its transaction, the other steps after theirs
    if step == "_serve":
        monkeypatch.setattr(rebuild_inline, "SERVE_GENERATION", "SELECT 1 / 0 FROM lethe.head WHERE %s = %s::text")
        with pytest.raises(psycopg.Error):
            build(ledger, instance, "standing")
    else:
        monkeypatch.setattr(InlineRebuild, step, die_after)
        with pytest.raises(Killed):
            build(ledger, instance, "standing")
    monkeypatch.undo()
    # then
    assert (live(ledger), serving_generation(ledger)) == (before, generation)
    build(ledger, instance, "standing")
    assert (live(ledger), serving_generation(ledger)) == (before, generation + 1)


def test_rows_left_behind_by_a_kill_after_the_switch_are_cleared(
    ledger: Ledger, instance: Instance, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dead between the switch and the deletion: the old rows go with the next tidying, the serving ones stay."""
    lead_full_lives(ledger, clock)
    before, generation = live(ledger), serving_generation(ledger)

    def die(_: float) -> None:
        raise Killed

    monkeypatch.setattr("projections.rebuild_inline.time.sleep", die)
    with pytest.raises(Killed):
        build(ledger, instance, "standing")
    assert serving_generation(ledger) == generation + 1
    assert inline_rows(ledger, generation) == before
    clear_leftovers(ledger, instance.rebuilder)
    assert not any(inline_rows(ledger, generation).values())
    assert live(ledger) == before


def test_a_key_lost_by_accident_is_not_taken_for_an_erasure(
    ledger: Ledger, instance: Instance, clock: SettableClock
) -> None:
    """Without key and tombstone the rebuild stops (I6), and what served goes on serving."""
    add(ledger, *PEOPLE)
    before = live(ledger)
    with psycopg.connect(instance.urls.vault) as connection:
        connection.execute(
            "DELETE FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND class = 'identity' AND holder <> ''",
            (ledger.tenant,),
        )
    ledger.keyring.forget_all()
    with pytest.raises(KeyMissing):
        build(ledger, instance, "standing")
    assert live(ledger) == before


# The asynchronous projections --------------------------------------------------------------------------------------


def counts_table(ledger: Ledger) -> list[Any]:
    with ledger.services.writer.transaction() as connection:
        return connection.execute(
            "SELECT c.campaign_id, c.hour, c.kind, c.rule, c.count FROM lethe.campaign_count c JOIN lethe.tracking t "
            "USING (tenant_id, generation) WHERE c.tenant_id = %s AND t.projection = 'campaign_view' AND t.live "
            "ORDER BY 1, 2, 3, 4",
            (ledger.tenant,),
        ).fetchall()


def generations(ledger: Ledger, name: str) -> list[tuple[int, bool]]:
    with ledger.services.writer.transaction() as connection:
        return [(t.generation, live) for t, live in all_tracked(connection, ledger.tenant) if t.projection == name]


def test_rebuilt_counts_and_feed_equal_the_live_ones(ledger: Ledger, instance: Instance, clock: SettableClock) -> None:
    """Counts are the same rows; the feed tells the same lines with the same addresses."""
    lead_full_lives(ledger, clock)
    catch_up(ledger)
    counts, (lines, cursor) = counts_table(ledger), feed(ledger)
    assert counts
    assert [line for line in lines if line.email is not None]
    seen: list[tuple[int, int]] = []
    for name in ("campaign_view", "change_feed"):
        build(ledger, instance, name, lambda done, total: seen.append((done, total)))
        assert generations(ledger, name) == [(2, True)]
    assert counts_table(ledger) == counts
    rebuilt, rebuilt_cursor = feed(ledger)
    assert rebuilt_cursor == cursor
    # Lines of persons erased meanwhile lose their address in a rebuild, and nothing else differs.
    assert [c for c in rebuilt if c.email is not None] == [
        c for c in lines if c.email is not None and c.position in {r.position for r in rebuilt if r.email}
    ]
    assert [c.position for c in rebuilt] == [c.position for c in lines]
    assert seen[-1][0] == seen[-1][1] == ledger.log.max_notification_id()


def test_a_rebuilt_feed_brings_no_address_of_the_erased_back(ledger: Ledger, instance: Instance) -> None:
    """After an erasure the rebuilt feed tells of the erasure with the address, of what was before it without."""
    add(ledger, PEOPLE[0])
    withdraw(ledger, PEOPLE[0])
    catch_up(ledger)
    erase(ledger, PEOPLE[0])
    finish_erasures(ledger)
    build(ledger, instance, "change_feed")
    lines, _ = feed(ledger)
    assert [(line.kind, line.email) for line in lines] == [
        ("consent_withdrawn", None),
        ("recalled", None),
        ("suppressed", PEOPLE[0]),
    ]


def test_the_old_counts_serve_until_the_new_ones_do(ledger: Ledger, instance: Instance) -> None:
    """While the next generation is filled readers see the old one, and the worker takes it further."""
    add(ledger, *PEOPLE)
    grant(ledger, *PEOPLE)
    campaign = register(ledger)
    tokens = authorise(ledger, campaign, PEOPLE)
    catch_up(ledger)
    seen: list[dict[str, int]] = []

    def look(_: int, __: int) -> None:
        if not seen:
            report(ledger, "delivered", tokens.values())
            catch_up(ledger)
        seen.append(dict(campaign_counts(ledger.services.reader, ledger.tenant, campaign).by_kind))

    build(ledger, instance, "campaign_view", look)
    assert seen[0]["delivered"] == len(PEOPLE)
    counts = campaign_counts(ledger.services.reader, ledger.tenant, campaign)
    assert counts.by_kind["delivered"] == counts.by_kind["authorised"] == len(PEOPLE)
    assert counts.position == ledger.log.max_notification_id()


def test_a_killed_rebuild_of_counts_is_cleared(ledger: Ledger, instance: Instance) -> None:
    """Killed half-way, the next run deletes what was half-built and does not count on top of it."""
    add(ledger, *PEOPLE)
    grant(ledger, *PEOPLE)
    campaign = register(ledger)
    authorise(ledger, campaign, PEOPLE)
    catch_up(ledger)
    before = counts_table(ledger)

    def die(_: int, __: int) -> None:
        raise Killed

    with pytest.raises(Killed):
        build(ledger, instance, "campaign_view", die)
    assert generations(ledger, "campaign_view") == [(1, True), (2, False)]
    assert counts_table(ledger) == before
    build(ledger, instance, "campaign_view")
    assert counts_table(ledger) == before
    assert len(generations(ledger, "campaign_view")) == 1
    authorise(ledger, register(ledger), PEOPLE)
    for projection in ASYNC:
        assert take_next(ledger, projection) is not None
    assert sum(row[4] for row in counts_table(ledger)) == 2 * len(PEOPLE)


def test_one_rebuild_at_a_time(ledger: Ledger, instance: Instance) -> None:
    """A second rebuild of the same projection of the same account is refused; of an unknown one too."""
    refused: list[str] = []

    def again(_: int, __: int) -> None:
        with pytest.raises(RebuildRunning) as error:
            rebuild(ledger, ledger.services.writer, "campaign_view")
        refused.append(str(error.value))

    build(ledger, instance, "campaign_view", again)
    assert len(refused) == 1
    with pytest.raises(UnknownProjection, match="campaign_view"):
        build(ledger, instance, "dossier")


def test_a_rebuild_of_many_batches(ledger: Ledger, instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches and windows smaller than the log give the same rows as one that holds it all."""
    acts = [Act(AddContact(f"many{number}@example.com", {"country": "AT"})) for number in range(50)]
    acts = [Act(act.command, address=act.command.email) for act in acts if isinstance(act.command, AddContact)]
    ledger.subjects.act(acts)
    grant(ledger, *[f"many{number}@example.com" for number in range(0, 50, 3)])
    erase(ledger, "many7@example.com", "many8@example.com")
    before = live(ledger)
    monkeypatch.setattr(rebuild_inline, "PERSONS_PER_BATCH", 7)
    monkeypatch.setattr(rebuild_inline, "SCAN_WINDOW_EVENTS", 11)
    monkeypatch.setattr(rebuild_inline, "LAST_STRETCH_EVENTS", 0)
    monkeypatch.setattr(rebuild_inline, "ROWS_PER_DELETE", 3)
    build(ledger, instance, "standing")
    assert live(ledger) == before
