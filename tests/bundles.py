"""Small evidence bundles, made in memory with keys of their own: what the offline verifier is tried on.

No database takes part. Sealed parts and their disclosed keys are made with the ledger's own sealing, tiles and paths
with the verifier's own tree, whose agreement with others' is tested elsewhere. A `Draft` can be changed at any point:
before its manifest is written, so that the house itself lies, or after, so that somebody else does.
"""

from __future__ import annotations

import io
import json
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b, sha256
from typing import Any

import orjson
from nacl.signing import SigningKey

from audit.verify.archive import write_archive
from audit.verify.bundle import Trusted, Verified, verify_bundle
from audit.verify.checkpoint import Checkpoint
from audit.verify.cosignature import cosigned_message
from audit.verify.manifest import bundle_text
from audit.verify.merkle import leaf_hash
from audit.verify.note import COSIGNATURE, ED25519, Signature, VerifierKey
from audit.verify.proving import needed_tiles
from audit.verify.tiles import GrowingTiles, TileName, Tiles
from audit.verify.tlog_proof import TlogProof
from ledger.certificate_format import CONTEXT
from ledger.entry import canonical, entry_time
from ledger.links import TokenSealer, link_scope, message_link, occurrence_tag, recorded_occurrence
from ledger.sealing import SealedPlace, disclosed_key, seal
from ledger.signing import ALGORITHM, sign, verify_key

TENANT = bytes.fromhex("0190a0000000700080000000000000aa")
ORIGIN = f"lethe.example/log/{TENANT.hex()}"
LINK_MONTH = "2026-11"
BEGIN = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)


def moment(minute: int) -> datetime:
    """A minute of the day on which all this happens."""
    return BEGIN + timedelta(minutes=minute)


@dataclass(frozen=True)
class Signer:
    """Somebody with a key: a log, or a witness."""

    key: SigningKey
    verifier: VerifierKey

    def line(self, text: bytes, seconds: int = 1_795_000_000) -> bytes:
        """Their line of signature under a text."""
        if self.verifier.kind == COSIGNATURE:
            time = seconds.to_bytes(8, "big")
            signature = time + self.key.sign(cosigned_message(text, time)).signature
        else:
            signature = self.key.sign(text).signature
        return Signature(self.verifier.name, self.verifier.key_id, signature).line()


def signer(name: str, seed: str, kind: int = ED25519) -> Signer:
    """The signer of a name, always with the same key for the same seed."""
    key = SigningKey(sha256(seed.encode()).digest())
    return Signer(key, VerifierKey(name, kind, bytes(key.verify_key)))


HOUSE = signer(ORIGIN, "house")
STRANGER = signer(ORIGIN, "stranger")
WITNESS = signer("witness.example/w1", "witness", COSIGNATURE)


def signed(text: bytes, *signers: Signer) -> bytes:
    """A signed note."""
    return text + b"\n" + b"".join(one.line(text) for one in signers)


class AccountKeys:
    """The account's own keys, as signing needs them."""

    def tenant_key(self, retention_class: str, *, generation: int = 1) -> bytes:
        """Always the same for the same class and generation."""
        return sha256(f"{retention_class} {generation}".encode()).digest()


SIGNER = {"algorithm": ALGORITHM, "public_key": verify_key(AccountKeys()).hex()}


def exported_certificate(document: Mapping[str, Any], keys: Mapping[str, Any] | None) -> dict[str, Any]:
    """A certificate of destruction with its list of keys, signed by the account, as it is exported."""
    return {
        "certificate": dict(document),
        "signature": sign(AccountKeys(), CONTEXT, canonical(dict(document))).hex(),
        "public_key": SIGNER["public_key"],
        "destroyed_keys": keys,
    }


