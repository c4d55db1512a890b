"""May this be sent to this person? One pure function over what is known, the law of the day, and the time.

`decide` reads the standing of a subject, the suppression entries of the address, the terms of the send, and
the rules in force. It answers allow or refuse, names the rule that decided (`RULES`), the basis (`BASES`) and
the position of the evidence. Strictest wins: the first refusal in the order of `_PRECEDENCE` decides; then
permission is looked for, and both the sender's and the recipient's regime must accept it (GDPR Art. 6, 7, 8,
18, 21; ePrivacy Directive Art. 13). `grant_effect` tells whether a consent that is about to be recorded can
be relied on (DESIGN section 8, I7).

`decide` is called for every recipient of every campaign: decisions without a position are made once, and a
person with nothing against them passes without a loop. Times are microseconds since 1970 (UTC).
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Final

from domain.law import RuleSet
from domain.scope import (
    ALL,
    CAUSES_LIFTED_BY_A_LATER_GRANT,
    MARKETING,
    checked_purpose,
    covers,
    is_transactional,
    purpose_scope,
)
from domain.standing import (
    CONSENT,
    GRANTED,
    IMPLIED_INQUIRY,
    IMPLIED_PURCHASE,
    REFUSED,
    REQUESTED,
    SOFT_OPT_IN,
    WITHDRAWN,
    No,
    Permission,
    Standing,
    Suppression,
    permission_key,
)

RULES: Final[dict[str, str]] = {
    "unknown_recipient": "Nothing is known of this address.",
    "superseded_address": "The person has another address since; this one is not mailed any more.",
    "already_sent": "This message was dispatched to this person before.",
    "link_expired": "What this campaign may have sent the person can no longer be looked up, so nothing is sent.",
    "account_terminated": "The account has ended, so nothing is sent for it any more.",
    "erased": "The person asked to be forgotten, and has not come back since.",
    "restricted": "Processing is restricted to storage (GDPR Art. 18).",
    "legal": "The law or a court forbids mailing this address.",
    "hard_bounce": "The address does not exist, and no later double opt-in has shown that it does.",
    "manual": "Staff suppressed the address by hand, or for a cause that this version does not know.",
    "underage": "The person is younger than the law or the policy asks for.",
    "complaint": "The person reported a message as spam.",
    "objection": "The person objected to direct marketing (GDPR Art. 21(2) and (3)).",
    "unsubscribed": "The person unsubscribed.",
    "withdrawn": "The person withdrew consent (GDPR Art. 7(3)).",
    "refused": "The person was asked for consent and said no.",
    "implied_expired": "The implied consent is older than the sender's or the recipient's law accepts.",
    "permission_not_accepted": "A permission was declared that one of the two regimes does not accept.",
    "consent_not_confirmed": "Consent was asked for and has not been given yet.",
    "no_consent": "The law asks for a permission, and there is none.",
    "contract": "A service message that the person's contract or request needs.",
    "consent": "The person consented to this purpose on this channel.",
    "soft_opt_in": "An existing customer, mailed about the sender's own similar products.",
    "implied_purchase": "Consent implied by a purchase or contract, still within its time.",
    "implied_inquiry": "Consent implied by an inquiry, still within its time.",
    "opt_out_regime": "Neither the sender's nor the recipient's law asks for a prior permission.",
}
"""Every rule that a refusal or an allowance can name, with what it means. Events store them: they never change.

