"""What the readers of ``api.imports`` yield: one frozen row per fact found in a file.

Rows know nothing of the ledger: no ids, no fingerprints, no positions. Every row says the ``file`` (the
name as given, or the member of a zip) and the ``line`` (1-based physical line on which it begins), so
that whatever is later refused can be named. Rows hold personal data in the clear, hence ``repr`` and
``str`` show only the place, never the contents (DESIGN section 3). The ``cells`` they were read from and
the file's ``header`` come along, so that a row which the ledger refuses can be mended as it was written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final, Literal

ConsentAction = Literal["request", "grant", "refuse", "withdraw"]
SuppressionCause = Literal["unsubscribed", "hard_bounce", "complaint", "manual"]

EVIDENCE_KEYS: Final = ("ip", "user_agent", "form", "wording", "notice_version", "method")
SCOPE_MARKETING: Final = "marketing"
SCOPE_ALL: Final = "all"


class _Placed:
    """Shows where a row stands and never what is in it."""

    __slots__ = ()
    line: int
    file: str

    def __repr__(self) -> str:
        return f"<{type(self).__name__} line {self.line}>"

    __str__ = __repr__


@dataclass(frozen=True, slots=True, repr=False)
class ContactRow(_Placed):
    """One contact. ``email`` is deliverable (domain as A-label); ``country`` ISO 3166 alpha-2, upper case."""

    line: int
    file: str
    email: str
    first_name: str | None
    last_name: str | None
    phone: str | None
    country: str | None
    birth_date: date | None
    category: str | None
    source: str | None
    custom: dict[str, str]
    tags: tuple[str, ...]
    cells: list[str] = field(default_factory=list, compare=False)
    header: list[str] = field(default_factory=list, compare=False)


@dataclass(frozen=True, slots=True, repr=False)
class ConsentRow(_Placed):
    """One act of consent. ``occurred_at`` is aware and UTC; ``evidence`` has keys of EVIDENCE_KEYS only."""

    line: int
    file: str
    email: str
    purpose: str
    channel: str
    action: ConsentAction
    occurred_at: datetime | None
    evidence: dict[str, str]
    cells: list[str] = field(default_factory=list, compare=False)
    header: list[str] = field(default_factory=list, compare=False)


@dataclass(frozen=True, slots=True, repr=False)
class SuppressionRow(_Placed):
    """One address not to mail, within ``scope`` ("marketing" or "all"), since a UTC time where known."""

    line: int
    file: str
    email: str
    cause: SuppressionCause
    scope: str
    since: datetime | None
    campaign: str | None
    reason: str | None
    cells: list[str] = field(default_factory=list, compare=False)
    header: list[str] = field(default_factory=list, compare=False)


@dataclass(frozen=True, slots=True, repr=False)
class RejectedRow(_Placed):
    """One row that was not taken. ``reason`` holds no cell's contents; ``cells`` are as read, unpadded.

    ``header`` is the file's, without our own reason column. ``cells`` is empty where the line was too
    long to be kept: then it must be mended in the file that it came from.
    """

    line: int
    file: str
    reason: str
    cells: list[str]
    header: list[str]


ImportRow = ContactRow | ConsentRow | SuppressionRow | RejectedRow
