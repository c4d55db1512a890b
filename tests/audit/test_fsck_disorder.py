"""`fsck` against a superuser who takes every constraint away: rows that stand twice, empty columns, nonsense, tables
that change while it looks (FAULTS 18)."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from api.bootstrap import Instance
from audit.fsck import LogLies, Outside, require_whole_log
from audit.fsck import versions as counting
from audit.fsck.shape import COLUMNS
from audit.fsck.versions import PARTITIONS, RECORD, Versions, pack
from ledger.application import Ledger
from ledger.entry import ENTRY_BYTES_MAX
from tests.audit.damage import TABLES, rewrite, unprotect
from tests.audit.published_log import ONE, PublishedLog
from tests.audit.publishing import grow, publish

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("_small_windows")]

# Rows that stand twice ------------------------------------------------------------------------------------------------

TWICE = {
    "a checkpoint with another root": (
        "INSERT INTO lethe.log_checkpoint SELECT tenant_id, series, size, sha256(root), note, published_at "
        "FROM lethe.log_checkpoint WHERE tenant_id = %(t)s AND size = %(end)s"
    ),
    "a checkpoint with a note of its own": (
        "INSERT INTO lethe.log_checkpoint SELECT tenant_id, series, size, root, 'x', published_at "
        "FROM lethe.log_checkpoint WHERE tenant_id = %(t)s AND size = %(end)s"
    ),
    "a tile with other hashes": (
        "INSERT INTO lethe.log_tile SELECT tenant_id, series, level, number, hashes || hashes FROM lethe.log_tile "
        "WHERE tenant_id = %(t)s AND level = 1"
    ),
    "a full tile with other hashes": (
        "INSERT INTO lethe.log_tile SELECT tenant_id, series, level, number, set_byte(hashes, 7, 255) "
        "FROM lethe.log_tile WHERE tenant_id = %(t)s AND level = 0 AND number = 0"
    ),
    "a key": (
        "INSERT INTO lethe.log_key SELECT tenant_id, generation, series, 'ffffffff', verifier_key, opened_at, "
        "retired_at FROM lethe.log_key WHERE tenant_id = %(t)s AND generation = 1"
    ),
    "a series": "INSERT INTO lethe.log_series SELECT tenant_id, series, 'example.com', opened_at, size "
    "FROM lethe.log_series WHERE tenant_id = %(t)s",
    "a head": "INSERT INTO lethe.head SELECT (jsonb_populate_record(h, '{\"position\": 3}')).* FROM lethe.head h "
    "WHERE tenant_id = %(t)s",
}


@pytest.mark.parametrize("order", ["behind", "before"])
@pytest.mark.parametrize("statement", TWICE.values(), ids=TWICE)
def test_a_row_that_stands_twice_is_found(log: PublishedLog, statement: str, order: str) -> None:
    """Given tables without keys, when a row stands there twice and only one of the two is honest, whichever is read
    last, then it is found: two roots for one size are the one thing that a log may never show."""
    unprotect(log.superuser)
    table = statement.split()[2]
    log.do(statement)
    if order == "before":  # The honest row is put behind the other one: PostgreSQL writes a changed row anew.
        column = "tenant_id"
        first = f"SELECT min(ctid) FROM {table} WHERE tenant_id = %(t)s"
        log.do(f"UPDATE {table} SET {column} = {column} WHERE tenant_id = %(t)s AND ctid >= ({first})")
        log.superuser.execute(f"CREATE TEMP TABLE held AS SELECT * FROM {table} ORDER BY ctid DESC")
        log.superuser.execute(f"DELETE FROM {table}")
        log.superuser.execute(f"INSERT INTO {table} SELECT * FROM held")
        log.superuser.execute("DROP TABLE held")
    for outside in (log.outside, Outside()):
        log.lie(outside)


# Columns that hold what they cannot -----------------------------------------------------------------------------------

EXTREMES = {
    "uuid": ("'00000000-0000-0000-0000-000000000000'", "NULL"),
    "bigint": ("9223372036854775807", "(-9223372036854775808)", "0", "-1", "NULL"),
    "integer": ("2147483647", "(-2147483648)", "0", "-1", "NULL"),
    "smallint": ("32767", "(-32768)", "0", "-1", "NULL"),
    "text": ("''", "repeat('x', 1000000)", "E'\\x01\\x1b[2J\\n'", "'a+b'", "'\u2028 + \u0660'", "NULL"),
    "timestamp with time zone": ("'infinity'", "'-infinity'", "'294276-12-31'", "'4713-01-01 BC'", "NULL"),
    "bytea": (
        "''",
        "'\\x00'",
        "decode(repeat('00', 1000000), 'hex')",
        "convert_to(repeat('[', 60000), 'UTF8')",
        "NULL",
    ),
}
SAID_CHARACTERS_MAX = 1_000
NOT_TOLD = {
    ("log_key", "retired_at"),  # That it has an end is told by a fact; when, is a label.
    ("log_timestamp", "authority"),  # A label: who stamped is told by the token.
    ("log_cosignature", "tenant_id"),  # What another account's would be is missing here, and nobody can tell that one
    ("log_timestamp", "tenant_id"),  # was never made.
}


def test_nonsense_in_any_column_is_a_lie_and_never_another_error(whole: PublishedLog) -> None:
    """Given a whole log, when any column of a row that is read holds an extreme value, or none, then `fsck` ends with a
    lie that can be read, and never in another way."""
    connection = whole.superuser
    assert set(COLUMNS) == set(TABLES)
    odd: list[str] = []
    for table, column, kind in [(table, *one) for table, columns in COLUMNS.items() for one in columns.items()]:
        for value in EXTREMES.get(kind, ()):
            with connection.transaction(force_rollback=True):
                unprotect(connection)
                connection.execute(f"ALTER TABLE lethe.{table} ALTER COLUMN {column} DROP NOT NULL")
                row = f"SELECT max(ctid) FROM lethe.{table} WHERE tenant_id = %s AND {column} IS DISTINCT FROM {value}"
                done = connection.execute(
                    f"UPDATE lethe.{table} SET {column} = {value} WHERE ctid = ({row})", (whole.tenant,)
                )
                if not done.rowcount:
                    continue
                try:
                    whole.check()
                except LogLies as lies:
                    if len(lies.lie.said()) > SAID_CHARACTERS_MAX:
                        odd.append(f"{table}.{column} = {value[:30]}: said in {len(lies.lie.said())} characters")
                    continue
                except Exception as error:  # noqa: BLE001  This is what the test looks for.
                    odd.append(f"{table}.{column} = {value[:30]}: {type(error).__name__} {error}"[:160])
                    continue
                if (table, column) not in NOT_TOLD:
                    odd.append(f"{table}.{column} = {value[:30]}: whole")
    assert odd == [], "\n".join(odd)
    assert whole.check().events == whole.events


ENTRIES: dict[str, bytes] = {
    "nested too deep": b'{"a":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    "nested as deep as it is read": b'{"a":' + b"[" * 500 + b"]" * 500 + b"}",
    "a list": b"[]",
    "a number": b"1e400",
    "a key twice": b'{"actor":"a","actor":"b"}',
    "a NUL byte": b'{"actor":"\x00"}',
    "a lone surrogate": b'{"actor":"\\ud800"}',
    "nothing": b"",
    "not UTF-8": b'{"actor":"\xff"}',
    "a number too large": b'{"version":' + b"9" * 400 + b"}",
}


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_an_entry_that_no_program_wrote_is_found_where_it_stands(log: PublishedLog, entry: bytes) -> None:
    """Given an unpublished event whose entry is valid in parts only, then it is found at its own position."""
    position = log.end + 2
    log.do(f"UPDATE lethe.event SET entry = %(e)s {ONE}", e=entry, p=position)
    lie = log.lie()
    assert (lie.position, lie.rule in ("entry", "canonical")) == (position, True)


def test_an_entry_that_is_longer_than_any_can_be_is_found(log: PublishedLog) -> None:
    """Given an unpublished event whose entry is canonical and does not fit into an entry bundle, then it is found."""
    position = log.end + 2
    rewrite(log.superuser, log.tenant, position, lambda entry: entry.update(actor="x" * ENTRY_BYTES_MAX))
    lie = log.lie()
    assert (lie.rule, lie.position) == ("entry", position)


def test_a_version_that_is_no_number_is_found(log: PublishedLog) -> None:
    """Given an entry and a row that agree in having no version, or in having one of another kind, then it is found."""
    unprotect(log.superuser)
    position = log.end + 1
    log.superuser.execute("ALTER TABLE lethe.event ALTER COLUMN version DROP NOT NULL")
    rewrite(log.superuser, log.tenant, position, lambda entry: entry.update(version=None))
    log.do(f"UPDATE lethe.event SET version = NULL {ONE}", p=position)
    assert log.lie().position == position


def test_sealed_parts_without_number_do_not_keep_fsck_busy(log: PublishedLog) -> None:
    """Given a sealed column of ten million bytes that are two million empty parts, then it is found in no time."""
    log.do(f"UPDATE lethe.event SET sealed = decode(repeat('0000000000', 2000000), 'hex') {ONE}", p=40)
    lie = log.lie()
    assert (lie.rule, lie.position) == ("digest", 40)


TYPES = {
    "version": "ALTER TABLE lethe.event ALTER COLUMN version TYPE bigint",
    "position": "ALTER TABLE lethe.event ALTER COLUMN position TYPE numeric",
    "recorded_at": "ALTER TABLE lethe.event ALTER COLUMN recorded_at TYPE text",
    "stream": "ALTER TABLE lethe.event ALTER COLUMN stream_id TYPE text",
    "a column is gone": "ALTER TABLE lethe.event RENAME COLUMN sealed TO sealed_2",
    "a table is gone": "ALTER TABLE lethe.log_tile RENAME TO log_tile_2",
}


@pytest.mark.parametrize("statement", TYPES.values(), ids=TYPES)
def test_tables_of_another_shape_are_a_lie(log: PublishedLog, statement: str) -> None:
    """Given a column of another type, or none, then `fsck` says that the tables were changed, and reads no nonsense."""
    unprotect(log.superuser)
    log.superuser.execute("DROP SCHEMA lethe_read CASCADE")
    with log.superuser.transaction(force_rollback=True):
        log.superuser.execute(statement)
        lie = log.lie()
    assert (lie.rule, lie.position) == ("tables", 0)


# Facts about keys -----------------------------------------------------------------------------------------------------


def test_a_key_that_is_retired_twice_is_found_where_it_is(log: PublishedLog) -> None:
    """Given a second retirement of a key, written behind everything that was published, then that event is the lie,
    and not the checkpoint that the first retirement stands before."""
    position = log.end + 1
    _pose(log, position, "log.key_retired.v1")
    lie = log.lie()
    assert (lie.rule, lie.position) == ("log_keys", position)


def _pose(log: PublishedLog, position: int, topic: str) -> None:
    """Make an unpublished event the account's own, and a copy of its first fact of a topic."""
    unprotect(log.superuser)
    first = (
        "SELECT convert_from(entry, 'UTF8')::jsonb -> 'plain' FROM lethe.event "
        f"WHERE tenant_id = %(t)s AND topic = '{topic}' ORDER BY position LIMIT 1"
    )
    plain = log.value(first)
    version = log.value("SELECT max(version) + 1 FROM lethe.event WHERE tenant_id = %(t)s AND stream_id = %(t)s")

    def change(entry: dict[str, Any]) -> None:
        entry.pop("sealed", None)
        entry.update(topic=topic, plain=plain, stream=log.tenant.hex, version=version)

    rewrite(log.superuser, log.tenant, position, change)
    log.do(
        f"UPDATE lethe.event SET topic = %(c)s, stream_id = %(t)s, version = %(v)s, sealed = NULL {ONE}",
        c=topic,
        v=version,
        p=position,
    )


