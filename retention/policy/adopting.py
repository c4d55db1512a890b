"""Which pack an account lives under, and how it comes to live under another one.

The account's state names a pack, a version and the digest of what it promises, from its opening on. The
decisions are `domain/adoption.py`; here they meet the packs, under the account's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from domain.account import FIRST_PACK_VERSION, Account
from domain.adoption import decide_adoption, decide_announcement, decide_first_adoption
from domain.facts import Fact
from ledger.application import Ledger
from retention.policy.changes import terms_of, weakenings
from retention.policy.pack import Mistake, Pack, PackInvalid, load_pack, shelf


class PackRewritten(PackInvalid):
    """A pack whose promises differ from those of the same version that the account adopted."""


@dataclass(frozen=True, slots=True)
class Adoption:
    """What an announcement or adoption came to: the account after it, whether anything was recorded, and why.

    `weakened` says in words each promise that the wanted pack takes back or shortens.
    """

    account: Account
    recorded: bool
    weakened: tuple[str, ...]


def pack_of(account: Account) -> Pack:
    """The pack that an account lives under. Raises `UnknownPack`, and `PackRewritten` where its file was changed."""
    pack = load_pack(account.pack, account.pack_version)
    if account.pack_digest not in (None, pack.digest):
        said = (
            f"Version {pack.version} of {pack.name} no longer says what the account adopted. Put the old file back, "
            "and give the changed pack a version of its own."
        )
        raise PackRewritten(pack.name, [Mistake(1, said)])
    return pack


def newest_in_force(name: str, today: date) -> Pack:
    """The version of a pack that an account opened today lives under. Raises `UnknownPack`."""
    packs = [load_pack(name, version) for version in shelf().versions(name)]
    return next((pack for pack in reversed(packs) if pack.effective_from <= today), packs[0])


def open_under(
    ledger: Ledger,
    pack: Pack,
    *,
    name: str,
    country: str | None,
    minimum_age: int | None,
    actor: str,
    operator: bool = False,
) -> int:
    """Open an account under a pack; returns its minimum age, which is the pack's where none is given."""
    age = pack.minimum_age if minimum_age is None else minimum_age
    first = pack.version == FIRST_PACK_VERSION
    ledger.open_account(
        name=name,
        pack=pack.name,
        country=country,
        minimum_age=age,
        actor=actor,
        operator=operator,
        pack_digest=pack.digest if first else None,
    )
    if not first:
        ledger.change_pack(lambda account, _: decide_first_adoption(account, terms_of(pack)), actor=actor)
    return age


def announce(ledger: Ledger, wanted: Pack, *, effective_on: date | None, actor: str) -> Adoption:
    """Give notice that the account will live under this pack. Raises `AdoptionRefused`."""

    def decide(account: Account, current: Pack, today: date, _: list[str]) -> list[Fact]:
        return decide_announcement(account, terms_of(current), terms_of(wanted), today, effective_on)

    return _changed(ledger, wanted, decide, actor)


def adopt(ledger: Ledger, wanted: Pack, *, actor: str) -> Adoption:
    """Live under this pack from now on. Raises `AdoptionRefused` where a notice is owed and has not run its days."""

    def decide(account: Account, current: Pack, today: date, weakened: list[str]) -> list[Fact]:
        return decide_adoption(account, terms_of(current), terms_of(wanted), today, weakened)

    return _changed(ledger, wanted, decide, actor)


def _changed(
    ledger: Ledger, wanted: Pack, decide: Callable[[Account, Pack, date, list[str]], list[Fact]], actor: str
) -> Adoption:
    seen: list[str] = []
    recorded: list[Fact] = []

    def under_lock(account: Account, today: date) -> list[Fact]:
        current = pack_of(account)
        seen[:] = weakenings(current, wanted)
        recorded[:] = decide(account, current, today, seen)
        return recorded

    account = ledger.change_pack(under_lock, actor=actor)
    return Adoption(account, bool(recorded), tuple(seen))
