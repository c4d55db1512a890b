"""No promise shrinks unnoticed: what a new version changes is said, and a weaker one waits until its notice has run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.account import Account
from domain.adoption import AdoptionRefused, decide_adoption, decide_first_adoption, first_day_after_notice
from ledger.application import Ledger
from retention.policy.adopting import PackRewritten, adopt, announce, newest_in_force, open_under, pack_of
from retention.policy.changes import terms_of, weakenings
from retention.policy.controls import KINDS
from retention.policy.pack import Pack, load_pack, use_packs_of
from retention.policy.reading import parse_pack
from tests.retention.pack_texts import block, changed, text_of, version_two
from tests.support import SettableClock


@pytest.fixture
def _own_shelf() -> Iterator[None]:
    """Whatever a test puts beside the packs that ship is taken away again."""
    yield
    use_packs_of(None)


# Changes --------------------------------------------------------------------------------------------------------------

CLAUSE_10_4 = """
[[clause]]
number = "10.4"
title = "Requests by mail with a subject line, answered within 30 days; identity may be verified"
kind = "enforced"
control = "rights-desk"
"""

WEAKENINGS: list[tuple[str, str, str, str]] = [
    ("mailkai", "keep_years = 3\n", "keep_years = 4\n", "support is kept longer: 4 years instead of 3 years"),
    ("mailkai", "keep_years = 3\n", "keep_months = 35\n", "support is destroyed earlier: 35 months instead of 3 years"),
    ("mailkai", "keep_years = 7\n", "keep_years = 8\n", "billing is kept longer"),
    ("mailkai", "keep_years = 3\n", "keep_days = 1090\n", "support is kept for another time"),
    (
        "mailkai",
        'keep_days = 90\n\n[[closure]]\nclass = "identity"\nclause',
        'keep_days = 10\n\n[[closure]]\nclass = "identity"\nclause',
        "identity of account_holder is destroyed earlier",
    ),
    (
        "mailkai",
        block("closure", "consent", 'clause = "8 campaign & subscriber"\nkeep_days = 60\n'),
        block("closure", "consent", 'clause = "8 campaign & subscriber"\nkeep_days = 61\n'),
        "after the account's closure consent is kept longer",
    ),
    ("mailenium", "horizon_days = 30\n", "horizon_days = 31\n", "the horizon of backups is 31 days"),
    ("mailenium", "horizon_days = 30\n", "", "the horizon of backups is no longer stated"),
    ("mailkai", "notice_days = 14\n", "notice_days = 13\n", "notice is 13 days instead of 14"),
    ("mailkai", "minimum_age = 16\n", "minimum_age = 15\n", "the minimum age is 15 instead of 16"),
    (
        "mailenium",
        'clock = "for_ever"\n',
        'clock = "account_closed"\n',
        "suppression goes by account closed instead of for ever",
    ),
    (
        "mailkai",
        'limbs = ["17(3)(b)", "17(3)(e)"]',
        'limbs = ["17(3)(b)"]',
        "suppression is kept under 17(3)(b) on erasure instead of kept under 17(3)(b), 17(3)(e)",
    ),
    (
        "mailkai",
        'class = "suppression"\nerasure = "kept"',
        'class = "suppression"\nerasure = "destroyed"',
        "suppression is destroyed on erasure",
    ),
    (
        "mailkai",
        block("outcome", "consent", 'erasure = "destroyed"\n'),
        block("outcome", "consent", 'limbs = ["17(3)(e)"]\nerasure = "kept"\n'),
        "consent is kept under 17(3)(e) on erasure instead of destroyed",
    ),
    (
        "mailkai",
        'also = [{ kind = "enforced", control = "aggregates-first" }]\n',
        "",
        "clause 8 usage & analytics is no longer kept by aggregates-first (enforced)",
    ),
    (
        "mailkai",
        CLAUSE_10_4,
        "",
        "clause 10.4 is gone",
    ),
    (
        "mailkai",
        'may be verified"\nkind = "enforced"',
        'may be verified"\nkind = "recorded"',
        "clause 10.4 is recorded by rights-desk instead of enforced",
    ),
    (
        "mailkai",
        block(
            "retention",
            "engagement",
            'clause = "8 usage & analytics"\nclock = "calendar"\nkeep_months = 24\naggregate_first = true\n',
        ),
        block("retention", "engagement", 'clause = "8 usage & analytics"\nclock = "calendar"\nkeep_months = 24\n'),
        "no figures of engagement are kept",
    ),
]


@pytest.mark.parametrize(("name", "old", "new", "said"), WEAKENINGS, ids=[said for *_, said in WEAKENINGS])
def test_whatever_takes_a_promise_back_or_shortens_it_is_said(name: str, old: str, new: str, said: str) -> None:
    """Given a new version that changes one promise, then the change is told in words, class by class."""
    found = weakenings(load_pack(name), parse_pack(version_two((old, new), name=name), "two"))
    assert any(said in change for change in found), found


def test_a_minimum_above_the_law_that_is_shortened_is_said() -> None:
    """Given a pack that keeps billing for eight years, when its next version keeps it for seven, then that is told."""
    eight = parse_pack(changed(text_of("mailkai"), "keep_years = 7\n", "keep_years = 8\n"), "eight")
    found = weakenings(eight, parse_pack(version_two(), "two"))
    assert any("billing is destroyed earlier" in change for change in found), found


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("mailkai", "version = 2\n", "version = 2\nhorizon_days = 30\n"),
        ("mailenium", "horizon_days = 30\n", "horizon_days = 29\n"),
        ("mailkai", "notice_days = 14\n", "notice_days = 30\n"),
        ("mailkai", "minimum_age = 16\n", "minimum_age = 18\n"),
        ("mailkai", 'title = "What cookies are for"', 'title = "Cookies, and why"'),
        ("mailkai", 'control = "age-rule"\n', 'control = "age-rule"\nnote = "Found by the birth date."\n'),
        (
            "mailkai",
            'also = [{ kind = "enforced", control = "erasure" }]\n',
            'also = [{ kind = "enforced", control = "erasure" }, { kind = "enforced", control = "rights-desk" }]\n',
        ),
    ],
)
def test_what_takes_nothing_back_needs_no_notice(name: str, old: str, new: str) -> None:
    """Given a new version that promises as much or more, then there is nothing to announce."""
    assert weakenings(load_pack(name), parse_pack(version_two((old, new), name=name), "two")) == []


def test_another_policy_is_a_change_of_everything() -> None:
    """Given the two policies, then going from one to the other takes promises back, either way."""
    mailkai, mailenium = load_pack("mailkai"), load_pack("mailenium")
    assert weakenings(mailkai, mailkai) == weakenings(mailenium, mailenium) == []
    assert weakenings(mailkai, mailenium)
    assert weakenings(mailenium, mailkai)


@given(st.integers(0, 120), st.dates(date(2020, 1, 1), date(2030, 1, 1)))
def test_all_days_of_a_notice_run(notice_days: int, given_on: date) -> None:
    """Given a notice at any hour of a day, then so many whole days lie between that day and the change."""
    first = first_day_after_notice(given_on, notice_days)
    assert (first - given_on).days - 1 == notice_days if notice_days else first == given_on


# Adoption -------------------------------------------------------------------------------------------------------------

LONGER = ("keep_years = 3\n", "keep_years = 4\n")
STRICTER = ("minimum_age = 16\n", "minimum_age = 18\n")
store = pytest.mark.store


def pack_two(*changes: tuple[str, str]) -> Pack:
    """A made-up second version of the Mailkai pack."""
    return parse_pack(version_two(*changes), "two")


@pytest.fixture
def shelved(tmp_path: Path, _own_shelf: None) -> Callable[..., Pack]:
    """Puts a made-up second version on the shelf."""

    def put(*changes: tuple[str, str]) -> Pack:
        (tmp_path / "two.toml").write_text(version_two(*changes))
        use_packs_of(tmp_path)
        return load_pack("mailkai", 2)

    return put


def adoptions(ledger: Ledger) -> list[str]:
    """The topics of the account's stream about packs."""
    return [event.topic for event in ledger.log.select_log(1, 1000) if "pack" in event.topic]


