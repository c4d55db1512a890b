"""`fsck` finds what a superuser does to a log's events, says where, and finds nothing in a whole one (FAULTS 18)."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from api.bootstrap import Instance
from audit.fsck import Brought, LogLies, Outside, require_whole_log
from audit.log.keys import rotate
from audit.verify.checkpoint import Checkpoint
from audit.verify.errors import VerificationRefused
from ledger.application import Ledger
from tests.audit.damage import cut, reseal, rewrite, unprotect, unpublish
from tests.audit.published_log import ONE, POSITION, Damage, PublishedLog, name_another_actor
from tests.audit.publishing import grow, publish
from tests.witness import Witness

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("_small_windows")]

# Whole ---------------------------------------------------------------------------------------------------------------


def test_a_whole_log_passes(whole: PublishedLog) -> None:
    """Given a log with some of everything, when it is checked, then everything was looked at and nothing found."""
    found = whole.check()
    assert found.events == whole.events
    assert found.published == whole.end
    assert found.kept == 3
    tiles = 3 + 1  # Two full tiles of leaves, a growing one, and the one above them.
    assert (found.tiles, found.counts.checkpoints, found.counts.cosignatures) == (tiles, 6, 6)
    assert (found.counts.timestamps, found.counts.cosignatures_by_others) == (6, 0)


def test_a_whole_log_passes_for_the_program_s_own_role(whole: PublishedLog) -> None:
    """Given the writer's URL and nothing from outside, then the log passes, and what nobody vouches for is told."""
    seen: list[tuple[int, int]] = []
    url, tenant = whole.ledger.services.writer.url, whole.tenant
    found = require_whole_log(url, tenant, told=lambda done, of: seen.append((done, of)))
    assert found.root == whole.check().root
    assert (found.counts.cosignatures_by_others, found.counts.timestamps_without_roots) == (6, 6)
    assert seen[-1] == (found.events, found.events)
    assert len(seen) == 3


def test_a_log_that_grows_meanwhile_passes(instance: Instance, ledger: Ledger) -> None:
    """Given a check that is under way, when events are written and published, then it passes up to its head."""
    grow(ledger, 300)
    publish(instance, ledger)

    def more(_done: int, _of: int) -> None:
        grow(ledger, 5)
        rotate(ledger, actor="cli") if _done == 256 else None
        publish(instance, ledger)

    url = ledger.services.writer.url
    before = ledger.log.max_notification_id()
    assert require_whole_log(url, ledger.tenant, told=more).events == before
    after = ledger.log.max_notification_id()
    assert before is not None
    assert after is not None
    assert require_whole_log(url, ledger.tenant).events == after > before


def test_a_log_without_any_event_behind_its_head_is_whole_only_if_there_is_a_head(whole: PublishedLog) -> None:
    """A log that nobody opened is not silently whole."""
    with pytest.raises(LogLies, match="head about the whole log"):
        require_whole_log(whole.superuser, uuid4())


# Rows ----------------------------------------------------------------------------------------------------------------


def _sql(statement: str) -> Damage:
    return lambda log: log.do(statement, p=POSITION)


SWAP = """
UPDATE lethe.event AS e SET {columns} FROM lethe.event AS o
WHERE e.tenant_id = %(t)s AND o.tenant_id = %(t)s AND e.position IN ({a}, {b}) AND o.position = {a} + {b} - e.position
"""


def _swap_positions(log: PublishedLog) -> None:
    """Two rows of one transaction change places, whole."""
    unprotect(log.superuser)
    log.do(
        "UPDATE lethe.event SET position = 2 * %(p)s + 1 - position "
        "WHERE tenant_id = %(t)s AND position IN (%(p)s, %(p)s + 1)",
        p=POSITION,
    )


def _in_the_growing_tile(log: PublishedLog) -> None:
    rewrite(log.superuser, log.tenant, 530, name_another_actor)


def _twice(log: PublishedLog) -> None:
    unprotect(log.superuser)
    log.do(f"INSERT INTO lethe.event SELECT * FROM lethe.event {ONE}", p=POSITION)


def _twice_at_a_window_s_edge(log: PublishedLog) -> None:
    unprotect(log.superuser)
    log.do(f"INSERT INTO lethe.event SELECT * FROM lethe.event {ONE}", p=256)


def _closed_gap(log: PublishedLog) -> None:
    unprotect(log.superuser)
    log.do(f"DELETE FROM lethe.event {ONE}", p=POSITION)
    log.do("UPDATE lethe.event SET position = position - 1 WHERE tenant_id = %(t)s AND position > %(p)s", p=POSITION)
    log.do("UPDATE lethe.head SET position = position - 1 WHERE tenant_id = %(t)s")


