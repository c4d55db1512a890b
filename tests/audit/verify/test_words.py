"""The verifier's own fold of a person's words, held against the rules that decide sends."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from hypothesis import example, given, settings
from hypothesis import strategies as st

import domain.subject
from audit.verify.entries import Entry
from audit.verify.errors import ClaimRefused
from audit.verify.words import KNOWN, LIFTED_BY_A_LATER_GRANT, NOES, STANDS_BUT_BLOCKED, Words, covers
from domain import subject as subjects
from domain.facts import TOPICS, Fact, plain_fields
from domain.ids import micros
from domain.law import rules_on
from domain.permission import GRANT_STANDS_BUT_BLOCKED, SendTerms, decide, grant_effect
from domain.scope import CAUSES_LIFTED_BY_A_LATER_GRANT
from domain.scope import covers as covers_there
from domain.standing import Standing
from ledger.entry import entry_time
from tests.bundles import moment

PURPOSES = ("newsletter", "offers", "transactional")
SCOPES = ("all", "marketing", *(f"purpose:{purpose}" for purpose in PURPOSES))
CHANNELS = ("email", "sms")
NOW = 100


def test_every_topic_of_a_persons_stream_is_known() -> None:
    """Given the topics that the domain writes into a person's stream, then the verifier knows exactly these."""
    declared = {topic for topic, fact in TOPICS.items() if fact.__module__ == domain.subject.__name__}
    assert declared == KNOWN


def test_what_says_no_is_the_same_list() -> None:
    """Given the facts that say no, and what a later grant lifts of them, then the verifier's own lists are the same."""
    noes = {fact.TOPIC: fact.CAUSE for fact in subjects.NoFact.__subclasses__()}
    assert noes == NOES
    assert CAUSES_LIFTED_BY_A_LATER_GRANT & set(NOES.values()) == LIFTED_BY_A_LATER_GRANT
    assert GRANT_STANDS_BUT_BLOCKED == STANDS_BUT_BLOCKED
    for scope in SCOPES:
        for purpose in PURPOSES:
            assert covers(scope, purpose) == covers_there(scope, purpose)


def _words() -> st.SearchStrategy[Fact]:
    purposes, channels, flags = st.sampled_from(PURPOSES), st.sampled_from(CHANNELS), st.booleans()
    about = {"purpose": purposes, "channel": channels, "evidenced": flags}
    methods = st.sampled_from(("form", "double_opt_in", "import", None))
    scopes = {"scope": st.sampled_from(SCOPES)}
    return st.one_of(
        st.builds(subjects.ConsentRequested, **about),
        st.builds(subjects.ConsentGranted, **about, method=methods, imported=flags),
        st.builds(subjects.ConsentRefused, **about),
        st.builds(subjects.ConsentWithdrawn, **about),
        st.builds(
            subjects.PermissionDeclared, purpose=purposes, channel=channels, basis=st.sampled_from(("soft-opt-in",))
        ),
        st.builds(subjects.ObjectionRaised, **scopes),
        st.builds(subjects.ContactComplained, **scopes),
        st.builds(subjects.ContactHardBounced, **scopes),
        st.builds(subjects.ContactUnsubscribed, **scopes),
        st.builds(subjects.ContactSuppressed, **scopes, legal=flags),
        st.builds(subjects.SuppressionByHandLifted, **scopes),
        st.just(subjects.ProcessingRestricted()),
        st.just(subjects.RestrictionLifted()),
        st.just(subjects.AuthorisationsRecalled(scope="all")),
    )


LATE_OBJECTION = [
    (subjects.ObjectionRaised(scope="all"), 50),
    (subjects.ObjectionRaised(scope="all"), 10),
    (subjects.ConsentGranted(purpose="offers", channel="email", evidenced=True), 30),
]
"""An objection that is recorded late does not make the later one older."""


@settings(max_examples=400)
@example(LATE_OBJECTION, "offers", "email")
@given(
    st.lists(st.tuples(_words(), st.integers(1, NOW + 20)), max_size=8),
    st.sampled_from(PURPOSES),
    st.sampled_from(CHANNELS),
)
def test_a_no_stands_here_where_it_stands_in_the_rules(
    said: list[tuple[Fact, int]], purpose: str, channel: str
) -> None:
    """Given any words of a person, then what the rules allow is never refused here, and what a no refuses always is."""
    standing, words, told_falsely = Standing(), Words(), Words()
    for position, (word, minute) in enumerate(said, 1):
        header = {"originator_version": position, "occurred_at": moment(minute), "originator_id": UUID(int=1)}
        fact = _as_recorded(word, standing, minute).headed(header)
        standing = subjects.evolve(standing, fact, position)
        words.take(_entry(fact, position))
        told_falsely.take(_entry(fact, position, effective=True, reason=None))
    assert told_falsely == words, "That a grant has effect is recomputed, whatever the house wrote."
    now = moment(NOW)
    decision = decide(standing, (), SendTerms.of(purpose, channel, "DE"), rules_on(now.date()), micros(now))
    try:
        words.require_no_no(purpose, channel, entry_time(now))
        refused = False
    except ClaimRefused:
        refused = True
    asked_for_more = ("no_consent", "consent_not_confirmed", "permission_not_accepted", "implied_expired")
    assert refused == (not decision.allowed and decision.rule not in asked_for_more), decision
    held = words.words.get((purpose, channel))
    if decision.evidence_position is not None and decision.allowed:
        assert held is not None
        assert held.position == decision.evidence_position


def _as_recorded(word: Fact, standing: Standing, minute: int) -> Fact:
    """A grant with the effect that the ledger writes down for it."""
    if not isinstance(word, subjects.ConsentGranted):
        return word
    said: dict[str, Any] = {
        name: getattr(word, name) for name in ("purpose", "channel", "evidenced", "imported", "method")
    }
    occurred_us, recorded_us = micros(moment(minute)), micros(moment(NOW))
    effective, reason = grant_effect(standing, (), occurred_us=occurred_us, recorded_us=recorded_us, **said)
    return subjects.ConsentGranted(**said, effective=effective, reason=reason)


def _entry(fact: Fact, position: int, **lies: Any) -> Entry:
    plain: dict[str, Any] = {n: v for n in plain_fields(type(fact)) if (v := getattr(fact, n)) is not None}
    plain |= lies if isinstance(fact, subjects.ConsentGranted) else {}
    said = {
        "topic": fact.TOPIC,
        "occurred_at": entry_time(fact.occurred_at),
        "recorded_at": entry_time(moment(NOW)),
        "stream": "",
        "plain": plain,
    }
    return Entry(position, b"", said)