`superseded_address`, `already_sent`, `link_expired` and `account_terminated` are found by whoever looks recipients,
messages and the account up; `decide` gives the rest.
"""

ALREADY_SENT: Final = "already_sent"
LINK_EXPIRED: Final = "link_expired"

ALLOWING_RULES: Final[frozenset[str]] = frozenset(
    {"contract", "consent", "soft_opt_in", "implied_purchase", "implied_inquiry", "opt_out_regime"}
)

CONTRACT: Final = "contract"
OPT_OUT_REGIME: Final = "opt-out-regime"

BASES: Final[dict[str, str]] = {
    CONSENT: "GDPR Art. 6(1)(a); ePrivacy Directive Art. 13(1)",
    SOFT_OPT_IN: "GDPR Art. 6(1)(f); ePrivacy Directive Art. 13(2)",
    IMPLIED_PURCHASE: "GDPR Art. 6(1)(f); CASL s. 10(9)(a) and 10(10)(a) to (d)",
    IMPLIED_INQUIRY: "GDPR Art. 6(1)(f); CASL s. 10(9)(a) and 10(10)(e)",
    OPT_OUT_REGIME: "No prior permission needed; CAN-SPAM Act, 15 U.S.C. 7704(a)",
    CONTRACT: "GDPR Art. 6(1)(b); not direct marketing under ePrivacy Directive Art. 13",
}
"""Every name that `Decision.basis` can have: the lawful basis, and separately the permission to mail."""

GRANT_REASONS: Final[dict[str, str]] = {
    "in_the_future": "The grant is dated later than it was recorded.",
    "erasing": "The person is being forgotten; nothing new can be held of them.",
    "import_never_lifts": "There is a no, and an import never lifts one.",
    "not_evidenced": "There is a no, and the record does not say how and when the subject acted.",
    "not_later_than_withdrawal": "The grant is not later than the withdrawal of consent.",
    "not_later_than_refusal": "The grant is not later than the refusal of consent.",
    "not_later_than_objection": "The grant is not later than the objection.",
    "not_later_than_complaint": "The grant is not later than the complaint.",
    "not_later_than_unsubscribe": "The grant is not later than the unsubscribe.",
    "not_later_than_erasure": "The grant is not later than the erasure.",
    "hard_bounced": "The address does not exist, and only a later double opt-in shows that it does.",
    "suppressed_legal": "The grant stands, but a legal suppression is not the subject's to lift.",
    "suppressed_manual": "The grant stands, but what staff imposed is not the subject's to lift.",
    "restricted": "The grant stands, but processing is restricted until the restriction is lifted.",
}
"""Every reason that `grant_effect` can give, in the order in which they are given."""

GRANT_STANDS_BUT_BLOCKED: Final[frozenset[str]] = frozenset({"suppressed_legal", "suppressed_manual", "restricted"})
"""The subject's word counts, and sends stay refused for another cause until that cause is gone."""

DOUBLE_OPT_IN: Final = "double_opt_in"
IMPORT: Final = "import"

SIGN_UP_SKEW_US: Final = 3_600_000_000
"""A form may be filled in up to an hour before its contact is added, in microseconds."""

_PRECEDENCE: Final = (
    "erased",
    "restricted",
    "legal",
    "hard_bounce",
    "manual",
    "underage",
    "complaint",
    "objection",
    "unsubscribed",
    "withdrawn",
)
_RANK: Final[dict[str, int]] = {
    "erased": 0,
    "restriction": 1,
    "legal": 2,
    "hard_bounce": 3,
    "manual": 4,
    "complaint": 6,
    "objection": 7,
    "unsubscribed": 8,
    "withdrawal": 9,
}
_RESTRICTED: Final = 1
_MANUAL: Final = 4
_UNDERAGE: Final = 5
_NOTHING: Final = len(_PRECEDENCE)

_TAKEN_AWAY: Final = frozenset({WITHDRAWN, REFUSED})
_LIFTED_BY_A_LATER_GRANT: Final = CAUSES_LIFTED_BY_A_LATER_GRANT | {"withdrawal"}
_NOT_LATER: Final[dict[str, str]] = {
    "objection": "not_later_than_objection",
    "complaint": "not_later_than_complaint",
    "unsubscribed": "not_later_than_unsubscribe",
    "erased": "not_later_than_erasure",
    "withdrawal": "not_later_than_withdrawal",
    REFUSED: "not_later_than_refusal",
}
_ANSWERED: Final = frozenset(_NOT_LATER) | {"hard_bounce"}
_BLOCKED: Final[dict[str, str]] = {"legal": "suppressed_legal", "restriction": "restricted"}
_DECLARED_RULES: Final[dict[str, str]] = {
    SOFT_OPT_IN: "soft_opt_in",
    IMPLIED_PURCHASE: "implied_purchase",
    IMPLIED_INQUIRY: "implied_inquiry",
}

_NEVER_US: Final = -(1 << 62)
_DAY_US: Final = 86_400_000_000
_EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()
_CUTOFFS_CACHED_MAX: Final = 1024  # Ages (about ten) times the days that one process decides or replays.
_SPANS_CACHED_MAX: Final = 8192  # Days on which somebody bought or asked: two regimes times eleven years.