@dataclass(frozen=True)
class Event:
    """One event of a story: its entry, and its sealed parts with what a bundle says of them."""

    entry: bytes
    envelopes: Mapping[str, bytes] = field(default_factory=dict)
    said: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class Story:
    """A log that grows event by event; one minute passes between two."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._versions: dict[bytes, int] = {}

    def add(
        self,
        stream: bytes,
        topic: str,
        plain: Mapping[str, Any] | None = None,
        personal: Mapping[str, Mapping[str, Any]] | None = None,
        **header: Any,
    ) -> int:
        """Append an event and return its position. `personal` holds the fields of each part."""
        position = len(self.events) + 1
        version = self._versions[stream] = self._versions.get(stream, 0) + 1
        event_id = sha256(b"event%d" % position).digest()[:16]
        envelopes, said = {}, {}
        for part, values in (personal or {}).items():
            envelopes[part], said[part] = _sealed(stream, event_id, topic, part, values)
        entry: dict[str, Any] = {
            "v": 1,
            "tenant": TENANT.hex(),
            "id": event_id.hex(),
            "stream": stream.hex(),
            "version": version,
            "topic": topic,
            "occurred_at": entry_time(moment(position)),
            "recorded_at": entry_time(moment(position)),
            "actor": "api",
            "plain": dict(plain or {}),
            **header,
        }
        if envelopes:
            entry["sealed"] = {part: sha256(envelope).hexdigest() for part, envelope in envelopes.items()}
        self.events.append(Event(canonical(entry), envelopes, said))
        return position

    def fill(self, count: int) -> None:
        """Append events of others."""
        for _ in range(count):
            number = len(self.events)
            self.add(sha256(b"stream%d" % number).digest()[:16], "contact.added.v1", {"category": "contact"})


@dataclass
class Draft:
    """A bundle that is being made: its files but for the manifest, and what the manifest says besides."""

    files: dict[str, bytes]
    kind: str
    size: int
    origin: str = ORIGIN
    signers: Sequence[Signer] = (HOUSE,)
    manifest: bytes = b""
    signature: bytes = b""
    asked: Mapping[str, Any] | None = None
    """What the manifest says was asked for; None is what an honest house writes to these claims."""

    def claim(self, claims: Mapping[str, Any]) -> None:
        """Replace the claims."""
        self.files["claims.json"] = canonical(claims)

    def sign(self) -> Draft:
        """Write the manifest over the files as they are now, and sign it."""
        said = {
            "format": "lethe.bundle.v1",
            "kind": self.kind,
            "asked": asked_for(json.loads(self.files["claims.json"])) if self.asked is None else dict(self.asked),
            "made_at": "2026-11-21T20:15:00.000000Z",
            "by": "cli",
            "tenant": TENANT.hex(),
            "origin": self.origin,
            "size": self.size,
            "files": {
                name: {"bytes": len(content), "sha256": sha256(content).hexdigest()}
                for name, content in self.files.items()
            },
        }
        self.manifest = canonical(said)
        self.signature = signed(bundle_text(self.manifest), *self.signers)
        return self

    def zipped(self) -> bytes:
        """The bundle as it stands, signed now if it was not before."""
        if not self.manifest:
            self.sign()
        held = io.BytesIO()
        own = {"manifest.json": self.manifest, "manifest.sig": self.signature}
        write_archive(held, {**self.files, **own}.items())
        return held.getvalue()


def asked_for(claims: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for where an honest house claims this."""
    kind, complete = claims.get("kind"), claims.get("complete")
    if kind == "send":
        return {"message": message_link(SCOPE, CAMPAIGN)[0].hex(), "campaign": CAMPAIGN.hex()}
    if kind == "period" and isinstance(complete, dict) and isinstance(complete.get("positions"), list):
        return dict(zip(("first", "last"), complete["positions"], strict=True))
    name = {"person": "subject", "campaign": "campaign"}.get(str(kind))
    return {name: SUBJECT.hex()} if name is not None else {"certificate": OTHER.hex()}


def verified(content: bytes, **trusted: Any) -> Verified:
    """What the verifier says of a bundle; `trusted` as for `Trusted`."""
    return verify_bundle(io.BytesIO(content), Trusted(**trusted))


