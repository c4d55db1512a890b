"""The claim of a send receipt: that one message was allowed, on what, and that no "no" stood between.

What follows from the log is recomputed here, and the rest is named in `NOT_PROVEN`: a receipt says what it cannot show.
The token in a mail leads to its message by the link key K_link, where the receipt shows that key:

    digest      BLAKE2b-176(campaign id, key = K_link)          10 bytes for the message's id, 12 for the token's nonce
    message     the campaign's 48 bits of time, and the digest's first 10 bytes, as a UUIDv7
    token       version 1 | month (2) | nonce (12) | sealed     base64url; the nonce XOR the occurrence's tag, if any

Nothing in the log binds a message to its person, and that is on purpose: the house's word stands for that.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

from audit.verify.entries import Entry, is_id, is_time
from audit.verify.errors import ClaimRefused
from audit.verify.rules import Rules
from audit.verify.words import CLAIMS, CONSENT, DECLARED, Words, is_transactional

AUTHORISED: Final = "send.authorised.v1"
REGISTERED: Final = "campaign.registered.v1"
CLOSED: Final = "campaign.closed.v1"
DISPATCHED: Final = "message.dispatched.v1"
GRANTED: Final = "consent.granted.v1"
SUBJECT_EVENTS_MAX: Final = 100_000
"""Who needs it: whoever checks a receipt; a person's stream has some dozens of events."""

KEY_BYTES: Final = 32
TOKEN_BYTES: Final = 71
TOKEN_VERSION: Final = 1
LINK_DIGEST_BYTES: Final = 22
NONCE_AT: Final = slice(3, 15)
OCCURRENCE_BYTES: Final = 8

EVIDENCED_BASES: Final = {
    CONSENT: GRANTED,
    "soft-opt-in": DECLARED,
    "implied-purchase": DECLARED,
    "implied-inquiry": DECLARED,
}
"""The bases that rest on an event of the person's stream, and on which."""

CONTRACT: Final = "contract"
OPT_OUT_REGIME: Final = "opt-out-regime"

PERSON_NOT_PROVEN: Final = (
    "That the message was for the person of this stream, and that the person has no other stream in which they said "
    "no: nothing in the log binds a message to its person, so that nothing leads back. It is the word of the house."
)
LISTS_NOT_PROVEN: Final = (
    "What the suppression list said of the address, how old the person was, whose law governed them and how long a "
    "declared permission lasts under it: that is sealed or stands elsewhere, and was read by the house when it decided."
)
IN_TIME_NOT_PROVEN: Final = (
    "That the message left while it was allowed: the authorisation ends at the time above, or with the person's next "
    "no, and their stream is shown up to the next event only. Nor is a closing of the campaign seen if it was left out."
)
VERSIONS_NOT_PROVEN: Final = (
    "That no version of the stream stands in the log twice: whoever reads the whole log (lethe fsck) would see it."
)
NOT_PROVEN_WITHOUT_NEXT: Final = (
    "That no later event of the person had been recorded before the decision: the stream ends here, and only the whole "
    "log shows that it does."
)
NOT_PROVEN_WITHOUT_LINK: Final = "Which mail this message is: the key that leads from its token to it is not shown."


