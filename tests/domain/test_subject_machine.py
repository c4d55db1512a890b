"""A stateful machine: whatever a person says in whatever order, the fold agrees with a model that keeps it all.

The model is a plain list of what was said. It answers by looking through the list, in the words of the rules: the last
word on a purpose counts; a "no" stands until a later and evidenced act of the subject for that purpose; what staff
imposed is lifted by staff; and an import lifts nothing (I7).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from domain.facts import Fact
from domain.ids import from_micros, micros
from domain.law import rules_on
from domain.permission import SendTerms, decide
from domain.scope import covers
from domain.standing import Standing
from domain.subject import ConsentGranted, evolve, fold, recalled_position
from domain.subject_commands import (
    AddContact,
    CommandRefused,
    LiftByHand,
    RecordConsent,
    Restrict,
    SayNo,
    SubjectCommand,
)
from domain.subject_commands import decide as decide_command

START = datetime(2027, 1, 1, tzinfo=UTC)
PURPOSES = ("newsletter", "offers", "transactional")
SCOPES = ("all", "marketing", "purpose:newsletter", "purpose:offers")
NOES = ("objection", "complaint", "unsubscribed", "hard_bounce", "manual", "legal")
OWN = ("objection", "complaint", "unsubscribed")


@dataclass(frozen=True)
class Said:
    """One thing said: what, about what, when it was true, and as which number."""

    what: str
    about: str
    at: datetime
    number: int
    lifts: bool = False
    confirmed: bool = False


class SubjectMachine(RuleBasedStateMachine):
    """One person, a clock, and a list of all that was said."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.standing: Standing | None = None
        self.facts: list[Fact] = []
        self.said: list[Said] = []

    @initialize()
    def add(self) -> None:
        """The person is added."""
        self.take(AddContact("a@example.com", {"country": "DE", "birth_date": "1990-01-01"}))

    @rule(hours=st.integers(1, 3))
    def wait(self, hours: int) -> None:
        """Time passes."""
        self.now += timedelta(hours=hours)

    @rule(
        purpose=st.sampled_from(PURPOSES),
        action=st.sampled_from(["grant", "grant", "refuse", "withdraw", "request"]),
        hours_ago=st.integers(0, 4),
        how=st.sampled_from(["form", "form", "double_opt_in", "import", None]),
        imported=st.sampled_from([False, False, False, True]),
    )
    def speak(self, purpose: str, action: Any, hours_ago: int, how: str | None, imported: bool) -> None:
        """The person says something on a purpose, now or as it is learnt only now."""
        at = self.now - timedelta(hours=hours_ago)
        facts = self.take(
            RecordConsent(purpose, "email", action, at, {"method": how} if how else None, imported=imported)
        )
        for fact in facts:
            if isinstance(fact, ConsentGranted):
                lifts = how is not None and how != "import" and not imported
                if self.grant_counts(purpose, at, lifts, how == "double_opt_in"):
                    self.note("grant", purpose, at, lifts=lifts, confirmed=lifts and how == "double_opt_in")
        if action in ("refuse", "withdraw"):
            self.note(action, purpose, at)

    @rule(cause=st.sampled_from(NOES), scope=st.sampled_from(SCOPES), hours_ago=st.integers(0, 4))
    def say_no(self, cause: Any, scope: str, hours_ago: int) -> None:
        """A "no" other than a withdrawal."""
        at = self.now - timedelta(hours=hours_ago)
        self.take(SayNo(cause, scope, at))
        self.note(cause, scope, at)

    @rule(scope=st.sampled_from(SCOPES))
    def lift(self, scope: str) -> None:
        """Staff lift what staff imposed."""
        try:
            self.take(LiftByHand(scope))
        except CommandRefused:
            assert not any(s.what == "manual" and s.about == scope for s in self.said)
            return
        self.said = [s for s in self.said if not (s.what == "manual" and s.about == scope)]

    @rule(ends=st.booleans())
    def restrict(self, ends: bool) -> None:
        """Processing is restricted, or the restriction ends."""
        facts = self.take(Restrict(lift=ends))
        if ends:
            self.said = [s for s in self.said if s.what != "restriction"]
        elif facts:
            self.note("restriction", "all", self.now)

    # The model -------------------------------------------------------------------------------------------------------

    def word(self, purpose: str) -> Said | None:
        """The last word on a purpose."""
        words = [s for s in self.said if s.about == purpose and s.what in ("grant", "refuse", "withdraw")]
        return words[-1] if words else None

    def taken_back_at(self, purpose: str) -> datetime | None:
        """The latest time of the unbroken run of refusals and withdrawals that ends the words on a purpose."""
        latest = None
        for said in reversed([s for s in self.said if s.about == purpose]):
            if said.what == "grant":
                break
            if said.what in ("refuse", "withdraw"):
                latest = max(latest or said.at, said.at)
        return latest

    def noes_against(self, purpose: str) -> list[Said]:
        """Every other "no" that covers a purpose, the latest time of each cause and scope."""
        return [s for s in self.said if s.what in (*NOES, "restriction") and covers(s.about, purpose)]

    def grant_counts(self, purpose: str, at: datetime, lifts: bool, confirmed: bool) -> bool:
        """Whether a grant becomes the person's word: later than every "no" that it meets, and fit to lift them."""
        taken = self.taken_back_at(purpose)
        own = [s.at for s in self.noes_against(purpose) if s.what in OWN] + ([taken] if taken else [])
        if own and not (lifts and all(said < at for said in own)):
            return False
        alive = [
            s.at
            for s in self.said
            if s.what == "grant" and s.confirmed and s.about != purpose and self.word(s.about) == s
        ]
        alive += [at] if lifts and confirmed else []
        bounces = [s.at for s in self.noes_against(purpose) if s.what == "hard_bounce"]
        return not bounces or (bool(alive) and max(alive) > max(bounces))

    def allowed(self, purpose: str) -> bool:
        """Whether a message for a purpose may be sent now."""
        word = self.word(purpose)
        if word is not None and word.what != "grant":
            return False
        for no in self.noes_against(purpose):
            if no.what in ("manual", "legal", "restriction"):
                return False
            if no.what == "hard_bounce":
                words = [w for p in PURPOSES if (w := self.word(p)) is not None]
                if not any(w.what == "grant" and w.confirmed and w.at > no.at for w in words):
                    return False
            elif not (word is not None and word.lifts and word.at > no.at):
                return False
        return word is not None or purpose == "transactional"

    # The comparison --------------------------------------------------------------------------------------------------

    @invariant()
    @precondition(lambda self: self.standing is not None)
    def the_rules_and_the_model_agree(self) -> None:
        """What may be sent is what the model says may be sent."""
        for purpose in PURPOSES:
            terms = SendTerms.of(purpose, "email", "DE", 16)
            decision = decide(self.standing, (), terms, rules_on(self.now.date()), micros(self.now))
            assert decision.allowed == self.allowed(purpose), (purpose, decision, self.said)

    @invariant()
    @precondition(lambda self: bool(self.facts))
    def folding_again_gives_the_same(self) -> None:
        """The standing is the fold of the facts, also through its stored form."""
        again = fold(None, self.facts)
        assert again == self.standing
        assert again is not None
        assert Standing.from_row(again.to_row()) == again
        assert again.version == len(self.facts)

    @invariant()
    @precondition(lambda self: self.standing is not None)
    def every_no_has_recalled_what_was_open(self) -> None:
        """Nothing that was authorised before the last covering "no" can still be used."""
        assert self.standing is not None
        for purpose in PURPOSES:
            noes = [s.number for s in self.noes_against(purpose)]
            noes += [s.number for s in self.said if s.what in ("refuse", "withdraw") and s.about == purpose]
            assert recalled_position(self.standing, purpose) >= max(noes, default=0)

    def take(self, command: SubjectCommand) -> list[Fact]:
        """Decide and fold, as the ledger does."""
        taken = []
        for fact in decide_command(self.standing, command, (), self.now):
            number = len(self.facts) + 1
            headed = fact.model_copy(update={"originator_version": number, "position": number})
            self.standing = evolve(self.standing, headed, number)
            self.facts.append(headed)
            taken.append(headed)
        return taken

    def note(self, what: str, about: str, at: datetime, *, lifts: bool = False, confirmed: bool = False) -> None:
        """Keep what was said; its number is that of the "no" itself, which its recall follows."""
        self.said.append(Said(what, about, from_micros(micros(at)), len(self.facts) - 1, lifts, confirmed))


TestSubjectMachine = SubjectMachine.TestCase
TestSubjectMachine.settings = settings(max_examples=400, stateful_step_count=20, deadline=None)
