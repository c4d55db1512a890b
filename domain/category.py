"""Categories of data subjects: who a person is to the account that holds them.

Mailenium 1.1 names six, and Mailkai 1 the same in other words. A controller's account holds contacts. The operator's
own account holds the platform's account holders, its support contacts, visitors, prospects and affiliates, under the
same rules and keys. A category stands in the clear, so only these words are taken.
"""

from __future__ import annotations

from typing import Final

CONTACT: Final = "contact"
ACCOUNT_HOLDER: Final = "account_holder"
SUPPORT_CONTACT: Final = "support_contact"
VISITOR: Final = "visitor"
PROSPECT: Final = "prospect"
AFFILIATE: Final = "affiliate"

MEANINGS: Final[dict[str, str]] = {
    CONTACT: "somebody whom a controller writes to",
    ACCOUNT_HOLDER: "a person behind an account of the platform",
    SUPPORT_CONTACT: "somebody who wrote to support",
    VISITOR: "somebody who visited the platform's site",
    PROSPECT: "somebody who may become a customer",
    AFFILIATE: "somebody who brings customers",
}

CATEGORIES: Final = tuple(MEANINGS)
"""Every category there is, as commands and packs name them."""


class UnknownCategory(ValueError):
    """A category that is none of the six."""


def checked_category(category: str) -> str:
    """The category, if it is one of the six. Raises `UnknownCategory`."""
    if category not in MEANINGS:
        raise UnknownCategory(f"A category is one of {', '.join(CATEGORIES)}.")
    return category
