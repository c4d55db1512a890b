"""No send without permission, and no send after a "no": every rule of `decide`, and what holds for all of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from domain.law import RuleSet, rules_on
from domain.law.rules import Law, packaged_texts
from domain.permission import (
    ALLOWING_RULES,
    ALREADY_SENT,
    BASES,
    GRANT_REASONS,
    GRANT_STANDS_BUT_BLOCKED,
    RULES,
    SUPERSEDED,
    UNKNOWN,
    Decision,
    SendTerms,
    decide,
    grant_effect,
)
from domain.scope import Cause, InvalidScope, covers, is_transactional
from domain.standing import (
    CONSENT,
    GRANTED,
    IMPLIED_INQUIRY,
    IMPLIED_PURCHASE,
    PERMISSION_BASES,
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

TODAY = date(2026, 11, 21)
RULES_TODAY = rules_on(TODAY)
EMAIL = "email"
KEY = permission_key("newsletter", EMAIL)
OFFERS_KEY = permission_key("offers", EMAIL)
RECEIPT_KEY = permission_key("transactional:receipt", EMAIL)


def at(*moment: int) -> int:
    """Microseconds since 1970 of a moment in UTC."""
    return int(datetime(*moment, tzinfo=UTC).timestamp()) * 1_000_000  # type: ignore[arg-type,misc]


NOW = at(2026, 11, 21, 12)
BEFORE = at(2026, 1, 10, 9)
"""When the no of an example was said."""
EARLIER, LATER = BEFORE - 1, BEFORE + 1


def granted(when: int = EARLIER, **changes: object) -> Permission:
    """An evidenced consent."""
    return replace(
        Permission(GRANTED, CONSENT, when, 77, evidenced=True, method="form"),
        **changes,  # type: ignore[arg-type]
    )


def person(
    *noes: No,
    word: Permission | None = None,
    country: str | None = "DE",
    key: str = KEY,
    **changes: object,
) -> Standing:
    """The standing of a person with these noes and this word on the newsletter."""
    standing = Standing(1, "contact", country, noes=noes, permissions={key: word} if word else {})
    return replace(standing, **changes)  # type: ignore[arg-type]


def no(cause: str, scope: str = "marketing") -> No:
    return No(cause, scope, BEFORE, 33)


def ask(
    standing: Standing | None,
    *suppressions: Suppression,
    purpose: str = "newsletter",
    sender: str | None = "DE",
    minimum_age: int = 0,
    rules: RuleSet = RULES_TODAY,
    now_us: int = NOW,
) -> Decision:
    return decide(standing, suppressions, SendTerms.of(purpose, EMAIL, sender, minimum_age), rules, now_us)


# --- examples: who may be mailed -------------------------------------------------------------------------------


NOT_ACCEPTED = Decision(False, "permission_not_accepted", None, 77)
asked_in_the_us = person(country="US", word=granted(status=REQUESTED))


@pytest.mark.parametrize(
    ("standing", "sender", "expected"),
    [
        (person(word=granted()), "DE", Decision(True, "consent", CONSENT, 77)),
        (person(word=granted(evidenced=False)), "DE", Decision(True, "consent", CONSENT, 77)),
        (person(word=granted(), country=None), None, Decision(True, "consent", CONSENT, 77)),
        (person(), "DE", Decision(False, "no_consent")),
        (person(word=granted(NOW + 1)), "DE", Decision(False, "no_consent")),
        (person(word=granted(status=REQUESTED)), "DE", Decision(False, "consent_not_confirmed", None, 77)),
        (person(word=granted(status=REFUSED)), "DE", Decision(False, "refused", None, 77)),
        (person(word=granted(status=WITHDRAWN)), "DE", Decision(False, "withdrawn", None, 77)),
        (person(country="US"), "US", Decision(True, "opt_out_regime", "opt-out-regime")),
        (asked_in_the_us, "US", Decision(True, "opt_out_regime", "opt-out-regime")),
        (person(country="US", word=granted(status=WITHDRAWN)), "US", Decision(False, "withdrawn", None, 77)),
        (person(country="US"), "DE", Decision(False, "no_consent")),
        (person(country="DE"), "US", Decision(False, "no_consent")),
        (person(country=None), "US", Decision(False, "no_consent")),
        (person(country="US"), None, Decision(False, "no_consent")),
        (person(word=granted(basis=SOFT_OPT_IN)), "GB", Decision(True, "soft_opt_in", SOFT_OPT_IN, 77)),
        (person(country="US", word=granted(basis=SOFT_OPT_IN)), "DE", Decision(True, "soft_opt_in", SOFT_OPT_IN, 77)),
        (person(country="CA", word=granted(basis=SOFT_OPT_IN)), "DE", NOT_ACCEPTED),
        (person(country="DE", word=granted(basis=SOFT_OPT_IN)), "CA", NOT_ACCEPTED),
        (person(country=None, word=granted(basis=SOFT_OPT_IN)), "DE", NOT_ACCEPTED),
        (person(word=granted(basis=IMPLIED_PURCHASE)), "DE", NOT_ACCEPTED),
        (
            person(country="CA", word=granted(basis=IMPLIED_PURCHASE)),
            "CA",
            Decision(True, "implied_purchase", IMPLIED_PURCHASE, 77, at(2028, 1, 10, 9) - 1),
        ),
        (
            person(country="CA", word=granted(basis=IMPLIED_PURCHASE)),
            "US",
            Decision(True, "implied_purchase", IMPLIED_PURCHASE, 77, at(2028, 1, 10, 9) - 1),
        ),
        (
            person(country="CA", word=granted(basis=IMPLIED_INQUIRY)),
            "CA",
            Decision(False, "implied_expired", None, 77),
        ),
        (
            person(country="US", word=granted(basis=IMPLIED_INQUIRY)),
            "CA",
            Decision(False, "implied_expired", None, 77),
        ),
        (
            person(country="US", word=granted(basis=IMPLIED_INQUIRY)),
            "US",
            Decision(True, "implied_inquiry", IMPLIED_INQUIRY, 77),
        ),
        (None, "US", Decision(False, "unknown_recipient")),
    ],
)  # fmt: skip
def test_permission_to_mail(standing: Standing | None, sender: str | None, expected: Decision) -> None:
    """Legitimate interest alone is no permission; each regime accepts its own, and both must."""
    assert ask(standing, sender=sender) == expected


@pytest.mark.parametrize(
    ("given_at", "basis", "ends"),
    [
        (at(2024, 2, 29, 8), IMPLIED_PURCHASE, at(2026, 2, 28, 8)),
        (at(2025, 12, 31, 8), IMPLIED_PURCHASE, at(2027, 12, 31, 8)),
        (at(2025, 8, 31, 8), IMPLIED_INQUIRY, at(2026, 2, 28, 8)),
        (at(2025, 6, 30, 23, 59), IMPLIED_INQUIRY, at(2025, 12, 30, 23, 59)),
    ],
)
def test_implied_consent_ends_to_the_microsecond(given_at: int, basis: str, ends: int) -> None:
    """Months clamp to the month's end; at the end itself the permission is gone."""
    customer = person(country="CA", word=granted(given_at, basis=basis))
    assert ask(customer, sender="CA", now_us=ends - 1).valid_until_us == ends
    assert ask(customer, sender="CA", now_us=ends - 1).allowed
    assert ask(customer, sender="CA", now_us=ends).rule == "implied_expired"


