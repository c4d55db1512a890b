"""What a record needs to know of the account's policy and of the program's settings; composition passes it in.

Policy packs are retention's and settings are the API's, and this room imports neither: `api/processing.py` makes these
values from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

from domain.account import Account

KeyKind = Literal["period", "person", "account"]


@dataclass(frozen=True, slots=True)
class PolicyLimit:
    """One time limit that the policy sets for a category: its code (`domain/time_limit.py`) and clause."""

    code: str
    clause: str | None


@dataclass(frozen=True, slots=True)
class Due:
    """When keys fall due, and under which clause."""

    on: date
    clause: str | None


@dataclass(frozen=True, slots=True)
class PolicyTerms:
    """One version of a policy: every limit that it sets for a category, and when keys of that category are due.

    `due` is asked with a category, the kind of key, and what the oldest of them is called: a period (`2026-11`), the
    last day of a person's clock, or the day on which the account ended. None: never, as things stand.
    """

    pack: str
    version: int
    title: str
    limits: Mapping[str, tuple[PolicyLimit, ...]]
    due: Callable[[str, KeyKind, str], Due | None]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What composition knows: the policy of an account's state, and why a measure is known to be untrue (or None)."""

    policy_of: Callable[[Account], PolicyTerms]
    contradicted: Callable[[str], str | None]
