"""Messages: one person, one campaign. A message's stream never names its subject (DESIGN section 3).

Whatever becomes a "no" (a complaint, a hard bounce, an unsubscription) is a fact of the subject's stream; this
stream holds the decision and what happened to the mail afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from domain.facts import BY_MESSAGE_AND_MONTH, Fact, SealedBy
from domain.personal import Engagement, EngagementTechnical, Personal


class SendAuthorised(Fact):
    """A send was allowed until `expires_at`, by `rule` on `basis`. `occurrence` tells repeated messages apart."""

    TOPIC: ClassVar[str] = "send.authorised.v1"
    campaign: str
    expires_at: datetime
    rule: str
    basis: str
    occurrence: str | None = None


class SendRefused(Fact):
    """A send was refused by `rule`."""

    TOPIC: ClassVar[str] = "send.refused.v1"
    campaign: str
    rule: str
    occurrence: str | None = None


class MessageFact(Fact):
    """What a mail provider told us of one message. `provider_event` is a keyed hash of the provider's event id."""

    campaign: str
    provider_event: str
    occurrence: str | None = None
    finding: str | None = None


class MessageDispatched(MessageFact):
    """The message left. `finding` says so if it left after its authorisation was recalled or had expired."""

    TOPIC: ClassVar[str] = "message.dispatched.v1"


class MessageDelivered(MessageFact):
    """The recipient's server took the message."""

    TOPIC: ClassVar[str] = "message.delivered.v1"


class MessageDeferred(MessageFact):
    """The recipient's server asked to try again later."""

    TOPIC: ClassVar[str] = "message.deferred.v1"


class MessageSoftBounced(MessageFact):
    """The message came back for a reason that may pass."""

    TOPIC: ClassVar[str] = "message.soft_bounced.v1"


class EngagementFact(MessageFact):
    """Something the recipient did with the message. `first` marks the first of its kind for the message."""

    SEALED_BY: ClassVar[Mapping[str, SealedBy]] = {
        Engagement.name: BY_MESSAGE_AND_MONTH,
        EngagementTechnical.name: BY_MESSAGE_AND_MONTH,
    }

    first: bool = False
    ip: Personal[str, EngagementTechnical] | None = None
    user_agent: Personal[str, EngagementTechnical] | None = None


class MessageOpened(EngagementFact):
    """The message was opened; taken only where tracking was disclosed (Mailkai 5.5)."""

    TOPIC: ClassVar[str] = "message.opened.v1"


class MessageClicked(EngagementFact):
    """A link was followed; the link itself is personal."""

    TOPIC: ClassVar[str] = "message.clicked.v1"
    url: Personal[str, Engagement] | None = None


@dataclass(slots=True)
class Message:
    """The state of one message (of one occurrence, for ongoing campaigns).

    `decision` is `allowed`, a refusal's rule, or None. `expires_at` is as it stands in entries; `position` is where
    the decision stands in the log.
    """

    decision: str | None = None
    expires_at: str = ""
    position: int = 0
    dispatched: bool = False


@dataclass(slots=True)
class MessageStream:
    """All occurrences of one stream, its version, and what must not be recorded twice.

    `firsts` holds the topics of engagement that were seen already. The fold works on the stored plain fields,
    because whole campaigns are folded at a time and nothing of a message's state is personal.
    """

    version: int = 0
    messages: dict[str, Message] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    firsts: set[str] = field(default_factory=set)

    def apply(self, topic: str, plain: Mapping[str, Any], version: int, position: int) -> None:
        """Take in one more event of this stream, by its topic and stored plain fields."""
        self.version = version
        occurrence = plain.get("occurrence") or ""
        if topic == SendAuthorised.TOPIC:
            self.messages[occurrence] = Message(ALLOWED, plain["expires_at"], position)
        elif topic == SendRefused.TOPIC:
            self.messages[occurrence] = Message(plain["rule"], "", position)
        else:
            self.seen.add(plain["provider_event"])
            if topic == MessageDispatched.TOPIC:
                self.messages.setdefault(occurrence, Message()).dispatched = True
            elif topic in ENGAGEMENT_TOPICS:
                self.firsts.add(topic)


ALLOWED = "allowed"
ENGAGEMENT_TOPICS: frozenset[str] = frozenset({MessageOpened.TOPIC, MessageClicked.TOPIC})


def is_open(message: Message, now: str, recalled_position: int) -> bool:
    """Whether an authorisation may still be used: allowed, not expired, not sent, and not recalled since.

    `now` is written as entries write times, which compare in order.
    """
    return (
        message.decision == ALLOWED
        and not message.dispatched
        and now < message.expires_at
        and recalled_position < message.position
    )
