"""Whether a bundle claims what was asked for: the manifest's `asked`, held against the claims and the events.

    person       {"subject": stream}                        that stream is claimed whole
    campaign     {"campaign": stream}                       the same, and every message's stream without a gap
    destruction  {"certificate": stream}                    the same, or it is said that nothing of it is here
    request      {"command": id}                            every event was written by that command
                 {"subject": stream}                        every event is of that stream: an erasure that waits
                 {"certificate": stream}                    as for a destruction
    period       {"first", "last"} and times                every position of it is claimed
    send         {"message": stream, "campaign": stream}    the events that the receipt claims are of these streams

Without this a bundle of one thing could be handed out under the name of another, each of its events proven.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from audit.verify.claims import Claims
from audit.verify.entries import Entry, is_id
from audit.verify.errors import ClaimRefused

FILE: Final = "manifest.json"

_FIELDS: Final[Mapping[str, tuple[frozenset[str], ...]]] = {
    "person": (frozenset({"subject"}),),
    "campaign": (frozenset({"campaign"}),),
    "destruction": (frozenset({"certificate"}),),
    "request": (frozenset({"command"}), frozenset({"subject"}), frozenset({"certificate"})),
    "send": (frozenset({"message", "campaign"}),),
}

OTHER_STREAMS: Final = (
    "That the person's messages and records are all here, and are theirs: nothing in the log says whose they are. It "
    "is the word of the house."
)
OTHER_EVENTS: Final = "That this request wrote no other events: only the whole log shows that."
NOTHING_OF_IT: Final = "That the certificate was issued: no event of it is in the bundle."


@dataclass(slots=True)
class Asked:
    """What was asked for, which sees every event in order and is settled at the end."""

    kind: str
    said: Mapping[str, Any]
    claims: Claims
    _streams: dict[int, str] = field(default_factory=dict)
    _named: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if self.kind == "period":
            self._require_period()
            return
        if self.said.keys() not in _FIELDS[self.kind] or not all(map(is_id, self.said.values())):
            raise ClaimRefused(f"It does not say what was asked for as a bundle of the kind {self.kind} does.", FILE)
        if self.claims.stretch is not None:
            raise ClaimRefused(f"A bundle of the kind {self.kind} claims streams, and no stretch of the log.", FILE)
        whole = {"person": "subject", "campaign": "campaign"}.get(self.kind)
        if whole is not None and self.said[whole] not in self.claims.streams:
            raise ClaimRefused(f"The {whole} that was asked for is not among the streams claimed whole.", FILE)
        if self.claims.messages != (self.kind == "campaign"):
            raise ClaimRefused("The messages of a campaign have to be claimed for a campaign, and for it only.", FILE)
        if self.claims.send is not None:
            self._named = frozenset(self.claims.send.said[name] for name in ("authorised", "campaign"))

    def take(self, entry: Entry) -> None:
        """Look at one more event. Raises `ClaimRefused`."""
        wanted = "subject" if self.kind == "request" and "subject" in self.said else None
        if wanted is not None and entry.said["stream"] != self.said[wanted]:
            raise ClaimRefused("It is of another stream than the one asked for.", FILE, entry.position)
        if "command" in self.said and entry.said.get("command") != self.said["command"]:
            raise ClaimRefused("Another command wrote it than the one asked for.", FILE, entry.position)
        if entry.position in self._named:
            self._streams[entry.position] = entry.said["stream"]

    def settle(self) -> list[str]:
        """What is not proven of it, in sentences. Raises `ClaimRefused`."""
        send = self.claims.send
        for name, claimed in (("message", "authorised"), ("campaign", "campaign")) if send is not None else ():
            assert send is not None
            position = send.said[claimed]
            if self._streams.get(position) != self.said[name]:
                raise ClaimRefused(f"This is not of the {name} that was asked for.", FILE, position)
        if self.kind == "person":
            return [OTHER_STREAMS]
        unshown = "certificate" in self.said and self.said["certificate"] not in self.claims.streams
        return [OTHER_EVENTS] * (self.kind == "request") + [NOTHING_OF_IT] * unshown

    def _require_period(self) -> None:
        known = {"first", "last"} <= self.said.keys() <= {"first", "last", "from", "to"}
        if not known or not all(isinstance(self.said[name], str) for name in self.said.keys() - {"first", "last"}):
            raise ClaimRefused("It does not say what was asked for as a bundle of a period does.", FILE)
        if self.claims.stretch != (self.said["first"], self.said["last"]):
            raise ClaimRefused("Other positions are claimed than those asked for.", FILE)