def test_rules_of_another_day_give_that_days_answer() -> None:
    """Before CASL was in force its implied consent was not accepted, and a replay says so."""
    customer = person(country="CA", word=granted(at(2014, 3, 1), basis=IMPLIED_PURCHASE))
    when = at(2014, 8, 1)
    assert ask(customer, sender="CA", rules=rules_on(date(2014, 6, 30)), now_us=when).rule == "permission_not_accepted"
    assert ask(customer, sender="CA", rules=rules_on(date(2014, 7, 1)), now_us=when).rule == "implied_purchase"


def test_of_two_times_the_shorter_counts() -> None:
    """Where both regimes limit an implied consent, the stricter limit decides, whoever's it is."""
    texts = packaged_texts()
    texts["permission.toml"] += (
        '\n[[row]]\nregime = "gb"\nbasis = "implied-purchase"\nvalid_months = 3\neffective_from = 2020-01-01\n'
        'source = "An act that is not"\nnote = ""\n'
    )
    rules = Law(texts).on(TODAY)
    for ours, theirs in (("CA", "GB"), ("GB", "CA"), ("GB", "US"), ("US", "GB")):
        buyer = person(country=theirs, word=granted(at(2026, 10, 21, 9), basis=IMPLIED_PURCHASE))
        assert ask(buyer, sender=ours, rules=rules).valid_until_us == at(2027, 1, 21, 9)


# --- examples: each no, and what overrides it ------------------------------------------------------------------

SUBJECTS_OWN = [
    ("erased", "erased"),
    ("complaint", "complaint"),
    ("objection", "objection"),
    ("unsubscribed", "unsubscribed"),
    ("withdrawal", "withdrawn"),
]
NOT_THE_SUBJECTS = [
    ("legal", "legal"),
    ("manual", "manual"),
    ("restriction", "restricted"),
    ("a new cause", "manual"),
]
OWN_WORDS = [
    (granted(LATER), True),
    (granted(BEFORE), False),
    (granted(EARLIER), False),
    (granted(LATER, evidenced=False), False),
    (granted(LATER, method="import"), False),
    (granted(LATER, basis=SOFT_OPT_IN), False),
    (granted(NOW + 1), False),
    (granted(LATER, status=REQUESTED), False),
    (None, False),
]


