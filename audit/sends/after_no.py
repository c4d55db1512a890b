"""No send after a "no", checked over a whole log from outside the code that wrote it (invariant I1).

`check_no_send_after_no` uses the living keys to find whose each message was, and holds every authorisation against
what its person had said before it. The rule is written here a second time, on purpose and more simply than in
`domain/permission.py`: the last covering word decides, and only a later, evidenced and effective grant takes a "no"
back (I7). Messages of erased persons cannot be found any more, by design (I11): who wants them checked remembers
their `StandingRow` from before and gives it as `also`. Whether the log itself is whole is told by `audit/fsck`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from uuid import UUID

from audit.asof.past_sends import campaigns_of, living, past_decisions
from domain import subject as subjects
from domain.campaign import Campaign
from domain.facts import Fact, opened
from domain.scope import covers, is_transactional, purpose_scope
from domain.suppression import SuppressionImposed, SuppressionLifted
from ledger.application import Ledger
from ledger.standing_row import StandingRow

ROWS_PER_PAGE = 2_000
FINDINGS_MAX = 1_000
"""A log with more findings than this is broken; the rest would say nothing new."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: where in the log, by which rule, and in words. Position 0 speaks of the whole log."""

    position: int
    rule: str
    text: str


def check_no_send_after_no(ledger: Ledger, *, also: Iterable[StandingRow] = ()) -> list[Finding]:
    """Every authorisation that stands behind a covering "no" of its person which nothing had lifted; empty if none.

    Looks at all living subjects of the account, page by page, and at `also`.
    """
    generation, campaigns = campaigns_of(ledger)
    imposed = _imposed(ledger)
    findings: list[Finding] = []
    for page in chain([list(also)], living(ledger, generation)):
        for row, decisions in past_decisions(ledger, campaigns, page):
            sends = [(decision.position, campaigns[decision.campaign]) for decision in decisions if decision.allowed]
            if not sends:
                continue
            said = _said(ledger, row, imposed)
            for position, campaign in sends:
                no = _standing_no(said, campaign, position)
                if no is not None:
                    findings.append(
                        Finding(
                            position,
                            "send_after_no",
                            f"Authorised although {no.what} (scope {no.scope}) was recorded at {no.position}.",
                        )
                    )
                if len(findings) >= FINDINGS_MAX:
                    return findings
    return findings


@dataclass(frozen=True, slots=True)
class _Word:
    """One thing said about a person: a "no" with its scope, or what takes one back."""

    position: int
    occurred_at: datetime
    what: str
    scope: str
    channel: str | None = None
    evidenced: bool = False
    confirmed: bool = False

    @property
    def is_no(self) -> bool:
        return self.what not in _TAKES_BACK


_TAKES_BACK = ("grant", "hand_lifted", "restriction_lifted")
_SUBJECTS_OWN = ("objection", "complaint", "unsubscribed")
_WORDS = ("withdrawal", "refusal")
_BLOCKED_ONLY = ("suppressed_manual", "suppressed_legal", "restricted")


def _standing_no(said: Sequence[_Word], campaign: Campaign, send_position: int) -> _Word | None:
    """The "no" that stood when a send was authorised, if one did."""
    before = [word for word in said if word.position < send_position]
    for no in before:
        speaks = no.is_no and covers(no.scope, campaign.purpose) and no.channel in (None, campaign.channel)
        if speaks and not any(_lifts(word, no, before, campaign) for word in before):
            return no
    return None


def _lifts(word: _Word, no: _Word, before: Sequence[_Word], campaign: Campaign) -> bool:
    """Whether one word takes a "no" back for sends of this campaign."""
    own = purpose_scope(campaign.purpose)
    if no.what == "restriction":
        return word.what == "restriction_lifted" and word.position > no.position
    if no.what == "manual":
        return word.what == "hand_lifted" and word.scope == no.scope and word.position > no.position
    if word.what != "grant" or word.channel != campaign.channel or not word.evidenced:
        return False
    if no.what in _WORDS:
        return word.scope == own and word.position > no.position and word.occurred_at > no.occurred_at
    if word.occurred_at <= no.occurred_at or _taken_back(word, before):
        return False
    if no.what == "hard_bounce":
        return word.confirmed
    if no.what == "erased":  # Who came back after an erasure gets service messages again, whatever they agreed to.
        return word.position > no.position and (word.scope == own or is_transactional(campaign.purpose))
    return no.what in _SUBJECTS_OWN and word.scope == own