@store
def test_a_version_that_takes_nothing_back_is_adopted_at_once(ledger: Ledger, shelved: Callable[..., Pack]) -> None:
    """Given a stricter second version, when it is adopted, then the account lives under it, with its minimum age."""
    wanted = shelved(STRICTER)
    done = adopt(ledger, wanted, actor="cli")
    assert (done.recorded, done.weakened) == (True, ())
    account = ledger.account()
    assert (account.pack, account.pack_version, account.pack_digest) == ("mailkai", 2, wanted.digest)
    assert account.minimum_age == 18
    assert pack_of(account) == wanted
    assert adopt(ledger, wanted, actor="cli").recorded is False
    assert adoptions(ledger) == ["account.pack_adopted.v1"]


@store
def test_a_weaker_version_waits_for_its_notice(
    ledger: Ledger, clock: SettableClock, shelved: Callable[..., Pack]
) -> None:
    """Given a version that keeps longer, then it is refused without a notice, during it, and taken once it has run."""
    wanted = shelved(LONGER)
    with pytest.raises(AdoptionRefused, match="support is kept longer"):
        adopt(ledger, wanted, actor="cli")

    given_on = clock().date()
    notice = announce(ledger, wanted, effective_on=None, actor="cli")
    assert notice.account.announced["mailkai", 2].effective_on == given_on + timedelta(days=15)
    for _ in range(14):
        clock.advance(timedelta(days=1))
        with pytest.raises(AdoptionRefused, match="can be adopted from"):
            adopt(ledger, wanted, actor="cli")
    assert ledger.account().pack_version == 1
    clock.advance(timedelta(days=1))
    assert adopt(ledger, wanted, actor="cli").recorded
    assert ledger.account().pack_version == 2
    assert adoptions(ledger) == ["account.pack_change_announced.v1", "account.pack_adopted.v1"]


