"""The roll of the standing: rows and aliases, beside appends, rebuilds and erasures, killed anywhere (FAULTS 7, 7a)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Event
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import Connection

from api.bootstrap import Instance, running
from domain.subject_commands import RecordConsent
from ledger.application import Ledger
from ledger.errors import RollIncomplete, TamperError
from ledger.standing_row import StandingRow
from ledger.subjects import Act
from projections.rebuild import rebuild
from projections.rebuild_inline import InlineRebuild
from projections.standing import InlineStanding
from projections.standing_roll import StandingRoll, count_behind, tenants_behind
from retention.erasure.erasing import finish_erasures
from tests.acts import ask, person
from tests.projections.scenes import (
    add,
    authorise,
    erase,
    grant,
    inline_rows,
    move,
    register,
    serving_generation,
    withdraw,
)
from tests.rolls import alias_rows, new_account, noon, standing_rows
from tests.workers import see_killed, start

pytestmark = pytest.mark.store

NOW = noon(2026, 11, 21)
PER_BATCH = 3
PEOPLE = [f"person{number}@example.com" for number in range(14)]


@pytest.fixture
def hand(own_instance: Instance) -> Iterator[Connection[Any]]:
    """Somebody with full rights on the ledger's database."""
    assert own_instance.settings.ledger_owner_url is not None
    with psycopg.connect(own_instance.settings.ledger_owner_url, autocommit=True) as connection:
        yield connection


def roll_of(ledger: Ledger, per_batch: int = PER_BATCH) -> StandingRoll:
    """The roll of an account's standing into the vault's newest epoch, which is opened where it was not."""
    services = ledger.services
    into = services.epochs.begin(NOW)
    return StandingRoll(services.writer, services.vault.provider, ledger.tenant, into, rows_per_batch=per_batch)


def finish(standing: StandingRoll) -> int:
    """All that a roll does; returns how many rows were renewed."""
    standing.open()
    renewed = sum(step.rows for step in standing.renew_all())
    list(standing.verify())
    standing.close()
    return renewed


def content(ledger: Ledger, generation: int | None = None) -> dict[str, list[Any]]:
    """Everything that a generation says, without the tags that it is found by, which change with the epoch."""
    rows = inline_rows(ledger, serving_generation(ledger) if generation is None else generation)
    rows["aliases"] = [alias[0] for alias in rows["aliases"]]
    rows["tags"] = [tag[0] for tag in rows["tags"]]
    return rows


def epochs_of_rows(ledger: Ledger) -> set[int]:
    return {row[3] for row in standing_rows(ledger)}


def by_handle(ledger: Ledger, row: StandingRow, book: InlineStanding | None = None) -> StandingRow | None:
    """The person of a handle, as feedback finds them."""
    used = book or ledger.services.book
    with ledger.services.writer.transaction() as connection:
        generation = ledger.appender.read_head(connection).generation
        return used.read_handles(connection, ledger.tenant, generation, [row.handle]).get(row.handle)


def test_rows_and_aliases_are_renewed_and_say_the_same(own_ledger: Ledger) -> None:
    """Given people, some of whom have moved, when the standing is rolled, then each row and alias is under the new
    epoch with a new tag, everything they say is as before, and addresses and handles lead to the same people."""
    # given
    add(own_ledger, *PEOPLE)
    grant(own_ledger, *PEOPLE[:9])
    move(own_ledger, PEOPLE[0], "moved@example.com")
    move(own_ledger, "moved@example.com", "twice@example.com")
    move(own_ledger, PEOPLE[1], "away@example.com")
    before, rows, aliases = content(own_ledger), standing_rows(own_ledger), alias_rows(own_ledger)
    moved = person(own_ledger, "twice@example.com")
    # when
    assert finish(roll_of(own_ledger)) == len(PEOPLE)
    # then
    assert content(own_ledger) == before
    assert epochs_of_rows(own_ledger) == {2}
    assert not {row[2] for row in standing_rows(own_ledger)} & {row[2] for row in rows}
    assert not {row[2] for row in alias_rows(own_ledger)} & {row[2] for row in aliases}
    for address in (PEOPLE[0], "moved@example.com", "twice@example.com"):
        assert person(own_ledger, address) == moved
    assert by_handle(own_ledger, moved) == moved
    assert finish(roll_of(own_ledger)) == 0


