"""Past sends decided again under other rules: the list a company needs after it found a rule to be wrong.

Each decision is made again from what the log held right before it: the person's stream, the suppression list, the
terms of the account. First under the rules that it names, which must give the same answer: that shows that the past
was put together rightly, and where it is not so the row says it. Then under the other rules. Nothing is recorded in
place of what was decided; withdrawal and new rules never reach back (GDPR Art. 7(3)).

Only living persons' messages are found (`audit.asof.past_sends`). How many decisions were left out is counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from audit.asof.decision import RulesOn, account_facts, minimum_age
from audit.asof.past_sends import PastDecision, campaigns_of, living, past_decisions
from audit.asof.standing import address_in
from audit.asof.suppressions import SuppressionHistory, read_suppressions
from domain import account as accounts
from domain.account import Account
from domain.campaign import Campaign
from domain.facts import Fact, opened
from domain.ids import micros
from domain.law import LawError, RuleSet, rules_named
from domain.message import SendAuthorised, SendRefused
from domain.permission import ALREADY_SENT, LINK_EXPIRED, Decision, SendTerms, decide
from domain.personal import Erased, Identity, Personal, Unopened
from domain.standing import Standing, Suppression
from domain.subject import AccountAssigned, ContactAdded, ContactCorrected, evolve
from ledger.application import Ledger
from ledger.mapper import LedgerEvent
from ledger.standing_row import StandingRow
from projections.identity import find_identity_keys

Outcome = Literal["would_be_refused", "would_be_allowed", "other_rule"]

NOT_BY_LAW: Final = frozenset({ALREADY_SENT, LINK_EXPIRED, "superseded_address", "account_terminated"})
"""Refusals that no rule of the law gave: they would be the same under any."""

STREAMS_PER_READ: Final = 500

COUNT_DECISIONS = """
SELECT count(*) FROM lethe.event WHERE tenant_id = %s AND position > %s AND position <= %s AND topic = ANY(%s)
AND recorded_at >= %s AND recorded_at <= %s AND (%s::text IS NULL OR position(%s IN entry) > 0)
"""
POSITIONS_PER_COUNT: Final = 100_000
"""Rows that one statement counts: no snapshot of the log stays open for long."""

_IDENTITY: Final = frozenset({ContactAdded.TOPIC, ContactCorrected.TOPIC, AccountAssigned.TOPIC})
_DECISIONS: Final = (SendAuthorised.TOPIC, SendRefused.TOPIC)


@dataclass(frozen=True, slots=True)
class Scope:
    """Which decisions are looked at: recorded from `start` to `end`, both included, of one campaign or of all."""

    start: datetime
    end: datetime
    campaign: UUID | None = None

    def covers(self, decision: PastDecision) -> bool:
        """Whether this decision is one of them."""
        return self.start <= decision.recorded_at <= self.end and self.campaign in (None, decision.campaign)


@dataclass(frozen=True, slots=True)
class _Question:
    """All that one decision rested on, but the rules."""

    standing: Standing | None
    against: Sequence[Suppression]
    terms: SendTerms
    now_us: int

    def answer(self, rules: RuleSet) -> Decision:
        return decide(self.standing, self.against, self.terms, rules, self.now_us)


@dataclass(frozen=True, slots=True)
class Difference:
    """One decision that the other rules would have made differently.

    `subject` is the person's stream and `email` their present address, masked until somebody opens it.
    """

    decision: PastDecision
    subject: UUID
    email: Personal[str, Identity] | Erased | Unopened | None
    outcome: Outcome
    rule: str
    rules: str


@dataclass(slots=True)
class Replayed:
    """What a replay looked at, by number.

    `not_reproduced` holds positions whose recorded answer the rules they name do not give from what is known today.
    """

    decided_again: int = 0
    not_by_law: int = 0
    rules_unknown: int = 0
    not_reproduced: list[int] = field(default_factory=list)
    differences: dict[str, int] = field(default_factory=dict)
    decisions: int = 0

    @property
    def not_found(self) -> int:
        """Decisions about persons who were erased, or whose messages nobody can find any more."""
        return self.decisions - self.decided_again - self.not_by_law


class Replay:
    """One replay of an account's sends. Ask for the `count`, then go through `differences`: `counted` grows with it."""

    def __init__(self, ledger: Ledger, other_rules: RulesOn, scope: Scope) -> None:
        self._ledger = ledger
        self._other_rules = other_rules
        self._scope = scope
        self.counted = Replayed()
        with ledger.services.writer.transaction() as connection:
            self._last = ledger.appender.read_head(connection).position  # What comes while it runs is left out.

    def differences(self) -> Iterator[Difference]:
        """Every decision that would differ, person by person. Raises `LawError` for a day without rules."""
        generation, campaigns = campaigns_of(self._ledger)
        chosen = {c: t for c, t in campaigns.items() if self._scope.campaign in (None, c)}
        past = _Past(read_suppressions(self._ledger), account_facts(self._ledger))
        for page in living(self._ledger, generation):
            told = {row.subject: decisions for row, decisions in self._decisions(chosen, page) if decisions}
            persons = [row for row in page if row.subject in told]
            for row, facts in zip(persons, self._streams(persons), strict=True):
                yield from self._differences_of(row, facts, told[row.subject], chosen, past)

    def count(self) -> int:
        """How many decisions the log holds in this scope, whoever they were about."""
        self.counted.decisions = self._count()
        return self.counted.decisions

    def _decisions(
        self, campaigns: dict[UUID, Campaign], page: Sequence[StandingRow]
    ) -> Iterator[tuple[StandingRow, list[PastDecision]]]:
        for row, decisions in past_decisions(self._ledger, campaigns, page):
            yield row, [d for d in decisions if d.position <= self._last and self._scope.covers(d)]

    def _streams(self, persons: Sequence[StandingRow]) -> Iterator[list[Fact]]:
        """The facts of each person's stream; only what a decision rests on is opened."""
        for start in range(0, len(persons), STREAMS_PER_READ):
            some = persons[start : start + STREAMS_PER_READ]
            events = self._ledger.log.select_streams([UUID(bytes=row.subject) for row in some])
            find_identity_keys(self._ledger.keyring, [event for event in events if event.topic in _IDENTITY])
            facts: dict[bytes, list[Fact]] = {row.subject: [] for row in some}
            for event in events:
                facts[_stream(event)].append(self._ledger.sealing.open(event, personal=event.topic in _IDENTITY))
            yield from (facts[row.subject] for row in some)

    def _differences_of(
        self,
        row: StandingRow,
        facts: Sequence[Fact],
        decisions: Sequence[PastDecision],
        campaigns: dict[UUID, Campaign],
        past: _Past,
    ) -> Iterator[Difference]:
        standing: Standing | None = None
        probes: Sequence[bytes] = (row.fingerprint,)
        at = 0
        for decision in decisions:
            while at < len(facts) and (facts[at].position or 0) < decision.position:
                standing = evolve(standing, facts[at], facts[at].position or 0)
                probes = self._probes_after(facts[at], probes)
                at += 1
            if decision.rule in NOT_BY_LAW:
                self.counted.not_by_law += 1
                continue
            again = self._decide_again(probes, standing, decision, campaigns[decision.campaign], past)
            outcome = _outcome(decision, again[0])
            if outcome is not None:
                self.counted.differences[outcome] = self.counted.differences.get(outcome, 0) + 1
                subject = UUID(bytes=row.subject)
                yield Difference(decision, subject, address_in(facts), outcome, again[0].rule, again[1])

    def _probes_after(self, fact: Fact, before: Sequence[bytes]) -> Sequence[bytes]:
        """What the list is asked for: the fingerprints of the address that the person had, not of the present one."""
        address = opened(address_in((fact,)))
        return before if address is None else self._ledger.fingerprint.every(str(address))

    def _decide_again(
        self,
        probes: Sequence[bytes],
        standing: Standing | None,
        decision: PastDecision,
        campaign: Campaign,
        past: _Past,
    ) -> tuple[Decision, str]:
        """The answer under the other rules, and their version."""
        account = past.account_before(decision.position)
        country = account.country if account is not None else None
        question = _Question(
            standing,
            past.list.at_position(probes, decision.position),
            SendTerms.of(campaign.purpose, campaign.channel, country, minimum_age(account)),
            micros(decision.decided_at),
        )
        self.counted.decided_again += 1
        self._reproduce(question, decision)
        rules = self._other_rules(decision.decided_at.date())
        return question.answer(rules), rules.version

    def _reproduce(self, question: _Question, decision: PastDecision) -> None:
        """Decide under the rules that the decision names; what comes out otherwise is noted."""
        try:
            rules = rules_named(decision.rules or "")
        except LawError:
            self.counted.rules_unknown += 1
            return
        same = question.answer(rules)
        if (same.allowed, same.rule) != (decision.allowed, decision.rule):
            self.counted.not_reproduced.append(decision.position)

    def _count(self) -> int:
        ledger, scope, last = self._ledger, self._scope, self._last
        wanted = None if scope.campaign is None else f'"campaign":"{scope.campaign.hex}"'
        total = 0
        for start in range(0, last, POSITIONS_PER_COUNT):
            window = (ledger.tenant, start, min(start + POSITIONS_PER_COUNT, last), list(_DECISIONS))
            values = (*window, scope.start, scope.end, wanted, (wanted or "").encode())
            with ledger.services.writer.transaction() as connection:
                row = connection.execute(COUNT_DECISIONS, values).fetchone()
            total += row[0] if row is not None else 0
        return total


class _Past:
    """What all persons share: the list, and the account as it was right before each position."""

    def __init__(self, suppressions: SuppressionHistory, facts: Sequence[Fact]) -> None:
        self.list = suppressions
        self._states: list[tuple[int, Account | None]] = []
        account: Account | None = None
        for fact in facts:
            account = accounts.evolve(account, fact)
            self._states.append((fact.position or 0, account))

    def account_before(self, position: int) -> Account | None:
        """The account as the decision at this position saw it."""
        return next((account for at, account in reversed(self._states) if at < position), None)


def _outcome(decision: PastDecision, again: Decision) -> Outcome | None:
    if decision.allowed != again.allowed:
        return "would_be_allowed" if again.allowed else "would_be_refused"
    return None if decision.rule == again.rule else "other_rule"


def _stream(event: LedgerEvent) -> bytes:
    assert isinstance(event.originator_id, UUID)
    return event.originator_id.bytes