def test_a_key_that_stands_in_its_table_alone_is_found_while_the_log_moves(instance: Instance, ledger: Ledger) -> None:
    """Given a log to which something is always added, when a key that no fact opened is put into the table that readers
    are served from, then it is found all the same."""
    grow(ledger, 300)
    publish(instance, ledger)
    assert instance.settings.ledger_owner_url is not None
    with psycopg.connect(instance.settings.ledger_owner_url, autocommit=True) as hand:
        hand.execute(
            "INSERT INTO lethe.log_key SELECT tenant_id, 9, series, key_id, verifier_key, opened_at FROM lethe.log_key "
            "WHERE tenant_id = %s",
            (ledger.tenant,),
        )
    with pytest.raises(LogLies, match="log_keys"):
        require_whole_log(ledger.services.writer.url, ledger.tenant, told=lambda _, __: grow(ledger))


# Versions -------------------------------------------------------------------------------------------------------------


READS_MAX = 3


@pytest.mark.parametrize("streams", [1, 10**9], ids=["one stream", "as many streams as events"])
def test_versions_are_counted_in_few_passes(monkeypatch: pytest.MonkeyPatch, streams: int) -> None:
    """Given far more events than are held at once, of one stream or of as many, then each is read only a few times:
    what a log costs does not grow with the square of its length."""
    monkeypatch.setattr(counting, "STREAMS_PER_PASS", 50)
    events, read = 60_000, 0
    real = RECORD.iter_unpack

    def counted(piece: bytes) -> Any:
        nonlocal read
        read += len(piece) // RECORD.size
        return real(piece)

    class Counting:
        size = RECORD.size
        iter_unpack = staticmethod(counted)

    monkeypatch.setattr(counting, "RECORD", Counting)
    with Versions() as versions:
        last: dict[bytes, int] = {}
        for position in range(1, events + 1):
            stream = (position % streams).to_bytes(16, "big")
            last[stream] = last.get(stream, 0) + 1
            wrong = 7 if position == events else 0
            versions.buckets[hash(stream) % PARTITIONS] += pack(stream, position, last[stream] + wrong)
            versions.spill()
        lie = versions.first_lie()
    assert lie is not None
    assert lie.position == events
    assert read <= READS_MAX * events
