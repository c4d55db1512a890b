"""Which keys may have signed a checkpoint: as the log's own facts tell it, not as the table beside them does.

`log.series_opened`, `log.key_opened` and `log.key_retired` are leaves of the log that they are about, all of them in
the account's stream. Every key that lives signs every checkpoint. A checkpoint may be signed when the log is much
longer already (a backlog is published in steps), so its signers are the keys that lived together at its size or at some
later position, and from one checkpoint to the next that position never goes back.

The facts are read ahead, because a checkpoint's key may be opened behind it. Whether those were all of them, and the
same, is told in the end by the rows, which were checked one by one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final
from uuid import UUID

import orjson
from psycopg import Connection

from audit.fsck.lies import Lie, LogLies, shown
from audit.verify.errors import VerificationRefused
from audit.verify.note import Signature, VerifierKey
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
    """Both tables of a tenant. Raises `LogLies` where a series or a key stands there twice."""
    series = connection.execute(SELECT_SERIES, (tenant,)).fetchall()
    keys = connection.execute(SELECT_KEYS, (tenant,)).fetchall()
    found = Tables(dict(series), {row[0]: row[1:] for row in keys})
    if len(found.series) < len(series) or len(found.keys) < len(keys):
        raise LogLies(Lie(0, "log_keys", "A series or a key stands in its table twice."))
    return found


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
        self._known: dict[int, dict[tuple[str, bytes], VerifierKey]] = {}
        self._living: dict[int, list[tuple[int, set[VerifierKey]]]] = {}
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
        return list(self._by_name_and_id(series).values())

    def named(self, series: int, lines: Iterable[Signature]) -> list[VerifierKey]:
        """Those keys of a series that these lines of signature name."""
        known = self._by_name_and_id(series)
        return [known[name] for name in {(line.name, line.key_id) for line in lines} if name in known]

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

    def require_tables(self, tables: Tables, later: Signers) -> None:
        """Raise `LogLies` unless the tables say what these facts say, which were read before them, and nothing that
        those do not say which were read `later`: so the log may have moved meanwhile."""
        for series, origin in self.origins.items():
            found = tables.series.get(series, "nothing")
            if found != origin:
                text = f"Series {series} of the log does not stand in its table as its fact opened it."
                raise LogLies(Lie(self._opened[series], "series", text, None, shown(origin), shown(found)))
        for generation, signer in self.signers.items():
            told = (signer.series, signer.key_id, str(signer.key), signer.retired is not None)
            row = tables.keys.get(generation)
            ended = later.signers[generation].retired is not None if generation in later.signers else told[3]
            if row is None or row[:3] != told[:3] or not told[3] <= row[3] <= ended:
                text = f"The log's key {shown(signer.key_id)} does not stand in its table as its facts tell it."
                raise LogLies(Lie(signer.retired or signer.opened, "log_keys", text))
        if tables.series.keys() - later.origins.keys() or tables.keys.keys() - later.signers.keys():
            raise LogLies(
                Lie(0, "log_keys", "A series or a key stands in its table, and no fact of the log opened it.")
            )

    def _learn(self, position: int, topic: str, plain: Mapping[str, Any]) -> None:
        """Take one fact. Raises `KeyError` for one that says again what was said, or ends what never began."""
        series = plain["series"]
        if topic == LogSeriesOpened.TOPIC:
            _require_first(series not in self.origins)
            self.origins[series] = plain["origin"]
            self._opened[series] = position
        elif topic == LogKeyOpened.TOPIC:
            key, generation = VerifierKey.parse(plain["verifier_key"]), plain["generation"]
            _require_first(generation not in self.signers and key.key_id.hex() == plain["key_id"])
            self.signers[generation] = Signer(series, plain["key_id"], key, position)
        else:
            signer = self.signers[plain["generation"]]
            _require_first(signer.retired is None)
            signer.retired = position

    def _by_name_and_id(self, series: int) -> dict[tuple[str, bytes], VerifierKey]:
        known = self._known.get(series)
        if known is None:
            keys = [signer.key for signer in self.signers.values() if signer.series == series]
            known = self._known[series] = {(key.name, key.key_id): key for key in keys}
        return known

    def _eras(self, series: int, least: int) -> Iterator[tuple[int, set[VerifierKey]]]:
        """From this position on: since when which keys of a series lived together."""
        eras = self._living.get(series)
        if eras is None:
            signers = [signer for signer in self.signers.values() if signer.series == series]
            turns = {0} | {position for signer in signers for position in (signer.opened, signer.retired or 0)}
            eras = self._living[series] = [
                (turn, {signer.key for signer in signers if signer.lives_at(turn)}) for turn in sorted(turns)
            ]
        first = bisect_right(eras, least, key=itemgetter(0)) - 1
        yield least, eras[first][1]
        yield from eras[first + 1 :]

    def _ids(self, keys: set[VerifierKey]) -> str:
        return ", ".join(sorted(key.key_id.hex() for key in keys)) or "none"


def _require_first(first: bool) -> None:
    if not first:
        raise KeyError


NOT_THE_FACTS: Final = "The rows hold other facts about the log's keys than the account's stream leads to."
