"""`fsck` finds what a superuser does to tiles, checkpoints, keys and what others signed (FAULTS 18)."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from api.bootstrap import Instance
from audit.fsck import Brought, LogLies, Outside, require_whole_log
from audit.log.keys import retire, rotate
from audit.verify.errors import VerificationRefused
from audit.verify.note import Signature
from ledger.application import Ledger
from ledger.signing import sign_note
from tests.audit.damage import cut, retile, rewrite
from tests.audit.published_log import ONE, POSITION, Damage, PublishedLog, name_another_actor
from tests.audit.publishing import grow, keys_of, publish
from tests.witness import Witness

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("_small_windows")]

LAST = "size = %(end)s"
FIRST_TILE = "level = 0 AND number = 0"
GROWING_TILE = "level = 0 AND number = 2"
Where = Callable[[PublishedLog], int]


def _change(table: str, assignment: str, where: str = "true") -> Damage:
    return lambda log: log.do(f"UPDATE lethe.{table} SET {assignment} WHERE tenant_id = %(t)s AND {where}")


def _flip(table: str, column: str, byte: int, where: str) -> Damage:
    return _change(table, f"{column} = set_byte({column}, {byte}, get_byte({column}, {byte}) # 1)", where)


def _delete(table: str, where: str = "true") -> Damage:
    return lambda log: log.do(f"DELETE FROM lethe.{table} WHERE tenant_id = %(t)s AND {where}")


def _copy(table: str, columns: str, where: str) -> Damage:
    """Add a row that is another one with other columns."""
    return lambda log: log.do(
        f"INSERT INTO lethe.{table} SELECT {columns} FROM lethe.{table} WHERE tenant_id = %(t)s AND {where}"
    )


def _size(number: int) -> Where:
    """The size of a checkpoint, counted from the first or from the last."""
    return lambda log: log.published[number].size


def _at(position: int) -> Where:
    return lambda _: position


def _fact(topic: str, number: int) -> Where:
    """Where a fact stands, the first, second, …"""
    return lambda log: int(
        log.value(
            f"SELECT position FROM lethe.event WHERE tenant_id = %(t)s AND topic = '{topic}' "
            f"ORDER BY position OFFSET {number - 1} LIMIT 1"
        )
    )


def _put_note(log: PublishedLog, number: int, note: str) -> None:
    statement = "UPDATE lethe.log_checkpoint SET note = %(n)s WHERE tenant_id = %(t)s AND size = %(s)s"
    log.do(statement, n=note.encode(), s=log.published[number].size)


def _signed_by_the_old_key_alone(log: PublishedLog) -> None:
    """The third checkpoint has two signatures: its second line is taken away."""
    lines = log.published[2].note.splitlines(keepends=True)
    assert len(lines) == 6
    _put_note(log, 2, "".join(lines[:5]))


def _signed_by_a_retired_key(log: PublishedLog) -> None:
    """A checkpoint gets back the whole note of the one before it, which a key signed that was retired since."""
    _put_note(log, 3, log.published[2].note)


def _signed_by_a_stranger(log: PublishedLog) -> None:
    """A checkpoint gets the line of a key that no log of ours ever had."""
    line = log.published[0].note.splitlines()[-1].replace("— lethe.localhost", "— lethe.example")
    _put_note(log, 5, f"{log.published[5].note}{line}\n")


def _note_of_another(log: PublishedLog) -> None:
    _put_note(log, 5, log.published[4].note)


def _event_and_tiles(log: PublishedLog) -> None:
    """An event is changed, and every tile with it."""
    rewrite(log.superuser, log.tenant, POSITION, name_another_actor)
    retile(log.superuser, log.tenant, log.end)


def _wider_than_the_tree(log: PublishedLog) -> None:
    cut(log.superuser, log.tenant, log.end)  # Else the next leaves would be known.
    _change("log_tile", "hashes = hashes || sha256('x')", GROWING_TILE)(log)


def _last_checkpoint_and_all_about_it(log: PublishedLog) -> None:
    for table in ("log_cosignature", "log_timestamp", "log_checkpoint"):
        _delete(table, LAST)(log)


def _another_witness(log: PublishedLog) -> None:
    other = Witness("witness.example/1", b"2" * 32, now=lambda: 0).key
    log.do(f"UPDATE lethe.log_cosignature SET witness = %(w)s WHERE tenant_id = %(t)s AND {LAST}", w=str(other))


def _cosignature_of_another_size(log: PublishedLog) -> None:
    line = log.value("SELECT line FROM lethe.log_cosignature WHERE tenant_id = %(t)s ORDER BY size LIMIT 1")
    log.do(f"UPDATE lethe.log_cosignature SET line = %(l)s WHERE tenant_id = %(t)s AND {LAST}", l=line)


def _covering(log: PublishedLog) -> int:
    """The first checkpoint behind the changed event."""
    return next(one.size for one in log.published if one.size >= POSITION)


OPENED, RETIRED = "log.key_opened.v1", "log.key_retired.v1"
OTHER_LETTER = "line = overlay(line placing CASE substr(line, 80, 1) WHEN 'B' THEN 'C' ELSE 'B' END from 80 for 1)"

DAMAGES: dict[str, tuple[Damage, str, Where]] = {
    "full tile": (_flip("log_tile", "hashes", 100, FIRST_TILE), "tile", _at(4)),
    "growing tile": (_flip("log_tile", "hashes", 64, GROWING_TILE), "tile", _at(515)),
    "tile above": (_flip("log_tile", "hashes", 40, "level = 1 AND number = 0"), "tile", _at(257)),
    "tile deleted": (_delete("log_tile", "level = 0 AND number = 1"), "tile", _at(257)),
    "tile cut": (_change("log_tile", "hashes = substring(hashes FOR 64)", GROWING_TILE), "tile", _at(515)),
    "tile wider than the tree": (_wider_than_the_tree, "tile", _at(0)),
    "tile that is none": (_copy("log_tile", "tenant_id, series, 0, 7, hashes", FIRST_TILE), "tile", _at(0)),
    "hash of an event that is not published": (
        _change("log_tile", "hashes = hashes || sha256('x')", GROWING_TILE),
        "tile",
        lambda log: log.end + 1,
    ),
    "tile of no series": (
        _copy("log_tile", "tenant_id, 9, level, number, hashes", FIRST_TILE),
        "tile",
        _at(0),
    ),
    "event and tiles": (_event_and_tiles, "root", _covering),
    "root": (_flip("log_checkpoint", "root", 0, LAST), "checkpoint", _size(-1)),
    "note": (_flip("log_checkpoint", "note", 60, LAST), "signature", _size(-1)),
    "note of another checkpoint": (_note_of_another, "checkpoint", _size(5)),
    "one of two signatures": (_signed_by_the_old_key_alone, "signature", _size(2)),
    "retired key's signature": (_signed_by_a_retired_key, "signature", _size(3)),
    "stranger's signature": (_signed_by_a_stranger, "signature", _size(5)),
    "size": (_change("log_checkpoint", "size = size + 1", LAST), "checkpoint", _size(-1)),
    "last checkpoint deleted": (_last_checkpoint_and_all_about_it, "checkpoint", _size(-1)),
    "cosigned checkpoint deleted": (_delete("log_checkpoint", LAST), "checkpoint", _size(-1)),
    "series' size moved back": (_change("log_series", "size = size - 1"), "checkpoint", lambda log: log.end - 1),
    "series deleted": (_delete("log_series"), "checkpoint", _size(0)),
    "origin renamed": (_change("log_series", "origin = 'example.com/log/1'"), "signature", _size(0)),
    "key's row changed": (
        _change("log_key", "verifier_key = 'x' || verifier_key", "generation = 2"),
        "log_keys",
        _fact(OPENED, 2),
    ),
    "key's row deleted": (_delete("log_key", "generation = 1"), "log_keys", _fact(RETIRED, 1)),
    "key's retirement taken back": (
        _change("log_key", "retired_at = NULL", "generation = 1"),
        "log_keys",
        _fact(RETIRED, 1),
    ),
    "key that no fact opened": (
        _copy("log_key", "tenant_id, 9, series, key_id, verifier_key, opened_at", "generation = 1"),
        "log_keys",
        _at(0),
    ),
    "cosignature": (_change("log_cosignature", OTHER_LETTER, LAST), "cosignature", _size(-1)),
    "cosignature of another size": (_cosignature_of_another_size, "cosignature", _size(-1)),
    "cosignature's witness": (_another_witness, "cosignature", _size(-1)),
    "cosignature's time": (
        _change("log_cosignature", "cosigned_at = cosigned_at + interval '1 day'", LAST),
        "cosignature",
        _size(-1),
    ),
    "timestamp": (_flip("log_timestamp", "token", 200, LAST), "timestamp", _size(-1)),
    "timestamp's time": (
        _change("log_timestamp", "stamped_at = stamped_at - interval '1 day'", LAST),
        "timestamp",
        _size(-1),
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_to_what_was_published_is_found(log: PublishedLog, damage: str) -> None:
    """Given a whole log, when a superuser damages tiles, checkpoints or what attests to them, then that is found."""
    harm, rule, where = DAMAGES[damage]
    position = where(log)
    harm(log)
    lie = log.lie()
    assert (lie.rule, lie.position) == (rule, position), lie.said()


def test_a_fact_about_keys_outside_of_the_account_s_stream_is_found(log: PublishedLog) -> None:
    """Given an event of another stream that poses as a fact about the log's keys, then it is found, unpublished too."""
    position, topic = log.end + 1, "log.key_opened.v1"
    rewrite(log.superuser, log.tenant, position, lambda entry: entry.update(topic=topic))
    log.do(f"UPDATE lethe.event SET topic = %(c)s {ONE}", c=topic, p=position)
    lie = log.lie()
    assert (lie.rule, lie.position) == ("log_keys", position)