@dataclass(slots=True)
class SendClaim:
    """The claim of a receipt, and the events it speaks of as they come by."""

    said: Mapping[str, Any]
    _named: dict[int, Entry] = field(default_factory=dict)
    _stream: list[Entry] = field(default_factory=list)
    _closed: dict[str, Entry] = field(default_factory=dict)
    _dispatched: list[Entry] = field(default_factory=list)
    _rules: Rules = field(init=False)

    def __post_init__(self) -> None:
        said, required = self.said, {"campaign", "authorised", "subject", "before", "rules"}
        optional = {"token", "evidence", "next", "link", "adopted"}
        if not required <= said.keys() <= required | optional or ("token" in said) != ("link" in said):
            raise ClaimRefused("The claim of a send has fields too many, or too few.", CLAIMS)
        named = ("campaign", "authorised", "before", "evidence", "next", "adopted")
        numbers = [said[name] for name in named if name in said]
        if any(type(number) is not int or number < 0 for number in numbers) or not is_id(said["subject"]):
            raise ClaimRefused("The claim of a send names a position or a stream that is none.", CLAIMS)
        self._rules = Rules(said["rules"])

    def take(self, entry: Entry) -> None:
        """Look at one more event of the bundle."""
        if entry.position in (self.said["campaign"], self.said["authorised"]):
            self._named[entry.position] = entry
        self._rules.take(entry)
        if entry.said["topic"] == CLOSED:
            self._closed.setdefault(entry.said["stream"], entry)
        elif entry.said["topic"] == DISPATCHED:
            self._dispatched.append(entry)
        if entry.said["stream"] == self.said["subject"]:
            if len(self._stream) == SUBJECT_EVENTS_MAX:
                raise ClaimRefused(f"A stream of more than {SUBJECT_EVENTS_MAX:,} events is not read.", CLAIMS)
            self._stream.append(entry)

    def settle(self) -> tuple[list[str], list[str]]:
        """What is proven and what is not, in sentences. Raises `ClaimRefused` at the first thing that is not so."""
        authorised = self._event("authorised", AUTHORISED)
        campaign = self._event("campaign", REGISTERED)
        _require_of(authorised, campaign, self._closed.get(campaign.said["stream"]))
        before = self._before(authorised)
        words, now = Words(), authorised.said["occurred_at"]
        for entry in before:
            words.take(entry)
        purpose, channel = campaign.plain["purpose"], campaign.plain["channel"]
        words.require_no_no(purpose, channel, now)
        self._require_evidence(words, authorised, purpose, channel)
        rules_proven, rules_unproven = self._rules.settle(authorised, self.said.get("adopted"))
        proven = [
            _authorised_by(authorised),
            *self._late(authorised),
            f"It is of the campaign that event {campaign.position} registered, for {purpose!r} by {channel}.",
            f"Versions 1 to {len(before)} of the person's stream stand before it; no no among them stands unlifted.",
            *rules_proven,
        ]
        unproven = [PERSON_NOT_PROVEN, LISTS_NOT_PROVEN, *rules_unproven, VERSIONS_NOT_PROVEN, IN_TIME_NOT_PROVEN]
        if "evidence" in self.said:
            proven.append(f"It rests on event {self.said['evidence']}, the person's newest word on that purpose.")
        if "next" in self.said:
            proven.append(f"The next version of that stream is event {self.said['next']}, behind the decision.")
        else:
            unproven.append(NOT_PROVEN_WITHOUT_NEXT)
        if "link" in self.said:
            require_link(self.said["link"], self.said["token"], authorised, campaign)
            proven.append("The token leads to this message: compare it with the one in the mail.")
        else:
            unproven.append(NOT_PROVEN_WITHOUT_LINK)
        return proven, unproven

    def _late(self, authorised: Entry) -> Iterator[str]:
        """Dispatches of the message that the authorisation did not cover any more."""
        expires_at, occurrence = authorised.plain["expires_at"], authorised.plain.get("occurrence")
        for entry in self._dispatched:
            of_this = (entry.said["stream"], entry.plain.get("occurrence")) == (authorised.said["stream"], occurrence)
            if of_this and entry.position > authorised.position:
                left, finding = entry.said["occurred_at"], entry.plain.get("finding")
                if left > expires_at or finding is not None:
                    found = f"; the house found {finding!r}" if finding is not None else ""
                    yield f"ATTENTION: event {entry.position} says that it left at {left}, and may not have{found}."

    def _event(self, name: str, topic: str) -> Entry:
        position = self.said[name]
        entry = self._named.get(position)
        if entry is None:
            raise ClaimRefused(f"It is claimed as {name!r}, and is not in the bundle.", CLAIMS, position)
        if entry.said["topic"] != topic:
            raise ClaimRefused(f"It is claimed as {name!r}, and is a {entry.said['topic']}.", CLAIMS, position)
        return entry

    def _before(self, authorised: Entry) -> list[Entry]:
        """The events of the person's stream that stand before the decision.

        That no version of it was left out is seen by `claims`: a receipt has to claim that stream whole.
        """
        before = [entry for entry in self._stream if entry.position < authorised.position]
        if len(before) != self.said["before"]:
            text = f"Of the person's stream {len(before)} versions stand before the send, not {self.said['before']}."
            raise ClaimRefused(text, CLAIMS, authorised.position)
        following = [entry.position for entry in self._stream if entry.position > authorised.position]
        if following[:1] != ([self.said["next"]] if "next" in self.said else []):
            text = "The event claimed to follow in the person's stream is not the one that follows there."
            raise ClaimRefused(text, CLAIMS, self.said.get("next", authorised.position))
        return before

    def _require_evidence(self, words: Words, authorised: Entry, purpose: str, channel: str) -> None:
        basis, evidence = authorised.plain["basis"], self.said.get("evidence")
        topic = EVIDENCED_BASES.get(basis)
        if topic is None:
            if evidence is not None or (basis == CONTRACT) != is_transactional(purpose):
                text = f"The basis {basis!r} rests on no event of the person, or not for the purpose {purpose!r}."
                raise ClaimRefused(text, CLAIMS, authorised.position)
            if basis not in (CONTRACT, OPT_OUT_REGIME):
                raise ClaimRefused(f"The basis {basis!r} is not known here.", CLAIMS, authorised.position)
            return
        word = words.words.get((purpose, channel))
        if word is None or word.position != evidence:
            text = f"The person's last word on {purpose!r} by {channel} is another event, or there is none."
            raise ClaimRefused(text, CLAIMS, authorised.position if evidence is None else evidence)
        if (word.status, word.basis) != ("granted", basis) or word.occurred_at > authorised.said["occurred_at"]:
            text = f"This is no permission of the basis {basis!r} that was in force when the send was allowed."
            raise ClaimRefused(text, CLAIMS, word.position)