@pytest.mark.parametrize("scope", ["all", "marketing", "purpose:newsletter"])
@pytest.mark.parametrize(("cause", "rule"), SUBJECTS_OWN)
@pytest.mark.parametrize(("word", "lifts"), OWN_WORDS)
def test_the_subjects_own_no_yields_only_to_a_later_evidenced_grant(
    cause: str, rule: str, scope: str, word: Permission | None, lifts: bool
) -> None:
    """What the person said is overridden by what the person said later, for that purpose and channel (I7)."""
    in_stream, on_list = (
        ask(person(no(cause, scope), word=word)),
        ask(person(word=word), Suppression(scope, cause, BEFORE)),
    )
    if lifts:
        assert in_stream == on_list == Decision(True, "consent", CONSENT, 77)
    else:
        assert in_stream == Decision(False, rule, None, 33)
        assert on_list == Decision(False, rule)


@pytest.mark.parametrize("scope", ["all", "marketing"])
@pytest.mark.parametrize(("cause", "rule"), SUBJECTS_OWN)
def test_a_grant_for_another_purpose_or_channel_overrides_nothing(cause: str, rule: str, scope: str) -> None:
    """Consent is specific (GDPR Art. 4(11))."""
    for key in (OFFERS_KEY, permission_key("newsletter", "sms")):
        standing = person(no(cause, scope), permissions={KEY: granted(), key: granted(LATER)})
        assert ask(standing).rule == rule


@pytest.mark.parametrize(("cause", "rule"), NOT_THE_SUBJECTS)
@pytest.mark.parametrize("method", ["form", "double_opt_in"])
def test_what_is_not_the_subjects_to_lift_stays(cause: str, rule: str, method: str) -> None:
    """A court, staff and a restriction are not overridden by any grant, nor is a cause we do not know."""
    word = granted(LATER, method=method)
    assert ask(person(no(cause), word=word)) == Decision(False, rule, None, 33)
    assert ask(person(word=word), Suppression("marketing", cause, BEFORE)) == Decision(False, rule)


@pytest.mark.parametrize(
    ("word", "key", "lifts"),
    [
        (granted(LATER, method="double_opt_in"), KEY, True),
        (granted(LATER, method="double_opt_in"), OFFERS_KEY, True),
        (granted(LATER, method="double_opt_in"), permission_key("newsletter", "sms"), False),
        (granted(BEFORE, method="double_opt_in"), KEY, False),
        (granted(NOW + 1, method="double_opt_in"), KEY, False),
        (granted(LATER, method="double_opt_in", evidenced=False), KEY, False),
        (granted(LATER), KEY, False),
    ],
)
@pytest.mark.parametrize("purpose", ["newsletter", "transactional:receipt"])
def test_a_dead_address_lives_only_after_a_later_double_opt_in(
    word: Permission, key: str, lifts: bool, purpose: str
) -> None:
    """The confirmation mail arrived, so the address exists; service messages do not go to dead addresses either."""
    permissions = {KEY: granted(), key: word}
    decision = ask(person(no("hard_bounce", "all"), permissions=permissions), purpose=purpose)
    assert decision.allowed == lifts
    assert lifts or decision == Decision(False, "hard_bounce", None, 33)


@pytest.mark.parametrize(
    ("standing", "rule", "position"),
    [
        (person(word=granted(), erasing=True), "erased", None),
        (person(word=granted(), restricted_position=55), "restricted", 55),
    ],
)
@pytest.mark.parametrize("purpose", ["newsletter", "transactional"])
def test_erasure_and_restriction_stop_everything(
    standing: Standing, rule: str, position: int | None, purpose: str
) -> None:
    """From the intent of an erasure, and while processing is restricted (Art. 18), nothing at all is sent."""
    assert ask(standing, purpose=purpose) == Decision(False, rule, None, position)


def test_the_gravest_no_names_the_decision() -> None:
    """The order is fixed, whatever order the noes came in."""
    order = [
        "erased",
        "restriction",
        "legal",
        "hard_bounce",
        "manual",
        "complaint",
        "objection",
        "unsubscribed",
        "withdrawal",
    ]
    names = [
        "erased",
        "restricted",
        "legal",
        "hard_bounce",
        "manual",
        "complaint",
        "objection",
        "unsubscribed",
        "withdrawn",
    ]
    for i, name in enumerate(names):
        noes = tuple(no(cause) for cause in reversed(order[i:]))
        assert ask(person(*noes)).rule == name
        assert ask(person(*noes[::-1])).rule == name
        assert ask(None, *(Suppression(n.scope, n.cause, BEFORE) for n in noes)).rule == name


