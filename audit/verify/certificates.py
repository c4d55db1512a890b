"""Certificates of destruction in a bundle: that the log holds the digest of each, and what its list of keys rests on.

    certificates/<id>.json    {"certificate": …, "destroyed_keys": …, "public_key": …, "signature": …}

The stream of a certificate's id holds the SHA-256 of its document (`certificate.issued.v1`), so the log vouches for
it, and for the key that it says signed it: the signature is held against that. The document names its list of keys by
a digest, and a key of the list leads to the root of the commitments of the day it was made (`keys.committed.v1`),
which stands in the log before the certificate: so the list is not made up afterwards. A key that was never published
says so, and is counted apart.

Exports about many persons in which parts were opened stand in the log, too (`access.export_opened.v1`). What of them
is here, and was made while the listed keys could open what they sealed, must be on the certificate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from audit.verify.canonical import canonical, parse_canonical
from audit.verify.entries import Entry
from audit.verify.errors import ClaimRefused, ProofRefused, SignatureRefused
from audit.verify.merkle import leaf_hash, require_included
from audit.verify.note import require_signature

BYTES_MAX: Final = 64 << 20
"""That of the largest certificate with its list of keys."""

ISSUED: Final = "certificate.issued.v1"
COMMITTED: Final = "keys.committed.v1"
OPENED: Final = "access.export_opened.v1"

DAY_CHARACTERS: Final = len("2026-11-21")
MONTH_CHARACTERS: Final = len("2026-11")

FIELDS: Final = frozenset({"certificate", "signature", "public_key", "destroyed_keys"})
FRAME: Final = b"lethe.sig.v1\x14lethe.certificate.v1"
"""Stands before what is signed: the account's key signs other documents, too, each in a context of its own."""

NEVER: Final = "9999-12-31"

OF_PLAN: Final = "plan"
ABOUT_MANY: Final = "many"

NOT_PUBLISHED: Final = (
    "That all of the listed keys were published before: some never were, or not every day's event is in the bundle."
)


