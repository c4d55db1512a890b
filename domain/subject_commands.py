"""What can be asked of a subject, and what it leads to: `decide(standing, command) -> facts`, pure.

A command names what is wanted; the facts returned carry no header, which the ledger fills in. Whatever becomes a
"no" is followed by the recall of the open authorisations that it covers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from domain import scope as scopes
from domain.category import ACCOUNT_HOLDER, CONTACT, UnknownCategory, checked_category
from domain.facts import Fact
from domain.ids import micros
from domain.permission import grant_effect
from domain.personal import Personal
from domain.standing import CONSENT, GRANTED, PERMISSION_BASES, WITHDRAWN, Standing, Suppression, permission_key
from domain.subject import (
    AccountAssigned,
    Action,
    AuthorisationsRecalled,
    ConsentGranted,
    ConsentRefused,
    ConsentRequested,
    ConsentWithdrawn,
    ContactAdded,
    ContactComplained,
    ContactCorrected,
    ContactHardBounced,
    ContactSuppressed,
    ContactUnsubscribed,
    ErasurePostponed,
    NoFact,
    ObjectionRaised,
    PermissionDeclared,
    ProcessingRestricted,
    RestrictionLifted,
    SuppressionByHandLifted,
    may_declare,
)

IDENTITY_FIELDS = ("first_name", "last_name", "phone", "country", "birth_date", "source", "custom")
EVIDENCE_KEYS = ("ip", "user_agent", "form", "wording", "notice_version", "method")
CHANNEL_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,15}")
METHOD_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,31}")
ACCOUNTS_HELD_MAX = 100
"""Who needs it: everybody who reads a standing, which names all of them."""

HOW_EVIDENCED = ("ip", "form", "wording", "method")


class CommandRefused(Exception):
    """A command that this subject's standing does not allow. `reason` is a stable code; the text says what to do."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class AddContact:
    """Add a person. Values of `identity` are of IDENTITY_FIELDS; `email` is the address as it is to be written to."""

    email: str
    identity: dict[str, object] = field(default_factory=dict)
    category: str = CONTACT


@dataclass(frozen=True, slots=True)
class CorrectContact:
    """Put right what is known of a person; `email` if the address itself changes."""

    identity: dict[str, object] = field(default_factory=dict)
    email: str | None = None


@dataclass(frozen=True, slots=True)
class RecordConsent:
    """A word of the subject, or (with a basis other than consent) the controller's declaration of a permission."""

    purpose: str
    channel: str
    action: Action
    occurred_at: datetime | None = None
    evidence: dict[str, str] | None = None
    basis: str = CONSENT
    imported: bool = False
    campaign: str | None = None


@dataclass(frozen=True, slots=True)
class SayNo:
    """A "no" other than a withdrawal: objection, complaint, hard_bounce, unsubscribed, manual or legal."""

    cause: scopes.Cause
    scope: str
    occurred_at: datetime | None = None
    campaign: str | None = None


@dataclass(frozen=True, slots=True)
class LiftByHand:
    """Take back a "no" that staff imposed by hand."""

    scope: str


@dataclass(frozen=True, slots=True)
class Restrict:
    """Limit processing to storage (GDPR Art. 18), or end that."""

    lift: bool = False


@dataclass(frozen=True, slots=True)
class AssignAccount:
    """Say that a person holds an account of the platform; `email` is as in `AddContact`, for who is not known yet."""

    account: UUID
    email: str


SubjectCommand = AddContact | AssignAccount | CorrectContact | RecordConsent | SayNo | LiftByHand | Restrict

_NOES: dict[str, type[NoFact]] = {
    "objection": ObjectionRaised,
    "complaint": ContactComplained,
    "hard_bounce": ContactHardBounced,
    "unsubscribed": ContactUnsubscribed,
    "manual": ContactSuppressed,
    "legal": ContactSuppressed,
}


def decide(
    standing: Standing | None, command: SubjectCommand, suppressions: Sequence[Suppression], now: datetime
) -> list[Fact]:
    """The facts a command leads to; none if nothing changes. Raises `CommandRefused`."""
    if isinstance(command, AddContact):
        return [] if standing is not None else [_added(command, now)]
    if isinstance(command, AssignAccount):
        return _assigned(standing, command, now)
    if standing is None:
        raise CommandRefused("unknown_recipient", "No such contact. Add the contact first.")
    if isinstance(command, CorrectContact):
        return [_corrected(command, now)]
    if isinstance(command, RecordConsent):
        return _consent(standing, command, suppressions, now)
    if isinstance(command, SayNo):
        return _no(standing, command, now)
    if isinstance(command, LiftByHand):
        if not any(n.cause == "manual" and n.scope == command.scope for n in standing.noes):
            raise CommandRefused(
                "nothing_to_lift", "Only a suppression made by hand, of just this scope, can be lifted."
            )
        return [SuppressionByHandLifted(scope=command.scope, occurred_at=now)]
    if command.lift and standing.postponed:
        raise CommandRefused(
            "erasure_postponed",
            "This person is to be forgotten once a legal hold ends; until then processing stays restricted.",
        )
    if command.lift:
        return [RestrictionLifted(occurred_at=now)] if standing.restricted_position is not None else []
    if standing.restricted_position is not None:
        return []
    return _restricted(now)


def postpone(standing: Standing, reason: str, now: datetime) -> list[Fact]:
    """The facts of an erasure that a legal hold does not allow yet: nothing is sent to the person from here on."""
    facts: list[Fact] = [ErasurePostponed(reason=reason, occurred_at=now)]
    return facts if standing.restricted_position is not None else facts + _restricted(now)