def test_underage_comes_after_what_staff_did_and_before_what_the_person_said() -> None:
    """The documented order, at the one rule that is no entry of a list."""
    child = person(no("manual"), no("complaint"), word=granted(), birth_date="2015-01-01")
    assert ask(child).rule == "manual"
    assert ask(replace(child, noes=(no("complaint"),))).rule == "underage"


@pytest.mark.parametrize(
    ("scope", "purpose", "refused"),
    [
        ("all", "transactional:receipt", True),
        ("marketing", "transactional:receipt", False),
        ("purpose:newsletter", "transactional:receipt", False),
        ("purpose:transactional:receipt", "transactional:receipt", True),
        ("purpose:offers", "newsletter", False),
        ("purpose:news", "newsletter", False),
    ],
)
def test_a_no_speaks_about_what_its_scope_covers(scope: str, purpose: str, refused: bool) -> None:
    """Service messages pass marketing opt-outs and not a no to everything."""
    assert ask(person(no("objection", scope), word=granted()), purpose=purpose).allowed is not refused
    assert ask(person(word=granted()), Suppression(scope, "objection", BEFORE), purpose=purpose).allowed is not refused


@pytest.mark.parametrize(
    ("cause", "scope", "word", "allowed"),
    [
        ("erased", "all", granted(LATER), True),
        ("erased", "all", granted(BEFORE), False),
        ("erased", "all", granted(LATER, evidenced=False), False),
        ("erased", "all", granted(LATER, status=WITHDRAWN), False),
        ("erased", "purpose:transactional:receipt", granted(LATER), False),
        ("objection", "all", granted(LATER), False),
        ("manual", "all", granted(LATER), False),
    ],
)
def test_who_came_back_after_an_erasure_gets_service_messages(
    cause: str, scope: str, word: Permission, allowed: bool
) -> None:
    """Any evidenced consent after the erasure shows that the person is a customer again."""
    decision = ask(person(word=word), Suppression(scope, cause, BEFORE), purpose="transactional:receipt")
    assert decision == (Decision(True, "contract", "contract") if allowed else Decision(False, cause))


@pytest.mark.parametrize(
    ("standing", "rule"),
    [
        (person(), "contract"),
        (person(word=granted(status=WITHDRAWN)), "contract"),
        (person(word=granted(status=WITHDRAWN), key=RECEIPT_KEY), "withdrawn"),
        (person(word=granted(status=REFUSED), key=RECEIPT_KEY), "refused"),
        (None, "unknown_recipient"),
    ],
)
def test_service_messages(standing: Standing | None, rule: str) -> None:
    """They rest on the contract; only a word on that very purpose takes them away."""
    assert ask(standing, purpose="transactional:receipt").rule == rule


# --- examples: age ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("birth_date", "country", "minimum_age", "word", "day", "underage"),
    [
        ("2010-11-21", "DE", 0, granted(), at(2026, 11, 21), False),
        ("2010-11-22", "DE", 0, granted(), at(2026, 11, 21), True),
        ("2010-11-22", "DE", 0, granted(), at(2026, 11, 22) - 1, True),
        ("2013-11-21", "BE", 0, granted(), at(2026, 11, 21), False),
        ("2013-11-21", "BE", 16, granted(), at(2026, 11, 21), True),
        ("2010-11-22", None, 0, granted(), at(2026, 11, 21), True),
        ("2010-11-22", "DE", 0, granted(basis=SOFT_OPT_IN), at(2026, 11, 21), False),
        ("2010-11-22", "DE", 16, granted(basis=SOFT_OPT_IN), at(2026, 11, 21), True),
        ("2008-02-29", "DE", 0, granted(), at(2024, 2, 28), True),
        ("2008-02-29", "DE", 0, granted(), at(2024, 2, 29), False),
        ("2008-02-29", "FR", 0, granted(), at(2023, 2, 28), True),
        ("2008-02-29", "FR", 0, granted(), at(2023, 3, 1), False),
        ("2009-02-28", "FR", 0, granted(), at(2024, 2, 29), False),
        ("2009-03-01", "FR", 0, granted(), at(2024, 2, 29), True),
        (None, "DE", 18, granted(), at(2026, 11, 21), False),
    ],
)
def test_age(
    *,
    birth_date: str | None,
    country: str | None,
    minimum_age: int,
    word: Permission,
    day: int,
    underage: bool,
) -> None:
    """The law's age counts where consent is the basis, the policy's always, the higher of both (Art. 8)."""
    standing = person(word=replace(word, occurred_at=0), country=country, birth_date=birth_date)
    decision = ask(standing, minimum_age=minimum_age, now_us=day)
    assert (decision.rule == "underage") == underage
    assert decision.allowed is not underage