@dataclass(slots=True)
class Decision:
    """Whether a send is allowed, and why.

    `basis` is a key of `BASES` where it is allowed. `evidence_position` is where the log holds the fact that
    decided, if one did. `valid_until_us` is the first moment at which an implied
    consent that allows no longer holds.
    """

    allowed: bool
    rule: str
    basis: str | None = None
    evidence_position: int | None = None
    valid_until_us: int | None = None


@dataclass(frozen=True, slots=True)
class SendTerms:
    """What is to be sent, with what `decide` needs of it worked out once per campaign. Make it with `of`."""

    purpose: str
    channel: str
    sender_country: str | None
    minimum_age: int
    transactional: bool
    permission_key: str
    channel_suffix: str
    covering: frozenset[str]

    @staticmethod
    def of(purpose: str, channel: str, sender_country: str | None = None, minimum_age: int = 0) -> SendTerms:
        """The terms of a campaign. `minimum_age` is the policy's, in years. Raises `InvalidScope`."""
        scopes = (ALL, MARKETING, purpose_scope(checked_purpose(purpose)))
        return SendTerms(
            purpose=purpose,
            channel=channel,
            sender_country=sender_country,
            minimum_age=minimum_age,
            transactional=is_transactional(purpose),
            permission_key=permission_key(purpose, channel),
            channel_suffix=permission_key("", channel),
            covering=frozenset(scope for scope in scopes if covers(scope, purpose)),
        )


UNKNOWN: Final = Decision(False, "unknown_recipient")
SUPERSEDED: Final = Decision(False, "superseded_address")
TERMINATED: Final = Decision(False, "account_terminated")

_STRANGER: Final = Standing()
_NO_CONSENT: Final = Decision(False, "no_consent")
_BY_CONTRACT: Final = Decision(True, "contract", CONTRACT)
_BY_OPT_OUT_REGIME: Final = Decision(True, "opt_out_regime", OPT_OUT_REGIME)
_REFUSALS: Final = tuple(Decision(False, rule) for rule in _PRECEDENCE)


def decide(
    standing: Standing | None,
    suppressions: Sequence[Suppression],
    terms: SendTerms,
    rules: RuleSet,
    now_us: int,
) -> Decision:
    """Whether one message on these terms may be sent to one person now.

    `standing` is None for an address without a subject; `suppressions` are the entries of the list for every
    fingerprint of the address. `now_us` is never earlier than the last event of the log (`recorded_at`).
    """
    if standing is None:
        refusal = _refusal(_STRANGER, suppressions, terms, now_us=now_us, underage=False)
        return refusal or UNKNOWN
    permission = standing.permissions.get(terms.permission_key)
    birth_date = standing.birth_date
    underage = birth_date is not None and birth_date > _latest_birth_date(
        _age_needed(standing, permission, terms, rules), now_us // _DAY_US
    )
    if underage or standing.noes or suppressions or standing.erasing or standing.restricted_position is not None:
        refusal = _refusal(standing, suppressions, terms, now_us=now_us, underage=underage)
        if refusal is not None:
            return refusal
    if permission is not None:
        status = permission.status
        if status in _TAKEN_AWAY:
            return Decision(False, status, None, permission.position)
        if terms.transactional:
            return _BY_CONTRACT
        if status == GRANTED and permission.occurred_at <= now_us:
            if permission.basis == CONSENT:
                return Decision(True, "consent", CONSENT, permission.position)
            return _declared(permission, standing.country, terms.sender_country, rules, now_us)
    elif terms.transactional:
        return _BY_CONTRACT
    if rules.regime_of(standing.country).opt_out and rules.regime_of(terms.sender_country).opt_out:
        return _BY_OPT_OUT_REGIME
    if permission is not None and permission.status == REQUESTED:
        return Decision(False, "consent_not_confirmed", None, permission.position)
    return _NO_CONSENT


