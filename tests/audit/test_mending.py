"""Wrong tiles are set aside and made anew only where everything else about a log is whole (FAULTS 18)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import Connection

from api.bootstrap import Instance
from audit.fsck import LogLies, Outside, mending, require_whole_log
from audit.fsck.mending import LogMovedOn, TilePlan, mend, tile_plan
from audit.log.export import export_log
from audit.log.proofs import proven_entry
from audit.log.reading import reading
from ledger.application import Ledger
from ledger.backup.gate import look
from ledger.custody.kept_checkpoints import KeptCheckpoint
from ledger.errors import SettingsRefused, Unavailable
from ledger.log_tree import root_of_events
from tests.audit.damage import retile, rewrite, unprotect
from tests.audit.published_log import POSITION, PublishedLog, name_another_actor
from tests.audit.publishing import grow, keys_of, publish
from tests.log_kills import die_while_mending, nothing, publish_until_told
from tests.support import SettableClock
from tests.verifiers.outside import go_verify, scales_verify
from tests.workers import finish, see_killed, start

pytestmark = pytest.mark.store

WRONG = "hashes = set_byte(hashes, 70, get_byte(hashes, 70) # 1)"
OF = "WHERE tenant_id = %(t)s"
FIRST, GROWING, ABOVE = (f"{OF} AND level = {place}" for place in ("0 AND number = 0", "0 AND number = 2", "1"))
COPY = "INSERT INTO lethe.log_tile SELECT tenant_id, {}, {}, {}, hashes FROM lethe.log_tile " + FIRST

DAMAGES: dict[str, tuple[list[str], tuple[int, int, int]]] = {
    "a full tile": ([f"UPDATE lethe.log_tile SET {WRONG} {FIRST}"], (1, 0, 0)),
    "the growing tile": ([f"UPDATE lethe.log_tile SET {WRONG} {GROWING}"], (1, 0, 0)),
    "a tile above": (
        ["UPDATE lethe.log_tile SET hashes = sha256('x') || substring(hashes FROM 33) " + ABOVE],
        (1, 0, 0),
    ),
    "the growing tile, cut": ([f"UPDATE lethe.log_tile SET hashes = substring(hashes FOR 64) {GROWING}"], (1, 0, 0)),
    "the growing tile, longer": ([f"UPDATE lethe.log_tile SET hashes = hashes || sha256('x') {GROWING}"], (1, 0, 0)),
    "a tile in the middle": ([f"DELETE FROM lethe.log_tile {OF} AND level = 0 AND number = 1"], (0, 1, 0)),
    "every tile": ([f"DELETE FROM lethe.log_tile {OF}"], (0, 4, 0)),
    "every tile, in place": (
        [f"UPDATE lethe.log_tile SET hashes = set_byte(hashes, 1, get_byte(hashes, 1) # 1) {OF}"],
        (4, 0, 0),
    ),
    "a tile behind the end": ([COPY.format(1, 0, 7)], (0, 0, 1)),
    "a tile before the first": ([COPY.format(1, 0, -1)], (0, 0, 1)),
    "a tile of no level": ([COPY.format(1, -1, 0), COPY.format(1, 9, 0)], (0, 0, 2)),
    "a tile of no series": ([COPY.format(9, 0, 0)], (0, 0, 1)),
    "all at once": (
        [
            f"DELETE FROM lethe.log_tile {OF} AND level = 1",
            f"UPDATE lethe.log_tile SET {WRONG} {FIRST}",
            COPY.format(1, 3, 5),
        ],
        (1, 1, 1),
    ),
}
"""Statements of a superuser, and how many tiles are then damaged, missing and surplus."""


# A plan ---------------------------------------------------------------------------------------------------------------


def planned(log: PublishedLog, outside: Outside | None = None) -> tuple[int, int, int]:
    with tile_plan(log.superuser, log.tenant, outside or log.outside) as plan:
        return plan.damaged, plan.missing, plan.surplus


def test_a_whole_log_has_nothing_to_mend(log: PublishedLog) -> None:
    """Given a whole log whose end is not published yet, then no tile is wrong."""
    assert planned(log) == (0, 0, 0)


@pytest.mark.usefixtures("_small_windows")
@pytest.mark.parametrize("damage", DAMAGES)
def test_each_wrong_tile_is_counted(log: PublishedLog, damage: str) -> None:
    """Given a log whose tiles somebody changed, took away or added to, then the plan has exactly those."""
    statements, counts = DAMAGES[damage]
    for statement in statements:
        log.do(statement)
    assert log.lie().rule == "tile"
    assert planned(log) == counts


def test_a_tile_that_stands_there_twice_is_counted_once(log: PublishedLog) -> None:
    """Given a table without its key and a tile that stands in it twice, then one tile is to be written anew."""
    unprotect(log.superuser)
    log.do(COPY.format(1, 0, 0))
    assert planned(log) == (1, 0, 0)


def _rewritten(log: PublishedLog) -> None:
    rewrite(log.superuser, log.tenant, POSITION, name_another_actor)


def _rewritten_with_tiles(log: PublishedLog) -> None:
    _rewritten(log)
    retile(log.superuser, log.tenant, log.end)
    log.do(f"UPDATE lethe.log_tile SET {WRONG} {FIRST}")


def _other_root(log: PublishedLog) -> None:
    log.do("UPDATE lethe.log_checkpoint SET root = sha256('x') WHERE tenant_id = %(t)s AND size = %(end)s")


def _covering(log: PublishedLog) -> int:
    return next(one.size for one in log.published if one.size >= POSITION)


REFUSED: dict[str, tuple[Callable[[PublishedLog], object], str, Callable[[PublishedLog], int]]] = {
    "an event": (_rewritten, "root", _covering),
    "an event and every tile": (_rewritten_with_tiles, "root", _covering),
    "a checkpoint": (_other_root, "checkpoint", lambda log: log.end),
    "a missing event": (lambda log: log.do(f"DELETE FROM lethe.event {OF} AND position = 9"), "gapless", lambda _: 9),
}


@pytest.mark.parametrize("damage", REFUSED)
def test_over_anything_else_nothing_is_planned(log: PublishedLog, damage: str) -> None:
    """Given a log whose events or checkpoints were changed, then there is no plan, and the first of them is named."""
    harm, rule, where = REFUSED[damage]
    log.do(f"DELETE FROM lethe.log_tile {GROWING}")
    harm(log)
    with pytest.raises(LogLies) as raised:
        planned(log)
    assert (raised.value.lie.rule, raised.value.lie.position) == (rule, where(log))


def test_a_kept_checkpoint_that_the_events_do_not_give_is_in_the_way(log: PublishedLog) -> None:
    """Given a checkpoint in custody with another root than the events have, then there is no plan."""
    assert log.outside.checkpoint is not None
    other = replace(log.outside, checkpoint=replace(log.outside.checkpoint, root=bytes(32)))
    log.do(f"DELETE FROM lethe.log_tile {GROWING}")
    with pytest.raises(LogLies, match="kept"):
        planned(log, other)


# Mending --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def published(own_instance: Instance, own_ledger: Ledger) -> Ledger:
    """A log of 600 events and some, published three times."""
    for events in (100, 250, 260):
        grow(own_ledger, events)
        publish(own_instance, own_ledger)
    return own_ledger


@pytest.fixture
def superuser(own_instance: Instance) -> Iterator[Connection[Any]]:
    """Somebody who may do anything to the ledger's database."""
    with psycopg.connect(owner(own_instance), autocommit=True) as connection:
        yield connection


