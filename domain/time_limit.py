"""Time limits as short codes: how long data of a category is kept, as registers state it (GDPR Art. 30(1)(f)).

A code is a clock, then how long it runs, then whether that is a minimum: `calendar:P24M`, `account_closed:P60D`,
`last_transaction:P84M:minimum`, `for_ever`. The clocks of the policy packs are here in the same words, so that what a
register states can be compared with what the pack does; and two more for what no pack governs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

CLOCKS: Final[dict[str, str]] = {
    "calendar": "after the month or day that it is from",
    "last_engagement": "after the person's last engagement",
    "last_interaction": "after the last interaction",
    "last_transaction": "after the last transaction",
    "account_closed": "after the account's end",
    "hold_released": "after the release of the legal hold",
    "purpose_ended": "after the purpose has ended",
    "for_ever": "without end",
}
ENDLESS: Final = "for_ever"
MINIMUM: Final = "minimum"
MONTHS_PER_YEAR: Final = 12

_CODE = re.compile(r"([a-z_]{1,32})(?::P(?:([0-9]{1,4})Y)?(?:([0-9]{1,5})M)?(?:([0-9]{1,6})D)?)?(:minimum)?", re.ASCII)


class InvalidTimeLimit(ValueError):
    """A text that is no time limit."""


@dataclass(frozen=True, slots=True)
class TimeLimit:
    """How long: so many months and days of a clock. A minimum may be exceeded, anything else may not."""

    clock: str
    months: int = 0
    days: int = 0
    minimum: bool = False

    @classmethod
    def parse(cls, code: str) -> Self:
        """The time limit of a code. Years are twelve months. Raises `InvalidTimeLimit`, which repeats nothing."""
        found = _CODE.fullmatch(code)
        if found is None or found[1] not in CLOCKS:
            raise InvalidTimeLimit(
                "A time limit is a clock and how long, such as calendar:P24M, last_transaction:P7Y:minimum, "
                f"account_closed:P60D or for_ever. Clocks: {', '.join(CLOCKS)}."
            )
        years, months, days = (int(number or 0) for number in found.group(2, 3, 4))
        limit = cls(found[1], years * MONTHS_PER_YEAR + months, days, found[5] is not None)
        if limit.clock == ENDLESS and (":P" in code or limit.minimum):
            raise InvalidTimeLimit("for_ever has no length and no minimum. Leave them out.")
        if limit.clock != ENDLESS and ":P" not in code:
            raise InvalidTimeLimit("Say how long the clock runs, such as calendar:P24M; P0D is at once.")
        if ":P" in code and not any(found.group(2, 3, 4)):
            raise InvalidTimeLimit("Say how long after P: years, months or days, such as P24M; P0D is at once.")
        return limit

    @property
    def code(self) -> str:
        """The code, in months and days."""
        if self.clock == ENDLESS:
            return ENDLESS
        parts = [f"{number}{unit}" for number, unit in ((self.months, "M"), (self.days, "D")) if number]
        return f"{self.clock}:P{''.join(parts) or '0D'}{':' + MINIMUM if self.minimum else ''}"

    def __str__(self) -> str:
        if self.clock == ENDLESS:
            return CLOCKS[ENDLESS]
        years, months = divmod(self.months, MONTHS_PER_YEAR)
        parts = [(years, "year") if not months and years > 2 else (self.months, "month"), (self.days, "day")]
        said = " and ".join(f"{number} {word}{'' if number == 1 else 's'}" for number, word in parts if number)
        after = CLOCKS[self.clock]
        return f"{'at least ' if self.minimum else ''}{said} {after}" if said else f"at once {after}"
