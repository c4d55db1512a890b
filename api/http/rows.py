"""Bulk requests about persons: chunks of rows, each one transaction and one idempotent part, into one answer.

Contacts and consents go the same way. A JSON array is at most `ROWS_MAX` rows; NDJSON is read line by line as it
comes, in a thread that waits for the network while the network waits for it, so memory does not grow with the body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Generic, TypeVar

import orjson
from pydantic import BaseModel

from api.http.bodies import Rows
from api.http.problems import UNAVAILABLE, RequestRefused
from api.http.replays import act_once
from api.http.strict_json import MalformedJson, parse_json
from domain.address import InvalidAddress, canonical_address
from domain.subject_commands import CommandRefused
from ledger.application import Ledger
from ledger.errors import Unavailable
from ledger.idempotency import IdempotentPart
from ledger.subjects import REFUSALS, Act, Outcome

CHUNK_ROWS: Final = 1000
"""Rows per transaction: what one account's lock is held for while other commands of the account wait."""

REJECTED_SHOWN_MAX: Final = 10_000
"""Rejections named in one answer; a longer list is counted only. NDJSON bodies have no other bound."""

B = TypeVar("B", bound=BaseModel)
Receipt = tuple[int, int]


@dataclass(slots=True)
class Gathered:
    """What the chunks of one request came to. Values of `sums` are added up, lists of `lists` are joined."""

    sums: dict[str, int]
    lists: dict[str, list[Any]]
    rejected: list[tuple[int, str]] = field(default_factory=list)
    rejected_unnamed: int = 0
    first: int = 0
    last: int = 0
    chunks: int = 0
    replayed: int = 0

    def reject(self, rejected: Iterable[tuple[int, str]]) -> None:
        """Name rejected rows, as many as an answer holds."""
        for row in rejected:
            if len(self.rejected) < REJECTED_SHOWN_MAX:
                self.rejected.append(row)
            else:
                self.rejected_unnamed += 1

    def add(self, answer: dict[str, Any], replayed: bool) -> None:
        """Take in the answer of one chunk."""
        for name in self.sums:
            self.sums[name] += answer[name]
        for name, items in self.lists.items():
            items.extend(answer[name])
        self.reject((index, reason) for index, reason in answer["rejected"])
        if answer["receipt"] is not None:
            self.first = self.first or answer["receipt"][0]
            self.last = answer["receipt"][1]
        self.chunks += 1
        self.replayed += replayed

    def answer(self) -> dict[str, Any]:
        """The answer of the whole request."""
        said: dict[str, Any] = {**self.sums, **self.lists}
        said["rejected"] = [{"index": index, "reason": reason} for index, reason in sorted(self.rejected)]
        if self.rejected_unnamed:
            said["rejected_unnamed"] = self.rejected_unnamed
        said["receipt"] = {"first": self.first, "last": self.last} if self.first else None
        return said

    @property
    def was_replayed(self) -> bool:
        """Whether nothing of this request was done now."""
        return self.chunks > 0 and self.replayed == self.chunks


@dataclass(frozen=True)
class RowWork(Generic[B]):
    """One kind of bulk request: how a row is checked, what it commands, and what its outcome is called."""

    rows: Rows[B]
    act_of: Callable[[B, str], Act]
    answer_of: Callable[[Sequence[int], Sequence[Outcome]], dict[str, Any]]
    sums: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()

    def gather(self) -> Gathered:
        """An empty answer."""
        return Gathered(dict.fromkeys(self.sums, 0), {name: [] for name in self.lists})

    def carry_out(
        self,
        ledger: Ledger,
        rows: Iterable[tuple[int, Any]],
        *,
        actor: str,
        part: IdempotentPart | None,
        gathered: Gathered,
        cut: Callable[[], bool] = lambda: False,
    ) -> None:
        """All rows, chunk by chunk, into `gathered`, which holds what was done so far.

        `cut` tells, once the rows have come to an end, whether that was too early: the last chunk is then done
        and not kept under the Idempotency-Key, because the retry brings it whole.
        """
        for number, chunk in enumerate(_chunks(rows)):
            whole = part is not None and (len(chunk) == CHUNK_ROWS or not cut())
            numbered = part.numbered(number, orjson.dumps(chunk)) if part is not None and whole else None
            try:
                self._chunk(ledger, chunk, actor, numbered, gathered)
            except Unavailable as error:
                if not number:
                    raise
                raise _stopped(chunk[0][0]) from error

    def _chunk(
        self,
        ledger: Ledger,
        chunk: list[tuple[int, Any]],
        actor: str,
        part: IdempotentPart | None,
        gathered: Gathered,
    ) -> None:
        rejected: list[tuple[int, str]] = []
        indexes, acts = [], []
        for index, row in self.rows.check(chunk, rejected):
            try:
                act = self.act_of(row, actor)
                canonical_address(act.address or "")
            except InvalidAddress as error:
                rejected.append((index, str(error)))
                continue
            indexes.append(index)
            acts.append(act)

        def answer_of(outcomes: Sequence[Outcome], receipt: Receipt | None) -> dict[str, Any]:
            refused = [(i, refusal(o.refused)) for i, o in zip(indexes, outcomes, strict=True) if o.refused is not None]
            answer = self.answer_of(indexes, outcomes)
            return answer | {"rejected": rejected + refused, "receipt": receipt}

        if part is None and len(acts) == 1:
            gathered.add(_single(ledger, acts[0], answer_of), replayed=False)
        elif acts or part is not None:
            gathered.add(*act_once(ledger, acts, part, answer_of))
        else:
            gathered.reject(rejected)


def parsed_lines(lines: Iterable[tuple[int, bytes | str]], gathered: Gathered) -> Iterator[tuple[int, Any]]:
    """The values of NDJSON lines; a line that is none is rejected by its number."""
    for number, line in lines:
        if isinstance(line, str):
            gathered.reject([(number, line)])
            continue
        try:
            value = parse_json(line)
        except MalformedJson as error:
            gathered.reject([(number, str(error))])
        else:
            yield number, value


def refusal(error: Exception) -> str:
    """What is said of a row whose command was refused: a stable code where there is one, and what to do."""
    return f"{error.reason}: {error}" if isinstance(error, CommandRefused) else str(error)


def _single(ledger: Ledger, act: Act, answer_of: Callable[[Sequence[Outcome], Receipt | None], Any]) -> Any:
    """One act shares its transaction with those of other requests (group commit)."""
    try:
        outcome = ledger.act(act)
    except REFUSALS as refused:
        return answer_of([Outcome(refused=refused)], None)
    positions = outcome.positions
    return answer_of([outcome], (min(positions), max(positions)) if positions else None)


def _stopped(index: int) -> RequestRefused:
    return RequestRefused(
        UNAVAILABLE,
        f"The rows before index {index} were done and recorded, the others were not: the database does not answer. "
        "Send the rows from there on again, or the whole request if it had an Idempotency-Key.",
    )


def _chunks(rows: Iterable[tuple[int, Any]]) -> Iterator[list[tuple[int, Any]]]:
    source = iter(rows)
    while chunk := list(islice(source, CHUNK_ROWS)):
        yield chunk