def test_age_of_a_service_message_is_the_policys() -> None:
    """A contract does not need digital consent, but a policy that keeps children out does so everywhere."""
    child = person(word=granted(), key=RECEIPT_KEY, birth_date="2012-01-01")
    assert ask(child, purpose="transactional:receipt").rule == "contract"
    assert ask(child, purpose="transactional:receipt", minimum_age=16).rule == "underage"


def test_age_by_the_law_of_the_day() -> None:
    """In India a child is under 18 from 13 May 2027, and a replay of an earlier day does not know that."""
    teenager = person(word=granted(), country="IN", birth_date="2010-01-01")
    now_us = at(2027, 6, 1)
    assert ask(teenager, rules=rules_on(date(2027, 5, 12)), now_us=now_us).rule == "consent"
    assert ask(teenager, rules=rules_on(date(2027, 5, 13)), now_us=now_us).rule == "underage"


# --- examples: what a grant would do ---------------------------------------------------------------------------


def effect(standing: Standing | None, *suppressions: Suppression, **changes: object) -> tuple[bool, str | None]:
    grant: dict[str, object] = {
        "purpose": "newsletter", "channel": EMAIL, "occurred_us": LATER, "recorded_us": NOW,
        "evidenced": True, "imported": False, "method": "form",
    }  # fmt: skip
    return grant_effect(standing, suppressions, **(grant | changes))  # type: ignore[arg-type]


dead = person(no("hard_bounce", "all"))
CONFIRMED: dict[str, object] = {"method": "double_opt_in"}


@pytest.mark.parametrize(
    ("standing", "changes", "expected"),
    [
        (None, {}, (True, None)),
        (person(), {"evidenced": False, "imported": True}, (True, None)),
        (person(), {"occurred_us": NOW}, (True, None)),
        (None, {"occurred_us": NOW + 1}, (False, "in_the_future")),
        (person(no("objection"), word=granted()), {"occurred_us": NOW + 1}, (False, "in_the_future")),
        (person(erasing=True), {}, (False, "erasing")),
        (person(word=granted(BEFORE, status=WITHDRAWN)), {}, (True, None)),
        (person(word=granted(BEFORE, status=WITHDRAWN)), {"occurred_us": BEFORE}, (False, "not_later_than_withdrawal")),
        (person(word=granted(BEFORE, status=WITHDRAWN)), {"evidenced": False}, (False, "not_evidenced")),
        (person(word=granted(BEFORE, status=WITHDRAWN)), {"imported": True}, (False, "import_never_lifts")),
        (person(word=granted(BEFORE, status=WITHDRAWN)), {"method": "import"}, (False, "import_never_lifts")),
        (person(word=granted(BEFORE, status=REFUSED)), {"occurred_us": BEFORE}, (False, "not_later_than_refusal")),
        (person(no("objection")), {"occurred_us": BEFORE}, (False, "not_later_than_objection")),
        (person(no("complaint")), {"occurred_us": BEFORE}, (False, "not_later_than_complaint")),
        (person(no("unsubscribed")), {"occurred_us": BEFORE}, (False, "not_later_than_unsubscribe")),
        (person(no("erased", "all")), {"occurred_us": BEFORE}, (False, "not_later_than_erasure")),
        (person(no("objection")), {}, (True, None)),
        (person(no("objection", "purpose:offers")), {"evidenced": False}, (True, None)),
        (person(no("manual")), {}, (False, "suppressed_manual")),
        (person(no("legal"), no("manual")), {}, (False, "suppressed_legal")),
        (person(no("objection"), no("manual")), {"evidenced": False}, (False, "not_evidenced")),
        (person(restricted_position=9), {}, (False, "restricted")),
        (dead, {}, (False, "hard_bounced")),
        (dead, CONFIRMED, (True, None)),
        (dead, CONFIRMED | {"imported": True}, (False, "import_never_lifts")),
        (dead, CONFIRMED | {"occurred_us": BEFORE}, (False, "hard_bounced")),
        (replace(dead, permissions={OFFERS_KEY: granted(LATER, method="double_opt_in")}), {}, (True, None)),
        (replace(dead, permissions={KEY: granted(LATER, method="double_opt_in")}), {}, (False, "hard_bounced")),
    ],
)  # fmt: skip
def test_effect_of_a_grant(
    standing: Standing | None, changes: dict[str, object], expected: tuple[bool, str | None]
) -> None:
    """A grant that lifts nothing is recorded all the same, and the caller is told why it has no effect."""
    assert effect(standing, **changes) == expected


def test_the_suppression_list_counts_like_the_persons_stream() -> None:
    """An entry for the address alone is met as well, with and without a subject."""
    for standing in (None, person()):
        erased = Suppression("all", "erased", BEFORE)
        assert effect(standing, erased) == (True, None)
        assert effect(standing, erased, imported=True) == (False, "import_never_lifts")
        assert effect(standing, Suppression("marketing", "manual", BEFORE)) == (False, "suppressed_manual")