@store
def test_a_notice_is_for_the_words_that_it_named(
    ledger: Ledger, clock: SettableClock, shelved: Callable[..., Pack]
) -> None:
    """Given a notice, when the file is rewritten before the adoption, then the notice does not cover it."""
    announce(ledger, shelved(LONGER), effective_on=None, actor="cli")
    clock.advance(timedelta(days=30))
    with pytest.raises(AdoptionRefused, match="was for other words"):
        adopt(ledger, shelved(LONGER, ("keep_years = 7\n", "keep_years = 9\n")), actor="cli")


@store
def test_a_notice_cannot_be_shortened_and_is_given_once(
    ledger: Ledger, clock: SettableClock, shelved: Callable[..., Pack]
) -> None:
    """Given a change, when it is announced for too early a day, then it is refused; twice, and it is recorded once."""
    wanted, today = shelved(LONGER), clock().date()
    with pytest.raises(AdoptionRefused, match="14 days of notice"):
        announce(ledger, wanted, effective_on=today + timedelta(days=14), actor="cli")
    assert announce(ledger, wanted, effective_on=None, actor="cli").recorded
    clock.advance(timedelta(days=3))
    assert not announce(ledger, wanted, effective_on=None, actor="cli").recorded
    assert ledger.account().announced["mailkai", 2].given_on == today