def test_everybody_is_found_and_everything_goes_on_at_every_batch_boundary(own_ledger: Ledger) -> None:
    """Given a roll in batches, when at each boundary somebody is added, moves, speaks, is erased, and everybody is
    asked for by address, former address and handle, then nobody is lost and nobody is back, and a standing that is
    built anew from the log is the same."""
    # given
    add(own_ledger, *PEOPLE)
    grant(own_ledger, *PEOPLE)
    for address in PEOPLE[:6]:
        move(own_ledger, address, f"first.{address}")
    living = {f"first.{a}" if a in PEOPLE[:6] else a for a in PEOPLE}
    campaign = register(own_ledger)
    tokens = authorise(own_ledger, campaign, sorted(living))
    standing = roll_of(own_ledger, per_batch=2)
    standing.open()
    gone = set[str]()
    handles = {address: person(own_ledger, address) for address in living}
    # when
    for boundary, _ in enumerate(standing.renew()):
        mover, leaver = f"first.{PEOPLE[boundary % 6]}", PEOPLE[13 - boundary]
        if boundary < 4:
            move(own_ledger, mover, f"second{boundary}@example.com")
            living = living - {mover} | {f"second{boundary}@example.com"}
            handles[f"second{boundary}@example.com"] = handles.pop(mover)
            erase(own_ledger, leaver)
            finish_erasures(own_ledger)
            living.discard(leaver)
            gone.add(leaver)
            withdraw(own_ledger, PEOPLE[9 - boundary])
            newcomer = f"new{boundary}@example.com"
            add(own_ledger, newcomer)
            living.add(newcomer)
            handles[newcomer] = person(own_ledger, newcomer)
        for address in living:
            found = person(own_ledger, address)
            assert found.handle == handles[address].handle
            assert by_handle(own_ledger, found) == found
        for number in range(6):
            assert own_ledger.person(PEOPLE[number]) is not None, "A former address leads to nobody."
        assert [own_ledger.person(address) for address in gone] == [None] * len(gone)
        again = ask(own_ledger, campaign, sorted(living & set(tokens)))
        assert again.allowed == {address: tokens[address] for address in again.allowed}
        assert again.repeated == set(again.allowed)
    assert len(gone) >= 2, "There were no boundaries to speak of."
    finish(standing)
    # then
    assert epochs_of_rows(own_ledger) == {2}
    rolled = content(own_ledger)
    assert len(rolled["standing"]) == len(living)
    rebuild(own_ledger, own_ledger.services.writer, "standing", grace_seconds=0)
    assert content(own_ledger) == rolled


@pytest.mark.parametrize("steps", range(5))
def test_killed_at_any_batch_boundary_it_is_begun_again(own_instance: Instance, own_ledger: Ledger, steps: int) -> None:
    """Given a process killed by -9 after so many batches, when another rolls, then everything is as it was."""
    # given
    add(own_ledger, *PEOPLE)
    for address in PEOPLE[:7]:
        move(own_ledger, address, f"first.{address}")
    before = content(own_ledger)
    child = start(_roll_and_be_killed, own_instance.settings, own_ledger.tenant, steps)
    see_killed(child, own_instance)
    assert content(own_ledger) == before
    assert {row[3] for row in standing_rows(own_ledger)} == ({1} if steps == 0 else {2} if steps == 5 else {1, 2})
    for address in PEOPLE[:7]:
        assert person(own_ledger, address) == person(own_ledger, f"first.{address}")
    # when
    renewed = finish(roll_of(own_ledger))
    # then
    assert renewed == len(PEOPLE) - steps * PER_BATCH
    assert content(own_ledger) == before
    assert epochs_of_rows(own_ledger) == {2}