ROWS: dict[str, tuple[Damage, str, int]] = {
    "entry edited": (lambda log: rewrite(log.superuser, log.tenant, POSITION, name_another_actor), "entry", POSITION),
    "entry edited in the growing tile": (
        lambda log: rewrite(log.superuser, log.tenant, 530, name_another_actor),
        "entry",
        530,
    ),
    "sealed part edited, digest fixed up": (lambda log: reseal(log.superuser, log.tenant, 40), "entry", 40),
    "sealed part edited": (
        lambda log: log.do(
            f"UPDATE lethe.event SET sealed = set_byte(sealed, 60, get_byte(sealed, 60) # 1) {ONE}", p=40
        ),
        "digest",
        40,
    ),
    "sealed part dropped": (lambda log: log.do(f"UPDATE lethe.event SET sealed = NULL {ONE}", p=40), "digest", 40),
    "sealed parts swapped": (
        lambda log: log.do(SWAP.format(columns="sealed = o.sealed", a=40, b=41)),
        "digest",
        40,
    ),
    "sealed part twice": (
        lambda log: log.do(f"UPDATE lethe.event SET sealed = sealed || sealed {ONE}", p=40),
        "digest",
        40,
    ),
    "sealed part cut": (
        lambda log: log.do(f"UPDATE lethe.event SET sealed = substring(sealed FOR 50) {ONE}", p=40),
        "digest",
        40,
    ),
    "sealed part where there is none": (
        lambda log: log.do(f"UPDATE lethe.event SET sealed = ''::bytea {ONE}", p=POSITION),
        "digest",
        POSITION,
    ),
    "entries swapped": (
        lambda log: log.do(SWAP.format(columns="entry = o.entry, sealed = o.sealed", a=40, b=41)),
        "place",
        40,
    ),
    "deleted": (_sql(f"DELETE FROM lethe.event {ONE}"), "gapless", POSITION),
    "deleted at a window's end": (
        lambda log: log.do(f"DELETE FROM lethe.event {ONE}", p=256),
        "gapless",
        256,
    ),
    "deleted, and the gap closed": (_closed_gap, "entry", POSITION),
    "reordered": (_swap_positions, "entry", POSITION),
    "twice": (_twice, "gapless", POSITION),
    "twice at a window's edge": (_twice_at_a_window_s_edge, "gapless", 256),
    "before the first": (
        lambda log: log.do(f"UPDATE lethe.event SET position = -5 {ONE}", p=POSITION),
        "gapless",
        -5,
    ),
    "time turned back": (
        _sql(f"UPDATE lethe.event SET recorded_at = '2001-01-01' {ONE}"),
        "recorded_at",
        POSITION,
    ),
    "time that is none": (
        _sql(f"UPDATE lethe.event SET recorded_at = 'infinity' {ONE}"),
        "recorded_at",
        POSITION,
    ),
    "row without its entry's time": (
        _sql(f"UPDATE lethe.event SET recorded_at = recorded_at + interval '1 second' {ONE}"),
        "place",
        POSITION,
    ),
    "version changed": (_sql(f"UPDATE lethe.event SET version = version + 7 {ONE}"), "place", POSITION),
    "stream renamed": (_sql(f"UPDATE lethe.event SET stream_id = gen_random_uuid() {ONE}"), "place", POSITION),
    "topic renamed": (_sql(f"UPDATE lethe.event SET topic = 'consent.refused.v1' {ONE}"), "place", POSITION),
    "version written otherwise": (
        lambda log: rewrite(log.superuser, log.tenant, POSITION, lambda entry: entry.update(version=True)),
        "place",
        POSITION,
    ),
    "entry not canonical": (_sql(f"UPDATE lethe.event SET entry = entry || ' '::bytea {ONE}"), "canonical", POSITION),
    "entry no JSON": (_sql(f"UPDATE lethe.event SET entry = 'x'::bytea {ONE}"), "entry", POSITION),
    "entry no object": (_sql(f"UPDATE lethe.event SET entry = '[]'::bytea {ONE}"), "entry", POSITION),
    "head moved back": (lambda log: log.do("UPDATE lethe.head SET position = 99 WHERE tenant_id = %(t)s"), "head", 100),
    "head deleted": (lambda log: log.do("DELETE FROM lethe.head WHERE tenant_id = %(t)s"), "head", 0),
}


@pytest.mark.parametrize("damage", ROWS)
def test_damage_to_rows_is_found_where_it_is(log: PublishedLog, damage: str) -> None:
    """Given a whole log, when a superuser damages its rows, then fsck stops there and says which event it is."""
    harm, rule, position = ROWS[damage]
    harm(log)
    lie = log.lie()
    assert (lie.rule, lie.position) == (rule, position)


def test_a_wrong_time_of_the_head_is_found(log: PublishedLog) -> None:
    """Given a head that says another time than its event, then that is found at the end of the log."""
    log.do("UPDATE lethe.head SET recorded_at = recorded_at + interval '1 hour' WHERE tenant_id = %(t)s")
    lie = log.lie()
    assert (lie.rule, lie.position) == ("head", log.events)


def test_what_an_event_says_is_vouched_for_once_it_is_published(log: PublishedLog) -> None:
    """Given an event that nobody signed yet, when it is rewritten in its place, then nothing can tell; the same change
    of a published one is found."""
    rewrite(log.superuser, log.tenant, log.end + 1, name_another_actor)
    assert log.check().events == log.events
    rewrite(log.superuser, log.tenant, log.end, name_another_actor)
    lie = log.lie()
    assert (lie.rule, lie.position) == ("entry", log.end)


