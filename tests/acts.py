"""Short forms of what tests do to a ledger again and again: add people, let them speak, ask to send, report back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from domain.campaign import Kind
from domain.facts import Fact
from domain.ids import uuid7
from domain.message import SendAuthorised
from domain.subject import Action
from domain.subject_commands import AddContact, RecordConsent
from ledger.application import Ledger
from ledger.authorise_layout import Recipient
from ledger.feedback import FeedbackAnswer, FeedbackEvent
from ledger.keys.keyring import LINK
from ledger.links import link_scope, message_id
from ledger.standing_row import StandingRow
from ledger.subjects import Act, Outcome

NEWSLETTER = "newsletter"
EVIDENCE = {"method": "double_opt_in", "ip": "192.0.2.1"}


@dataclass
class Asked:
    """All that a request to authorise answered: tokens and rules by address, and the tokens that were repeated."""

    allowed: dict[str, str] = field(default_factory=dict)
    repeated: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    rejected: list[tuple[int, str]] = field(default_factory=list)


def emails(count: int, name: str = "person") -> list[str]:
    """So many addresses that belong to nobody."""
    return [f"{name}{number}@example.com" for number in range(count)]


def add(ledger: Ledger, addresses: Sequence[str], **identity: object) -> list[Outcome]:
    """Add contacts in one transaction."""
    acts = [Act(AddContact(a, dict(identity)), address=a, actor="cli") for a in addresses]
    return ledger.subjects.act(acts)[0]


def say(
    ledger: Ledger,
    addresses: Iterable[str],
    action: Action,
    *,
    purpose: str = NEWSLETTER,
    at: datetime | None = None,
    evidence: dict[str, str] | None = EVIDENCE,
    **more: Any,
) -> list[Outcome]:
    """A word of each of these persons on one purpose, in one transaction."""
    command = RecordConsent(purpose, "email", action, at, evidence, **more)
    return ledger.subjects.act([Act(command, address=a, actor="cli") for a in addresses])[0]


def willing(ledger: Ledger, addresses: Sequence[str]) -> None:
    """Contacts that agreed to the newsletter, with evidence."""
    add(ledger, addresses, first_name="Pat", country="DE")
    say(ledger, addresses, "grant")


def register(
    ledger: Ledger, *, purpose: str = NEWSLETTER, kind: Kind = "one-off", tracking_disclosed: bool = True
) -> UUID:
    """A new campaign."""
    return ledger.register_campaign(
        name="Spring",
        purpose=purpose,
        channel="email",
        kind=kind,
        content_sha256=None,
        tracking_disclosed=tracking_disclosed,
        actor="cli",
    )


def ask(ledger: Ledger, campaign: UUID, recipients: Iterable[str | tuple[str, str]], **more: Any) -> Asked:
    """Ask to send; a recipient is an address, or an address with an occurrence."""
    asked = Asked()
    people = (
        Recipient(index, r) if isinstance(r, str) else Recipient(index, r[0], r[1])
        for index, r in enumerate(recipients)
    )
    for answer in ledger.authorisations.authorise(campaign, people, account=ledger.account(), actor="cli", **more):
        for recipient, token, _, repeated in answer.allowed:
            asked.allowed[recipient.email] = token
            if repeated:
                asked.repeated.add(recipient.email)
        asked.refused.update({recipient.email: rule for recipient, rule in answer.refused})
        asked.rejected.extend(answer.rejected)
    return asked


def report(ledger: Ledger, events: Iterable[tuple[str, str]], **more: Any) -> FeedbackAnswer:
    """Feedback of token and kind, as one answer; further fields of the event are given by name."""
    total = FeedbackAnswer()
    told = (
        FeedbackEvent(index, token, kind, more.get("at") or datetime.now(UTC), **_without(more, "at"))  # type: ignore[arg-type]  # Kinds are written as plain text in tests.
        for index, (token, kind) in enumerate(events)
    )
    for answer in ledger.feedback.take(told, actor="cli"):
        total.recorded += answer.recorded
        total.duplicates += answer.duplicates
        total.dropped += answer.dropped
        total.parked += answer.parked
    return total


def person(ledger: Ledger, address: str) -> StandingRow:
    """The living person with this address."""
    row = ledger.person(address)
    assert row is not None
    return row


def stream_of(ledger: Ledger, row: StandingRow) -> list[Fact]:
    """The facts of a person's own stream, opened."""
    events = ledger.log.select_streams([UUID(bytes=row.person.subject)])
    return [ledger.sealing.open(event) for event in events]


def topics(ledger: Ledger, *, start: int = 1) -> list[str]:
    """The topics of the whole log, by position, from `start` on."""
    return [event.topic for event in ledger.log.select_log(start, 10_000)]


def plant_send(ledger: Ledger, who: str | StandingRow, campaign: UUID) -> int:
    """Write an authorisation into the log as the program would, but without asking any rule."""
    row = person(ledger, who) if isinstance(who, str) else who
    month = ledger.campaign(campaign).month(ledger.clock())
    scope = link_scope(row.person.link_key, ledger.keyring.period_key(LINK, month))
    stream = UUID(bytes=message_id(scope, campaign.bytes))
    with ledger.appender.locked() as locked:
        version = len(ledger.log.select_streams([stream])) + 1
        fact = SendAuthorised(
            campaign=campaign.hex,
            expires_at=locked.now,
            rule="consent",
            basis="consent",
            originator_id=stream,
            originator_version=version,
            event_id=uuid7(0, uuid4().bytes),
            occurred_at=locked.now,
        )
        return locked.record([(ledger.sealing.draft(fact), version)], restricts=False)[0]


def _without(values: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}
