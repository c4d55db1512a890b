"""What a mail provider tells us, what we answer, and why something is dropped or put aside."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from domain import message as messages

FeedbackKind = Literal[
    "dispatched", "delivered", "deferred", "bounced", "complained", "opened", "clicked", "unsubscribed"
]

TOPICS: Final[dict[str, str]] = {
    "dispatched": messages.MessageDispatched.TOPIC,
    "delivered": messages.MessageDelivered.TOPIC,
    "deferred": messages.MessageDeferred.TOPIC,
    "bounced": messages.MessageSoftBounced.TOPIC,
    "opened": messages.MessageOpened.TOPIC,
    "clicked": messages.MessageClicked.TOPIC,
}
"""The topics of what is written in a message's stream."""

ENGAGEMENT_KINDS: Final = frozenset({"opened", "clicked"})
_ALWAYS_A_NO: Final = frozenset({"complained", "unsubscribed"})

ERASED_PERSON: Final = "The person this message was for is not held any more; nothing is recorded for them."
UNKNOWN_CAMPAIGN: Final = "The campaign of this message is not known to this account."
UNKNOWN_MONTH: Final = "No message of that month is known to this account."
MONTH_PAST_ITS_TIME: Final = "Messages of that month are past their time: the key that led to them was destroyed."
MESSAGE_PAST_ITS_TIME: Final = "This message is past its time: the key that led from the person to it was destroyed."
TRACKING_NOT_DISCLOSED: Final = (
    "The campaign was registered without tracking_disclosed, so openings and clicks are not kept."
)


@dataclass(frozen=True, slots=True)
class FeedbackEvent:
    """One thing a provider told us. `event_id` is the provider's own, by which repeats are dropped."""

    index: int
    message_id: str
    kind: FeedbackKind
    occurred_at: datetime
    event_id: str | None = None
    ip: str | None = None
    user_agent: str | None = None
    url: str | None = None
    bounce_type: Literal["hard", "soft"] | None = None

    @property
    def becomes_a_no(self) -> bool:
        """Whether this is written in the subject's stream rather than the message's."""
        return self.kind in _ALWAYS_A_NO or (self.kind == "bounced" and self.bounce_type != "soft")


@dataclass(slots=True)
class FeedbackAnswer:
    """What came of one chunk; `dropped` and `parked` hold index and reason."""

    recorded: int = 0
    duplicates: int = 0
    dropped: list[tuple[int, str]] = field(default_factory=list)
    parked: list[tuple[int, str]] = field(default_factory=list)