# --- terms and tables ------------------------------------------------------------------------------------------


def test_terms_are_worked_out_once() -> None:
    """What depends on the campaign alone is ready before the first recipient."""
    receipt = SendTerms.of("transactional:receipt", EMAIL, "DE", 16)
    assert receipt.transactional
    assert receipt.covering == {"all", "purpose:transactional:receipt"}
    assert SendTerms.of("newsletter", EMAIL).covering == {"all", "marketing", "purpose:newsletter"}
    with pytest.raises(InvalidScope):
        SendTerms.of("News|letter", EMAIL)


def test_tables_are_whole_sentences() -> None:
    """The names go into events and to auditors; each is explained."""
    assert set(RULES) >= ALLOWING_RULES | {UNKNOWN.rule, SUPERSEDED.rule, ALREADY_SENT}
    for table in (RULES, GRANT_REASONS):
        assert all(text.endswith(".") for text in table.values())
        assert all(name.isidentifier() and name.islower() for name in table)
    assert set(GRANT_REASONS) > GRANT_STANDS_BUT_BLOCKED


# --- properties ------------------------------------------------------------------------------------------------

COUNTRIES = ("US", "CA", "DE", "GB", "IN", None)
PURPOSES = ("newsletter", "offers", "transactional:receipt")
CAUSES = (*get_args(Cause), "a new cause")
SCOPES = ("all", "marketing", *(f"purpose:{purpose}" for purpose in PURPOSES))

thorough = settings(max_examples=400)

countries = st.sampled_from(COUNTRIES)
purposes = st.sampled_from(PURPOSES)
close_moments = st.integers(NOW - 4, NOW + 1)
moments = close_moments | st.integers(NOW - 3 * 366 * 86_400_000_000, NOW)
ages = st.sampled_from((0, 13, 16, 18))
rule_sets = st.sampled_from([rules_on(day) for day in (date(2000, 1, 1), date(2014, 7, 1), TODAY, date(2027, 5, 13))])


def words_at(when: st.SearchStrategy[int]) -> st.SearchStrategy[Permission]:
    """Words of a person, most of them evidenced grants: what is refused anyway shows little."""
    return st.builds(
        Permission,
        st.sampled_from((GRANTED, GRANTED, GRANTED, GRANTED, REFUSED, WITHDRAWN, REQUESTED)),
        st.sampled_from((CONSENT, CONSENT, CONSENT, *sorted(PERMISSION_BASES))),
        when,
        st.integers(1, 99),
        st.sampled_from((True, True, False)),
        st.sampled_from(("form", "double_opt_in", "double_opt_in", None, "import")),
    )


def permissions_at(when: st.SearchStrategy[int]) -> st.SearchStrategy[dict[str, Permission]]:
    keys = st.sampled_from([permission_key(purpose, EMAIL) for purpose in PURPOSES])
    return st.dictionaries(keys, words_at(when), max_size=3)


noes = st.builds(No, st.sampled_from(CAUSES), st.sampled_from(SCOPES), moments, st.integers(1, 99))
suppressions = st.builds(Suppression, st.sampled_from(SCOPES), st.sampled_from(CAUSES), moments)
births = st.none() | st.none() | st.dates(date(1990, 1, 1), TODAY).map(date.isoformat)
standings = st.builds(
    Standing,
    country=countries,
    birth_date=births,
    permissions=permissions_at(moments),
    noes=st.lists(noes, max_size=2).map(tuple),
    restricted_position=st.sampled_from((None, None, None, None, 4)),
    erasing=st.sampled_from((False, False, False, False, True)),
)
clean_standings = st.builds(Standing, country=countries, permissions=permissions_at(moments))
recent_standings = st.builds(Standing, country=countries, permissions=permissions_at(close_moments))
lists = st.lists(suppressions, max_size=1)
terms = st.builds(SendTerms.of, purposes, st.just(EMAIL), countries, ages)
service_terms = st.builds(
    SendTerms.of, st.sampled_from([p for p in PURPOSES if is_transactional(p)]), st.just(EMAIL), countries, ages
)
marketing_terms = st.builds(SendTerms.of, st.just("newsletter"), st.just(EMAIL), countries)


@thorough
@given(st.none() | standings, lists, terms, rule_sets)
def test_every_decision_is_explained_and_repeatable(
    standing: Standing | None, entries: list[Suppression], sent: SendTerms, rules: RuleSet
) -> None:
    """The rule is in the table, the basis goes with the answer, and asking again gives the same."""
    decision = decide(standing, entries, sent, rules, NOW)
    assert decision.rule in RULES
    assert decision.allowed == (decision.rule in ALLOWING_RULES)
    assert (decision.basis in BASES) == decision.allowed
    assert decision.allowed or decision.valid_until_us is None
    assert decision == decide(standing, tuple(entries), sent, rules, NOW)


