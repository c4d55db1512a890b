"""Subjects: one person in one account, from first contact to erasure.

Facts of this stream are the only place where a "no" of a person is written (DESIGN section 3). `evolve` folds
them into the `Standing` that the permission rules read; `decide_*` are pure and give the facts a command leads to.
Whatever takes a permission away also recalls the open authorisations it covers, by person and scope.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar, Final, Literal

from domain import scope as scopes
from domain import standing as states
from domain.category import ACCOUNT_HOLDER
from domain.facts import BY_TENANT_AND_DAY, Fact, SealedBy, opened
from domain.ids import micros
from domain.permission import GRANT_STANDS_BUT_BLOCKED
from domain.personal import ConsentEvidence, Feed, Identity, Personal, SuppressionData
from domain.standing import No, Permission, Standing, permission_key

Text = Personal[str, Identity]
Evidence = Personal[dict[str, str], ConsentEvidence]


class ContactFact(Fact):
    """What is known of a person."""

    email: Text | None = None
    first_name: Text | None = None
    last_name: Text | None = None
    phone: Text | None = None
    country: Text | None = None
    birth_date: Text | None = None
    source: Text | None = None
    custom: Personal[dict[str, str], Identity] | None = None


class ContactAdded(ContactFact):
    """A person was added to an account."""

    TOPIC: ClassVar[str] = "contact.added.v1"
    email: Text
    category: str = "contact"


class ContactCorrected(ContactFact):
    """What is known of a person was put right (GDPR Art. 16). Absent fields stay as they were."""

    TOPIC: ClassVar[str] = "contact.corrected.v1"


class AccountAssigned(Fact):
    """The person holds an account of the platform; a fact of the operator's own account.

    `account` is its id (hex). It is sealed like a name: two persons who held one account must not lead to each other
    once one of them is forgotten, nor somebody who came back to who they were before (invariant I11).
    """

    TOPIC: ClassVar[str] = "contact.account_assigned.v1"
    account: Text


class ConsentFact(Fact):
    """A word of the subject on one purpose and channel, with the evidence of it (GDPR Art. 7(1))."""

    purpose: str
    channel: str
    method: str | None = None
    evidenced: bool = False
    evidence: Evidence | None = None


class ConsentRequested(ConsentFact):
    """The person was asked, for example by the first mail of a double opt-in."""

    TOPIC: ClassVar[str] = "consent.requested.v1"


class ConsentGranted(ConsentFact):
    """The person agreed. `effective` is False where the grant lifts nothing, and `reason` says why."""

    TOPIC: ClassVar[str] = "consent.granted.v1"
    effective: bool = True
    reason: str | None = None
    imported: bool = False


class ConsentRefused(ConsentFact):
    """The person was asked and said no."""

    TOPIC: ClassVar[str] = "consent.refused.v1"


class ConsentWithdrawn(ConsentFact):
    """The person took a consent back (GDPR Art. 7(3)), through a campaign's link where `campaign` is given."""

    TOPIC: ClassVar[str] = "consent.withdrawn.v1"
    campaign: str | None = None


class PermissionDeclared(Fact):
    """The controller declares that it may mail without consent: a soft opt-in, or consent implied by `basis`."""

    TOPIC: ClassVar[str] = "permission.declared.v1"
    purpose: str
    channel: str
    basis: str
    evidence: Evidence | None = None


class NoFact(Fact):
    """A "no" of one scope, with the campaign it came through, where there is one."""

    CAUSE: ClassVar[scopes.Cause]
    scope: str
    campaign: str | None = None


class ObjectionRaised(NoFact):
    """The person objected to direct marketing (GDPR Art. 21(2)); absolute."""

    TOPIC: ClassVar[str] = "objection.raised.v1"
    CAUSE: ClassVar[scopes.Cause] = "objection"


class ContactComplained(NoFact):
    """The person reported a message as spam."""

    TOPIC: ClassVar[str] = "contact.complained.v1"
    CAUSE: ClassVar[scopes.Cause] = "complaint"


class ContactHardBounced(NoFact):
    """The address does not exist any more."""

    TOPIC: ClassVar[str] = "contact.hard_bounced.v1"
    CAUSE: ClassVar[scopes.Cause] = "hard_bounce"


class ContactUnsubscribed(NoFact):
    """The person left every list, as an import or a mail provider tells it."""

    TOPIC: ClassVar[str] = "contact.unsubscribed.v1"
    CAUSE: ClassVar[scopes.Cause] = "unsubscribed"


class ContactSuppressed(NoFact):
    """Staff decided that this person is not mailed, by hand or because the law says so."""

    TOPIC: ClassVar[str] = "contact.suppressed.v1"
    CAUSE: ClassVar[scopes.Cause] = "manual"
    legal: bool = False


