"""Whatever happened: the past answers what was answered then, the present answers the present, and replays agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.bootstrap import Instance
from audit.asof.decision import PastView, view_at
from audit.asof.moments import Moment
from audit.asof.replay import Replay, Scope
from domain.campaign import CampaignNotOpen
from domain.law import rules_on
from domain.permission import Decision
from domain.scope import Cause
from domain.subject import Action
from domain.subject_commands import (
    CommandRefused,
    CorrectContact,
    LiftByHand,
    RecordConsent,
    Restrict,
    SayNo,
    SubjectCommand,
)
from ledger.application import Ledger
from ledger.errors import LedgerError
from ledger.subjects import Act
from ledger.suppressing import SuppressionRequest
from retention.daily import close_suppression_days
from retention.erasure.erasing import finish_erasures
from tests.acts import NEWSLETTER, add, ask, register
from tests.rolls import new_account
from tests.support import SettableClock

pytestmark = pytest.mark.store

PURPOSES = (NEWSLETTER, "offers", "transactional:receipt")
SCOPES = ("all", "marketing", "purpose:newsletter")
PEOPLE = tuple(f"person{number}@example.com" for number in range(3))
MOVED = tuple(f"moved{number}@example.com" for number in range(2))
EVERYWHERE = (*PEOPLE, *MOVED)
ALWAYS = Scope(datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))


@dataclass
class World:
    """One account, and what it answered at each moment: by time, address and purpose, about whom."""

    ledger: Ledger
    clock: SettableClock
    campaigns: list[UUID] = field(default_factory=list)
    answered: list[tuple[datetime, str, str, UUID, Decision]] = field(default_factory=list)
    erasures: int = 0

    def note(self) -> None:
        """Ask what would be answered now about everybody who lives at an address of theirs."""
        questions = [(a, p, "email") for a in EVERYWHERE for p in PURPOSES]
        now = self.clock()
        for (address, purpose, _), decision in zip(questions, self.ledger.check(questions), strict=True):
            row = self.ledger.person(address)
            if row is not None and row.fingerprint in self.ledger.fingerprint.every(address):
                self.answered.append((now, address, purpose, UUID(bytes=row.subject), decision))


@dataclass(frozen=True)
class Step:
    """One thing that happens, with words for it."""

    what: str
    run: Callable[[World], object] = field(repr=False)


people = st.sampled_from(PEOPLE)
addresses = st.sampled_from(EVERYWHERE)
scopes = st.sampled_from(SCOPES)
days_back = st.sampled_from([None, 0, 1, 20, 800, -2])
causes: st.SearchStrategy[Cause] = st.sampled_from(
    ["objection", "complaint", "hard_bounce", "manual", "legal", "unsubscribed"]
)
actions: st.SearchStrategy[Action] = st.sampled_from(["request", "grant", "refuse", "withdraw"])
bases = st.sampled_from(["consent", "consent", "soft-opt-in", "implied-purchase", "implied-inquiry"])
evidences = st.sampled_from([None, {"method": "checkbox", "ip": "192.0.2.1"}, {"method": "double_opt_in"}])
countries = st.sampled_from(["DE", "US", "CA"])
births = st.sampled_from([None, "1980-02-29", "2012-11-22"])


def _when(world: World, days: int | None) -> datetime | None:
    return None if days is None else world.clock() - timedelta(days=days)


def _does(who: str, command: SubjectCommand) -> Step:
    act = Act(command, address=who, actor="cli")
    return Step(f"{who} {command}", lambda world: world.ledger.subjects.act([act]))


def _adds(who: str) -> Step:
    return Step(f"{who} is added", lambda world: add(world.ledger, [who], country="DE"))


def _says(
    who: str, purpose: str, action: Action, days: int | None, evidence: dict[str, str] | None, basis: str, old: bool
) -> Step:
    def run(world: World) -> None:
        at = _when(world, days)
        command = RecordConsent(purpose, "email", action, at, evidence, basis=basis, imported=old)
        world.ledger.subjects.act([Act(command, address=who, actor="cli")])

    return Step(f"{who} {action}s {purpose}, {days} days ago, {evidence}, {basis}, imported: {old}", run)


def _refuses(who: str, cause: Cause, scope: str, days: int | None) -> Step:
    def run(world: World) -> None:
        world.ledger.subjects.act([Act(SayNo(cause, scope, _when(world, days)), address=who, actor="cli")])

    return Step(f"{who} {cause} {scope}, {days} days ago", run)


def _lists(who: str, cause: Cause, scope: str, days: int | None) -> Step:
    def run(world: World) -> None:
        asked = SuppressionRequest(who, cause, scope, _when(world, days))
        world.ledger.suppressions.impose([asked], actor="cli")

    return Step(f"{who} listed: {cause} {scope}, {days} days ago", run)


def _unlists(who: str, scope: str) -> Step:
    return Step(f"{who} unlisted: {scope}", lambda world: world.ledger.suppressions.lift(who, scope, actor="cli"))


def _corrects(who: str, country: str, born: str | None, moved: str | None) -> Step:
    return _does(who, CorrectContact({"country": country, "birth_date": born}, moved))


def _erases(who: str) -> Step:
    def run(world: World) -> None:
        world.erasures += 1
        world.ledger.erasures.intend([who], reason="subject_request", actor="cli")
        finish_erasures(world.ledger)

    return Step(f"{who} erased", run)


def _returns(who: str) -> Step:
    """Erased, and imported again from an old list right after."""

    def run(world: World) -> None:
        _erases(who).run(world)
        world.clock.advance(timedelta(seconds=1))
        add(world.ledger, [who], country="DE")

    return Step(f"{who} erased and imported again", run)


def _passes(span: timedelta) -> Step:
    def run(world: World) -> None:
        world.clock.advance(span)
        close_suppression_days(world.ledger, world.clock())

    return Step(f"{span} later", run)


def _sends(index: int, who: str) -> Step:
    return Step(f"campaign {index} asks for {who}", lambda world: ask(world.ledger, world.campaigns[index], [who]))


steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(_says, addresses, st.sampled_from(PURPOSES[:2]), actions, days_back, evidences, bases, st.booleans()),
    st.builds(_refuses, addresses, causes, scopes, days_back),
    st.builds(_lists, addresses, causes, scopes, days_back),
    st.builds(_unlists, addresses, scopes),
    st.builds(_does, addresses, st.builds(LiftByHand, scopes)),
    st.builds(_does, addresses, st.builds(Restrict, st.booleans())),
    st.builds(_corrects, addresses, countries, births, st.sampled_from([None, *MOVED])),
    st.builds(_adds, addresses),
    st.builds(_erases, people),
    st.builds(_returns, people),
    st.builds(_sends, st.integers(0, 1), addresses),
    st.builds(_passes, st.sampled_from([timedelta(hours=11), timedelta(days=1), timedelta(days=100)])),
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(history=st.lists(steps, min_size=4, max_size=14))
def test_the_past_answers_what_was_answered_then(instance: Instance, clock: SettableClock, history: list[Step]) -> None:
    """Given any history, then each moment of it is answered as it was then, and every decision follows again."""
    clock.reset()
    clock.set(clock())
    world = World(new_account(instance), clock)
    world.campaigns = [register(world.ledger), register(world.ledger, kind="ongoing")]
    add(world.ledger, PEOPLE, country="DE")
    for step in history:
        clock.advance(timedelta(minutes=1))
        try:
            step.run(world)
        except (LedgerError, CommandRefused, CampaignNotOpen):
            continue
        clock.advance(timedelta(minutes=1))
        world.note()
    _past_agrees(world)
    _replay_agrees(world)


def _past_agrees(world: World) -> None:
    """What was answered at each moment, asked again: of whoever is still the person that was answered about."""
    ledger = world.ledger
    living = {UUID(bytes=row.subject): row.fingerprint for row in map(ledger.person, EVERYWHERE) if row is not None}
    views: dict[tuple[datetime, UUID], PastView] = {}
    for moment, address, purpose, subject, then in world.answered:
        if subject not in living:
            continue  # Erased since: nothing leads there.
        if (moment, subject) not in views:
            views[moment, subject] = view_at(ledger, subject, (living[subject],), Moment(moment))
        again = views[moment, subject].decide(purpose, "email", rules_on)[0]
        assert again == then, (moment, address, purpose)
    present = Moment(world.clock())
    for address in EVERYWHERE:
        row = ledger.person(address)
        if row is not None and row.fingerprint in ledger.fingerprint.every(address):
            view = view_at(ledger, UUID(bytes=row.subject), (row.fingerprint,), present)
            assert view.person.standing is not None
            assert view.person.standing.to_row() == row.standing.to_row()
            for purpose in PURPOSES:
                now = ledger.check([(address, purpose, "email")])[0]
                assert view.decide(purpose, "email", rules_on)[0] == now, (address, purpose)


def _replay_agrees(world: World) -> None:
    """The rules of each day give each answer again, and every decision is accounted for."""
    replay = Replay(world.ledger, rules_on, ALWAYS)
    assert list(replay.differences()) == []
    replay.count()
    assert replay.counted.not_reproduced == []
    assert replay.counted.rules_unknown == 0
    assert replay.counted.not_found >= 0
    if not world.erasures:
        assert replay.counted.not_found == 0