def _roll_and_be_killed(settings: Any, tenant: UUID, steps: int) -> None:
    with running(settings) as instance:
        standing = roll_of(instance.ledger(tenant))
        standing.open()
        renewing = standing.renew()
        for _ in range(steps):
            next(renewing)
        os.kill(os.getpid(), signal.SIGKILL)


# Who writes meanwhile -------------------------------------------------------------------------------------------------


def test_a_book_that_knows_only_the_old_epoch_writes_under_the_new_one(
    own_instance: Instance, own_ledger: Ledger
) -> None:
    """Given a process that looked before the roll, when it adds, corrects, moves and erases people during and after
    it, then every row is under the new epoch, every alias leads somewhere, and nothing of the erased is left."""
    # given
    add(own_ledger, *PEOPLE)
    for address in PEOPLE[:4]:
        move(own_ledger, address, f"first.{address}")
    with running(own_instance.settings) as elsewhere:
        there = elsewhere.ledger(own_ledger.tenant)
        grant(there, PEOPLE[5])  # It has looked.
        standing = roll_of(own_ledger)
        standing.open()
        next(standing.renew())
        # when
        erased = [person(own_ledger, address) for address in (f"first.{PEOPLE[0]}", PEOPLE[6], PEOPLE[7])]
        erase(there, f"first.{PEOPLE[0]}", *PEOPLE[6:8])
        move(there, f"first.{PEOPLE[1]}", "second@example.com")
        grant(there, f"first.{PEOPLE[2]}")
        add(there, "new@example.com")
        # then
        assert {row[3] for row in standing_rows(own_ledger) if row[2] in _tags(own_ledger, there)} == {2}
        finish(standing)
        add(there, "later@example.com")
        move(there, "second@example.com", "third@example.com")
        assert by_handle(there, person(own_ledger, "third@example.com"))
        finish_erasures(there)
    assert epochs_of_rows(own_ledger) == {2}
    for address in (PEOPLE[1], f"first.{PEOPLE[1]}", "second@example.com"):
        assert person(own_ledger, address) == person(own_ledger, "third@example.com")
    assert person(own_ledger, PEOPLE[2]) == person(own_ledger, f"first.{PEOPLE[2]}")
    assert [by_handle(own_ledger, row) for row in erased] == [None] * 3
    assert own_ledger.person(PEOPLE[0]) is None
    assert len(standing_rows(own_ledger)) == len(PEOPLE) - 3 + 2


@pytest.mark.parametrize("phase", ["opened", "closed"])
@pytest.mark.parametrize("act", ["grant", "add", "move", "erase", "find"])
def test_each_act_of_a_book_that_looked_before_the_roll(
    own_instance: Instance, own_ledger: Ledger, act: str, phase: str
) -> None:
    """Given a process that looked before the roll, when it does one thing after the epoch was opened, or after the
    roll was closed, then what it writes is under the new epoch, what it looks for is found, and aliases lead on."""
    # given
    add(own_ledger, *PEOPLE[:3])
    move(own_ledger, PEOPLE[0], "moved@example.com")
    before = person(own_ledger, "moved@example.com")
    with running(own_instance.settings) as elsewhere:
        there = elsewhere.ledger(own_ledger.tenant)
        assert by_handle(there, before) == before
        standing = roll_of(own_ledger)
        standing.open()
        if phase == "closed":
            finish(standing)
        # when
        if act == "grant":
            grant(there, "moved@example.com")
        elif act == "add":
            add(there, "new@example.com")
        elif act == "move":
            move(there, "moved@example.com", "away@example.com")
        elif act == "erase":
            erase(there, "moved@example.com")
        else:
            assert by_handle(there, before) == before
        # then
        written = {"grant": "moved@example.com", "add": "new@example.com", "move": "away@example.com"}.get(act)
        if written is not None:
            fingerprint = own_ledger.fingerprint(written)
            assert {row[3] for row in standing_rows(own_ledger) if row[1] == fingerprint} == {2}
    found = own_ledger.person(PEOPLE[0])
    assert (found is None) == (act == "erase")
    assert found is None or by_handle(own_ledger, before) == found
    finish(standing)
    assert epochs_of_rows(own_ledger) == {2}
    assert len(standing_rows(own_ledger)) == 3 + (act == "add") - (act == "erase")
    assert len(alias_rows(own_ledger)) == {"move": 2, "erase": 0}.get(act, 1)