def grant_effect(
    standing: Standing | None,
    suppressions: Sequence[Suppression],
    *,
    purpose: str,
    channel: str,
    occurred_us: int,
    recorded_us: int,
    evidenced: bool,
    imported: bool,
    method: str | None,
) -> tuple[bool, str | None]:
    """Whether a grant that is about to be recorded can be relied on, and a key of `GRANT_REASONS` if not.

    A grant meets every no that covers its purpose. It lifts the subject's own if it is evidenced, strictly
    later and no import; the rest it cannot lift. What leaves the grant without force is answered before what
    only blocks it (`GRANT_STANDS_BUT_BLOCKED`). Without any no it is effective, if it is not in the future.
    """
    if occurred_us > recorded_us:
        return False, "in_the_future"
    imported = imported or method == IMPORT
    before = standing or _STRANGER
    if before.erasing:
        return False, "erasing"
    obstacles = tuple(_obstacles(before, suppressions, purpose, channel))
    if any(cause in _NOT_LATER for cause, _ in obstacles):
        if imported:
            return False, "import_never_lifts"
        if not evidenced:
            return False, "not_evidenced"
        for cause, said_at_us in obstacles:
            if cause in _NOT_LATER and said_at_us >= occurred_us:
                return False, _NOT_LATER[cause]
    confirms = evidenced and not imported and method == DOUBLE_OPT_IN
    alive_us = max(_alive_us(before, purpose, channel, recorded_us), occurred_us if confirms else _NEVER_US)
    if any(cause == "hard_bounce" and said_at_us >= alive_us for cause, said_at_us in obstacles):
        return False, "import_never_lifts" if imported else "hard_bounced"
    reasons = {_BLOCKED.get(cause, "suppressed_manual") for cause, _ in obstacles if cause not in _ANSWERED}
    if before.restricted_position is not None:
        reasons.add("restricted")
    blocked = next((reason for reason in GRANT_REASONS if reason in reasons), None)
    return blocked is None, blocked


def _alive_us(standing: Standing, purpose: str, channel: str, now_us: int) -> int:
    """When a double opt-in for another purpose last showed that the address of this channel lives.

    The grant of the same purpose does not count, because the new one takes its place.
    """
    own, suffix = permission_key(purpose, channel), permission_key("", channel)
    return max(
        (
            grant.occurred_at
            for key, grant in standing.permissions.items()
            if key != own
            and key.endswith(suffix)
            and grant.method == DOUBLE_OPT_IN
            and _lifts(grant, _NEVER_US, now_us)
        ),
        default=_NEVER_US,
    )


def _obstacles(
    standing: Standing, suppressions: Iterable[Suppression], purpose: str, channel: str
) -> Iterator[tuple[str, int]]:
    """Every no that speaks about this purpose, as its cause and the time it was said."""
    held = standing.permissions.get(permission_key(purpose, channel))
    if held is not None and held.status == WITHDRAWN:
        yield "withdrawal", held.occurred_at
    if held is not None and held.status == REFUSED:
        yield REFUSED, held.occurred_at
    for no in standing.noes:
        if covers(no.scope, purpose):
            yield no.cause, no.occurred_at
    for entry in suppressions:
        if covers(entry.scope, purpose):
            yield entry.cause, _said_at_us(entry, standing)


def _refusal(
    standing: Standing, suppressions: Sequence[Suppression], terms: SendTerms, *, now_us: int, underage: bool
) -> Decision | None:
    """The gravest no that stands, or None. Among equals the subject's own stream names its position."""
    if standing.erasing:
        return _REFUSALS[0]
    gravest, position = _UNDERAGE if underage else _NOTHING, None
    if standing.restricted_position is not None:
        gravest, position = _RESTRICTED, standing.restricted_position
    covering = terms.covering
    for no in standing.noes:
        if no.scope in covering:
            rank = _RANK.get(no.cause, _MANUAL)
            if rank < gravest and not _is_lifted(no, no.occurred_at, standing, terms, now_us):
                gravest, position = rank, no.position
    for entry in suppressions:
        if entry.scope in covering:
            rank = _RANK.get(entry.cause, _MANUAL)
            if rank < gravest and not _is_lifted(entry, _said_at_us(entry, standing), standing, terms, now_us):
                gravest, position = rank, None
    if gravest == _NOTHING:
        return None
    return _REFUSALS[gravest] if position is None else Decision(False, _PRECEDENCE[gravest], None, position)


