"""Idempotency-Key over HTTP: a request, or the part of one, that was done is answered again and not done again.

Bulk requests are kept in parts, one for each transaction, so that a retry after a lost connection goes on where the
first attempt stopped. Answers are stored without addresses, by index, and sealed for a day (`ledger/idempotency.py`).
Source: draft-ietf-httpapi-idempotency-key-header; the same key with another body is refused with 422.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson

from ledger.append import LockedTenant
from ledger.application import Ledger
from ledger.idempotency import IdempotentPart, Replayed
from ledger.subjects import Act, Outcome

REPLAYED_HEADER: Final = "Idempotency-Replayed"


def act_once(
    ledger: Ledger,
    acts: Sequence[Act],
    part: IdempotentPart | None,
    answer_of: Callable[[Sequence[Outcome], tuple[int, int] | None], Any],
) -> tuple[Any, bool]:
    """Carry out acts in one transaction, once per part. Returns the answer and whether it was given before."""
    made: list[Any] = []

    def before(locked: LockedTenant) -> None:
        ledger.parts.require_new(locked.connection, part)

    def also(locked: LockedTenant, outcomes: Sequence[Outcome]) -> None:
        receipt = locked.receipt()
        made.append(answer_of(outcomes, (receipt.first, receipt.last) if receipt else None))
        ledger.parts.save(locked, part, orjson.dumps(made[0]))

    try:
        ledger.subjects.act(acts, before=before, also=also)
    except Replayed as replayed:
        return orjson.loads(replayed.answer), True
    return made[0], False


def done_once(ledger: Ledger, part: IdempotentPart | None, work: Callable[[], Any]) -> tuple[Any, bool]:
    """Do work that may be repeated without harm, and keep its answer for repetitions of the request.

    For commands that are idempotent by themselves and take several transactions; a crash in between repeats them.
    """
    if part is None:
        return work(), False
    try:
        with ledger.appender.pool.transaction() as connection:
            ledger.parts.require_new(connection, part)
        answer = work()
        with ledger.appender.locked() as locked:
            ledger.parts.require_new(locked.connection, part)
            ledger.parts.save(locked, part, orjson.dumps(answer))
    except Replayed as replayed:
        return orjson.loads(replayed.answer), True
    return answer, False
