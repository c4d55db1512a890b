"""Asynchronous projection: what the log shows of processing, counted by the day it was learnt and the day it was true.

Which categories of data the account really stored, and where data really went: what records of processing set beside
what was declared (GDPR Art. 30). A category is told by the sealed parts of an event; facts about a person that have
none belong to the category of their topic. Both days are kept, so that the counts can be had as known on any day and
as true on any day. Only plain parts of entries are read, and of them no more than four places: nothing is opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any, Final, Literal
from uuid import UUID

import orjson
from psycopg import Connection

from domain.access import ExportProduced
from domain.message import MessageDispatched
from domain.personal import ConsentEvidence, Feed, SuppressionData
from ledger.application import Ledger
from ledger.keys.keyring import LINK
from ledger.recorder import ReaderPool
from projections.log import Rows

NAME: Final = "observed"

SELECT_ENTRIES = """
SELECT position, topic, entry FROM lethe.event WHERE tenant_id = %s AND position > %s AND position <= %s
"""
UPSERT_COUNTS = """
INSERT INTO lethe.observed_count (tenant_id, generation, topic, category, code, recorded_on, occurred_on, count)
SELECT %s, %s, n.* FROM unnest(%s::text[], %s::text[], %s::text[], %s::date[], %s::date[], %s::bigint[])
    AS n(topic, category, code, recorded_on, occurred_on, count)