def _taken_back(grant: _Word, before: Sequence[_Word]) -> bool:
    return any(
        word.what in _WORDS
        and (word.scope, word.channel) == (grant.scope, grant.channel)
        and word.position > grant.position
        for word in before
    )


def _said(ledger: Ledger, row: StandingRow, imposed: dict[bytes, list[_Word]]) -> list[_Word]:
    """What was said about a person, in order of position: their own stream, and the list by their address."""
    words = [word for stored in _stream(ledger, row) if (word := _word(stored)) is not None]
    return sorted([*words, *imposed.get(row.fingerprint, ())], key=lambda word: word.position)


def _stream(ledger: Ledger, row: StandingRow) -> list[Fact]:
    events = ledger.log.select_streams([UUID(bytes=row.person.subject)])
    return [ledger.sealing.open(event, personal=False) for event in events]


_CONSENT_WORDS: dict[type[Fact], str] = {
    subjects.ConsentWithdrawn: "withdrawal",
    subjects.ConsentRefused: "refusal",
}
_NOES: dict[type[Fact], str] = {
    subjects.ObjectionRaised: "objection",
    subjects.ContactComplained: "complaint",
    subjects.ContactHardBounced: "hard_bounce",
    subjects.ContactUnsubscribed: "unsubscribed",
}


def _word(fact: Fact) -> _Word | None:
    position, when = fact.position or 0, fact.occurred_at
    if isinstance(fact, subjects.ConsentGranted):
        # An ineffective grant lifts nothing; one that only staff's "no" blocks is the subject's word all the same.
        if fact.imported or not (fact.effective or fact.reason in _BLOCKED_ONLY):
            return None
        scope, confirmed = purpose_scope(fact.purpose), fact.method == "double_opt_in"
        return _Word(position, when, "grant", scope, fact.channel, fact.evidenced, confirmed)
    if type(fact) in _CONSENT_WORDS:
        assert isinstance(fact, subjects.ConsentFact)
        return _Word(position, when, _CONSENT_WORDS[type(fact)], purpose_scope(fact.purpose), fact.channel)
    if isinstance(fact, subjects.ContactSuppressed):
        return _Word(position, when, "legal" if fact.legal else "manual", fact.scope)
    if isinstance(fact, subjects.NoFact):
        return _Word(position, when, _NOES[type(fact)], fact.scope)
    if isinstance(fact, subjects.SuppressionByHandLifted):
        return _Word(position, when, "hand_lifted", fact.scope)
    if isinstance(fact, subjects.ProcessingRestricted):
        return _Word(position, when, "restriction", "all")
    if isinstance(fact, subjects.RestrictionLifted):
        return _Word(position, when, "restriction_lifted", "all")
    if isinstance(fact, subjects.ErasureIntended):
        return _Word(position, when, "erasure", "all")
    return None


def _imposed(ledger: Ledger) -> dict[bytes, list[_Word]]:
    """The suppression list as the log tells it, by fingerprint, as far as its keys live."""
    topics = (SuppressionImposed.TOPIC, SuppressionLifted.TOPIC)
    found: dict[bytes, list[_Word]] = {}
    position = 0
    while True:
        page = ledger.log.select_log(position, ROWS_PER_PAGE, topics=topics, inclusive_of_start=False)
        for event in page:
            fact = ledger.sealing.open(event)
            assert isinstance(fact, SuppressionImposed | SuppressionLifted)
            what = fact.reason if isinstance(fact, SuppressionImposed) else "hand_lifted"
            # The list keeps days, so the day's beginning is the earliest the "no" can have been said.
            word = _Word(fact.position or 0, _list_time(fact), what, fact.scope)
            for fingerprint in opened(fact.fingerprints) or ():
                found.setdefault(bytes.fromhex(fingerprint), []).append(word)
        if len(page) < ROWS_PER_PAGE:
            return found
        position = page[-1].position or 0


def _list_time(fact: SuppressionImposed | SuppressionLifted) -> datetime:
    if isinstance(fact, SuppressionLifted):
        return fact.occurred_at
    since = fact.since if len(fact.since) > len("2026-11") else f"{fact.since}-01"
    return datetime.fromisoformat(since).replace(tzinfo=UTC)