def draft(
    story: Story,
    positions: Iterable[int],
    claims: Mapping[str, Any],
    *,
    older: Sequence[int] = (),
    signers: Sequence[Signer] = (HOUSE,),
    witnesses: Sequence[Signer] = (),
    proofs: bool = True,
) -> Draft:
    """The bundle of some events of a story, as an honest house makes it."""
    chosen = sorted(positions)
    tree = _Tree(story)
    size = len(story.events)
    checkpoint = tree.checkpoint(size, *signers, *witnesses)
    files = {
        "README.md": b"# A bundle\n",
        "claims.json": canonical(claims),
        "entries.tsv": b"".join(b"%d\t%s\n" % (at, story.events[at - 1].entry) for at in chosen),
        "keys/log.vkeys": b"".join(f"{one.verifier}\n".encode() for one in signers),
        "log/checkpoint": checkpoint,
    }
    if witnesses:
        files["keys/witnesses.vkeys"] = b"".join(f"{one.verifier}\n".encode() for one in witnesses)
    for smaller in older:
        files[f"log/checkpoints/{smaller}"] = tree.checkpoint(smaller, *signers)
    for name in needed_tiles(size, chosen, older):
        files[f"log/{name.path()}"] = tree.read(name.level, name.number, name.width)
    for at in chosen if proofs else ():
        path = tuple(Tiles(tree.read).inclusion_path(at - 1, size))
        files[f"proofs/{at}.tlog-proof"] = TlogProof(at - 1, path, checkpoint).format()
    sealed, disclosed = [], []
    for at in chosen:
        event = story.events[at - 1]
        for part in sorted(event.envelopes):
            sealed.append(b"%d\t%s\t%s\n" % (at, part.encode(), b64encode(event.envelopes[part])))
            disclosed.append(canonical({"position": at, "part": part, **event.said[part]}) + b"\n")
    if sealed:
        files["sealed.tsv"], files["disclosed.ndjson"] = b"".join(sealed), b"".join(disclosed)
    return Draft(files, str(claims["kind"]), size, signers=signers)


SUBJECT = bytes.fromhex("0190a0000001700080000000000000bb")
CAMPAIGN = bytes.fromhex("0190a0000002700080000000000000cc")
OTHER = bytes.fromhex("0190a0000003700080000000000000dd")
SCOPE = link_scope(sha256(b"person's link").digest(), sha256(b"month's link").digest())
"""K_link of the one person and month that receipts are told of."""
RULES: dict[str, Any] = {
    "version": "",
    "rows": [
        {
            "says": ["regimes.toml", "de", "opt-in"],
            "effective_from": "2004-07-08",
            "effective_to": None,
            "source": "ePrivacy Directive Art. 13",
            "note": "",
        }
    ],
}
RULES["version"] = (
    "law-2004-07-08-" + blake2b(json.dumps(["regimes.toml", "de", "opt-in"]).encode(), digest_size=4).hexdigest()
)
RULES_DIGEST = sha256(canonical(RULES["rows"][0])).hexdigest()
EVIDENCE = {"purpose": "newsletter", "channel": "email", "effective": True, "evidenced": True, "method": "form"}


