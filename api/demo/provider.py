"""A mail provider that is not there: what one would report about messages that were sent.

As with real ones, some reports come twice, some late or out of order, some about messages nobody knows. The draw is
repeatable. Addresses are from the documentation ranges, the links lead to reserved names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Final, Literal

from ledger.feedback import FeedbackEvent, FeedbackKind

HARD_BOUNCE_SHARE: Final = 0.006
SOFT_BOUNCE_SHARE: Final = 0.010
DEFERRED_SHARE: Final = 0.015
OPEN_SHARE: Final = 0.34
CLICK_SHARE: Final = 0.07  # of all delivered; who clicks has opened
COMPLAINT_SHARE: Final = 0.0012
UNSUBSCRIBE_SHARE: Final = 0.005
REPEATED_SHARE: Final = 0.01
STRAY_REPORTS: Final = 3

_AGENTS: Final = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X)",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64)",
    "Mozilla/5.0 (X11; Linux x86_64)",
)


@dataclass(frozen=True, slots=True)
class Sent:
    """One message on its way: its opaque id, and whether it is the canary's."""

    message_id: str
    canary: bool = False


def reports(
    sent: Sequence[Sent], *, seed: int, at: datetime, marketing: bool, tracked: bool, mark: str = ""
) -> Iterator[FeedbackEvent]:
    """What is reported about these messages. The canary's is delivered, opened and clicked, with `mark` in the link.

    `tracked` mail is opened and clicked; who gets `marketing` may complain and unsubscribe.
    """
    random = Random(seed)  # noqa: S311  a repeatable draw is what is wanted here
    index = 0
    late: list[FeedbackEvent] = []
    for number, message in enumerate(sent):
        for kind, bounce_type, url in _life(random, message, marketing=marketing, tracked=tracked, mark=mark):
            engaged = kind in ("opened", "clicked")
            event = FeedbackEvent(
                index,
                message.message_id,
                kind,
                at,
                event_id=f"evt-{seed}-{number}-{kind}",
                ip=f"198.51.100.{random.randrange(1, 255)}" if engaged else None,
                user_agent=random.choice(_AGENTS) if engaged else None,
                url=url,
                bounce_type=bounce_type,
            )
            index += 1
            yield event
            if random.random() < REPEATED_SHARE:
                late.append(event)
    yield from late
    for number in range(STRAY_REPORTS):
        yield FeedbackEvent(index + number, "no-message-of-ours", "delivered", at, event_id=f"stray-{seed}-{number}")


BounceType = Literal["hard", "soft"]
Report = tuple[FeedbackKind, BounceType | None, str | None]
"""Kind, bounce type and clicked link."""


def _life(random: Random, message: Sent, *, marketing: bool, tracked: bool, mark: str) -> Iterator[Report]:
    """What happens to one message, in the order in which it happens."""
    yield "dispatched", None, None
    draw = 1.0 if message.canary else random.random()
    if draw < HARD_BOUNCE_SHARE:
        yield "bounced", "hard", None
        return
    if draw < HARD_BOUNCE_SHARE + SOFT_BOUNCE_SHARE:
        yield "bounced", "soft", None
        return
    if draw < HARD_BOUNCE_SHARE + SOFT_BOUNCE_SHARE + DEFERRED_SHARE:
        yield "deferred", None, None
    complains = marketing and not message.canary and random.random() < COMPLAINT_SHARE
    if complains:  # Reported before the delivery is: a late "delivered" undoes no complaint.
        yield "complained", None, None
    yield "delivered", None, None
    interest = 0.0 if message.canary else random.random()
    if tracked and interest < OPEN_SHARE:
        yield "opened", None, None
        if interest < CLICK_SHARE:
            yield (
                "clicked",
                None,
                f"https://shop.example/spring?from={mark if message.canary else random.randrange(10**6)}",
            )
    if marketing and not complains and not message.canary and random.random() < UNSUBSCRIBE_SHARE:
        yield "unsubscribed", None, None