def test_a_lie_says_what_was_expected_and_found(log: PublishedLog) -> None:
    """Given a renamed topic, then the lie names the event, its stream, and both topics."""
    stream = log.value(f"SELECT stream_id FROM lethe.event WHERE tenant_id = %(t)s AND position = {POSITION}")
    topic = log.value(f"SELECT topic FROM lethe.event WHERE tenant_id = %(t)s AND position = {POSITION}")
    ROWS["topic renamed"][0](log)
    lie = log.lie()
    assert (lie.stream, lie.expected, lie.found) == (stream, "consent.refused.v1", topic)
    assert f"position {POSITION}, stream {stream}" in lie.said()


def test_what_a_superuser_writes_cannot_steer_a_terminal(log: PublishedLog) -> None:
    """Given control characters in a column, when the lie is told, then they are escaped and the line stays short."""
    log.do(f"UPDATE lethe.event SET topic = E'\\x1b[2J' || repeat('x', 5000) {ONE}", p=POSITION)
    said = log.lie().said()
    assert "\x1b" not in said
    assert len(said) < 600


# Cut off and replaced ------------------------------------------------------------------------------------------------


def test_a_log_that_was_cut_off_is_found_by_what_was_published(log: PublishedLog) -> None:
    """Given a log whose end was deleted and whose head was moved back, then the first missing event is named."""
    cut(log.superuser, log.tenant, 400)
    lie = log.lie(Outside())
    assert (lie.rule, lie.position) == ("published", 401)


def test_a_log_that_was_cut_off_with_all_that_was_published_is_found_by_what_was_kept(log: PublishedLog) -> None:
    """Given a log that was cut back to an older checkpoint with everything beyond it, then nothing inside is wrong,
    and custody, and whoever kept a later checkpoint, prove it."""
    older = log.published[1].size
    cut(log.superuser, log.tenant, older)
    unpublish(log.superuser, log.tenant, older)
    assert log.check(Outside(brought=log.outside.brought)).events == older
    kept = Brought(log.published[-1].note.encode(), log.keys)
    for outside in (
        Outside(checkpoint=log.outside.checkpoint),
        Outside(head=log.outside.head),
        Outside(brought=(kept,)),
    ):
        lie = log.lie(outside)
        assert (lie.rule, lie.position) == ("kept", older + 1)


def test_a_log_that_was_emptied_is_found_by_what_was_kept(log: PublishedLog) -> None:
    """Given a log of which nothing is left, neither rows nor anything published nor any constraint or index, then an
    empty log is what is found inside, and everything that was kept outside proves that there was more."""
    unprotect(log.superuser)
    log.superuser.execute("TRUNCATE lethe.event")
    cut(log.superuser, log.tenant, 0)
    assert log.lie(Outside()).rule == "published"
    unpublish(log.superuser, log.tenant, 0)
    assert log.check(Outside()).events == 0
    for outside in (
        Outside(checkpoint=log.outside.checkpoint),
        Outside(head=log.outside.head),
        Outside(brought=log.outside.brought),
    ):
        lie = log.lie(outside)
        assert (lie.rule, lie.position) == ("kept", 1)


def test_a_log_that_was_replaced_with_its_own_key_is_found_by_what_was_kept(log: PublishedLog) -> None:
    """Given a log that is whole, when a checkpoint of the same size with another root was kept, or another entry's
    digest, then the log was rewritten since; without them it passes."""
    kept, head = log.outside.checkpoint, log.outside.head
    assert kept is not None
    assert head is not None
    assert log.check(Outside()).events == log.events
    lie = log.lie(Outside(checkpoint=replace(kept, root=b"r" * 32)))
    assert (lie.rule, lie.position, lie.expected) == ("kept", kept.size, f"root {(b'r' * 32).hex()}")
    lie = log.lie(Outside(head=replace(head, digest=b"d" * 32)))
    assert (lie.rule, lie.position) == ("kept", head.position)
    assert log.check(Outside(checkpoint=replace(kept, root=b"r" * 32, abandoned=True))).kept == 0


def test_a_checkpoint_of_another_log_is_refused_and_is_no_lie(
    log: PublishedLog, instance: Instance, ledger: Ledger
) -> None:
    """Given a checkpoint of another account, or one that no key of this log signed, then it proves nothing."""
    other = publish(instance, ledger)
    with pytest.raises(VerificationRefused, match="is not the log of this account"):
        log.check(Outside(brought=(Brought(other.note.encode()),)))
    forged = Witness("forger", b"3" * 32, now=lambda: 0)
    body, _, _ = log.published[1].note.partition("\n\n")
    signature = forged.cosigned(Checkpoint.parse(f"{body}\n".encode())).decode()
    with pytest.raises(VerificationRefused):
        log.check(Outside(brought=(Brought(f"{body}\n\n{signature}".encode()),)))
    with pytest.raises(VerificationRefused):
        log.check(Outside(brought=(Brought(log.published[1].note.encode(), log.keys[1:]),)))