@dataclass
class Receipt:
    """The story of one send, and the claim of its receipt; both can be told otherwise."""

    story: Story = field(default_factory=Story)
    purpose: str = "newsletter"
    occurrence: str | None = None
    rules: Mapping[str, Any] = field(default_factory=lambda: RULES)
    claim: dict[str, Any] = field(default_factory=dict)
    last: int = 0
    positions: list[int] = field(default_factory=list)

    def says(self, topic: str, **plain: Any) -> int:
        """The person says something."""
        parts = {"consent": {"evidence": {"ip": "192.0.2.7", "words": "Ja, gerne – ✓"}}} if "granted" in topic else None
        position = self.story.add(SUBJECT, topic, plain, parts)
        self.positions.append(position)
        self.last += 1
        return position

    def begin(self) -> Receipt:
        """Somebody is added, and a campaign registered."""
        self.story.add(TENANT, "account.opened.v1", {"operator": False})
        identity = {"identity": {"email": "ada@example.org", "first_name": "Ada"}}
        self.positions.append(self.story.add(SUBJECT, "contact.added.v1", {"category": "contact"}, identity))
        self.last += 1
        plain = {"purpose": self.purpose, "channel": "email", "kind": "one-off", "tracking_disclosed": True}
        self.claim["campaign"] = self.story.add(CAMPAIGN, "campaign.registered.v1", plain)
        self.positions.append(self.claim["campaign"])
        return self

    def adopts(
        self, *, version: str = str(RULES["version"]), digest: str = RULES_DIGEST, stream: bytes = TENANT
    ) -> Receipt:
        """The account adopts the rules; the newest adoption is the one that is claimed."""
        plain = {"rules_version": version, "digest": digest}
        self.claim["adopted"] = self.story.add(stream, "account.rules_adopted.v1", plain)
        self.positions.append(self.claim["adopted"])
        return self

    def grant(self, **plain: Any) -> Receipt:
        """The person agrees."""
        self.claim["evidence"] = self.says("consent.granted.v1", **{**EVIDENCE, **plain})
        return self

    def send(self, rule: str = "consent", basis: str = "consent") -> Receipt:
        """The send is authorised."""
        self.story.fill(1)
        stream, nonce = message_link(SCOPE, CAMPAIGN)
        tag = occurrence_tag(SCOPE, self.occurrence)
        token = TokenSealer(LINK_MONTH, sha256(b"month's link").digest()).seal(bytes(16), CAMPAIGN, nonce, tag)
        plain = {"campaign": CAMPAIGN.hex(), "rule": rule, "basis": basis, "expires_at": entry_time(moment(2_000))}
        link = {"key": SCOPE.hex(), "month": LINK_MONTH}
        if self.occurrence is not None:
            plain["occurrence"] = recorded_occurrence(SCOPE, tag).hex()
            link["occurrence"] = tag.hex()
        authorised = self.story.add(stream, "send.authorised.v1", plain, rules=self.rules["version"])
        self.positions.append(authorised)
        self.claim |= {
            "authorised": authorised,
            "subject": SUBJECT.hex(),
            "before": self.last,
            "rules": self.rules,
            "link": link,
            "token": token,
        }
        return self

    def then(self, topic: str, **plain: Any) -> Receipt:
        """The person says something after the send."""
        self.claim.setdefault("next", len(self.story.events) + 1)
        self.says(topic, **plain)
        return self

    @property
    def claims(self) -> dict[str, Any]:
        """The claims of its bundle."""
        return {"kind": "send", "complete": {"streams": {SUBJECT.hex(): self.last}}, "send": dict(self.claim)}

    def draft(self, **options: Any) -> Draft:
        """Its bundle."""
        return draft(self.story, self.positions, self.claims, **options)


def receipt(occurrence: str | None = None) -> Receipt:
    """The plain story: agreed, sent, and withdrawn afterwards."""
    told = Receipt(occurrence=occurrence).begin().grant().send()
    return told.then("consent.withdrawn.v1", purpose="newsletter", channel="email", evidenced=True)


def _sealed(
    stream: bytes, event: bytes, topic: str, part: str, values: Mapping[str, Any]
) -> tuple[bytes, dict[str, Any]]:
    """An envelope, and what a bundle says of it when it is opened."""
    kid = sha256(b"kid" + stream).digest()[:16]
    place = SealedPlace(TENANT, stream, event, part, topic, part, "2026-11", kid)
    scope = sha256(b"scope" + stream + part.encode()).digest()
    envelope = seal(scope, orjson.dumps(values, option=orjson.OPT_SORT_KEYS), place, kid)
    key = b64encode(disclosed_key(scope, envelope, place)).decode()
    return envelope, {"class": part, "period": "2026-11", "binding": kid.hex(), "key": key, "opened": dict(values)}


class _Tree:
    """The tree over a story, and its tiles."""

    def __init__(self, story: Story) -> None:
        growing = GrowingTiles()
        tiles: dict[TileName, bytes] = {}
        for event in story.events:
            tiles.update((name, hashes) for name, hashes in growing.append(leaf_hash(event.entry)))
        tiles.update(growing.partial())
        self._tiles = {(name.level, name.number): hashes for name, hashes in tiles.items()}

    def read(self, level: int, number: int, width: int) -> bytes:
        """A tile, cut off at a width."""
        return self._tiles[level, number][: width * 32]

    def checkpoint(self, size: int, *signers: Signer) -> bytes:
        """The signed checkpoint of a size."""
        return signed(Checkpoint(ORIGIN, size, Tiles(self.read).root(size)).body(), *signers)