def owner(instance: Instance) -> str:
    assert instance.settings.ledger_owner_url is not None
    return instance.settings.ledger_owner_url


def plan_of(instance: Instance, ledger: Ledger) -> Any:
    return tile_plan(
        instance.urls.writer, ledger.tenant, Outside(checkpoint=instance.custody.kept_checkpoints()[ledger.tenant])
    )


def harm(superuser: Connection[Any], ledger: Ledger, damage: str) -> None:
    for statement in DAMAGES[damage][0]:
        assert superuser.execute(statement, {"t": ledger.tenant}).rowcount >= 1


def mend_all(instance: Instance, ledger: Ledger) -> None:
    with plan_of(instance, ledger) as plan:
        mend(owner(instance), plan, begun=nothing, told=nothing)


def require_whole(instance: Instance, ledger: Ledger) -> int:
    return require_whole_log(instance.urls.writer, ledger.tenant).tiles


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_was_damaged_is_whole_again(
    own_instance: Instance, published: Ledger, superuser: Connection[Any], damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given damaged tiles, when they are mended, a few at a time, then the log is whole and the sequencer goes on."""
    monkeypatch.setattr(mending, "TILES_PER_TRANSACTION", 2)
    harm(superuser, published, damage)
    mend_all(own_instance, published)
    assert require_whole(own_instance, published) == 4
    grow(published, 300)
    publish(own_instance, published)
    assert require_whole(own_instance, published) == 5


def test_tiles_without_a_key_are_mended_too(
    own_instance: Instance, published: Ledger, superuser: Connection[Any]
) -> None:
    """Given a table without its key and tiles that stand in it twice or are no tiles, then one of each is left."""
    unprotect(superuser)
    values = {"t": published.tenant}
    superuser.execute(COPY.format(1, 0, 0), values)
    superuser.execute("UPDATE lethe.log_tile SET hashes = hashes || 'x' " + GROWING, values)
    superuser.execute(f"UPDATE lethe.log_tile SET hashes = hashes || hashes {OF} AND level = 0 AND number = 1", values)
    mend_all(own_instance, published)
    assert require_whole(own_instance, published) == 4


def test_others_verify_what_was_mended(
    own_instance: Instance, published: Ledger, superuser: Connection[Any], tmp_path: Path
) -> None:
    """Given a log that lost every tile, when it is mended, then Go and tlog-scales verify its export, and our verifier
    takes a proof of each of its events."""
    harm(superuser, published, "every tile")
    mend_all(own_instance, published)

    def view() -> Any:
        return reading(own_instance.services.reader, published.tenant)

    export_log(tmp_path / "log", view, published.tenant, entries=True)
    (key,) = (tmp_path / "log" / "log.vkey").read_text().split()
    go_verify(tmp_path / "log", key)
    scales_verify(tmp_path / "log", key)
    keys = keys_of(own_instance, published)
    with view() as connection:
        for position in range(1, publish(own_instance, published).size + 1, 13):
            proof, entry = proven_entry(connection, published.tenant, position)
            proof.require_logged(entry, keys)


def test_the_program_s_own_role_may_not_mend(
    own_instance: Instance, published: Ledger, superuser: Connection[Any]
) -> None:
    """Given the writer's connection instead of the owner's, when tiles are to be mended, then nothing is written."""
    harm(superuser, published, "all at once")
    with plan_of(own_instance, published) as plan, pytest.raises(SettingsRefused, match="owner"):
        mend(own_instance.urls.writer, plan, begun=nothing, told=nothing)
    with plan_of(own_instance, published) as plan:
        assert plan.count == 3


def test_what_cannot_be_recorded_is_not_begun(
    own_instance: Instance, published: Ledger, superuser: Connection[Any]
) -> None:
    """Given a mend whose event cannot be recorded, then no tile is written."""
    harm(superuser, published, "all at once")

    def refused() -> None:
        raise Unavailable("No database.")

    with plan_of(own_instance, published) as plan, pytest.raises(Unavailable):
        mend(owner(own_instance), plan, begun=refused, told=nothing)
    with plan_of(own_instance, published) as plan:
        assert plan.count == 3


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("call", [1, 2, 3])
def test_killed_anywhere_it_is_run_again(
    own_instance: Instance, published: Ledger, superuser: Connection[Any], call: int, after: bool
) -> None:
    """Given mending that dies by kill -9 between or inside its transactions, when it is run again, then it ends."""
    harm(superuser, published, "every tile")
    child = start(die_while_mending, own_instance.settings, published.tenant, owner(own_instance), call, after)
    see_killed(child, own_instance)
    with plan_of(own_instance, published) as plan:
        assert plan.missing == 4 - (call - 1)  # The transaction that it died in is taken back.
        mend(owner(own_instance), plan, begun=nothing, told=nothing)
    assert require_whole(own_instance, published) == 4


def test_it_waits_for_the_sequencer_s_rows(
    own_instance: Instance, published: Ledger, superuser: Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a sequencer that holds the log, when tiles are to be mended, then it is waited for, and not for ever."""
    monkeypatch.setattr(mending, "LOCK_SECONDS_MAX", 1)
    harm(superuser, published, "a full tile")
    with plan_of(own_instance, published) as plan:
        with own_instance.services.writer.transaction() as held:
            held.execute("SELECT 1 FROM lethe.log_series WHERE tenant_id = %s FOR UPDATE", (published.tenant,))
            with pytest.raises(Unavailable, match="held the log"):
                mend(owner(own_instance), plan, begun=nothing, told=nothing)
        mend(owner(own_instance), plan, begun=nothing, told=nothing)
    assert require_whole(own_instance, published) == 4


def test_a_running_sequencer_is_not_in_the_way(
    own_instance: Instance, published: Ledger, superuser: Connection[Any], tmp_path: Path
) -> None:
    """Given full tiles that are damaged again and again while another process publishes, then mending keeps up."""
    child = start(publish_until_told, own_instance.settings, str(tmp_path))
    while not list(tmp_path.glob("begun-*")):
        assert child.is_alive()
    for _ in range(5):
        grow(published, 40)
        harm(superuser, published, "a full tile")
        superuser.execute(f"DELETE FROM lethe.log_tile {OF} AND level = 0 AND number = 1", {"t": published.tenant})
        mend_all(own_instance, published)
    (tmp_path / "stop").touch()
    finish([child])
    publish(own_instance, published)
    assert require_whole(own_instance, published) == 5


def test_a_tile_that_has_grown_since_is_not_cut(
    own_instance: Instance, published: Ledger, superuser: Connection[Any]
) -> None:
    """Given a plan for the growing tile, when the log is mended and published further before it, then it is refused."""
    harm(superuser, published, "the growing tile")
    with plan_of(own_instance, published) as plan:
        mend_all(own_instance, published)
        grow(published, 5)
        publish(own_instance, published)
        with pytest.raises(LogMovedOn):
            mend(owner(own_instance), plan, begun=nothing, told=nothing)
    assert require_whole(own_instance, published) == 4


@pytest.mark.parametrize("damage", ["the growing tile", "every tile"])
def test_a_gate_that_wrong_tiles_have_shut_opens_when_they_are_mended(
    own_instance: Instance, published: Ledger, superuser: Connection[Any], clock: SettableClock, damage: str
) -> None:
    """Given a checkpoint that was kept and, by a crash, never published, when tiles under it are wrong, then the gate
    is shut, because the log does not give its root; mended behind it, the log gives it, and the gate is open."""
    grow(published, 5)
    writer, tenant = own_instance.services.writer, published.tenant
    with writer.connection() as connection:
        end = published.log.max_notification_id() or 0
        root = root_of_events(connection, tenant, end)
    own_instance.custody.keep_checkpoints({tenant: KeptCheckpoint(1, end, root, clock())})
    harm(superuser, published, damage)
    assert look(writer, own_instance.vault_pool, own_instance.custody).shut
    mend_all(own_instance, published)
    assert not look(writer, own_instance.vault_pool, own_instance.custody, thoroughly=True).shut
    assert publish(own_instance, published).root == root


def test_a_plan_reads_back_what_it_set_aside(
    own_instance: Instance, published: Ledger, superuser: Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given more wrong tiles than a person is shown, then the first are shown, and all of them are read back."""
    monkeypatch.setattr(mending, "TILES_SHOWN_MAX", 2)
    harm(superuser, published, "every tile")
    with plan_of(own_instance, published) as plan:
        assert isinstance(plan, TilePlan)
        assert plan.first == list(plan.tiles())[:2]
        assert len(list(plan.tiles())) == len(list(plan.tiles())) == 4