@thorough
@given(standings | clean_standings, lists, terms, rule_sets, noes)
def test_one_more_no_never_allows(
    standing: Standing, entries: list[Suppression], sent: SendTerms, rules: RuleSet, added: No
) -> None:
    """Adding a no, or an entry of the list, turns no refusal into an allowance, even beside what lifts it."""
    before = decide(standing, entries, sent, rules, NOW)
    with_no = replace(standing, noes=(*standing.noes, added))
    entry = Suppression(added.scope, added.cause, added.occurred_at)
    for after in (
        decide(with_no, entries, sent, rules, NOW),
        decide(standing, [*entries, entry], sent, rules, NOW),
        decide(replace(standing, restricted_position=9), entries, sent, rules, NOW),
        decide(replace(standing, erasing=True), entries, sent, rules, NOW),
    ):
        assert before.allowed or not after.allowed


@given(standings, lists, terms, rule_sets, st.sampled_from((WITHDRAWN, REFUSED)))
def test_a_word_taken_back_allows_nothing(
    standing: Standing, entries: list[Suppression], sent: SendTerms, rules: RuleSet, status: str
) -> None:
    """Withdrawal and refusal end every permission for their purpose, in every regime."""
    word = Permission(status, CONSENT, NOW, 9)
    after = replace(standing, permissions=standing.permissions | {sent.permission_key: word})
    assert not decide(after, entries, sent, rules, NOW).allowed


@thorough
@given(clean_standings, marketing_terms, rule_sets, countries, countries)
def test_the_stricter_of_two_regimes_wins(
    standing: Standing, sent: SendTerms, rules: RuleSet, ours: str | None, theirs: str | None
) -> None:
    """What may be sent across a border is what may be sent at home on either side of it, and no more."""

    def between(sender: str | None, recipient: str | None) -> Decision:
        return decide(replace(standing, country=recipient), (), replace(sent, sender_country=sender), rules, NOW)

    across = between(ours, theirs)
    assert across.allowed == between(theirs, ours).allowed
    assert across.allowed == (between(ours, ours).allowed and between(theirs, theirs).allowed)
    ends = [d.valid_until_us for d in (between(ours, ours), between(theirs, theirs)) if d.valid_until_us]
    assert not across.allowed or across.valid_until_us == min(ends, default=None)


@thorough
@given(recent_standings, marketing_terms, rule_sets, close_moments, st.sampled_from(("all", "marketing")))
def test_an_objection_is_absolute(standing: Standing, sent: SendTerms, rules: RuleSet, said: int, scope: str) -> None:
    """After an objection no marketing is sent but on a consent that the person gave later, with evidence."""
    objecting = replace(standing, noes=(No("objection", scope, said, 9),))
    decision = decide(objecting, (), sent, rules, NOW)
    on_the_list = decide(standing, (Suppression(scope, "objection", said),), sent, rules, NOW)
    assert decision.allowed == on_the_list.allowed
    if decision.allowed:
        grant = standing.permissions[sent.permission_key]
        assert (grant.status, grant.basis, grant.evidenced) == (GRANTED, CONSENT, True)
        assert said < grant.occurred_at <= NOW
        assert grant.method != "import"


@thorough
@given(
    standing=standings,
    entries=lists,
    sent=service_terms,
    rules=rule_sets,
    cause=st.sampled_from(CAUSES),
    said=moments,
)
def test_service_messages_pass_marketing_noes_and_no_others(
    *, standing: Standing, entries: list[Suppression], sent: SendTerms, rules: RuleSet, cause: str, said: int
) -> None:
    """A no to marketing changes nothing for them; a no to everything stops them like any mail."""
    before = decide(standing, entries, sent, rules, NOW)
    for scope in ("marketing", "purpose:newsletter"):
        assert decide(standing, [*entries, Suppression(scope, cause, said)], sent, rules, NOW) == before
    never_lifted = Suppression("all", "manual", said)
    assert not decide(standing, [*entries, never_lifted], sent, rules, NOW).allowed
    nobody_came_back = replace(standing, permissions={})
    assert not decide(nobody_came_back, [Suppression("all", cause, said)], sent, rules, NOW).allowed


