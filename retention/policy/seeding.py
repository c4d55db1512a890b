"""Seeding: the registers of an account begin with what its policy pack says, and are never overwritten unasked.

It can be repeated: what was seeded before and has changed in the pack is amended; what somebody has amended or retired
is left as it is, and named.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from domain.facts import Fact
from domain.register import KIND_OF, Register, RegisterFact, RegisterRefused, amend, declare, fold, said, same_words
from ledger.application import Ledger
from retention.policy.adopting import pack_of
from retention.policy.pack import Pack
from retention.policy.seeds import statements


@dataclass(slots=True)
class Seeded:
    """What came of seeding, entry by entry as `kind key`. `left` says what was not touched, and why."""

    pack: str
    version: int
    declared: list[str] = field(default_factory=list)
    amended: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)


def seed(ledger: Ledger, *, actor: str) -> Seeded:
    """Begin the registers with the pack that the account lives under. Raises `UnknownPack`, `PackRewritten`."""
    account = ledger.accounts.state()
    pack = pack_of(account)
    found: list[Seeded] = []

    def decide(register: Register) -> list[Fact]:
        found[:] = [Seeded(pack.name, pack.version)]
        return _decide(pack, register, found[0], operator=account.operator)

    ledger.registers.change(decide, actor=actor)
    return found[0]


def _decide(pack: Pack, register: Register, found: Seeded, *, operator: bool) -> list[Fact]:
    facts: list[Fact] = []
    for stated in statements(pack, operator=operator):
        name = f"{KIND_OF[type(stated)]} {stated.key}"
        try:
            made = _of_seed(register, stated, name, found)
        except RegisterRefused as refused:
            found.left[name] = str(refused)
            continue
        register = fold(made, register)
        facts += made
    return facts


def _of_seed(register: Register, stated: RegisterFact, name: str, found: Seeded) -> list[Fact]:
    held = register.entry(KIND_OF[type(stated)], stated.key)
    if held is None:
        made = declare(register, stated)
        found.declared.append(name)
        return made
    if not held.in_force:
        found.left[name] = "It was retired. Declare it again by hand, if it is done again."
    elif same_words(held.stated, stated):
        found.same.append(name)
    elif held.by_hand:
        found.left[name] = (
            f"It was amended in your own words. The pack differs in {', '.join(_differs(held.stated, stated))}."
        )
    else:
        made = amend(register, stated)
        found.amended.append(name)
        return made
    return []


def _differs(held: RegisterFact, stated: RegisterFact) -> list[str]:
    before = said(held)
    return [name for name, value in said(stated).items() if before.get(name) != value]
