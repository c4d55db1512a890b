"""What a person had said by the time of a send: the plain fields of their stream, folded once more and independently.

The rules are those of the ledger (docs/reference/permission-rules.md) as far as they can be recomputed from what is not
sealed: every no that covers the purpose, and whether a later, evidenced act of the person lifted it. It is written a
second time, from the rules and not from `domain/permission.py`. That a grant has effect is recomputed, and what the
house wrote of it is believed only where it says that it has none. What it does not know refuses: a topic that is not
listed here could be a no. Times are those of entries, texts that sort as they do.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from audit.verify.entries import Entry
from audit.verify.errors import ClaimRefused

CLAIMS: Final = "claims.json"
ALL: Final = "all"
MARKETING: Final = "marketing"
TRANSACTIONAL: Final = "transactional"
CONSENT: Final = "consent"
DOUBLE_OPT_IN: Final = "double_opt_in"
IMPORT: Final = "import"

NOES: Final = {
    "objection.raised.v1": "objection",
    "contact.complained.v1": "complaint",
    "contact.hard_bounced.v1": "hard_bounce",
    "contact.unsubscribed.v1": "unsubscribed",
    "contact.suppressed.v1": "manual",
}
"""Topics that say no for a scope, and the cause they give."""

HARD_BOUNCE: Final = "hard_bounce"
LIFTED_BY_A_LATER_GRANT: Final = frozenset({"objection", "complaint", "unsubscribed"})
"""The person's own noes, which a later and evidenced grant for the purpose overrides. The others it does not."""

WORDS: Final = {
    "consent.requested.v1": "requested",
    "consent.granted.v1": "granted",
    "consent.refused.v1": "refused",
    "consent.withdrawn.v1": "withdrawn",
}
DECLARED: Final = "permission.declared.v1"
LIFTED_BY_HAND: Final = "contact.suppression_lifted.v1"
RESTRICTED: Final = "processing.restricted.v1"
UNRESTRICTED: Final = "processing.restriction_lifted.v1"
ERASING: Final = "erasure.intended.v1"

WITHOUT_A_WORD: Final = frozenset(
    {
        "contact.added.v1",
        "contact.corrected.v1",
        "contact.account_assigned.v1",
        "authorisations.recalled.v1",
        "erasure.postponed.v1",
        "keys.destroyed.v1",
    }
)
"""Topics of a person's stream that say neither yes nor no. A postponed erasure restricts by an event of its own."""

KNOWN: Final = frozenset({*NOES, *WORDS, DECLARED, LIFTED_BY_HAND, RESTRICTED, UNRESTRICTED, ERASING, *WITHOUT_A_WORD})

STANDS_BUT_BLOCKED: Final = frozenset({"suppressed_legal", "suppressed_manual", "restricted"})
"""Why a grant may be without effect and still be the person's word."""


class No(NamedTuple):
    """A no: when it was said, and by which event."""

    said_at: str
    position: int
    topic: str


@dataclass(frozen=True, slots=True)
class Word:
    """The last word on one purpose and channel."""

    status: str
    basis: str
    occurred_at: str
    position: int
    evidenced: bool = False
    method: str | None = None
    imported: bool = False

    def lifts(self, said_at: str, now: str) -> bool:
        """Whether this is an act of the person that overrides a no said before it."""
        own = self.evidenced and not self.imported and self.method != IMPORT
        return own and (self.status, self.basis) == ("granted", CONSENT) and said_at < self.occurred_at <= now

    @property
    def is_no(self) -> bool:
        """Whether the person refused, or took the consent back."""
        return self.status in ("refused", "withdrawn")


