"""What the tests of this folder do to a ledger, in few words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from domain.subject_commands import AddContact, CorrectContact, RecordConsent, SubjectCommand
from ledger.application import Ledger
from ledger.authorise_layout import Recipient
from ledger.feedback import FeedbackAnswer, FeedbackEvent, FeedbackKind
from ledger.subjects import Act, Outcome
from projections.change_feed import Change, changes_after
from projections.standing import InlineStanding

PURPOSE = "newsletter"
EVIDENCE = {"ip": "192.0.2.1", "method": "form"}


def add(ledger: Ledger, *emails: str) -> None:
    """Add people from Germany."""
    acts = [Act(AddContact(email, {"first_name": "Pat", "country": "DE"}), address=email) for email in emails]
    ledger.subjects.act(acts)


def say(ledger: Ledger, email: str, command: SubjectCommand) -> Outcome:
    """One command about one person."""
    return ledger.act(Act(command, address=email, actor="key:0011223344556677"))


def grant(ledger: Ledger, *emails: str) -> None:
    """People agree to the newsletter, with evidence."""
    command = RecordConsent(PURPOSE, "email", "grant", evidence=dict(EVIDENCE))
    ledger.subjects.act([Act(command, address=email) for email in emails])


def withdraw(ledger: Ledger, email: str, campaign: UUID | None = None) -> Outcome:
    """Somebody takes the newsletter back."""
    held = campaign.hex if campaign else None
    return say(ledger, email, RecordConsent(PURPOSE, "email", "withdraw", campaign=held))


def move(ledger: Ledger, email: str, to: str) -> Outcome:
    """Somebody's address changes."""
    return say(ledger, email, CorrectContact(email=to))


def register(ledger: Ledger, *, tracking: bool = True) -> UUID:
    """A newsletter campaign."""
    return ledger.register_campaign(
        name="Spring",
        purpose=PURPOSE,
        channel="email",
        kind="one-off",
        content_sha256=None,
        tracking_disclosed=tracking,
        actor="cli",
    )


def authorise(ledger: Ledger, campaign: UUID, emails: Sequence[str]) -> dict[str, str]:
    """Message tokens by address of those who may be mailed."""
    asked = [Recipient(index, email) for index, email in enumerate(emails)]
    answers = ledger.authorisations.authorise(campaign, asked, account=ledger.account(), actor="cli")
    return {recipient.email: token for answer in answers for recipient, token, _, _ in answer.allowed}


def report(ledger: Ledger, kind: FeedbackKind, tokens: Iterable[str], **values: Any) -> list[FeedbackAnswer]:
    """A provider tells the same of several messages, now unless `occurred_at` is given."""
    occurred_at = values.pop("occurred_at", None) or datetime.now(UTC)
    events = [FeedbackEvent(index, token, kind, occurred_at, **values) for index, token in enumerate(tokens)]
    return list(ledger.feedback.take(events, actor="cli"))


def feed(ledger: Ledger, after: int | None = None, limit: int = 1000) -> tuple[list[Change], int]:
    """The change feed as a sender reads it."""
    return changes_after(ledger.services.reader, ledger.keyring, ledger.tenant, after, limit)


def erase(ledger: Ledger, *emails: str) -> None:
    """The intent to forget people."""
    ledger.erasures.intend(list(emails), reason="asked", actor="cli")


def serving_generation(ledger: Ledger) -> int:
    """The generation of the inline projections that serves."""
    with ledger.services.writer.transaction() as connection:
        return ledger.appender.read_head(connection).generation


def inline_rows(ledger: Ledger, generation: int) -> dict[str, list[Any]]:
    """Everything a generation of the inline projections holds: standing opened, the rest as it stands."""
    book = ledger.services.book
    assert isinstance(book, InlineStanding)
    values = (ledger.tenant, generation)
    where = "WHERE tenant_id = %s AND generation = %s ORDER BY 1, 2, 3"
    with ledger.services.writer.transaction() as connection:
        fingerprints = [
            bytes(row[0])
            for row in connection.execute(
                "SELECT fingerprint FROM lethe.standing WHERE tenant_id = %s AND generation = %s ORDER BY 1", values
            )
        ]
        tags = connection.execute(
            "SELECT fingerprint, handle_tag, epoch FROM lethe.standing WHERE tenant_id = %s AND generation = %s "
            "ORDER BY 1",
            values,
        ).fetchall()
        standing = book.read(connection, ledger.tenant, generation, fingerprints)
        aliases = connection.execute(
            "SELECT fingerprint, handle_tag FROM lethe.contact_alias WHERE tenant_id = %s AND generation = %s "
            "ORDER BY 1",
            values,
        ).fetchall()
        entries = connection.execute(
            f"SELECT fingerprint, scope, cause, since FROM lethe.suppression {where}", values
        ).fetchall()
        campaigns = connection.execute(
            "SELECT campaign_id, purpose, channel, kind, tracking_disclosed, registered_at, closed "
            f"FROM lethe.campaign {where}",
            values,
        ).fetchall()
    return {
        "standing": [standing[f] for f in fingerprints],
        "tags": tags,
        "aliases": aliases,
        "suppressions": entries,
        "campaigns": campaigns,
    }