@given(standings, lists, terms, rule_sets, purposes)
def test_other_purposes_do_not_matter(
    standing: Standing, entries: list[Suppression], sent: SendTerms, rules: RuleSet, other: str
) -> None:
    """Dropping every word and no on other purposes changes nothing, where no dead or forgotten address is involved."""
    causes = [no.cause for no in standing.noes] + [entry.cause for entry in entries]
    assume("hard_bounce" not in causes)
    assume("erased" not in causes)
    assume(other != sent.purpose)
    less = replace(
        standing,
        permissions={k: p for k, p in standing.permissions.items() if k != permission_key(other, EMAIL)},
        noes=tuple(no for no in standing.noes if no.scope != f"purpose:{other}"),
    )
    fewer = [entry for entry in entries if covers(entry.scope, sent.purpose)]
    assert decide(less, fewer, sent, rules, NOW) == decide(standing, entries, sent, rules, NOW)


@given(
    countries,
    st.sampled_from((IMPLIED_PURCHASE, IMPLIED_INQUIRY)),
    st.integers(at(2012, 1, 1), NOW),
    st.data(),
)
def test_implied_consent_by_the_rules_of_each_day(
    country: str | None, basis: str, given_at: int, data: st.DataObject
) -> None:
    """Where the rules of two days differ so do the answers, and an answer follows from the rules it was asked under."""
    day = data.draw(st.dates(date(2010, 1, 1), date(2029, 1, 1)))
    now_us = data.draw(st.integers(given_at, NOW))
    rules = rules_on(day)
    customer = person(country=country, word=granted(given_at, basis=basis))
    decision = ask(customer, sender=country, rules=rules, now_us=now_us)
    regime = rules.regime_of(country)
    if regime.opt_out:
        assert decision.allowed
        assert decision.valid_until_us is None
    elif basis not in regime.permits:
        assert decision.rule == "permission_not_accepted"
    else:
        assert decision.rule in ("implied_expired", basis.replace("-", "_"))
        # At the moment it was given it holds, and it says until when.
        decision_then = ask(customer, sender=country, rules=rules, now_us=given_at)
        assert decision_then.valid_until_us is not None
        assert decision.allowed == (now_us < decision_then.valid_until_us)
        # So many months are never more than 31 days each, and never fewer than 28.
        length_days = (decision_then.valid_until_us - given_at) / 86_400_000_000
        assert 28 * regime.permits[basis] <= length_days <= 31 * regime.permits[basis]


@given(st.dates(date(1990, 1, 1), TODAY), st.dates(date(2018, 6, 1), date(2030, 12, 31)), ages)
def test_age_is_counted_in_birthdays(birth: date, day: date, minimum_age: int) -> None:
    """Somebody is of age from the birthday on; who was born on 29 February has it on 1 March of common years."""
    assume(birth <= day)
    try:
        birthday = birth.replace(year=birth.year + minimum_age)
    except ValueError:
        birthday = date(birth.year + minimum_age, 3, 1)
    customer = person(country="US", birth_date=birth.isoformat())
    now_us = (day - date(1970, 1, 1)) // timedelta(microseconds=1)
    for moment in (now_us, now_us + 86_400_000_000 - 1):
        decision = ask(customer, sender="US", minimum_age=minimum_age, rules=RULES_TODAY, now_us=moment)
        assert (decision.rule == "underage") == (day < birthday)


@thorough
@given(
    standing=standings | recent_standings,
    entries=lists,
    purpose=purposes,
    occurred_us=moments,
    evidenced=st.booleans(),
    imported=st.booleans(),
    method=st.sampled_from((None, "form", "double_opt_in")),
    rules=rule_sets,
)
def test_an_effective_grant_is_one_that_allows(
    *,
    standing: Standing,
    entries: list[Suppression],
    purpose: str,
    occurred_us: int,
    evidenced: bool,
    imported: bool,
    method: str | None,
    rules: RuleSet,
) -> None:
    """What is answered as effective can be relied on at once, and what lifts a no was never an import (I7)."""
    standing = replace(standing, birth_date=None)
    key = permission_key(purpose, EMAIL)
    effective, reason = grant_effect(
        standing, entries, purpose=purpose, channel=EMAIL, occurred_us=occurred_us, recorded_us=NOW,
        evidenced=evidenced, imported=imported, method=method,
    )  # fmt: skip
    assert (reason is None) == effective
    assert effective or reason in GRANT_REASONS
    # The fold keeps an import as not evidenced, so that it can lift nothing later either.
    word = Permission(GRANTED, CONSENT, occurred_us, 99, evidenced and not imported, method)
    after = replace(standing, permissions=standing.permissions | {key: word})
    decision = decide(after, entries, SendTerms.of(purpose, EMAIL), rules, NOW)
    if effective:
        assert decision.rule == ("contract" if is_transactional(purpose) else "consent")
    elif reason in GRANT_STANDS_BUT_BLOCKED:
        assert not decision.allowed, "keeping such a grant allows nothing before the blocking cause is gone"
    held = standing.permissions.get(key)
    if effective and held is not None and held.status in (WITHDRAWN, REFUSED):
        assert evidenced
        assert not imported
        assert held.occurred_at < occurred_us <= NOW
