"""`fsck` finds any single damage; its parts agree with simpler ones, whatever comes (FAULTS 18)."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.fsck import LogLies
from audit.fsck.tree import Tree
from audit.fsck.versions import PARTITIONS, Versions, pack
from audit.verify.merkle import leaf_hash
from audit.verify.tiles import GrowingTiles
from tests.audit.damage import rewrite, unprotect
from tests.audit.published_log import ONE, PublishedLog

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("_small_windows")]

# Streams -------------------------------------------------------------------------------------------------------------


def _renumber(log: PublishedLog, position: int, version: int) -> None:
    """Give an event another version, in its row and in its entry."""
    rewrite(log.superuser, log.tenant, position, lambda entry: entry.update(version=version))
    log.do(f"UPDATE lethe.event SET version = %(v)s {ONE}", p=position, v=version)


def _version(log: PublishedLog, position: int) -> int:
    return int(log.value(f"SELECT version FROM lethe.event WHERE tenant_id = %(t)s AND position = {position}"))


@pytest.mark.parametrize(
    ("versions", "position"),
    [((1, 0), 0), ((0, 2), 1), ((0, 0), 1), ((-9, 1), 0)],
    ids=["swapped", "skipped", "twice", "below one"],
)
def test_versions_out_of_order_are_found(log: PublishedLog, versions: tuple[int, int], position: int) -> None:
    """Given two events of one stream whose rows and entries agree and that nobody published, when their versions are
    not the next ones, then the first that is wrong is found, without any index."""
    unprotect(log.superuser)
    first = log.end + 1
    version = _version(log, first)
    _renumber(log, first, version + versions[0])
    _renumber(log, first + 1, version + versions[1])
    lie = log.lie()
    assert (lie.rule, lie.position) == ("versions", first + position)


def test_an_event_that_is_written_again_is_found(log: PublishedLog) -> None:
    """Given a copy of an event at the end of the log, under a head that counts it, then its version gives it away."""
    unprotect(log.superuser)
    log.do(
        """
        INSERT INTO lethe.event (tenant_id, position, stream_id, version, topic, recorded_at, entry, sealed)
        SELECT tenant_id, position + 1, stream_id, version, topic, recorded_at, entry, sealed FROM lethe.event
        WHERE tenant_id = %(t)s AND position = (SELECT position FROM lethe.head WHERE tenant_id = %(t)s)
        """
    )
    log.do("UPDATE lethe.head SET position = position + 1 WHERE tenant_id = %(t)s")
    lie = log.lie()
    assert (lie.rule, lie.position) == ("versions", log.events + 1)


streams = st.lists(st.integers(0, 40), max_size=400)


@given(streams=streams, damage=st.none() | st.tuples(st.integers(0, 400), st.integers(-2, 3).filter(bool)))
def test_versions_are_checked_in_any_number_of_passes(streams: list[int], damage: tuple[int, int] | None) -> None:
    """Given any order of streams, then counted versions pass, and one wrong version is found at its position."""
    counts: dict[int, int] = {}
    records: list[tuple[bytes, int, int]] = []
    for position, stream in enumerate(streams, 1):
        counts[stream] = counts.get(stream, 0) + 1
        records.append((stream.to_bytes(16, "big"), position, counts[stream]))
    wrong = None
    if damage is not None and damage[0] < len(records):
        wrong = damage[0] + 1
        stream_id, position, version = records[damage[0]]
        records[damage[0]] = (stream_id, position, version + damage[1])
    for streams_per_pass in (2, 1_000_000):
        with pytest.MonkeyPatch.context() as patch, Versions() as versions:
            patch.setattr("audit.fsck.versions.STREAMS_PER_PASS", streams_per_pass)
            patch.setattr("audit.fsck.versions.SPILL_BYTES", 64)
            for record in records:
                versions.buckets[hash(record[0]) % PARTITIONS] += pack(*record)
                versions.spill()
            lie = versions.first_lie()
        assert (None if lie is None else lie.position) == wrong


@given(leaves=st.integers(0, 1500), steps=st.lists(st.integers(1, 700), max_size=8))
def test_the_tree_is_the_one_that_the_verifier_builds(leaves: int, steps: list[int]) -> None:
    """Given leaves that come in any portions, then every tile and every root is that of the leaf-wise tree."""
    hashes = [leaf_hash(struct.pack(">I", number)) for number in range(leaves)]
    expected, roots, tiles = GrowingTiles(), {}, []
    for size, leaf in enumerate(hashes, 1):
        tiles += expected.append(leaf)
        if size % 37 == 0 or size % 256 < 2:
            roots[size] = expected.root()
    tree, made, found, at = Tree(), list[Any](), dict[int, bytes](), 0
    for step in [*steps, leaves]:
        portion = hashes[at : at + step]
        full, some = tree.grow(b"".join(portion), [size for size in roots if at < size <= at + len(portion)])
        made += full
        found |= some
        at += len(portion)
    assert (made, list(tree.growing()), found, tree.root()) == (tiles, expected.partial(), roots, expected.root())


# Anything ------------------------------------------------------------------------------------------------------------

COLUMNS = (
    *(("event", column) for column in ("tenant_id", "position", "stream_id", "version", "topic", "recorded_at")),
    *(("event", "entry"), ("event", "sealed")),
    *(("head", "position"), ("head", "recorded_at")),
    *(("log_series", column) for column in ("series", "origin", "size")),
    *(("log_key", column) for column in ("generation", "series", "key_id", "verifier_key", "retired_at")),
    *(("log_tile", column) for column in ("series", "level", "number", "hashes")),
    *(("log_checkpoint", column) for column in ("series", "size", "root", "note")),
    *(("log_cosignature", column) for column in ("series", "size", "witness", "line", "cosigned_at")),
    *(("log_timestamp", column) for column in ("series", "size", "token", "stamped_at")),
)
"""Every column that says something. The rest are labels that nobody signed: when a row was opened or published."""

CHANGED = {
    "uuid": "gen_random_uuid()",
    "bigint": "{0} + CASE WHEN {2} = 0 THEN 1 ELSE {2} END",
    "integer": "{0} + CASE WHEN {2} = 0 THEN 1 ELSE {2} END",
    "smallint": "({0} + CASE WHEN {2} = 0 THEN 1 ELSE {2} END)::smallint",
    "text": "overlay({0} placing chr(33 + (ascii(substring({0} FROM 1 + {1} %% length({0}) FOR 1)) - 32) %% 90) "
    "FROM 1 + {1} %% length({0}) FOR 1)",
    "timestamp with time zone": "{0} + interval '1 second'",
    "retired_at": "CASE WHEN retired_at IS NULL THEN now() END",
    "bytea": "set_byte({0}, {1} %% octet_length({0}), get_byte({0}, {1} %% octet_length({0})) # (1 << abs({2}) %% 8))",
}
COLUMN_TYPE = """
SELECT data_type FROM information_schema.columns WHERE table_schema = 'lethe' AND table_name = %s AND column_name = %s
"""


@given(
    target=st.sampled_from(COLUMNS),
    delete=st.booleans(),
    row=st.integers(0, 10**9),
    at=st.integers(0, 10**6),
    by=st.integers(-3, 3),
)
def test_any_single_damage_is_found(
    whole: PublishedLog, target: tuple[str, str], delete: bool, row: int, at: int, by: int
) -> None:
    """Given a whole log, when one value of one row is changed, or one row is deleted, anywhere, then it is found.

    What an event says is covered by a signature once it is published, so the entries behind that are left out here.
    """
    table, column = target
    told_by_absence = table not in ("log_cosignature", "log_timestamp")  # Nobody can tell that one was never made.
    connection = whole.superuser
    with connection.transaction(force_rollback=True):
        unprotect(connection)
        presence = "" if delete and told_by_absence else f"AND {column} IS NOT NULL"
        if (table, column) == ("log_key", "retired_at"):
            presence = ""
        if (table, column) == ("event", "entry"):
            presence = f"AND position <= {whole.end}"
        rows = connection.execute(
            f"SELECT ctid FROM lethe.{table} WHERE tenant_id = %s {presence} ORDER BY ctid", (whole.tenant,)
        ).fetchall()
        (ctid,) = rows[row % len(rows)]
        if delete and told_by_absence:
            done = connection.execute(f"DELETE FROM lethe.{table} WHERE ctid = %s", (ctid,))
        else:
            kind = connection.execute(COLUMN_TYPE, (table, column)).fetchone()
            assert kind is not None
            change = CHANGED.get(column, CHANGED[kind[0]]).format(column, at, by)
            done = connection.execute(f"UPDATE lethe.{table} SET {column} = {change} WHERE ctid = %s", (ctid,))
        assert done.rowcount == 1
        with pytest.raises(LogLies):
            whole.check()
    assert whole.check().events == whole.events
