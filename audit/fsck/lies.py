"""The one thing that `fsck` can say against a log: a lie, where it stands, and what was expected there."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final
from uuid import UUID

from audit.verify.errors import VerificationRefused

SHOWN_CHARACTERS_MAX: Final = 120
"""Who needs it: a reader of one line. What a superuser put into a column can be of any length."""


@dataclass(frozen=True, slots=True)
class Lie:
    """What is wrong, by which rule. Position 0 speaks of the whole log; `stream` is known where an event is meant."""

    position: int
    rule: str
    text: str
    stream: UUID | None = None
    expected: str | None = None
    found: str | None = None

    def said(self) -> str:
        """The lie in one line."""
        where = f"at position {self.position}" if self.position else "about the whole log"
        stream = f", stream {self.stream}" if self.stream is not None else ""
        pair = f" Expected {self.expected}, found {self.found}." if self.expected is not None else ""
        return f"{self.rule} {where}{stream}: {self.text}{pair}"

    def as_object(self) -> dict[str, Any]:
        """The lie for `--json`."""
        return asdict(self)


class LogLies(VerificationRefused):
    """A log is not whole: `lie` is the first thing that is wrong with it."""

    def __init__(self, lie: Lie) -> None:
        super().__init__(lie.said())
        self.lie = lie


def shown(value: object) -> str:
    """A value of a row or of an entry, as short as a line needs it; its control characters are escaped."""
    text = value if isinstance(value, str) else repr(value)
    safe = text.encode("unicode_escape").decode("ascii")
    return safe if len(safe) <= SHOWN_CHARACTERS_MAX else f"{safe[:SHOWN_CHARACTERS_MAX]}…"
