"""Registers begin with what the policy pack says; what an account says for itself is never overwritten."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from api.bootstrap import Instance
from domain.register import ActivityStated, RegisterFact, amend, declare, retire
from domain.register_shape import statement, values_of
from ledger.application import Ledger
from retention.policy import seeding
from retention.policy.pack import Pack, PackInvalid, load_pack
from retention.policy.reading import parse_pack
from retention.policy.seeding import seed
from retention.policy.seeds import limits_of, statements
from tests.retention.pack_texts import text_of

MAILKAI, MAILENIUM = load_pack("mailkai"), load_pack("mailenium")

store = pytest.mark.store


# What the packs say -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [MAILKAI, MAILENIUM], ids=lambda pack: pack.name)
@pytest.mark.parametrize("operator", [False, True])
def test_every_activity_of_a_pack_has_its_limits_from_the_packs_rules(pack: Pack, operator: bool) -> None:
    """Given a pack's activities, then each category has a time limit that the pack itself keeps, and its clause."""
    activities = [s for s in statements(pack, operator=operator) if isinstance(s, ActivityStated)]
    assert activities
    for activity in activities:
        assert set(activity.limits) == set(activity.categories)
        assert activity.subjects
        for category, code in activity.limits.items():
            kept = [(limit.code, clause) for limit, clause in limits_of(pack, category, operator=operator)]
            assert (code, activity.clauses.get(category)) in kept


@pytest.mark.parametrize("pack", [MAILKAI, MAILENIUM], ids=lambda pack: pack.name)
def test_both_records_of_article_30_begin_with_the_pack(pack: Pack) -> None:
    """Given a customer's account, then there are rows as controller and as processor; the operator is a controller."""
    roles = [
        {s.role for s in statements(pack, operator=operator) if isinstance(s, ActivityStated)}
        for operator in (False, True)
    ]
    assert roles == [{"controller", "processor"}, {"controller"}]


def test_seeds_are_no_promise() -> None:
    """Given a pack whose seeds are rewritten, then its digest is what it was: accounts go on under it."""
    assert replace(MAILKAI, seeds=()).digest == MAILKAI.digest
    assert MAILKAI.digest == "213de1a428fa54a5e838e12b419360d72b70ef237540831da771f214b2ea9d3f"


PARTY = '[[party]]\nkey = "x"\nname = "X"\n'
ACTIVITY = '[[activity]]\nkey = "x"\nrole = "controller"\nname = "X"\npurposes = ["p"]\n'
RECIPIENT = '[[recipient]]\nkey = "x"\nrecipient_kind = "partner"\nname = "X"\n'
OF_IDENTITY = 'categories = ["identity"]\nlimits = { identity = "calendar:P1D" }\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PARTY + 'role = "boss"', "role is one of"),
        (PARTY + 'role = "processor"\naccounts = "some"', "accounts is one of"),
        ((PARTY + 'role = "processor"\n') * 2, "key once"),
        (RECIPIENT + 'safeguards = ["none"]', "no safeguard none"),
        (ACTIVITY + 'recipients = ["y"]', "no recipient y"),
        (ACTIVITY + OF_IDENTITY + 'clauses = { identity = "77" }', "no clause '77'"),
        ("[[activity]]\ncolour = 3", "no such field"),
    ],
)
def test_a_mistake_in_a_seed_is_named_by_its_line(text: str, said: str) -> None:
    """Given a pack with a mistake in what registers begin with, then it is refused, and the line is told."""
    good = text_of("mailkai")
    parse_pack(good, "good.toml")
    with pytest.raises(PackInvalid) as refused:
        parse_pack(f"{good}\n{text}\n", "bad.toml")
    assert len(refused.value.mistakes) == 1
    (mistake,) = refused.value.mistakes
    assert said in mistake.text
    assert mistake.line > good.count("\n"), "It is below everything that was good."


# Seeding ------------------------------------------------------------------------------------------------------------