def _restricted(now: datetime) -> list[Fact]:
    return [ProcessingRestricted(occurred_at=now), AuthorisationsRecalled(scope=scopes.ALL, occurred_at=now)]


def _added(command: AddContact, now: datetime) -> ContactAdded:
    try:
        category = checked_category(command.category)
    except UnknownCategory as error:
        raise CommandRefused("unknown_category", str(error)) from None
    return ContactAdded(
        email=Personal(command.email), category=category, occurred_at=now, **_identity(command.identity)
    )


def _assigned(standing: Standing | None, command: AssignAccount, now: datetime) -> list[Fact]:
    fact = AccountAssigned(account=Personal(command.account.hex), occurred_at=now)
    if standing is None:
        return [_added(AddContact(command.email, category=ACCOUNT_HOLDER), now), fact]
    if command.account.hex in standing.accounts:
        return []
    if len(standing.accounts) >= ACCOUNTS_HELD_MAX:
        raise CommandRefused("too_many_accounts", f"One person holds at most {ACCOUNTS_HELD_MAX} accounts.")
    return [fact]


def _corrected(command: CorrectContact, now: datetime) -> ContactCorrected:
    email: dict[str, Any] = {"email": Personal(command.email)} if command.email else {}
    return ContactCorrected(occurred_at=now, **email, **_identity(command.identity))


def _identity(values: dict[str, object]) -> dict[str, Any]:
    unknown = values.keys() - set(IDENTITY_FIELDS)
    if unknown:
        raise CommandRefused("unknown_field", f"Known fields are email, {', '.join(IDENTITY_FIELDS)}.")
    held: dict[str, Any] = {}
    for name, value in values.items():
        if value is not None:
            held[name] = Personal(value)
    return held


def _consent(
    standing: Standing, command: RecordConsent, suppressions: Sequence[Suppression], now: datetime
) -> list[Fact]:
    purpose = scopes.checked_purpose(command.purpose)
    if not CHANNEL_PATTERN.fullmatch(command.channel):
        raise CommandRefused("unknown_channel", "A channel is a short lower-case name, such as email.")
    if command.basis != CONSENT and command.basis not in PERMISSION_BASES:
        raise CommandRefused("unknown_basis", f"Known bases are {', '.join((CONSENT, *sorted(PERMISSION_BASES)))}.")
    evidence = command.evidence or {}
    occurred_at = command.occurred_at or now
    if command.action == "grant" and command.basis in PERMISSION_BASES:
        if not may_declare(standing.permissions.get(permission_key(purpose, command.channel))):
            raise CommandRefused("subject_has_spoken", "The subject has given or refused consent; that is what counts.")
        held: Any = Personal(evidence) if evidence else None
        return [
            PermissionDeclared(
                purpose=purpose,
                channel=command.channel,
                basis=command.basis,
                evidence=held,
                occurred_at=min(occurred_at, now),
            )
        ]
    evidenced = any(evidence.get(key) for key in HOW_EVIDENCED)
    word: dict[str, Any] = {
        "purpose": purpose,
        "channel": command.channel,
        "method": _method(evidence),
        "evidenced": evidenced,
        "evidence": Personal(evidence) if evidence else None,
    }
    if command.action == "request":
        return [ConsentRequested(**word, occurred_at=min(occurred_at, now))]
    if command.action == "grant":
        effective, reason = grant_effect(
            standing,
            suppressions,
            purpose=purpose,
            channel=command.channel,
            occurred_us=micros(occurred_at),
            recorded_us=micros(now),
            evidenced=evidenced,
            imported=command.imported,
            method=_method(evidence),
        )
        return [
            ConsentGranted(
                **word, effective=effective, reason=reason, imported=command.imported, occurred_at=occurred_at
            )
        ]
    held_word = standing.permissions.get(permission_key(purpose, command.channel))
    said_before = (
        held_word is not None and held_word.status == WITHDRAWN and micros(occurred_at) <= held_word.occurred_at
    )
    if command.campaign is not None and said_before:
        return []
    recall = AuthorisationsRecalled(scope=scopes.purpose_scope(purpose), occurred_at=now)
    if command.action == "refuse":
        return [ConsentRefused(**word, occurred_at=min(occurred_at, now)), recall]
    return [ConsentWithdrawn(**word, campaign=command.campaign, occurred_at=min(occurred_at, now)), recall]


def _last_grant(standing: Standing) -> int:
    return max((p.occurred_at for p in standing.permissions.values() if p.status == GRANTED), default=0)


def _method(evidence: dict[str, str]) -> str | None:
    """How the subject acted, if it is a short code; anything longer stays in the sealed evidence only."""
    method = evidence.get("method", "")
    return method if METHOD_PATTERN.fullmatch(method) else None


def _no(standing: Standing, command: SayNo, now: datetime) -> list[Fact]:
    scope = scopes.checked_scope(command.scope)
    held = [n for n in standing.noes if (n.cause, n.scope) == (command.cause, scope)]
    occurred_at = min(command.occurred_at or now, now)
    # The same report again; a later one through the same campaign may follow a grant that lifted the first.
    repeats = any(n.campaign == command.campaign and micros(occurred_at) <= n.occurred_at for n in held)
    if command.campaign is not None and repeats:
        return []
    if command.campaign is not None and micros(occurred_at) <= _last_grant(standing):
        occurred_at = now  # It came through a message, so it is news; a provider's slow clock must not undo it (I1).
    extra: dict[str, Any] = {"legal": True} if command.cause == "legal" else {}
    no = _NOES[command.cause](scope=scope, campaign=command.campaign, occurred_at=occurred_at, **extra)
    return [no, AuthorisationsRecalled(scope=scope, occurred_at=now)]