class SuppressionByHandLifted(Fact):
    """Staff took back what staff had imposed; a "no" of the subject is never lifted this way."""

    TOPIC: ClassVar[str] = "contact.suppression_lifted.v1"
    scope: str


class ProcessingRestricted(Fact):
    """Processing is limited to storage (GDPR Art. 18)."""

    TOPIC: ClassVar[str] = "processing.restricted.v1"


class RestrictionLifted(Fact):
    """The restriction ended; the person was told before (GDPR Art. 18(3))."""

    TOPIC: ClassVar[str] = "processing.restriction_lifted.v1"


class AuthorisationsRecalled(Fact):
    """Every open authorisation of this person that the scope covers is taken back."""

    TOPIC: ClassVar[str] = "authorisations.recalled.v1"
    scope: str


ERASURE_REASONS: frozenset[str] = frozenset(
    {
        "subject_request",
        "no_longer_needed",
        "consent_withdrawn",
        "objection",
        "unlawful_processing",
        "legal_obligation",
        "child",
        "deleted_by_controller",
        "other",
    }
)
"""Why a person is erased: the grounds of GDPR Art. 17(1), a deletion by the controller, or other."""


ACCOUNT_CLOSURE: Final = "account_closure"
"""Why the holder of an account that ended is forgotten. Nobody can give it as a reason: it follows from a plan."""


def erasure_reason(given: str) -> str:
    """The code of a reason given in words; `other` for any that has none.

    What was typed is not kept: it would be a plain text about a person who is being forgotten.
    """
    code = given.strip().lower().replace(" ", "_").replace("-", "_")
    return code if code in ERASURE_REASONS else "other"


KEPT_CAUSES: frozenset[str] = frozenset({"legal", "manual", "hard_bounce"})


class ErasureIntended(Fact):
    """The person is to be forgotten; from this commit on nothing seals or opens for them.

    `fingerprints`, and the noes to be kept with them, are sealed under the key of the day, which dies once the
    suppression list has them.
    """

    TOPIC: ClassVar[str] = "erasure.intended.v1"
    SEALED_BY: ClassVar[Mapping[str, SealedBy]] = {
        SuppressionData.name: BY_TENANT_AND_DAY,
        Feed.name: BY_TENANT_AND_DAY,
    }
    reason: str
    fingerprints: Personal[tuple[str, ...], SuppressionData]
    kept: Personal[tuple[str, ...], SuppressionData] | None = None
    address: Personal[str, Feed] | None = None

    @property
    def suppresses(self) -> bool:
        """Whether the address must not be mailed from here on. An account holder's ended by itself, without a no."""
        return self.reason != ACCOUNT_CLOSURE

    def entries(self) -> list[tuple[str, str, str]]:
        """What the suppression list must say: fingerprint (hex), scope and cause; none once the key is gone."""
        erased = [(scopes.ALL, "erased")] if self.suppresses else []
        noes = [*erased, *(tuple(no.split(" ", 1)) for no in opened(self.kept) or ())]
        return [(fingerprint, scope, cause) for fingerprint in opened(self.fingerprints) or () for scope, cause in noes]


def noes_kept(standing: Standing, reason: str) -> tuple[str, ...]:
    """The noes that outlive a person, as "scope cause": those that no later act of theirs could lift (I7).

    Where the erasure itself suppresses nothing, every no of theirs has to outlive it.
    """
    if reason != ACCOUNT_CLOSURE:
        return tuple(f"{no.scope} {no.cause}" for no in standing.noes if no.cause in KEPT_CAUSES)
    withdrawn = [
        f"{scopes.purpose_scope(key.partition('|')[0])} withdrawal"
        for key, word in standing.permissions.items()
        if word.status in (states.WITHDRAWN, states.REFUSED)
    ]
    return tuple(dict.fromkeys([*(f"{no.scope} {no.cause}" for no in standing.noes), *withdrawn]))


class ErasurePostponed(Fact):
    """The person is to be forgotten once no legal hold speaks of them any more (GDPR Art. 17(3)(e)).

    Until then processing is restricted to storage. Which hold it is stands nowhere in the person's stream.
    """

    TOPIC: ClassVar[str] = "erasure.postponed.v1"
    reason: str


class KeysDestroyed(Fact):
    """The person's keys are gone and opening was seen to fail. `keys` counts what was destroyed."""

    TOPIC: ClassVar[str] = "keys.destroyed.v1"
    keys: int
    classes: tuple[str, ...]


Action = Literal["request", "grant", "refuse", "withdraw"]