@store
def test_seeding_declares_everything_once(ledger: Ledger) -> None:
    """Given a new account, when it is seeded twice, then all is declared once, and the log does not grow again."""
    found = seed(ledger, actor="cli")
    assert len(found.declared) == len(statements(MAILKAI, operator=False))
    assert (found.amended, found.same, found.left) == ([], [], {})
    end = ledger.log.max_notification_id()
    again = seed(ledger, actor="cli")
    assert (again.declared, again.amended, again.left) == ([], [], {})
    assert again.same == found.declared
    assert ledger.log.max_notification_id() == end
    assert {entry.stated.source for entry in ledger.registers.state().in_force("activity")} == {"mailkai 1"}


@store
def test_what_somebody_amended_or_retired_is_left_and_named(ledger: Ledger) -> None:
    """Given entries in words of one's own, and one retired, when the pack is seeded again, then they stay so."""
    seed(ledger, actor="cli")
    mine = stated_with(ledger, "activity", "campaigns", name="Our newsletters")
    ledger.registers.change(lambda register: amend(register, mine), actor="cli")
    ledger.registers.change(lambda register: retire(register, "activity", "engagement", "ended"), actor="cli")
    end = ledger.log.max_notification_id()
    found = seed(ledger, actor="cli")
    assert set(found.left) == {"activity campaigns", "activity engagement"}
    assert "name" in found.left["activity campaigns"]
    assert ledger.log.max_notification_id() == end
    assert values_of(held(ledger, "activity", "campaigns"))["name"] == "Our newsletters"


@store
def test_what_changed_in_the_pack_is_amended(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a seed with new words in the pack and nobody's own, when it is seeded again, then it is amended."""
    seed(ledger, actor="cli")
    changed = [_renamed(s) if s.key == "hosting" else s for s in statements(MAILKAI, operator=False)]
    monkeypatch.setattr(seeding, "statements", lambda pack, operator: changed)
    found = seed(ledger, actor="cli")
    assert found.amended == ["recipient hosting"]
    assert values_of(held(ledger, "recipient", "hosting"))["name"] == "Hosting in Falkenstein"


@store
def test_a_seed_that_names_what_was_retired_is_left_out_and_the_rest_goes_on(ledger: Ledger) -> None:
    """Given a recipient that was retired before, then an activity that names it is not declared, and says why."""
    made = statement("recipient", {"key": "integrations", "recipient_kind": "partner", "name": "None"})
    ledger.registers.change(lambda register: declare(register, made), actor="cli")
    ledger.registers.change(lambda register: retire(register, "recipient", "integrations", "ended"), actor="cli")
    found = seed(ledger, actor="cli")
    assert "no recipient integrations" in found.left["activity campaigns"]
    assert "retired" in found.left["recipient integrations"]
    assert "activity delivery" in found.declared


@store
def test_the_operators_account_begins_with_its_own(instance: Instance) -> None:
    """Given the platform's own account, then its registers speak of its users, and name it as controller."""
    ledger = instance.ledger(uuid4())
    ledger.open_account(name="Mailkai", pack="mailkai", country="EE", minimum_age=16, actor="cli", operator=True)
    seed(ledger, actor="cli")
    register = ledger.registers.state()
    assert {entry.key for entry in register.in_force("activity")} == {"accounts", "support", "improvement", "marketing"}
    assert {values_of(entry.stated)["role"] for entry in register.in_force("party")} == {"controller", "controller_dpo"}
    identity = values_of(held(ledger, "activity", "accounts"))["limits"]["identity"]
    assert identity == "account_closed:P90D", "Mailkai 8: account holders' own time."


def held(ledger: Ledger, kind: Any, key: str) -> RegisterFact:
    """What stands in the register."""
    entry = ledger.registers.state().entry(kind, key)
    assert entry is not None
    return entry.stated


def stated_with(ledger: Ledger, kind: Any, key: str, **changes: Any) -> RegisterFact:
    """The entry as it stands, with some words of one's own."""
    return statement(kind, values_of(held(ledger, kind, key)) | changes)


def _renamed(stated: RegisterFact) -> RegisterFact:
    return statement("recipient", values_of(stated) | {"name": "Hosting in Falkenstein"}, source=stated.source)