@store
def test_a_pack_that_was_rewritten_after_its_adoption_is_noticed(ledger: Ledger, shelved: Callable[..., Pack]) -> None:
    """Given an adopted version, when its file says something else, then the account's pack is refused, not followed."""
    adopt(ledger, shelved(STRICTER), actor="cli")
    rewritten = shelved(STRICTER, LONGER)
    with pytest.raises(PackRewritten, match="no longer says what the account adopted"):
        pack_of(ledger.account())
    with pytest.raises(PackRewritten):
        adopt(ledger, rewritten, actor="cli")


@store
def test_an_older_version_is_not_gone_back_to(ledger: Ledger, shelved: Callable[..., Pack]) -> None:
    """Given an account under version 2, then version 1 is refused, with what to do."""
    adopt(ledger, shelved(STRICTER), actor="cli")
    with pytest.raises(AdoptionRefused, match="publish them as a newer version"):
        adopt(ledger, load_pack("mailkai", 1), actor="cli")
    with pytest.raises(AdoptionRefused, match="older"):
        announce(ledger, load_pack("mailkai", 1), effective_on=None, actor="cli")


@store
def test_another_process_sees_an_adoption_soon(
    ledger: Ledger, shelved: Callable[..., Pack], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a process that has read the account, when another one adopts, then the first believes it no longer."""
    other = Ledger(ledger.tenant, ledger.services)
    assert other.account().pack_version == 1
    adopt(ledger, shelved(STRICTER), actor="cli")
    assert other.account().pack_version == 1
    monkeypatch.setattr(other, "_account_until", 0.0)
    assert (other.account().pack_version, other.account().minimum_age) == (2, 18)


@store
def test_an_account_opens_under_the_newest_version_in_force(
    ledger: Ledger, clock: SettableClock, shelved: Callable[..., Pack]
) -> None:
    """Given a second version with a day of its own, then who opens before it takes the first, and later the second."""
    second = shelved(STRICTER, ("effective_from = 2026-01-01", "effective_from = 2030-01-01"))
    assert newest_in_force("mailkai", date(2029, 12, 31)).version == 1
    assert newest_in_force("mailkai", date(2030, 1, 1)) == second
    opened = Ledger(uuid4(), ledger.services)
    assert open_under(opened, second, name="Later", country="EE", minimum_age=None, actor="cli") == 18
    assert (opened.account().pack_version, opened.account().minimum_age) == (2, 18)
    with pytest.raises(AdoptionRefused, match="just opened"):
        decide_first_adoption(opened.account(), terms_of(second))


def _account(minimum_age: int) -> Account:
    clock = SettableClock()
    return Account("mailkai", "EE", minimum_age, 1, clock())


@pytest.mark.parametrize(("own", "after"), [(16, 18), (10, 18), (17, 18), (21, 21)])
def test_an_age_that_an_account_set_higher_stays(own: int, after: int) -> None:
    """Given an account's own minimum age, when a pack with another age is adopted, then the higher promise counts."""
    current, wanted = terms_of(load_pack("mailkai")), terms_of(pack_two(STRICTER))
    (fact,) = decide_adoption(_account(own), current, wanted, date(2026, 11, 21), [])
    assert getattr(fact, "minimum_age") == after  # noqa: B009  mypy knows facts by their base


def test_a_version_of_tomorrow_is_not_adopted_today() -> None:
    """Given a version with a day in the future, then it is refused until that day, whatever it promises."""
    current = terms_of(load_pack("mailkai"))
    wanted = terms_of(pack_two(("effective_from = 2026-01-01", "effective_from = 2027-01-01")))
    with pytest.raises(AdoptionRefused, match="in force from 2027-01-01"):
        decide_adoption(_account(16), current, wanted, date(2026, 12, 31), [])
    assert decide_adoption(_account(16), current, wanted, date(2027, 1, 1), [])


def test_kinds_are_in_order_of_strength() -> None:
    """Given the kinds, then they run from the strongest to the weakest: that order decides what is a weakening."""
    assert KINDS == ("enforced", "recorded", "declared")
