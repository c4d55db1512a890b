"""What a bundle says its events mean, and how far that follows from them.

    {"kind":     the manifest's,
     "complete": {"positions": [first, last]}            every event of a stretch of the log, and none else
              or {"streams": {stream: last version}}     every version of these streams up to that one
              or {"streams": …, "message_streams": true} as before, and every message's stream without a gap
     "send":     {…}                                     for a send receipt, see `send`}

Everything is recomputed in one pass over the entries. What cannot follow from them is said in a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from audit.verify.canonical import parse_canonical
from audit.verify.entries import Entry, is_id
from audit.verify.errors import ClaimRefused
from audit.verify.send import SendClaim
from audit.verify.words import CLAIMS

CLAIMS_BYTES_MAX: Final = 16 << 20
STREAMS_MAX: Final = 10_000
"""Who needs it: a person with one message a day for a quarter of a century."""

MESSAGE_STREAMS_MAX: Final = 2_000_000
"""The largest campaign that is checked in memory: some 300 MB. A larger one is shown as a period."""

MESSAGE_TOPICS: Final = ("send.", "message.")


@dataclass(slots=True)
class Claims:
    """The claims of one bundle, which sees every event in order and is settled at the end."""

    stretch: tuple[int, int] | None = None
    streams: Mapping[str, int] = field(default_factory=dict)
    messages: bool = False
    send: SendClaim | None = None
    size: int = 0
    """That of the checkpoint."""

    _seen: dict[bytes, int] = field(default_factory=dict)
    _position: int = 0
    _times: tuple[str, str] = ("", "")

    def take(self, entry: Entry) -> None:
        """Look at one more event. Raises `ClaimRefused`."""
        if self.stretch is not None:
            self._take_position(entry, *self.stretch)
        else:
            self._take_version(entry)
        if self.send is not None:
            self.send.take(entry)

    def settle(self) -> tuple[list[str], list[str]]:
        """What is proven and what is not, in sentences. Raises `ClaimRefused`."""
        proven, unproven = self._settle_stretch(*self.stretch) if self.stretch is not None else self._settle_streams()
        if self.send is not None:
            more_proven, more_unproven = self.send.settle()
            return proven + more_proven, unproven + more_unproven
        return proven, unproven

    def _take_position(self, entry: Entry, first: int, last: int) -> None:
        expected = self._position + 1 if self._position else first
        if entry.position != expected or expected > last:
            text = f"Events {first} to {last} are claimed, and event {expected} should stand here."
            raise ClaimRefused(text, CLAIMS, entry.position)
        self._position = expected
        self._times = (self._times[0] or entry.said["recorded_at"], entry.said["recorded_at"])

    def _take_version(self, entry: Entry) -> None:
        stream, version = entry.said["stream"], entry.said["version"]
        last = self.streams.get(stream)
        if last is None and not (self.messages and entry.said["topic"].startswith(MESSAGE_TOPICS)):
            return
        key = bytes.fromhex(stream)
        before = self._seen.get(key, 0)
        if version != before + 1 or (last is not None and version > last):
            text = f"Its stream is claimed whole, and this is its version {version} behind {before} of {last or 'all'}."
            raise ClaimRefused(text, CLAIMS, entry.position)
        self._seen[key] = version
        if len(self._seen) > MESSAGE_STREAMS_MAX + STREAMS_MAX:
            raise ClaimRefused(f"More than {MESSAGE_STREAMS_MAX:,} messages are not read as one campaign.", CLAIMS)

    def _settle_stretch(self, first: int, last: int) -> tuple[list[str], list[str]]:
        seen = self._position or first - 1
        if seen != last:
            raise ClaimRefused(f"Events {seen + 1} to {last} are claimed, and are not here.", CLAIMS)
        proven = [f"Every event of the log from {first} to {last} is here."]
        if seen >= first:
            proven.append(f"The house dates them from {self._times[0]} to {self._times[1]}.")
        beyond = [name for name, more in (("before", first > 1), ("behind", last < self.size)) if more]
        return proven, [NOTHING_BEYOND.format(" and ".join(beyond))] if beyond else []

    def _settle_streams(self) -> tuple[list[str], list[str]]:
        for stream, last in self.streams.items():
            seen = self._seen.get(bytes.fromhex(stream), 0)
            if seen != last:
                raise ClaimRefused(f"Versions 1 to {last} of stream {stream} are claimed; it ends with {seen}.", CLAIMS)
        proven = []
        if self.streams:
            proven.append(f"Streams that are whole up to the version claimed, without a gap: {len(self.streams):,}.")
        if self.messages:
            messages = len(self._seen) - len(self.streams)
            proven.append(f"Messages whose streams are without a gap, as far as they go: {messages:,}.")
        unproven = [STREAMS_END] if self.streams else []
        return proven, unproven + [NO_OTHER_MESSAGES] * self.messages


def parse_claims(content: bytes, kind: str, size: int) -> Claims:
    """The claims in these bytes. Raises `ClaimRefused`, or `BundleRefused` for what is not canonical JSON."""
    said = parse_canonical(content, CLAIMS)
    if said.get("kind") != kind:
        raise ClaimRefused("The claims are those of another kind of bundle than the manifest's.", CLAIMS)
    if said.keys() != ({"kind", "complete", "send"} if kind == "send" else {"kind", "complete"}):
        raise ClaimRefused("There are claims of a kind that this verifier does not know, or one is missing.", CLAIMS)
    complete = _object(said["complete"])
    if complete.keys() == {"positions"}:
        claims = Claims(stretch=_positions(complete["positions"]), size=size)
    elif complete.keys() in ({"streams"}, {"streams", "message_streams"}):
        claims = Claims(streams=_streams(complete["streams"]), messages=complete.get("message_streams", False) is True)
    else:
        raise ClaimRefused("The claims say in no known way of what the bundle is complete.", CLAIMS)
    if kind == "send":
        claims.send = SendClaim(_object(said["send"]))
        if said["send"]["subject"] not in claims.streams:
            raise ClaimRefused("The receipt of a send has to claim the person's stream whole.", CLAIMS)
    return claims


STREAMS_END: Final = (
    "That these streams go no further in the log than shown, and that none of their versions stands in it twice: only "
    "the whole log shows that (lethe fsck)."
)
NO_OTHER_MESSAGES: Final = "That there were no other messages: only the whole log shows how many name this campaign."
NOTHING_BEYOND: Final = (
    "That no event {} these was recorded in the time asked for: compare the times above with it, and ask for one more."
)


def _positions(value: Any) -> tuple[int, int]:
    numbers = isinstance(value, list) and len(value) == 2 and all(type(number) is int for number in value)
    if not numbers or not 1 <= value[0] <= value[1] + 1:
        raise ClaimRefused("The positions claimed are no stretch of a log.", CLAIMS)
    return value[0], value[1]


def _streams(value: Any) -> dict[str, int]:
    streams = _object(value)
    if len(streams) > STREAMS_MAX:
        raise ClaimRefused(f"At most {STREAMS_MAX:,} streams are claimed whole at once.", CLAIMS)
    for stream, last in streams.items():
        if not is_id(stream) or type(last) is not int or last < 1:
            raise ClaimRefused("A stream that is claimed whole is none, or ends nowhere.", CLAIMS)
    return streams


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ClaimRefused("A claim is not the object it should be.", CLAIMS)
    return value
