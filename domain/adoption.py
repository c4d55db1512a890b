"""Adopting a policy pack: which version an account lives under, and the notice that a change owes (Mailkai 12).

An account adopts a pack by version. A version that takes back or shortens a promise of the one in force can be
adopted only after a notice that named its very words has run its days; `retention/policy/changes.py` tells what those
are. The facts stand with the account; these are the decisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from domain.account import Account, PackAdopted, PackChangeAnnounced
from domain.facts import Fact

WEAKENED_SHOWN_MAX = 5
"""Who needs it: somebody who takes another policy, where every clause changes; the announcement names them all."""


class AdoptionRefused(Exception):
    """A pack that may not be adopted, or a notice that may not be given, as things stand."""


@dataclass(frozen=True, slots=True)
class PackTerms:
    """What a decision needs to know of a pack: its name, version and digest, and from which day it can be adopted.

    `notice_days` is how long before a change notice is owed to those who live under it.
    """

    name: str
    version: int
    digest: str
    effective_from: date
    notice_days: int
    minimum_age: int


def first_day_after_notice(given_on: date, notice_days: int) -> date:
    """The first day on which a change may take effect that was announced on a day.

    A notice is a minimum, so it rounds up: the day it is given on does not count (Reg. 1182/71 Art. 3(1)), and all of
    its days must have run. Where no days are owed, the change may follow on the same day.
    """
    return given_on + timedelta(days=notice_days + 1) if notice_days else given_on


def decide_announcement(
    account: Account, current: PackTerms, wanted: PackTerms, today: date, effective_on: date | None = None
) -> list[Fact]:
    """Announce a change of pack; nothing where the same notice was given before. Raises `AdoptionRefused`.

    The notice is the one that the pack in force promises. Without `effective_on` the earliest day is taken.
    """
    _require_newer(account, wanted)
    if (account.pack, account.pack_version) == (wanted.name, wanted.version):
        raise AdoptionRefused(f"The account lives under version {wanted.version} of {wanted.name} already.")
    earliest = max(first_day_after_notice(today, current.notice_days), wanted.effective_from)
    day = effective_on or earliest
    if day < earliest:
        raise AdoptionRefused(
            f"{current.name} promises {current.notice_days} days of notice. Announced on {today}, the change can take "
            f"effect on {earliest} at the earliest."
        )
    held = account.announced.get((wanted.name, wanted.version))
    if held is not None and held.digest == wanted.digest and held.effective_on == day:
        return []
    if held is not None and held.digest == wanted.digest and effective_on is None:
        return []
    return [
        PackChangeAnnounced(
            pack=wanted.name,
            pack_version=wanted.version,
            digest=wanted.digest,
            given_on=today.isoformat(),
            effective_on=day.isoformat(),
        )
    ]


def decide_adoption(
    account: Account, current: PackTerms, wanted: PackTerms, today: date, weakened: Sequence[str]
) -> list[Fact]:
    """Adopt a version of a pack; nothing where the account lives under it already. Raises `AdoptionRefused`.

    `weakened` says, in words, each promise of the pack in force that the wanted one takes back or shortens. With none
    of these the change needs no notice; with any it needs one, for the very same words, that has run its days.
    """
    _require_newer(account, wanted)
    if (account.pack, account.pack_version) == (wanted.name, wanted.version):
        if account.pack_digest in (None, wanted.digest):
            return []
        raise AdoptionRefused(
            f"Version {wanted.version} of {wanted.name} was rewritten after the account adopted it. Give the changed "
            "pack a version of its own."
        )
    if today < wanted.effective_from:
        raise AdoptionRefused(
            f"Version {wanted.version} of {wanted.name} is in force from {wanted.effective_from} on. Adopt it then."
        )
    if weakened:
        _require_notice(account, current, wanted, today, weakened)
    return [
        PackAdopted(
            pack=wanted.name,
            pack_version=wanted.version,
            digest=wanted.digest,
            minimum_age=_age(account, current, wanted),
        )
    ]


def decide_first_adoption(account: Account, wanted: PackTerms) -> list[Fact]:
    """What an account lives under that was opened a moment ago: nothing was promised yet. Raises `AdoptionRefused`."""
    if account.version != 1:
        raise AdoptionRefused("Only an account that was just opened takes a pack without looking at the one before.")
    return [
        PackAdopted(
            pack=wanted.name, pack_version=wanted.version, digest=wanted.digest, minimum_age=account.minimum_age
        )
    ]


def _require_newer(account: Account, wanted: PackTerms) -> None:
    if account.pack == wanted.name and wanted.version < account.pack_version:
        raise AdoptionRefused(
            f"The account lives under version {account.pack_version} of {wanted.name}; version {wanted.version} is "
            "older. To go back to its words, publish them as a newer version."
        )


def _require_notice(
    account: Account, current: PackTerms, wanted: PackTerms, today: date, weakened: Sequence[str]
) -> None:
    held = account.announced.get((wanted.name, wanted.version))
    more = len(weakened) - WEAKENED_SHOWN_MAX
    shown = [*weakened[:WEAKENED_SHOWN_MAX], *([f"and {more} more"] if more > 0 else [])]
    why = f"It changes what was promised: {'; '.join(shown)}."
    if held is None:
        raise AdoptionRefused(
            f"{why} That needs a notice of {current.notice_days} days first: lethe account adopt {wanted.name} "
            f"--version {wanted.version} --announce."
        )
    if held.digest != wanted.digest:
        raise AdoptionRefused(
            f"The notice of {held.given_on} was for other words: the pack was rewritten since. {why} Announce it again."
        )
    if today < held.effective_on:
        raise AdoptionRefused(
            f"{why} Notice of it was given on {held.given_on}; it can be adopted from {held.effective_on} on."
        )


def _age(account: Account, current: PackTerms, wanted: PackTerms) -> int:
    """The pack's age; an account that set itself a higher one than its pack keeps at least that."""
    if account.minimum_age > current.minimum_age:
        return max(account.minimum_age, wanted.minimum_age)
    return wanted.minimum_age
