"""How a person stood at a moment of the past: the fold of their stream up to then.

In the meaning `occurred` a word can have been recorded later than another that happened after it. Whether a grant
lifts a "no" is then asked again, in the order in which things happened, by the same rule that was asked when it was
recorded (`domain.permission.grant_effect`); otherwise the flag that the log holds is what counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from audit.asof.moments import Moment
from domain.facts import Fact
from domain.ids import micros
from domain.permission import grant_effect
from domain.personal import Erased, Identity, Personal, Unopened
from domain.standing import No, Standing, Suppression
from domain.subject import ConsentGranted, ContactAdded, ContactCorrected, SuppressionByHandLifted, evolve
from ledger.application import Ledger

_DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class PastStanding:
    """A person at a moment: the standing (None where nothing was known yet), and the facts that it rests on.

    `opened` is how many events with sealed parts were opened to tell, whether they counted or not.
    """

    standing: Standing | None
    facts: Sequence[Fact]
    opened: int = 0

    @property
    def position(self) -> int:
        """The last position of the log that counted, 0 where none did."""
        return max((fact.position or 0 for fact in self.facts), default=0)


def read_person(ledger: Ledger, subject: UUID, moment: Moment) -> tuple[list[Fact], int]:
    """The facts of one person's stream that count at a moment, and how many events were opened to tell.

    Opens what is known of the person: the caller records that it was looked at (invariant I8).
    """
    events = ledger.log.select_streams([subject])
    told = moment.told(ledger.sealing.open(event) for event in events)
    return told, sum(event.sealed is not None for event in events)


def address_in(facts: Sequence[Fact]) -> Personal[str, Identity] | Erased | Unopened | None:
    """The address that a person had after these facts, which are in order."""
    said = (fact.email for fact in reversed(facts) if isinstance(fact, ContactAdded | ContactCorrected))
    return next((email for email in said if email is not None), None)


def fold_in_order(told: Iterable[Fact], moment: Moment, against: Sequence[Suppression]) -> Standing | None:
    """The standing after facts in their order; grants are judged anew where the order is not that of the log."""
    standing: Standing | None = None
    for fact in told:
        judged = fact
        if moment.meaning == "occurred" and isinstance(fact, ConsentGranted):
            judged = _judged(fact, standing, against)
        after = evolve(standing, judged, fact.position or 0)
        if isinstance(fact, SuppressionByHandLifted) and standing is not None:
            after.noes = (*after.noes, *_said_after(standing, fact))
        standing = after
    return standing


def _said_after(before: Standing, lift: SuppressionByHandLifted) -> list[No]:
    """What staff said after they had lifted, of an earlier time: they knew of the lift, so it does not lift that."""
    at = lift.position or 0
    return [no for no in before.noes if (no.cause, no.scope) == ("manual", lift.scope) and no.position > at]


def _judged(grant: ConsentGranted, before: Standing | None, against: Sequence[Suppression]) -> ConsentGranted:
    """A grant with what it lifted, had everything been known in time."""
    happened_us = micros(grant.occurred_at)
    effective, reason = grant_effect(
        before,
        [entry for entry in against if entry.since - _DAY_US < happened_us],  # The list keeps days, at their end.
        purpose=grant.purpose,
        channel=grant.channel,
        occurred_us=happened_us,
        recorded_us=micros(
            grant.recorded_at or grant.occurred_at
        ),  # One from the future is nobody's act, then and now.
        evidenced=grant.evidenced,
        imported=grant.imported,
        method=grant.method,
    )
    return grant.model_copy(update={"effective": effective, "reason": reason})