ON CONFLICT (tenant_id, generation, topic, category, code, recorded_on, occurred_on)
DO UPDATE SET count = observed_count.count + excluded.count
"""
DELETE_SOME = """
DELETE FROM lethe.observed_count
WHERE tenant_id = %s AND generation = %s AND (topic, category, code, recorded_on, occurred_on) IN (
    SELECT topic, category, code, recorded_on, occurred_on FROM lethe.observed_count
    WHERE tenant_id = %s AND generation = %s LIMIT %s
)
"""
# One statement, so that the counts and the position they are current to come from one snapshot. What was put aside was
# not counted, so the counts are whole up to the first such event only.
SELECT_COUNTS = """
SELECT least(t.position, (
    SELECT min(p.position) - 1 FROM lethe_read.parked_event p
    WHERE p.tenant_id = t.tenant_id AND p.projection = t.projection AND p.generation = t.generation
)), c.topic, c.category, c.code, c.count, c.first_on, c.last_on FROM lethe_read.tracking t
LEFT JOIN LATERAL (
    SELECT topic, category, code, sum(count)::bigint AS count, min(occurred_on) AS first_on, max(occurred_on) AS last_on
    FROM lethe_read.observed_count
    WHERE tenant_id = t.tenant_id AND generation = t.generation AND {day} <= %s GROUP BY topic, category, code
) AS c ON true
WHERE t.tenant_id = %s AND t.projection = %s AND t.live ORDER BY 2, 3, 4
"""
SELECT_BY_DAY: Final[Mapping[str, str]] = {
    "recorded": SELECT_COUNTS.format(day="recorded_on"),
    "occurred": SELECT_COUNTS.format(day="occurred_on"),
}

CATEGORY_OF_TOPIC: Final[tuple[tuple[str, str], ...]] = (
    ("send.", LINK),
    ("message.", LINK),
    ("consent.", ConsentEvidence.name),
    ("permission.", ConsentEvidence.name),
    ("objection.", SuppressionData.name),
    ("processing.", SuppressionData.name),
    *((f"contact.{what}.", SuppressionData.name) for what in ("complained", "hard_bounced", "unsubscribed")),
    *((f"contact.{what}.", SuppressionData.name) for what in ("suppressed", "suppression_lifted")),
)
"""What a fact about a person belongs to, whatever it seals: that somebody was mailed, agreed, or said no."""

SENDERS_TOLD: Final = "feed:senders"
"""Senders are told of an address that must not be mailed any more (GDPR Art. 19)."""

TOPICS_REMEMBERED: Final = 1_000  # who needs it: a worker that looks at every event; there are some hundred topics

_OCCURRED, _RECORDED, _SEALED, _ACTOR = b'"occurred_at":"', b'"recorded_at":"', b'"sealed":{', b'"actor":"'
_DAY_CHARACTERS = len("2026-11-21")

Key = tuple[str, str, str, str, str]
"""Topic, category, code, the day it was learnt, the day it was true."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Events of one topic that are about one category of data, or that gave data to one recipient.

    One of `category` and `code` is empty. `first_on` and `last_on` are the days on which the first and last were true.
    """

    topic: str
    category: str
    code: str
    count: int
    first_on: date
    last_on: date


@dataclass(frozen=True, slots=True)
class Counted:
    """What was seen by the end of a day, as far as the log was counted: without a gap up to `position`."""

    position: int
    seen: tuple[Seen, ...]


class ObservedProcessing:
    """Counts what the log of a tenant shows of processing."""

    name = NAME

    def read(self, connection: Connection[Any], tenant: UUID, after: int, last: int) -> Rows:
        """Position, topic and entry of everything in a window of the log."""
        return connection.execute(SELECT_ENTRIES, (tenant, after, last), binary=True).fetchall()

    def apply(self, connection: Connection[Any], ledger: Ledger, generation: int, rows: Rows) -> None:
        """Add a window to the counts."""
        counts = count(rows)
        if not counts:
            return
        keys = sorted(counts)
        columns: list[list[Any]] = [[key[place] for key in keys] for place in range(5)]
        columns.append([counts[key] for key in keys])
        connection.execute(UPSERT_COUNTS, (ledger.tenant, generation, *columns))

    def clear(self, connection: Connection[Any], tenant: UUID, generation: int, rows_max: int) -> int:
        """Delete some rows of a generation; returns how many."""
        return connection.execute(DELETE_SOME, (tenant, generation, tenant, generation, rows_max)).rowcount


def observed(reader: ReaderPool, tenant: UUID, on: date, meaning: Literal["recorded", "occurred"]) -> Counted:
    """What was seen by the end of a day (UTC): as the ledger knew it then, or as it was true by then."""
    with reader.tenant(tenant) as connection:
        rows = connection.execute(SELECT_BY_DAY[meaning], (on, tenant, NAME), binary=True).fetchall()
    return Counted(rows[0][0] if rows else 0, tuple(Seen(*row[1:]) for row in rows if row[1] is not None))


def count(rows: Rows) -> dict[Key, int]:
    """The counts of a window. Rows are position, topic and entry."""
    counts: dict[Key, int] = {}
    for _, topic, raw in rows:
        entry = bytes(raw)
        at = entry.index(_OCCURRED) + len(_OCCURRED)
        occurred_on = entry[at : at + _DAY_CHARACTERS].decode()
        at = entry.rindex(_RECORDED) + len(_RECORDED)
        recorded_on = entry[at : at + _DAY_CHARACTERS].decode()
        parts = _parts(entry)
        for category in parts | _of_topic(topic):
            _add(counts, (topic, category, "", recorded_on, occurred_on))
        for code in _codes(topic, entry, parts):
            _add(counts, (topic, "", code, recorded_on, occurred_on))
    return counts


def _add(counts: dict[Key, int], key: Key) -> None:
    counts[key] = counts.get(key, 0) + 1


def _parts(entry: bytes) -> frozenset[str]:
    """The names of the sealed parts. Behind them an entry holds nothing that could look like their beginning."""
    at = entry.rfind(_SEALED)
    if at < 0:
        return _NOTHING
    end = entry.index(b"}", at)
    return frozenset(orjson.loads(entry[at + len(_SEALED) - 1 : end + 1]))


@lru_cache(maxsize=TOPICS_REMEMBERED)
def _of_topic(topic: str) -> frozenset[str]:
    return frozenset(category for start, category in CATEGORY_OF_TOPIC if topic.startswith(start))


def _codes(topic: str, entry: bytes, parts: frozenset[str]) -> Iterator[str]:
    """Where an event says that data went."""
    if Feed.name in parts:
        yield SENDERS_TOLD
    if topic == MessageDispatched.TOPIC:
        at = entry.index(_ACTOR) + len(_ACTOR)
        yield "sender:" + entry[at : entry.index(b'"', at)].decode()
    elif topic == ExportProduced.TOPIC:
        yield f"export:{orjson.loads(entry)['plain']['kind']}"


_NOTHING: Final[frozenset[str]] = frozenset()
