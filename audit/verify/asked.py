"""Whether a bundle claims what was asked for: the manifest's `asked`, held against the claims and the events.

    person       {"subject": stream}                        that stream is claimed whole, and begins as a person's does
    campaign     {"campaign": stream}                       the same of a campaign, and every message's stream without
                                                            a gap; every event is of this campaign or names it
    destruction  {"certificate": stream}                    the same, or it is said that nothing of it is here
    request      {"command": id}                            every event was written by that command
                 {"subject": stream}                        every event is of that stream, without a gap between: an
                                                            erasure that waits
                 {"certificate": stream}                    as for a destruction
    period       {"first", "last"} and times                every position of it is claimed, and recorded in that time
    send         {"message": stream, "campaign": stream}    the events that the receipt claims are of these streams, and
                                                            the person's stream begins ahead of them, as one does

Without this a bundle of one thing could be handed out under the name of another, each of its events proven. Nor may a
certificate lie in it that was not asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
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

_BEGINS: Final = {"person": "contact.added.", "campaign": "campaign.registered."}
"""The first event of a stream of each kind, whatever its topic's version."""

OTHER_STREAMS: Final = (
    "That the person's messages and records are all here, and are theirs: nothing in the log says whose they are. It "
    "is the word of the house."
)
OTHER_EVENTS: Final = "That this request wrote no other events: only the whole log shows that."
STREAMS_PART: Final = "That nothing else of this stream belongs here, before or behind: only the whole log shows that."
NOTHING_OF_IT: Final = "That the certificate was issued: no event of it is in the bundle."


@dataclass(slots=True)
class Asked:
    """What was asked for, which sees every event in order and is settled at the end."""

    kind: str
    said: Mapping[str, Any]
    claims: Claims
    _streams: dict[int, str] = field(default_factory=dict)
    _named: frozenset[int] = frozenset()
    _known_from: int = 0
    _times: tuple[datetime | None, datetime | None] = (None, None)
    _versions: tuple[int, int] = (0, 0)
    """The first and the last one seen of the stream that waits."""

    def __post_init__(self) -> None:
        if self.kind == "period":
            self._times = self._require_period()
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
        if self.kind == "period":
            self._require_in_time(entry)
        elif self.kind in _BEGINS:
            self._require_of_it(entry)
        elif self.kind == "request" and "subject" in self.said:
            self._require_next(entry)
        elif self.claims.send is not None:
            self._note_person(entry, self.claims.send.said["subject"])
        if "command" in self.said and entry.said.get("command") != self.said["command"]:
            raise ClaimRefused("Another command wrote it than the one asked for.", FILE, entry.position)
        if entry.position in self._named:
            self._streams[entry.position] = entry.said["stream"]

    def settle(self) -> tuple[list[str], list[str]]:
        """What is proven of it and what is not, in sentences. Raises `ClaimRefused`."""
        send = self.claims.send
        for name, claimed in (("message", "authorised"), ("campaign", "campaign")) if send is not None else ():
            assert send is not None
            position = send.said[claimed]
            if self._streams.get(position) != self.said[name]:
                raise ClaimRefused(f"This is not of the {name} that was asked for.", FILE, position)
        if send is not None and self._known_from > send.said["authorised"]:
            raise ClaimRefused("The person of this receipt was added behind the send only.", FILE, self._known_from)
        if self.kind == "person":
            return [], [OTHER_STREAMS]
        first, last = self._versions
        if first:
            return [f"Versions {first} to {last} of the person's stream are here, without a gap."], [STREAMS_PART]
        unshown = "certificate" in self.said and self.said["certificate"] not in self.claims.streams
        return [], [OTHER_EVENTS] * (self.kind == "request") + [NOTHING_OF_IT] * unshown

    def require_certificates(self, certificates: Iterable[tuple[str, str]]) -> None:
        """Raise `ClaimRefused` for a certificate, by file and id, that was not asked for."""
        for file, certificate in certificates:
            if self.said.get("certificate") != certificate:
                raise ClaimRefused("It is of another certificate than the one that was asked for.", file)

    def _require_period(self) -> tuple[datetime | None, datetime | None]:
        known = {"first", "last"} <= self.said.keys() <= {"first", "last", "from", "to"}
        if not known or any(type(self.said[name]) is not int for name in ("first", "last")):
            raise ClaimRefused(_NO_PERIOD, FILE)
        if self.claims.stretch != (self.said["first"], self.said["last"]):
            raise ClaimRefused("Other positions are claimed than those asked for.", FILE)
        begin, end = (_moment(self.said[name]) if name in self.said else None for name in ("from", "to"))
        return begin, end

    def _require_in_time(self, entry: Entry) -> None:
        begin, end = self._times
        if begin is end is None:
            return
        recorded_at = datetime.fromisoformat(entry.said["recorded_at"])
        if (begin is not None and recorded_at < begin) or (end is not None and recorded_at >= end):
            raise ClaimRefused("It was not recorded in the time that was asked for.", FILE, entry.position)

    def _require_of_it(self, entry: Entry) -> None:
        stream, topic = entry.said["stream"], entry.said["topic"]
        own = stream == self.said["subject" if self.kind == "person" else "campaign"]
        if own and entry.said["version"] == 1 and not topic.startswith(_BEGINS[self.kind]):
            text = f"It is asked for as a {self.kind}, and no stream of a {self.kind} begins with {topic}."
            raise ClaimRefused(text, FILE, entry.position)
        if self.kind == "campaign" and not own and entry.plain.get("campaign") != self.said["campaign"]:
            text = "It is neither of the campaign that was asked for, nor does it name it."
            raise ClaimRefused(text, FILE, entry.position)

    def _note_person(self, entry: Entry, subject: str) -> None:
        if entry.said["stream"] == subject and entry.said["version"] == 1:
            self._known_from = entry.position
            if not entry.said["topic"].startswith(_BEGINS["person"]):
                text = f"It is shown as a person's, and no stream of a person begins with {entry.said['topic']}."
                raise ClaimRefused(text, FILE, entry.position)

    def _require_next(self, entry: Entry) -> None:
        if entry.said["stream"] != self.said["subject"]:
            raise ClaimRefused("It is of another stream than the one asked for.", FILE, entry.position)
        (first, last), version = self._versions, entry.said["version"]
        if first and version != last + 1:
            text = f"Of the stream that was asked for this is its version {version} behind {last}: one was left out."
            raise ClaimRefused(text, FILE, entry.position)
        self._versions = first or version, version


_NO_PERIOD: Final = "It does not say what was asked for as a bundle of a period does."


def _moment(text: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise ClaimRefused(_NO_PERIOD, FILE) from None
    if moment.tzinfo is None:
        raise ClaimRefused(_NO_PERIOD, FILE)
    return moment