def _tags(ledger: Ledger, there: Ledger) -> set[bytes]:
    """The tags of who was written by the other process."""
    fingerprints = {there.fingerprint(a) for a in ("second@example.com", f"first.{PEOPLE[2]}", "new@example.com")}
    return {row[2] for row in standing_rows(ledger) if row[1] in fingerprints}


def test_an_append_that_is_not_committed_is_passed_by(own_ledger: Ledger) -> None:
    """Given an append that has written a row and not committed, when a batch comes by, then it does not wait for it;
    and what the append wrote is what stands there in the end."""
    add(own_ledger, *PEOPLE[:5])
    standing = roll_of(own_ledger)
    standing.open()
    written, go_on = Event(), Event()

    def hold(*_: Any) -> None:
        written.set()
        assert go_on.wait(60)

    act = Act(RecordConsent("newsletter", "email", "withdraw"), address=PEOPLE[2], actor="cli")
    with ThreadPoolExecutor(1) as threads:
        appending = threads.submit(own_ledger.subjects.act, [act], also=hold)
        assert written.wait(60)
        assert sum(step.rows for step in standing.renew()) == 4
        assert wait([appending], timeout=0).not_done
        go_on.set()
        appending.result(60)
    assert epochs_of_rows(own_ledger) == {2}
    finish(standing)
    assert person(own_ledger, PEOPLE[2]).standing.version > 1


@pytest.mark.parametrize("boundary", range(3))
def test_a_rebuild_during_a_roll(own_ledger: Ledger, boundary: int) -> None:
    """Given a roll under way, when the standing is built anew in between, then the new generation is under the new
    epoch, says the same, and the roll ends well."""
    add(own_ledger, *PEOPLE)
    for address in PEOPLE[:7]:
        move(own_ledger, address, f"first.{address}")
    before = content(own_ledger)
    standing = roll_of(own_ledger)
    standing.open()
    renewing = standing.renew()
    for _ in range(boundary):
        next(renewing)
    rebuild(own_ledger, own_ledger.services.writer, "standing", grace_seconds=0)
    list(renewing)
    finish(standing)
    assert serving_generation(own_ledger) == 2
    assert content(own_ledger) == before
    assert {(row[0], row[3]) for row in standing_rows(own_ledger)} == {(2, 2)}