def _said_at_us(entry: Suppression, standing: Standing) -> int:
    """When an entry of the list was said, at the latest.

    An erasure's entry keeps its month only; who came back was added again after it, so nothing from before counts.
    """
    if entry.cause != "erased":
        return entry.since
    return max(entry.since, standing.added_at - SIGN_UP_SKEW_US)


def _is_lifted(no: No | Suppression, said_at_us: int, standing: Standing, terms: SendTerms, now_us: int) -> bool:
    """Whether a later and evidenced act of the subject overrides a no for these terms (I7)."""
    cause = no.cause
    if cause in _LIFTED_BY_A_LATER_GRANT:
        grant = standing.permissions.get(terms.permission_key)
        if grant is not None and _lifts(grant, said_at_us, now_us):
            return True
        # Who came back after an erasure gets service messages again, whatever purpose the consent was for.
        comes_back = cause == "erased" and no.scope == ALL and terms.transactional
        return comes_back and _any_lifts(standing, terms, said_at_us, now_us, None)
    # The confirmation of a double opt-in arrived at the address, for whatever purpose, so the address lives.
    return cause == "hard_bounce" and _any_lifts(standing, terms, said_at_us, now_us, DOUBLE_OPT_IN)


def _lifts(grant: Permission, said_at_us: int, now_us: int) -> bool:
    return (
        grant.evidenced
        and said_at_us < grant.occurred_at <= now_us
        and grant.status == GRANTED
        and grant.basis == CONSENT
        and not grant.imported
        and grant.method != IMPORT
    )


def _any_lifts(standing: Standing, terms: SendTerms, said_at_us: int, now_us: int, method: str | None) -> bool:
    for key, grant in standing.permissions.items():
        if (
            (method is None or grant.method == method)
            and _lifts(grant, said_at_us, now_us)
            and key.endswith(terms.channel_suffix)
        ):
            return True
    return False


def _age_needed(standing: Standing, permission: Permission | None, terms: SendTerms, rules: RuleSet) -> int:
    """The age in years that the policy asks for, or the law where consent is the basis; the higher one."""
    if permission is None or permission.basis != CONSENT or terms.transactional:
        return terms.minimum_age
    return max(terms.minimum_age, rules.age_of_consent(standing.country))


@lru_cache(maxsize=_CUTOFFS_CACHED_MAX)
def _latest_birth_date(age: int, day: int) -> str:
    """The last day (ISO 8601) on which somebody of this age can be born, `day` days after 1970-01-01.

    ISO dates compare like the days they name. Who is born on 29 February comes of age on 1 March of a common
    year; on a 29 February the answer may be a day that its year did not have, which still compares rightly.
    """
    today = date.fromordinal(_EPOCH_ORDINAL + day)
    return f"{today.year - age:04d}-{today.month:02d}-{today.day:02d}"


def _declared(
    permission: Permission, country: str | None, sender_country: str | None, rules: RuleSet, now_us: int
) -> Decision:
    """What a declared permission is worth: both regimes must accept it, and the shorter time counts."""
    theirs, ours = rules.regime_of(country), rules.regime_of(sender_country)
    basis = permission.basis
    months, our_months = theirs.permits.get(basis), ours.permits.get(basis)
    if months is None or our_months is None:
        refusal = "permission_not_accepted"
    else:
        if not months or 0 < our_months < months:
            months = our_months
        valid_until_us = _months_later(permission.occurred_at, months) if months else None
        if valid_until_us is None or now_us < valid_until_us:
            return Decision(True, _DECLARED_RULES[basis], basis, permission.position, valid_until_us)
        refusal = "implied_expired"
    if theirs.opt_out and ours.opt_out:
        return _BY_OPT_OUT_REGIME
    return Decision(False, refusal, None, permission.position)


def _months_later(moment_us: int, months: int) -> int:
    """The same time of day so many calendar months later; on the month's last day if it has no such day."""
    return moment_us + _span_us(moment_us // _DAY_US, months)


@lru_cache(maxsize=_SPANS_CACHED_MAX)
def _span_us(day: int, months: int) -> int:
    start = date.fromordinal(_EPOCH_ORDINAL + day)
    years, month = divmod(start.month - 1 + months, 12)
    year, month = start.year + years, month + 1
    end = date(year, month, min(start.day, monthrange(year, month)[1]))
    return (end - start).days * _DAY_US
