"""Which keys may have signed a checkpoint: as the log's own facts tell it, not as the table beside them does.

`log.series_opened`, `log.key_opened` and `log.key_retired` are leaves of the log that they are about, all of them in
the account's stream. Every key that lives signs every checkpoint. A checkpoint may be signed when the log is much
longer already (a backlog is published in steps), so its signers are the keys that lived together at its size or at some
later position, and from one checkpoint to the next that position never goes back.

The facts are read ahead, because a checkpoint's key may be opened behind it. Whether those were all of them, and the
same, is told in the end by the rows, which were checked one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import orjson
from psycopg import Connection

from audit.fsck.lies import Lie, LogLies, shown
from audit.verify.errors import VerificationRefused
from audit.verify.note import VerifierKey
from domain.log import LogKeyOpened, LogKeyRetired, LogSeriesOpened

TOPICS: Final = (LogSeriesOpened.TOPIC, LogKeyOpened.TOPIC, LogKeyRetired.TOPIC)
FOR_EVER: Final = 2**63

LogFact = tuple[int, str, Mapping[str, Any]]
"""Position, topic and plain fields."""

SELECT_FACTS = """
SELECT position, topic, entry FROM lethe.event
WHERE tenant_id = %(tenant)s AND stream_id = %(tenant)s AND topic = ANY(%(topics)s) ORDER BY position
"""
SELECT_SERIES = "SELECT series, origin FROM lethe.log_series WHERE tenant_id = %s ORDER BY series"
SELECT_KEYS = """
SELECT generation, series, key_id, verifier_key, retired_at IS NOT NULL FROM lethe.log_key
WHERE tenant_id = %s ORDER BY generation
"""


@dataclass(slots=True)
class Signer:
    """A key of a series: the positions of the facts that opened and retired it."""

    series: int
    key_id: str
    key: VerifierKey
    opened: int
    retired: int | None = None

    def lives_at(self, position: int) -> bool:
        """Whether it signs what is signed when the log has come so far."""
        return self.opened <= position < (self.retired or FOR_EVER)


@dataclass(frozen=True, slots=True)
class Tables:
    """What the tables that serve readers say of series (their origins) and keys, by generation."""

    series: dict[int, str]
    keys: dict[int, tuple[int, str, str, bool]]


def read_tables(connection: Connection[Any], tenant: UUID) -> Tables:
    """Both tables of a tenant."""
    series = connection.execute(SELECT_SERIES, (tenant,)).fetchall()
    return Tables(dict(series), {row[0]: row[1:] for row in connection.execute(SELECT_KEYS, (tenant,))})


class Signers:
    """The series and keys of one log."""

    def __init__(self, connection: Connection[Any], tenant: UUID) -> None:
        self._connection = connection
        self._tenant = tenant
        self._reached: dict[int, int] = {}
        self.read()

    def read(self) -> None:
        """Read the facts as far as they are written now. Raises `LogLies` for what no fact of ours can say."""
        wanted = {"tenant": self._tenant, "topics": list(TOPICS)}
        rows = self._connection.execute(SELECT_FACTS, wanted, binary=True).fetchall()
        self._facts: list[LogFact] = []
        self._opened: dict[int, int] = {}
        self.origins: dict[int, str] = {}
        self.signers: dict[int, Signer] = {}
        for position, topic, entry in rows:
            try:
                plain = orjson.loads(entry)["plain"]
                self._learn(position, topic, plain)
            except (ValueError, KeyError, TypeError, AttributeError, VerificationRefused):
                text = "A fact about the log's keys does not say what it should."
                raise LogLies(Lie(position, "log_keys", text)) from None
            self._facts.append((position, topic, plain))

    def keys(self, series: int) -> list[VerifierKey]:
        """Every key that a series ever had."""
        return [signer.key for signer in self.signers.values() if signer.series == series]

    def require_signed(self, series: int, size: int, found: set[VerifierKey]) -> None:
        """Raise `LogLies` unless exactly those keys signed that lived together at this size or later."""
        least = max(size, self._reached.get(series, 0))
        for position, living in self._eras(series, least):
            if living == found:
                self._reached[series] = position
                return
        expected = next(living for _, living in self._eras(series, size))
        text = "The checkpoint is not signed by the keys that lived when it was signed, or by others as well."
        raise LogLies(Lie(size, "signature", text, None, self._ids(expected), self._ids(found)))

    def require_facts(self, found: Sequence[LogFact], end: int) -> None:
        """Raise `LogLies` unless the rows up to `end` hold exactly the facts that were read ahead."""
        ahead = [fact for fact in self._facts if fact[0] <= end]
        for known, fact in zip(ahead, found, strict=False):
            if known != fact:
                raise LogLies(Lie(min(known[0], fact[0]), "log_keys", NOT_THE_FACTS))
        if len(ahead) != len(found):
            odd = (ahead if len(ahead) > len(found) else found)[min(len(ahead), len(found))]
            raise LogLies(Lie(odd[0], "log_keys", NOT_THE_FACTS))

    def require_tables(self, tables: Tables, *, moved: bool) -> None:
        """Raise `LogLies` unless the tables say what the facts say.

        Where the log has `moved` since its facts were read, what the tables have beyond them is left to the next check.
        """
        for series, origin in self.origins.items():
            found = tables.series.get(series, "nothing")
            if found != origin:
                text = f"Series {series} of the log does not stand in its table as its fact opened it."
                raise LogLies(Lie(self._opened[series], "series", text, None, shown(origin), shown(found)))
        for generation, signer in self.signers.items():
            told = (signer.series, signer.key_id, str(signer.key), signer.retired is not None)
            row = tables.keys.get(generation)
            if row is None or row[:3] != told[:3] or (row[3] != told[3] and not (moved and row[3])):
                text = f"The log's key {shown(signer.key_id)} does not stand in its table as its facts tell it."
                raise LogLies(Lie(signer.retired or signer.opened, "log_keys", text))
        if not moved and (tables.series.keys() - self.origins.keys() or tables.keys.keys() - self.signers.keys()):
            raise LogLies(
                Lie(0, "log_keys", "A series or a key stands in its table, and no fact of the log opened it.")
            )

    def _learn(self, position: int, topic: str, plain: Mapping[str, Any]) -> None:
        series = plain["series"]
        if topic == LogSeriesOpened.TOPIC:
            self.origins[series] = plain["origin"]
            self._opened[series] = position
        elif topic == LogKeyOpened.TOPIC:
            key = VerifierKey.parse(plain["verifier_key"])
            self.signers[plain["generation"]] = Signer(series, plain["key_id"], key, position)
        else:
            self.signers[plain["generation"]].retired = position

    def _eras(self, series: int, least: int) -> Iterator[tuple[int, set[VerifierKey]]]:
        """From this position on: since when which keys of a series lived together."""
        signers = [signer for signer in self.signers.values() if signer.series == series]
        turns = {position for signer in signers for position in (signer.opened, signer.retired or 0)}
        for position in (least, *sorted(turn for turn in turns if turn > least)):
            yield position, {signer.key for signer in signers if signer.lives_at(position)}

    def _ids(self, keys: set[VerifierKey]) -> str:
        return ", ".join(sorted(key.key_id.hex() for key in keys)) or "none"


NOT_THE_FACTS: Final = "The rows hold other facts about the log's keys than the account's stream leads to."
