"""The lines of the journal of tombstones: what each says, and the hash chain that binds it to all before it.

    {"cause": …, "certificate": …, "chain": …, "class": …, "generation": …, "holder": …, "number": …, "period": …,
     "tenant": …, "v": 1, "when": …}

    chain = SHA-256(chain of the line before || the line's JSON without its chain, keys sorted)

The first line follows SHA-256("lethe.custody.v1"). The chain shows that a line was changed, dropped or put in; that
lines were cut off at the end is shown by the other folders, and by the vault's own tombstones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import orjson

from ledger.errors import TamperError
from ledger.keys.names import Tombstone

FORMAT_VERSION = 1
FIRST_CHAIN = sha256(b"lethe.custody.v1").hexdigest()
LINE_BYTES_MAX = 4096
"""The longest line: the longest cause and certificate id fit many times, and the end of a file is read at once."""


@dataclass(frozen=True, slots=True)
class TombstoneNote:
    """One line of the journal. `holder` is a kid in hex; class and period may be `*`, generation 0: all of them.

    A saga that was killed and run again notes a destruction twice; both lines say the same.
    """

    number: int
    tenant: UUID
    holder: str
    retention_class: str
    period: str
    generation: int
    when: datetime
    cause: str
    certificate: str | None

    @property
    def tombstone(self) -> Tombstone:
        """The same, as the vault writes it."""
        return Tombstone(
            self.tenant,
            bytes.fromhex(self.holder),
            self.retention_class,
            self.period,
            self.generation,
            self.when,
            self.cause,
            self.certificate,
        )


def lines_of(entries: Iterable[Tombstone], number: int, chain: str) -> Iterator[bytes]:
    """The lines of these tombstones, following the line with this number and chain."""
    for entry in entries:
        number += 1
        said = {
            "v": FORMAT_VERSION,
            "number": number,
            "tenant": entry.tenant.hex,
            "holder": entry.holder.hex(),
            "class": entry.retention_class,
            "period": entry.period,
            "generation": entry.generation,
            "when": entry.when.isoformat(),
            "cause": entry.cause,
            "certificate": entry.certificate,
        }
        chain = _chained(chain, said)
        line = orjson.dumps(said | {"chain": chain}, option=orjson.OPT_SORT_KEYS) + b"\n"
        if len(line) > LINE_BYTES_MAX:
            raise ValueError(f"A tombstone of {len(line)} bytes does not fit into a line of the journal.")
        yield line


def checked(line: bytes, number: int, before: str, where: object) -> tuple[TombstoneNote, str]:
    """The note of a line, and its chain. Raises `TamperError` unless this is line `number` and follows `before`."""
    try:
        said = orjson.loads(line)
        chain = said.pop("chain")
        fits = line.endswith(b"\n") and said["v"] == FORMAT_VERSION and said["number"] == number
        if not fits or _chained(before, said) != chain:
            raise TamperError(
                f"Line {number} of {where} was changed, or one before it. Restore it from another folder."
            )
        return _note(said), chain
    except (ValueError, KeyError, TypeError, AttributeError):
        raise TamperError(f"Line {number} of {where} cannot be read. Restore it from another folder.") from None


def end_of(line: bytes, where: object) -> tuple[int, str]:
    """The number and chain that a last line gives itself. Raises `TamperError` if it cannot be read."""
    try:
        said = orjson.loads(line)
        return int(said["number"]), str(said["chain"])
    except (ValueError, KeyError, TypeError):
        raise TamperError(f"The last line of {where} cannot be read. Restore it from another folder.") from None


def _chained(before: str, said: Mapping[str, Any]) -> str:
    return sha256(bytes.fromhex(before) + orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _note(said: Mapping[str, Any]) -> TombstoneNote:
    return TombstoneNote(
        said["number"],
        UUID(said["tenant"]),
        said["holder"],
        said["class"],
        said["period"],
        said["generation"],
        datetime.fromisoformat(said["when"]),
        said["cause"],
        said["certificate"],
    )