def test_a_checkpoint_that_only_its_holder_has_can_be_deleted_unseen_and_still_proves(log: PublishedLog) -> None:
    """Given a checkpoint that nobody attested to, when it is deleted, then fsck does not miss it (later ones cover what
    it covered); what its holder brings agrees with the log, and proves nothing once a letter of it is another."""
    size, held = log.published[1].size, log.published[1].note
    for table in ("log_cosignature", "log_timestamp", "log_checkpoint"):
        log.do(f"DELETE FROM lethe.{table} WHERE tenant_id = %(t)s AND size = %(s)s", s=size)
    found = log.check(Outside(brought=(Brought(held.encode(), log.keys),)))
    assert (found.counts.checkpoints, found.kept) == (5, 1)
    root = held.splitlines()[2]
    other = held.replace(root, ("A" if root[0] != "A" else "B") + root[1:])
    for keys in ((), log.keys):
        with pytest.raises(VerificationRefused):
            log.check(Outside(brought=(Brought(other.encode(), keys),)))


def test_a_backlog_is_signed_by_the_keys_of_when_it_was_signed(
    instance: Instance, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a log that was long before its first key was opened, and a backlog behind which a key was replaced, then
    its checkpoints, whose keys were opened behind them, are whole; the old key's signature in their midst is not."""
    monkeypatch.setattr("audit.log.sequencer.LEAVES_PER_CHECKPOINT", 16)
    grow(ledger, 50)
    publish(instance, ledger)
    (old,) = keys_of(instance, ledger)
    first = ledger.log.max_notification_id() or 0
    grow(ledger, 50)
    rotate(ledger, actor="cli")
    retire(ledger, old.key_id.hex(), actor="cli")
    publish(instance, ledger)
    url = ledger.services.writer.url
    assert require_whole_log(url, ledger.tenant).counts.checkpoints >= 6
    with psycopg.connect(str(instance.settings.ledger_owner_url), autocommit=True) as superuser:
        statement = "SELECT size, note FROM lethe.log_checkpoint WHERE tenant_id = %s ORDER BY size"
        notes: dict[int, bytes] = dict(superuser.execute(statement, (ledger.tenant,)).fetchall())
        third = [size for size in notes if size > first][1]
        body = notes[third].partition(b"\n\n")[0] + b"\n"
        line = Signature(old.name, old.key_id, sign_note(ledger.keyring, 1, body)).line()
        change = "UPDATE lethe.log_checkpoint SET note = %s WHERE tenant_id = %s AND size = %s"
        superuser.execute(change, (body + b"\n" + line, ledger.tenant, third))
    with pytest.raises(LogLies, match=f"signature at position {third}"):
        require_whole_log(url, ledger.tenant)