@dataclass(slots=True)
class Words:
    """Everything that a person had said up to some version of their stream."""

    words: dict[tuple[str, str], Word] = field(default_factory=dict)
    noes: dict[tuple[str, str], No] = field(default_factory=dict)
    restricted: No | None = None
    erasing: No | None = None

    def take(self, entry: Entry) -> None:
        """Take in one more event of the stream. Raises `ClaimRefused` for a topic that is not known here."""
        topic, plain = entry.said["topic"], entry.plain
        no = No(entry.said["occurred_at"], entry.position, topic)
        if topic not in KNOWN:
            text = f"This verifier does not know {topic}, which may be a no. Use a newer one."
            raise ClaimRefused(text, CLAIMS, entry.position)
        if topic in WORDS:
            self._take_word(entry, WORDS[topic])
        elif topic == DECLARED:
            self._take_declared(entry)
        elif topic in NOES:
            cause = "legal" if plain.get("legal") else NOES[topic]
            held = self.noes.get((cause, plain["scope"]))
            said_at = max(no.said_at, held.said_at) if held else no.said_at
            self.noes[cause, plain["scope"]] = no._replace(said_at=said_at)
        elif topic == LIFTED_BY_HAND:
            self.noes.pop(("manual", plain["scope"]), None)
        elif topic in (RESTRICTED, UNRESTRICTED):
            self.restricted = no if topic == RESTRICTED else None
        elif topic == ERASING:
            self.erasing = no

    def require_no_no(self, purpose: str, channel: str, now: str) -> None:
        """Raise `ClaimRefused` for a no that covers this purpose and stood at this time."""
        word = self.words.get((purpose, channel))
        stands = [no for no in (self.erasing, self.restricted) if no is not None]
        if word is not None and word.is_no:
            stands.append(No(word.occurred_at, word.position, f"consent {word.status}"))
        for (cause, scope), no in self.noes.items():
            if covers(scope, purpose) and not self._is_lifted(cause, no, word, channel, now):
                stands.append(no)
        for no in stands[:1]:
            text = f"This {no.topic} is a no that covers {purpose!r}, and nothing had lifted it before the send."
            raise ClaimRefused(text, CLAIMS, no.position)

    def _is_lifted(self, cause: str, no: No, word: Word | None, channel: str, now: str) -> bool:
        if cause in LIFTED_BY_A_LATER_GRANT:
            return word is not None and word.lifts(no.said_at, now)
        # The confirmation of a double opt-in arrived at the address, for whatever purpose, so the address lives.
        return cause == HARD_BOUNCE and any(
            one.method == DOUBLE_OPT_IN and key[1] == channel and one.lifts(no.said_at, now)
            for key, one in self.words.items()
        )

    def _take_word(self, entry: Entry, status: str) -> None:
        plain = entry.plain
        key = (plain["purpose"], plain["channel"])
        held = self.words.get(key)
        word = Word(
            status,
            CONSENT,
            entry.said["occurred_at"],
            entry.position,
            plain.get("evidenced") is True,
            plain.get("method"),
            plain.get("imported") is True,
        )
        if status == "granted" and not self._has_effect(word, key, entry):
            return
        if status == "requested" and held is not None:
            return
        if word.is_no and held is not None and held.is_no:
            # A no that arrives late does not make an earlier-recorded one older: a grant must be later than both.
            word = replace(word, occurred_at=max(word.occurred_at, held.occurred_at))
        self.words[key] = word

    def _has_effect(self, grant: Word, key: tuple[str, str], entry: Entry) -> bool:
        """Whether a grant takes the place of the word before it: it has to lift every no of theirs that it meets."""
        plain, held, now = entry.plain, self.words.get(key), entry.said["recorded_at"]
        if plain.get("effective", True) is not True and plain.get("reason") not in STANDS_BUT_BLOCKED:
            return False
        if grant.occurred_at > now or self.erasing is not None:
            return False
        if held is not None and held.is_no and not grant.lifts(held.occurred_at, now):
            return False
        after = replace(self, words={**self.words, key: grant})
        return all(
            after._is_lifted(cause, no, grant, key[1], now)
            for (cause, scope), no in self.noes.items()
            if covers(scope, key[0]) and (cause in LIFTED_BY_A_LATER_GRANT or cause == HARD_BOUNCE)
        )

    def _take_declared(self, entry: Entry) -> None:
        key = (entry.plain["purpose"], entry.plain["channel"])
        held = self.words.get(key)
        if held is None or held.status == "requested" or held.basis != CONSENT:
            self.words[key] = Word("granted", entry.plain["basis"], entry.said["occurred_at"], entry.position)


def covers(scope: str, purpose: str) -> bool:
    """Whether a no of this scope speaks about a purpose."""
    return scope in (ALL, f"purpose:{purpose}") or (scope == MARKETING and not is_transactional(purpose))


def is_transactional(purpose: str) -> bool:
    """Whether a purpose is a service message rather than direct marketing."""
    return purpose == TRANSACTIONAL or purpose.startswith(f"{TRANSACTIONAL}:")