def _authorised_by(authorised: Entry) -> str:
    plain, said = authorised.plain, authorised.said
    return (
        f"Event {authorised.position} authorised the message at {said['recorded_at']}, by the rule {plain['rule']!r} "
        f"on the basis {plain['basis']!r}, under {said['rules']}, until {plain['expires_at']}."
    )


def require_link(link: Any, token: Any, authorised: Entry, campaign: Entry) -> None:
    """Raise `ClaimRefused` unless the link key leads from the token, and from the campaign, to this message."""
    key, tag, raw = _link(link, token, authorised)
    campaign_id = bytes.fromhex(campaign.said["stream"])
    digest = blake2b(campaign_id, key=key, digest_size=LINK_DIGEST_BYTES).digest()
    stream = bytearray(campaign_id[:6] + digest[:10])
    stream[6], stream[8] = 0x70 | stream[6] & 0x0F, 0x80 | stream[8] & 0x3F
    if stream.hex() != authorised.said["stream"]:
        text = "The link key does not lead from the campaign to this message."
        raise ClaimRefused(text, CLAIMS, authorised.position)
    if raw[NONCE_AT] != _xor(digest[10:], tag):
        raise ClaimRefused("The token is not that of this message.", CLAIMS, authorised.position)
    recorded = blake2b(tag, key=key, digest_size=OCCURRENCE_BYTES, person=b"lethe.oce.v1").hexdigest() if tag else None
    if authorised.plain.get("occurrence") != recorded:
        raise ClaimRefused("The token is one of another occurrence of this message.", CLAIMS, authorised.position)


def _link(link: Any, token: Any, authorised: Entry) -> tuple[bytes, bytes, bytes]:
    """The link key, the occurrence's tag (or nothing) and the token's bytes, each as long as it has to be."""
    refused = ClaimRefused("The link or the token of the message is none.", CLAIMS, authorised.position)
    try:
        key, tag, month = bytes.fromhex(link["key"]), bytes.fromhex(link.get("occurrence", "")), link["month"]
        raw = urlsafe_b64decode(token + "=" * (-len(token) % 4))
        spelt = urlsafe_b64encode(raw).decode().rstrip("=") == token and _MONTH.fullmatch(month)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise refused from None
    lengths = len(key), len(tag) in (0, OCCURRENCE_BYTES), len(raw)
    if not spelt or lengths != (KEY_BYTES, True, TOKEN_BYTES) or not link.keys() <= {"key", "month", "occurrence"}:
        raise refused
    number = int(month[:4]) * 12 + int(month[5:]) - 1
    if raw[0] != TOKEN_VERSION or int.from_bytes(raw[1:3], "big") != number:
        raise ClaimRefused("The token is one of another month than the link key.", CLAIMS, authorised.position)
    return key, tag, raw


def _require_of(authorised: Entry, campaign: Entry, closed: Entry | None) -> None:
    if authorised.plain.get("campaign") != campaign.said["stream"] or campaign.position > authorised.position:
        text = "The send was authorised for another campaign than the one claimed."
        raise ClaimRefused(text, CLAIMS, authorised.position)
    if campaign.said["version"] != 1:
        text = "A campaign is registered by the first event of its stream, and this is a later one."
        raise ClaimRefused(text, CLAIMS, campaign.position)
    if authorised.said["occurred_at"] > authorised.said["recorded_at"]:
        raise ClaimRefused("The send is said to be authorised later than it was recorded.", CLAIMS, authorised.position)
    if closed is not None and closed.position < authorised.position:
        raise ClaimRefused("The campaign was closed before the send was authorised.", CLAIMS, closed.position)
    expires_at = authorised.plain.get("expires_at")
    if not is_time(expires_at):
        raise ClaimRefused("The authorisation does not say until when it holds.", CLAIMS, authorised.position)
    if not authorised.said["recorded_at"] < expires_at:
        raise ClaimRefused("The authorisation had expired before it was recorded.", CLAIMS, authorised.position)


def _xor(nonce: bytes, tag: Sequence[int]) -> bytes:
    return bytes(a ^ b for a, b in zip(nonce, tag, strict=False)) + nonce[len(tag) :]


_MONTH: Final = re.compile(r"[0-9]{4}-(?:0[1-9]|1[0-2])")