def test_a_roll_during_a_rebuild(own_ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a rebuild that has filled the next generation under the old epoch, when everything is rolled before it
    serves, then both generations are renewed, and people who are erased then are in neither."""
    add(own_ledger, *PEOPLE)
    for address in PEOPLE[:7]:
        move(own_ledger, address, f"first.{address}")
    really, seen = InlineRebuild._catch_up, list[set[tuple[int, int]]]()

    def roll_first(self: InlineRebuild, after: int) -> int:
        standing = roll_of(own_ledger)
        standing.open()
        next(standing.renew())
        seen.append({(row[0], row[3]) for row in standing_rows(own_ledger)})
        erase(own_ledger, PEOPLE[9], f"first.{PEOPLE[3]}")
        finish(standing)
        seen.append({(row[0], row[3]) for row in standing_rows(own_ledger)})
        erase(own_ledger, PEOPLE[10], f"first.{PEOPLE[4]}")
        return really(self, after)

    monkeypatch.setattr(InlineRebuild, "_catch_up", roll_first)
    rebuild(own_ledger, own_ledger.services.writer, "standing", grace_seconds=0)
    assert seen == [{(1, 1), (1, 2), (2, 1)}, {(1, 2), (2, 2)}]
    assert {(row[0], row[3]) for row in standing_rows(own_ledger)} == {(2, 2)}
    assert len(standing_rows(own_ledger)) == len(PEOPLE) - 4
    for address in PEOPLE[:3]:
        assert person(own_ledger, address) == person(own_ledger, f"first.{address}")
    assert own_ledger.person(PEOPLE[3]) is own_ledger.person(PEOPLE[10]) is None


def test_the_head_is_held_only_to_open_the_epoch(own_ledger: Ledger) -> None:
    """Given a head that somebody holds, when batches are renewed and verified, then they do not wait for it."""
    add(own_ledger, *PEOPLE)
    standing = roll_of(own_ledger)
    standing.open()
    with own_ledger.appender.locked():
        assert sum(step.rows for step in standing.renew()) == len(PEOPLE)
        assert sum(step.rows for step in standing.verify()) == len(PEOPLE)
    standing.close()


def test_an_account_that_is_opened_after_the_epoch_has_nothing_to_renew(
    own_instance: Instance, own_ledger: Ledger
) -> None:
    """Given an epoch opened by the vault, when an account is opened after it, then it is not behind; the older is."""
    into = own_instance.services.epochs.begin(NOW)
    newer = new_account(own_instance)
    add(newer, PEOPLE[0])
    writer = own_instance.services.writer
    assert epochs_of_rows(newer) == {2}
    assert tenants_behind(writer, into, 10) == [own_ledger.tenant]
    finish(roll_of(own_ledger))
    assert (tenants_behind(writer, into, 10), count_behind(writer, into)) == ([], 0)


# What does not open is refused ----------------------------------------------------------------------------------------


def test_a_row_of_an_older_epoch_is_refused_wherever_it_is_put(own_ledger: Ledger, hand: Connection[Any]) -> None:
    """Given a row kept from before a roll, when it is put back under its own epoch or the new one, then reading it is
    a TamperError, though its epoch key still lives (FAULTS 17)."""
    add(own_ledger, *PEOPLE[:3])
    hand.execute("CREATE TEMP TABLE kept AS SELECT * FROM lethe.standing")
    finish(roll_of(own_ledger))
    for epoch in (1, 2):
        hand.execute(
            "UPDATE lethe.standing s SET epoch = %s, sealed = k.sealed, handle_tag = k.handle_tag FROM kept k "
            "WHERE s.fingerprint = k.fingerprint",
            (epoch,),
        )
        with pytest.raises(TamperError):
            own_ledger.person(PEOPLE[0])
        with pytest.raises(TamperError):
            ask(own_ledger, register(own_ledger), PEOPLE[:3])
        with pytest.raises((TamperError, RollIncomplete)):
            list(roll_of(own_ledger).verify())


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("UPDATE lethe.standing SET sealed = set_byte(sealed, 20, get_byte(sealed, 20) # 1)", TamperError),
        ("UPDATE lethe.standing SET handle_tag = set_byte(handle_tag, 0, get_byte(handle_tag, 0) # 1)", None),
        ("UPDATE lethe.contact_alias SET handle_tag = set_byte(handle_tag, 0, get_byte(handle_tag, 0) # 1)", None),
    ],
)
def test_a_roll_that_finds_something_amiss_is_never_closed(
    own_ledger: Ledger, hand: Connection[Any], change: str, error: type[Exception] | None
) -> None:
    """Given a row that was changed, a row that no handle finds, or an alias that leads to nobody, when the standing is
    rolled, then it fails by name and the account counts as behind."""
    add(own_ledger, *PEOPLE[:5])
    move(own_ledger, PEOPLE[0], "moved@example.com")
    into = own_ledger.services.epochs.begin(NOW)
    hand.execute(change.encode())
    with pytest.raises(error or RollIncomplete, match=str(own_ledger.tenant)):
        finish(roll_of(own_ledger))
    assert count_behind(own_ledger.services.writer, into) == 1
