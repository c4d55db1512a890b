"""The legal rules of a receipt: which rows decided, and that the account had recorded them before.

    version    law-<day>-<8 hex digits>    a BLAKE2b of 32 bits over what the rows decide: the name in a decision
    digest     SHA-256, 64 hex digits      over the complete rows, as the account's own stream says it adopted them:
                                           each row as canonical JSON, one a line, the lines in order of their bytes

The first ties the rows to the decision, the second every day, source and note of them to the log. Receipts of sends
that were decided before accounts adopted rules have the first alone, and then it is said that the second is missing.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from typing import Any, Final

from audit.verify.canonical import canonical
from audit.verify.entries import Entry
from audit.verify.errors import ClaimRefused
from audit.verify.words import CLAIMS

ADOPTED: Final = "account.rules_adopted.v1"
RULES_DIGEST_BYTES: Final = 4

RULES_NOT_PROVEN: Final = (
    "That these were the rules of that day, and what the law says: a digest of 32 bits ties the rows to the version's "
    "name, and nothing ties their dates, sources and notes. Hold them against the law."
)
LAW_NOT_PROVEN: Final = (
    "What the law says: the rows are the house's words, adopted before it decided. Hold them against the law. Nor that "
    "it adopted no other days, sources or notes under the same version: only the whole log shows that."
)


@dataclass(slots=True)
class Rules:
    """The rules that a receipt shows, and the adoptions of any that come by."""

    said: Any
    _adoptions: list[Entry] = field(default_factory=list)

    def take(self, entry: Entry) -> None:
        """Look at one more event of the bundle."""
        if entry.said["topic"] == ADOPTED:
            self._adoptions.append(entry)

    def settle(self, authorised: Entry, adopted: int | None) -> tuple[list[str], list[str]]:
        """What is proven of the rules and what is not, in sentences. Raises `ClaimRefused`.

        `adopted` is the position at which the account is said to have adopted them, None where nothing says so.
        """
        version, rows = self._rows(authorised)
        self._require_one_wording(version, adopted)
        if adopted is None:
            return [], [RULES_NOT_PROVEN]
        self._require_adopted(adopted, authorised, version, rows)
        _require_in_force(rows, authorised)
        proven = (
            f"Event {adopted} had adopted {version} for the account before, in the very rows that are shown here, with "
            "their days, sources and notes. By those days each row was in force when the message was authorised."
        )
        return [proven], [LAW_NOT_PROVEN]

    def _rows(self, authorised: Entry) -> tuple[str, list[dict[str, Any]]]:
        """The version and its rows, if the decision names it and it is made of them."""
        try:
            version, rows = self.said["version"], self.said["rows"]
            said = "\n".join(sorted(json.dumps(row["says"]) for row in rows)).encode()
            since = _VERSION.fullmatch(version)
            digest = blake2b(said, digest_size=RULES_DIGEST_BYTES).hexdigest()
        except (KeyError, TypeError, ValueError):
            raise ClaimRefused("The rules of the day are not shown as a version and rows.", CLAIMS) from None
        if authorised.said.get("rules") != version:
            text = f"The send was decided under {authorised.said.get('rules')}, and {version} is shown."
            raise ClaimRefused(text, CLAIMS, authorised.position)
        if since is None or since["digest"] != digest:
            raise ClaimRefused(f"The rows that are shown are not those that {version} is made of.", CLAIMS)
        return version, rows

    def _require_one_wording(self, version: str, adopted: int | None) -> None:
        """An adoption that is shown is the one that is claimed, or says the same."""
        of_this = [entry for entry in self._adoptions if entry.plain.get("rules_version") == version]
        if adopted is None and of_this:
            text = f"It adopts {version}, which decided, and the receipt does not claim it."
            raise ClaimRefused(text, CLAIMS, of_this[0].position)
        for entry in of_this[1:]:
            if entry.plain.get("digest") != of_this[0].plain.get("digest"):
                text = f"It adopts {version} in other words than event {of_this[0].position}: one receipt shows one."
                raise ClaimRefused(text, CLAIMS, entry.position)

    def _require_adopted(self, adopted: int, authorised: Entry, version: str, rows: list[dict[str, Any]]) -> None:
        entry = next((one for one in self._adoptions if one.position == adopted), None)
        if entry is None:
            text = "It is claimed as 'adopted', and is not in the bundle, or adopts no rules."
            raise ClaimRefused(text, CLAIMS, adopted)
        if entry.said["stream"] != entry.said["tenant"]:
            raise ClaimRefused("Rules are adopted in the account's own stream, and this is another.", CLAIMS, adopted)
        if adopted > authorised.position:
            raise ClaimRefused("The rules were adopted after the send had been authorised by them.", CLAIMS, adopted)
        if entry.plain.get("rules_version") != version:
            text = f"It adopts {entry.plain.get('rules_version')}, and the send was decided under {version}."
            raise ClaimRefused(text, CLAIMS, adopted)
        lines = sorted(canonical(row) for row in rows)
        if entry.plain.get("digest") != sha256(b"\n".join(lines)).hexdigest():
            text = f"The rows that are shown are not, to the letter, those that were adopted as {version}."
            raise ClaimRefused(text, CLAIMS, adopted)


def _require_in_force(rows: list[dict[str, Any]], authorised: Entry) -> None:
    """Raise `ClaimRefused` for a row that, by its own days, was not in force on the day of the decision (UTC)."""
    day = authorised.said["occurred_at"][:10]
    for row in rows:
        first, last = row.get("effective_from"), row.get("effective_to")
        if not _is_day(first) or not (last is None or _is_day(last)):
            raise ClaimRefused("A row of the rules does not say from which day to which it is in force.", CLAIMS)
        if not (first <= day and (last is None or day <= last)):
            text = f"A row of the rules is in force from {first} to {last or 'further notice'}, not on {day}."
            raise ClaimRefused(text, CLAIMS, authorised.position)


def _is_day(value: object) -> bool:
    return isinstance(value, str) and _DAY.fullmatch(value) is not None


_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_VERSION: Final = re.compile(rf"law-{_DAY.pattern}-(?P<digest>[0-9a-f]{{8}})")
