"""The end of an account, decided: what is refused, what is harmless, and when there is no way back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from domain.account import (
    Account,
    AccountClosed,
    AccountOpened,
    AccountReactivated,
    AccountRefused,
    AccountTerminated,
    close,
    fold,
    reactivate,
    terminate,
)
from domain.facts import Fact
from domain.keys import AggregatePublished, DestructionIntended, PeriodKeyDestroyed, SubjectKeysExpired
from domain.personal import Personal

OPENED_AT = datetime(2026, 11, 21, tzinfo=UTC)


def account(*facts: Fact) -> Account:
    """An account after these facts, one day apart."""
    first = AccountOpened(name=Personal("Acme"), pack="mailkai", country="DE", minimum_age=16)
    headed = [
        fact.model_copy(update={"originator_version": number, "occurred_at": OPENED_AT + timedelta(days=number - 1)})
        for number, fact in enumerate([first, *facts], 1)
    ]
    state = fold(None, headed)
    assert state is not None
    return state


def test_an_account_ends_once() -> None:
    """Given a running account, when it is terminated twice, then only the first time leads to a fact."""
    assert terminate(account()) == [AccountTerminated()]
    ended = account(AccountTerminated())
    assert ended.status == "terminated"
    assert ended.terminated_at == OPENED_AT + timedelta(days=1)
    assert terminate(ended) == []


def test_a_terminated_account_can_be_taken_up_again() -> None:
    """Given a terminated account, when it is reactivated, then it runs, and its next end counts from the next day."""
    assert reactivate(account(AccountTerminated())) == [AccountReactivated()]
    again = account(AccountTerminated(), AccountReactivated())
    assert (again.status, again.terminated_at) == ("active", None)
    assert reactivate(again) == []
    ended = account(AccountTerminated(), AccountReactivated(), AccountTerminated())
    assert ended.terminated_at == OPENED_AT + timedelta(days=3)


def test_once_its_keys_go_there_is_no_way_back() -> None:
    """Given an account of which something is being destroyed, when it is reactivated, then that is refused by name."""
    assert close(account(AccountTerminated())) == [AccountClosed()]
    closed = account(AccountTerminated(), AccountClosed())
    assert closed.status == "closed"
    assert close(closed) == []
    with pytest.raises(AccountRefused, match="cannot be taken up again") as refused:
        reactivate(closed)
    assert refused.value.reason == "account_closed"
    assert terminate(closed) == []


@pytest.mark.parametrize("facts", [(), (AccountTerminated(), AccountReactivated())], ids=["new", "reactivated"])
def test_an_account_that_runs_is_never_closed(facts: tuple[Fact, ...]) -> None:
    """Given an account that runs, when somebody would destroy it as a closed one, then that is refused."""
    with pytest.raises(AccountRefused) as refused:
        close(account(*facts))
    assert refused.value.reason == "account_active"


def test_the_end_changes_nothing_else() -> None:
    """Given an account with a policy and an age, when it ends, then it still has both."""
    before, after = account(), account(AccountTerminated(), AccountClosed())
    assert (after.pack, after.country, after.minimum_age) == (before.pack, before.country, before.minimum_age)
    assert after.version == 3


@pytest.mark.parametrize("fact", [DestructionIntended, AggregatePublished, PeriodKeyDestroyed, SubjectKeysExpired])
def test_facts_about_destruction_have_no_place_for_a_person(fact: type[Fact]) -> None:
    """Given a fact of a plan, then no field of it is named for a person, an address, a stream or a kid."""
    named = {"kid", "holder", "holders", "subject", "email", "address", "handle", "stream", "fingerprint"}
    assert not named & fact.model_fields.keys()
