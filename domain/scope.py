"""Scopes and causes of a "no": what it covers and why it stands.

A scope covers everything (`all`), all direct marketing (`marketing`) or one purpose (`purpose:newsletter`).
Purposes named `transactional` or `transactional:…` are service messages; every other purpose is direct
marketing (GDPR recital 47, ePrivacy Art. 13).
"""

from __future__ import annotations

import re
from typing import Literal

ALL = "all"
MARKETING = "marketing"
PURPOSE_PREFIX = "purpose:"
TRANSACTIONAL = "transactional"

PURPOSE_PATTERN = re.compile(r"[a-z][a-z0-9_.:-]{0,63}")

Cause = Literal[
    "objection", "complaint", "hard_bounce", "manual", "legal", "erased", "unsubscribed", "withdrawal", "restriction"
]

CAUSES_LIFTED_BY_A_LATER_GRANT: frozenset[str] = frozenset(
    {"objection", "complaint", "erased", "unsubscribed", "withdrawal"}
)
"""The subject's own acts, which a later and evidenced act of the subject overrides for the purpose it names (I7)."""


class InvalidScope(ValueError):
    """A scope or purpose that is not written as this module describes."""


def purpose_scope(purpose: str) -> str:
    """The scope that covers one purpose only."""
    return PURPOSE_PREFIX + purpose


def is_transactional(purpose: str) -> bool:
    """Whether a purpose is a service message rather than direct marketing."""
    return purpose == TRANSACTIONAL or purpose.startswith(TRANSACTIONAL + ":")


def covers(scope: str, purpose: str) -> bool:
    """Whether a "no" of this scope speaks about sends for this purpose."""
    if scope == ALL:
        return True
    if scope == MARKETING:
        return not is_transactional(purpose)
    return scope == PURPOSE_PREFIX + purpose


def checked_purpose(purpose: str) -> str:
    """The purpose itself if it is a short lower-case name; raises `InvalidScope` otherwise."""
    if not PURPOSE_PATTERN.fullmatch(purpose):
        raise InvalidScope(
            "A purpose is a short lower-case name such as newsletter or product_updates "
            "(letters, digits, and . _ : - after the first letter; 64 characters at most)."
        )
    return purpose


def checked_scope(scope: str) -> str:
    """The scope itself if it is all, marketing or purpose:NAME; raises `InvalidScope` otherwise."""
    if scope in (ALL, MARKETING):
        return scope
    if scope.startswith(PURPOSE_PREFIX):
        checked_purpose(scope.removeprefix(PURPOSE_PREFIX))
        return scope
    raise InvalidScope("A scope is all, marketing, or purpose:NAME such as purpose:newsletter.")