@dataclass(slots=True)
class Certificates:
    """The certificates of one bundle, which sees every event in order and is settled at the end."""

    names: Mapping[str, str]
    """The files, by the certificate's id."""

    _digests: dict[str, str] = field(default_factory=dict)
    _issued: dict[str, int] = field(default_factory=dict)
    _published: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    _opened: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Exports about many persons that were opened, by day and kind."""

    def take(self, entry: Entry) -> None:
        """Look at one more event."""
        if not self.names:
            return
        topic, stream = entry.said["topic"], entry.said["stream"]
        if topic == ISSUED and stream in self.names:
            self._digests[stream] = entry.plain["digest"]
            self._issued[stream] = entry.position
        elif topic == COMMITTED:
            self._published[entry.position] = entry.plain
        elif topic == OPENED:
            self._opened[entry.said["recorded_at"][:DAY_CHARACTERS], entry.plain["kind"]] += 1

    def settle(self, read: Callable[[str], bytes]) -> tuple[list[str], list[str]]:
        """What is proven and what is not, in sentences. Raises `ClaimRefused`."""
        proven, not_proven = [], set[str]()
        for stream, name in self.names.items():
            held = parse_canonical(read(name), name)
            document = held["certificate"]
            held_as = (self._digests.get(stream), _with_hyphens(stream))
            if (sha256(canonical(document)).hexdigest(), document["id"]) != held_as:
                raise ClaimRefused("The certificate is not the one whose digest the log holds last.", name)
            _require_signed(name, held)
            proven.append(f"The log holds the digest of certificate {document['id']}, stage {document['stage']}.")
            keys = held["destroyed_keys"]
            if (document["keys"].get("list") is None) != (keys is None):
                raise ClaimRefused("The certificate and the list of keys beside it do not belong together.", name)
            if keys is None:
                continue
            if sha256(canonical(keys)).hexdigest() != document["keys"]["list"]["digest"]:
                raise ClaimRefused("The list of keys is not the one that the certificate names.", name)
            published, listed = self._published_of(name, keys, self._issued[stream]), len(keys["keys"])
            if published:
                proven.append(f"Of its {listed:,} keys, {published:,} were published in the log before it was issued.")
            if published < listed:
                not_proven.add(NOT_PUBLISHED)
            if exports := self._require_listed(
                name, document, min((key["made_on"] for key in keys["keys"]), default=NEVER)
            ):
                proven.append(f"It lists the {exports:,} exports about many persons that the bundle shows of its time.")
        return proven, sorted(not_proven)

    def _require_listed(self, name: str, document: Mapping[str, Any], since: str) -> int:
        """How many exports about many persons were opened in the time of these keys, and are here.

        Raises `ClaimRefused` if the certificate lists fewer. A plan's certificate says the day on which its keys went
        and not when: that day is left out.
        """
        until, of_plan = document["unreachable_from"], document["about"]["kind"] == OF_PLAN
        seen, said = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        for (day, kind), count in self._opened.items():
            if since <= day <= until and not (of_plan and day == until):
                seen[day[:MONTH_CHARACTERS], kind] += count
        for row in document.get("exports", ()):
            if row.get("about") == ABOUT_MANY:
                said[row["month"], row["kind"]] += row["count"]
        if seen - said:
            raise ClaimRefused("The certificate lists fewer exports about many persons than the log shows.", name)
        return seen.total()

    def _published_of(self, name: str, keys: Mapping[str, Any], issued: int) -> int:
        """How many keys of a list lead to an event that is here. Raises `ClaimRefused` for one that leads astray."""
        published = [key for key in keys["keys"] if key["index"] is not None]
        for key in published:
            _require_published(name, key, keys["published"])
        here = {day for day, said in keys["published"].items() if self._stands(name, day, said, issued)}
        return sum(key["made_on"] in here for key in published)

    def _stands(self, name: str, day: str, said: Mapping[str, Any], issued: int) -> bool:
        """Whether the event of a day's commitments is here. Raises `ClaimRefused` if it says something else."""
        position = said["position"]
        held = self._published.get(position)
        if held is None:
            return False
        if (held["day"], held["count"], held["root"]) != (day, said["count"], said["root"]):
            raise ClaimRefused("The list of keys gives a day another root than this event.", name, position)
        if position > issued:
            text = "The keys of this day were published after the certificate that lists them."
            raise ClaimRefused(text, name, position)
        return True


def _require_signed(name: str, held: Mapping[str, Any]) -> None:
    """Raise `ClaimRefused` unless nothing stands beside the document but its list and the signature that it names."""
    if held.keys() != FIELDS:
        raise ClaimRefused("A certificate's file has fields too many, or too few.", name)
    document, key = held["certificate"], held["public_key"]
    if document["signer"]["public_key"] != key:
        raise ClaimRefused("The certificate names another key than the one beside it.", name)
    signed = FRAME + canonical(document)
    try:
        require_signature("the certificate", bytes.fromhex(key), signed, bytes.fromhex(held["signature"]))
    except SignatureRefused as refused:
        raise ClaimRefused(str(refused), name) from refused


def _with_hyphens(stream: str) -> str:
    """An id as certificates write it."""
    return "-".join((stream[:8], stream[8:12], stream[12:16], stream[16:20], stream[20:]))


def _require_published(name: str, key: Mapping[str, Any], published: Mapping[str, Any]) -> None:
    day = published[key["made_on"]]
    path = [bytes.fromhex(step) for step in key["path"]]
    leaf = leaf_hash(bytes.fromhex(key["commitment"]))
    try:
        require_included(leaf, key["index"], day["count"], path, bytes.fromhex(day["root"]))
    except ProofRefused as refused:
        raise ClaimRefused(f"A key of the list was not published as it says. {refused}", name) from refused
