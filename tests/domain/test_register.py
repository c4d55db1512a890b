"""Registers: what is declared, amended and retired, and what an entry may say. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.facts import Fact
from domain.personal import Personal
from domain.register import (
    ActivityAmended,
    ActivityDeclared,
    EntryRetired,
    Kind,
    Register,
    RegisterFact,
    RegisterRefused,
    amend,
    declare,
    fold,
    in_turn,
    retire,
)
from domain.register_shape import FIELDS, ITEMS_MAX, NAME_CHARACTERS_MAX, statement, values_of
from domain.time_limit import CLOCKS, InvalidTimeLimit, TimeLimit

ACTIVITY: dict[str, Any] = {
    "key": "campaigns",
    "role": "controller",
    "name": "Campaigns",
    "purposes": ["To send what was asked for."],
    "categories": ["identity", "link"],
    "limits": {"identity": "account_closed:P60D"},
    "clauses": {"identity": "8"},
}
SAFEGUARD = {"key": "clauses", "mechanism": "scc", "name": "Clauses", "countries": ["US"]}
RECIPIENT = {"key": "host", "recipient_kind": "sub_processor", "name": "Host", "countries": ["US"]}


def headed(facts: list[Fact], day: int, version: int = 1) -> list[Fact]:
    """Facts that happened on a day of November 2026."""
    at = datetime(2026, 11, day, tzinfo=UTC)
    return [f.model_copy(update={"occurred_at": at, "originator_version": version + n}) for n, f in enumerate(facts)]


def declared(*statements: RegisterFact, day: int = 1) -> Register:
    """Registers in which these were declared."""
    return fold(headed(in_turn([partial(_declared, stated=stated) for stated in statements])(Register()), day))


def _declared(register: Register, stated: RegisterFact) -> list[Fact]:
    return declare(register, stated)


# What happens to an entry -------------------------------------------------------------------------------------------


def test_an_entry_is_declared_once() -> None:
    """Given an entry, when the same is declared again, then nothing happens; in other words it is refused."""
    register = declared(statement("activity", ACTIVITY))
    assert declare(register, statement("activity", ACTIVITY)) == []
    with pytest.raises(RegisterRefused, match="amend it") as refused:
        declare(register, statement("activity", ACTIVITY | {"name": "Mail"}))
    assert refused.value.reason == "declared_already"
    assert "Mail" not in str(refused.value), "No word of an entry stands in an error."


def test_an_amendment_states_the_whole_entry() -> None:
    """Given an entry, when it is amended, then its last words count, and it is declared since the first day."""
    register = declared(statement("activity", ACTIVITY))
    facts = amend(register, statement("activity", ACTIVITY | {"categories": ["identity"], "limits": {}, "clauses": {}}))
    assert [type(fact) for fact in facts] == [ActivityAmended]
    entry = fold(headed(facts, 5, 2), register).entry("activity", "campaigns")
    assert entry is not None
    assert isinstance(entry.stated, ActivityAmended)
    assert entry.stated.categories == ("identity",)
    assert (entry.declared_at.day, entry.changed_at.day) == (1, 5)
    assert amend(register, statement("activity", ACTIVITY)) == [], "Nothing changes, so nothing is recorded."


def test_what_was_retired_can_be_declared_anew() -> None:
    """Given a retired entry, when it is retired again nothing happens; declared again, it begins on that day."""
    register = declared(statement("activity", ACTIVITY))
    retired = fold(headed(retire(register, "activity", "campaigns", "ended"), 3, 2), register)
    assert retired.in_force("activity") == ()
    assert retire(retired, "activity", "campaigns", "ended") == []
    with pytest.raises(RegisterRefused, match="Declare it"):
        amend(retired, statement("activity", ACTIVITY))
    again = fold(headed(declare(retired, statement("activity", ACTIVITY)), 7, 3), retired)
    (entry,) = again.in_force("activity")
    assert entry.declared_at.day == 7


def test_what_is_named_must_be_there_and_stays_while_it_is_named() -> None:
    """Given a recipient and its safeguard, then neither goes before who names it, nor comes after."""
    with pytest.raises(RegisterRefused, match="no safeguard clauses"):
        declare(Register(), statement("recipient", RECIPIENT | {"safeguards": ["clauses"]}))
    register = declared(
        statement("safeguard", SAFEGUARD),
        statement("recipient", RECIPIENT | {"safeguards": ["clauses"]}),
        statement("activity", ACTIVITY | {"recipients": ["host"]}),
    )
    users: list[tuple[Kind, str, str]] = [
        ("safeguard", "clauses", "recipient host"),
        ("recipient", "host", "activity campaigns"),
    ]
    for kind, key, user in users:
        with pytest.raises(RegisterRefused, match=user) as refused:
            retire(register, kind, key, "ended")
        assert refused.value.reason == "in_use"
    facts = in_turn(
        [
            lambda r: retire(r, "activity", "campaigns", "ended"),
            lambda r: retire(r, "recipient", "host", "ended"),
            lambda r: retire(r, "safeguard", "clauses", "replaced"),
        ]
    )(register)
    assert [(type(fact), fact.reason) for fact in facts if isinstance(fact, EntryRetired)] == [
        (EntryRetired, "ended"),
        (EntryRetired, "ended"),
        (EntryRetired, "replaced"),
    ]


def test_words_are_sealed_and_masked() -> None:
    """Given an entry, then its words are personal values that show nothing; codes are plain."""
    made = statement("party", {"key": "dpo", "role": "controller_dpo", "name": "Officer", "person": "Ada Lovelace"})
    assert "Ada" not in repr(made) + str(made)
    assert isinstance(made.name, Personal)
    assert values_of(made)["person"] == "Ada Lovelace"


# What an entry may say ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"key": "Has Spaces"}, "bad_code"),
        ({"key": "ada@example.com"}, "bad_code"),
        ({"role": "owner"}, "unknown_code"),
        ({"name": ""}, "missing_field"),
        ({"name": "   "}, "no_text"),
        ({"name": "x" * (NAME_CHARACTERS_MAX + 1)}, "too_long"),
        ({"name": "bell \x07"}, "control_character"),
        ({"purposes": []}, "missing_field"),
        ({"purposes": "one"}, "no_list"),
        ({"purposes": ["one"] * (ITEMS_MAX + 1)}, "too_many"),
        ({"categories": ["shoes"]}, "unknown_code"),
        ({"limits": {"identity": "soon"}}, "bad_limit"),
        ({"limits": {"billing": "calendar:P7Y"}, "clauses": {}}, "unknown_category"),
        ({"clauses": {"link": "8"}}, "no_limit"),
        ({"clauses": {"identity": "; DROP"}}, "bad_code"),
        ({"measures": ["magic"]}, "unknown_code"),
        ({"subjects": ["martian"]}, "unknown_code"),
        ({"colour": "red"}, "unknown_field"),
    ],
)
def test_a_mistake_is_named_by_its_field_and_repeats_nothing(change: dict[str, Any], reason: str) -> None:
    """Given an entry with one mistake, then it is refused under a stable reason, and its value is not repeated."""
    with pytest.raises(RegisterRefused) as refused:
        statement("activity", ACTIVITY | change)
    assert refused.value.reason == reason
    assert "ada@example.com" not in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("safeguard", SAFEGUARD | {"document_sha256": "abc"}),
        ("safeguard", SAFEGUARD | {"countries": ["usa"]}),
        ("recipient", RECIPIENT | {"seen_as": ["everything"]}),
        ("recipient", RECIPIENT | {"seen_as": ["sender:ada@example.com"]}),
        ("party", {"key": "x", "role": "boss", "name": "X"}),
        ("wish", {"key": "x"}),
    ],
)
def test_other_kinds_are_checked_too(kind: str, values: dict[str, Any]) -> None:
    """Given a safeguard, recipient or party with a mistake, or a kind that is none, then it is refused."""
    with pytest.raises(RegisterRefused):
        statement(kind, values)


def test_every_field_of_every_kind_comes_back() -> None:
    """Given an entry of each kind, when its values are read back and stated again, then nothing changes."""
    for kind, values in (("activity", ACTIVITY), ("safeguard", SAFEGUARD), ("recipient", RECIPIENT)):
        made = statement(kind, values)
        assert values_of(made) == values
        assert set(values) <= set(FIELDS[kind])
    assert isinstance(statement("activity", ACTIVITY), ActivityDeclared)


# Time limits ----------------------------------------------------------------------------------------------------------


@given(
    st.sampled_from([clock for clock in CLOCKS if clock != "for_ever"]),
    st.integers(0, 1_200),
    st.integers(0, 3_660),
    st.booleans(),
)
def test_a_time_limit_is_read_as_it_was_written(clock: str, months: int, days: int, minimum: bool) -> None:
    """Given any time limit, when its code is parsed, then it is the same."""
    limit = TimeLimit(clock, months, days, minimum)
    assert TimeLimit.parse(limit.code) == limit
    assert str(limit)


def test_a_time_limit_is_said_in_words() -> None:
    """Given the limits of the packs, then a person can read them; years are twelve months."""
    assert TimeLimit.parse("last_transaction:P7Y:minimum").code == "last_transaction:P84M:minimum"
    assert str(TimeLimit.parse("last_transaction:P7Y:minimum")) == "at least 7 years after the last transaction"
    assert str(TimeLimit.parse("account_closed:P60D")) == "60 days after the account's end"
    assert str(TimeLimit.parse("for_ever")) == "without end"
    assert str(TimeLimit.parse("hold_released:P0D")) == "at once after the release of the legal hold"


@pytest.mark.parametrize(
    "code", ["", "for_ever:P1D", "calendar", "calendar:P", "calendar:24M", "moon:P1D", "calendar:P1D:maximum", "P24M"]
)
def test_what_is_no_time_limit_is_refused(code: str) -> None:
    """Given a text that is no limit, then it is refused and the form is shown."""
    with pytest.raises(InvalidTimeLimit):
        TimeLimit.parse(code)