_STATUS: dict[type[Fact], str] = {
    ConsentRequested: states.REQUESTED,
    ConsentGranted: states.GRANTED,
    ConsentRefused: states.REFUSED,
    ConsentWithdrawn: states.WITHDRAWN,
}


def evolve(standing: Standing | None, fact: Fact, position: int) -> Standing:
    """The standing after one more fact, which stands at `position` of the tenant's log: a new value."""
    after = (standing or Standing()).copy()
    after.version = fact.originator_version
    if isinstance(fact, ConsentFact):
        _take_consent(after, fact, position)
    elif isinstance(fact, NoFact):
        _take_no(after, fact, position)
    elif isinstance(fact, AuthorisationsRecalled):
        after.recalls = after.recalls | {fact.scope: [position, micros(fact.occurred_at)]}
    elif isinstance(fact, ContactAdded):
        after.category, after.added_at = fact.category, micros(fact.occurred_at)
        after.country, after.birth_date = opened(fact.country), opened(fact.birth_date)
    elif isinstance(fact, ContactCorrected):
        after.country = opened(fact.country) or after.country
        after.birth_date = opened(fact.birth_date) or after.birth_date
    elif isinstance(fact, AccountAssigned):
        account = opened(fact.account)
        after.category = ACCOUNT_HOLDER
        after.accounts = (*after.accounts, account) if account and account not in after.accounts else after.accounts
    elif isinstance(fact, PermissionDeclared):
        _take_declared(after, fact, position)
    elif isinstance(fact, SuppressionByHandLifted):
        after.noes = tuple(n for n in after.noes if (n.cause, n.scope) != ("manual", fact.scope))
    elif isinstance(fact, ProcessingRestricted):
        after.restricted_position = position
    elif isinstance(fact, RestrictionLifted):
        after.restricted_position = None
    elif isinstance(fact, ErasurePostponed):
        after.postponed = True
    elif isinstance(fact, ErasureIntended):
        after.erasing = True
    return after


def fold(standing: Standing | None, facts: Iterable[Fact]) -> Standing | None:
    """The standing after a run of facts read from the log: the projector that eventsourcing's Repository takes."""
    for fact in facts:
        standing = evolve(standing, fact, fact.position or 0)
    return standing


def recalled_position(standing: Standing, purpose: str) -> int:
    """The last position at which authorisations for this purpose were recalled, or 0."""
    return max((r[0] for scope, r in standing.recalls.items() if scopes.covers(scope, purpose)), default=0)


def recalled_at(standing: Standing, purpose: str) -> int:
    """When authorisations for this purpose were last recalled, in microseconds since 1970, or 0."""
    return max((r[1] for scope, r in standing.recalls.items() if scopes.covers(scope, purpose)), default=0)


def _take_consent(after: Standing, fact: ConsentFact, position: int) -> None:
    key = permission_key(fact.purpose, fact.channel)
    held = after.permissions.get(key)
    if isinstance(fact, ConsentGranted) and not (fact.effective or fact.reason in GRANT_STANDS_BUT_BLOCKED):
        return
    if isinstance(fact, ConsentRequested) and held is not None:
        return
    status = _STATUS[type(fact)]
    imported = isinstance(fact, ConsentGranted) and fact.imported
    moment = micros(fact.occurred_at)
    if held is not None and status != states.GRANTED and held.status in (states.REFUSED, states.WITHDRAWN):
        # A "no" that arrives late does not make an earlier-recorded one older: a grant must be later than both.
        moment = max(moment, held.occurred_at)
    word = Permission(status, states.CONSENT, moment, position, fact.evidenced, fact.method, imported)
    after.permissions = after.permissions | {key: word}


def _take_declared(after: Standing, fact: PermissionDeclared, position: int) -> None:
    """A declaration by the controller never stands in place of a word of the subject."""
    key = permission_key(fact.purpose, fact.channel)
    if may_declare(after.permissions.get(key)):
        word = Permission(states.GRANTED, fact.basis, micros(fact.occurred_at), position)
        after.permissions = after.permissions | {key: word}


def may_declare(held: Permission | None) -> bool:
    """Whether a controller may declare a permission where this is what the subject said so far."""
    return held is None or held.status == states.REQUESTED or held.basis != states.CONSENT


def _take_no(after: Standing, fact: NoFact, position: int) -> None:
    cause = "legal" if isinstance(fact, ContactSuppressed) and fact.legal else fact.CAUSE
    said_at, kept = micros(fact.occurred_at), []
    for no in after.noes:
        if (no.cause, no.scope) == (cause, fact.scope):
            said_at = max(said_at, no.occurred_at)
        else:
            kept.append(no)
    after.noes = (*kept, No(cause, fact.scope, said_at, position, fact.campaign))
