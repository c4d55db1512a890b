"""Verifying an evidence bundle, offline: with this folder, the bundle, and the keys that the reader trusts.

It stops at the first lie and says in which file and at which event. The order is such that nothing is believed before
what vouches for it was checked: the zip file byte by byte; who signed the manifest; every file's digest; the
checkpoint's signatures; the tiles up to its root; older checkpoints and timestamps; then each event in its order, with
its leaf, its proof, its sealed parts and what was opened of them; and last what the bundle says it all means.

Whose keys count is the reader's choice (`Trusted`). With none given, the keys inside the bundle are taken, and then a
bundle is shown to agree with itself and no more: whoever made it may have made the keys as well.

Memory does not grow with the number of events, but for what a claim has to remember.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from audit.verify import entries, parts
from audit.verify.archive import Archive, open_archive
from audit.verify.asked import Asked
from audit.verify.certificates import BYTES_MAX as CERTIFICATE_BYTES_MAX
from audit.verify.certificates import Certificates
from audit.verify.checkpoint import OpenedCheckpoint, open_checkpoint, require_kind
from audit.verify.claims import CLAIMS_BYTES_MAX, parse_claims
from audit.verify.clocks import Clocks, Seen
from audit.verify.entries import Entry, entries_of
from audit.verify.errors import (
    BundleRefused,
    CheckpointRefused,
    CheckUnavailable,
    ClaimRefused,
    CosignatureRefused,
    VerificationRefused,
)
from audit.verify.manifest import (
    MANIFEST_BYTES_BESIDE_MAX,
    MANIFEST_BYTES_MAX,
    MANIFEST_BYTES_PER_FILE_MAX,
    Manifest,
    parse_manifest,
    require_files,
    require_signed,
)
from audit.verify.note import COSIGNATURE, ED25519, NOTE_BYTES_MAX, SIGNATURES_MAX, VerifierKey
from audit.verify.parts import Parts, PartsSeen
from audit.verify.proving import ProvenTree
from audit.verify.readme import readme_text
from audit.verify.tlog_proof import PROOF_BYTES_MAX, TlogProof
from audit.verify.words import CLAIMS

if TYPE_CHECKING:
    from audit.verify.timestamp import Stamped

PROOFS_ENTRIES_MAX: Final = 1_000
"""Up to so many events a bundle holds a tlog-proof of each, for verifiers that know only this form."""

KEYS_BYTES_MAX: Final = 64 * 1024
"""Verifier keys have about a hundred bytes, and no checkpoint has more than 64 signatures."""

ROOTS_BYTES_MAX: Final = 1 << 20
TOKEN_BYTES_MAX: Final = 64 * 1024
PROGRESS_BYTES: Final = 1 << 20

KEYS_FROM_BUNDLE: Final = (
    "The keys were taken from the bundle itself. So it is shown that the bundle agrees with itself, and not who made "
    "it: get the log's key from elsewhere, and give it with --key."
)
SUMMARIES_NOT_CHECKED: Final = "That the summaries for people say what the events say: only their digests were checked."
OTHER_README: Final = (
    "That README.md is the one that this verifier knows: it is of another version of Lethe, or of another hand. Read "
    "the programs that it prints before you run them."
)
WITNESSES_NOT_GIVEN: Final = (
    "Cosignatures are needed, and no witness is trusted here: those that a bundle names may be the house itself. Give "
    "their keys with --witness."
)
ROOTS_FROM_BUNDLE: Final = (
    "By whom the timestamps are: the roots of the authorities were taken from the bundle, and whoever made it may have "
    "made them as well. Give them with --timestamp-roots."
)
ERASED_NOT_PROVEN: Final = (
    "That no key is left of the parts that are said to be erased: that is the word of the house, as is the certificate "
    "it names, where that is not in the bundle."
)
TIMESTAMPS_UNREADABLE: Final = (
    "The bundle has timestamps, and the library that reads them is not installed here: pip install rfc3161-client."
)
TIMESTAMPS_NOT_CHECKED: Final = "The timestamps: no root certificate of an authority is in the bundle or was given."

Progress = Callable[[int, int], None]
"""Told how many bytes are done, and of how many."""


@dataclass(frozen=True, slots=True)
class Trusted:
    """Whose word counts. What is left out is taken from the bundle, and the answer says so.

    `witnesses_needed` is how many witnesses must have cosigned the checkpoint; None is one of those given, if any are.
    `timestamp_roots` are certificates in PEM.
    """

    log_keys: Sequence[VerifierKey] = ()
    witnesses: Sequence[VerifierKey] = ()
    witnesses_needed: int | None = None
    timestamp_roots: bytes | None = None

    def __post_init__(self) -> None:
        """Raises `NoteMalformed` for a key that is for something else: a mistake of the reader's, and no lie."""
        require_kind(self.log_keys, ED25519)
        require_kind(self.witnesses, COSIGNATURE)


@dataclass(slots=True)
class Verified:
    """A bundle that was verified: what it is about, who vouches for it, and what follows from it and what does not."""

    manifest: Manifest
    signers: tuple[str, ...]
    checkpoint: OpenedCheckpoint
    keys_given: bool
    witnesses_given: bool
    roots_given: bool
    older_checkpoints: list[int] = field(default_factory=list)
    timestamps: list[dict[str, Any]] = field(default_factory=list)
    events: int = 0
    proofs: int = 0
    certificates: int = 0
    parts: PartsSeen = field(default_factory=PartsSeen)
    proven: list[str] = field(default_factory=list)
    not_proven: list[str] = field(default_factory=list)


def verify_bundle(bundle: Path | BinaryIO, trusted: Trusted, progress: Progress | None = None) -> Verified:
    """Verify the bundle in a file. Raises `BundleRefused` at the first lie, `OSError` where the file is unreadable."""
    with open_archive(bundle) as archive:
        return _Verifying(archive, trusted, progress or (lambda done, total: None)).verify()


class _Verifying:
    """One verification, in the order that the module describes."""

    def __init__(self, archive: Archive, trusted: Trusted, progress: Progress) -> None:
        self._archive = archive
        self._trusted = trusted
        self._progress = progress
        self._done = 0
        sizes = (member.size for name, member in archive.members.items() if name == entries.FILE)
        self._total = archive.size + sum(sizes)
        self._keys: Sequence[VerifierKey] = ()
        self._own: Sequence[VerifierKey] = ()
        self._seen: list[Seen] = []
        self._witnesses: Sequence[VerifierKey] = ()

    def verify(self) -> Verified:
        room = len(self._archive.members) * MANIFEST_BYTES_PER_FILE_MAX
        raw = self._archive.read("manifest.json", min(MANIFEST_BYTES_MAX, MANIFEST_BYTES_BESIDE_MAX + room))
        manifest = parse_manifest(raw)
        require_files(manifest, {name: member.size for name, member in self._archive.members.items()})
        self._own = self._own_keys("keys/log.vkeys", manifest)
        self._keys = self._trusted.log_keys or self._own
        with _located("manifest.sig"):
            signature = self._archive.read("manifest.sig", NOTE_BYTES_MAX)
            signers = require_signed(signature, raw, manifest.origin, self._keys, self._own)
        self._require_digests(manifest)
        self._witnesses = self._trusted.witnesses or self._own_keys("keys/witnesses.vkeys", manifest)
        checkpoint = self._checkpoint(manifest)
        tree = ProvenTree(self._archive, checkpoint.checkpoint)
        with _located("log/checkpoint"):
            tree.require_edge()
        trusted = self._trusted
        given = bool(trusted.log_keys), bool(trusted.witnesses), trusted.timestamp_roots is not None
        found = Verified(manifest, signers, checkpoint, *given)
        texts = self._older_checkpoints(manifest, tree, found)
        self._timestamps(manifest, texts, found)
        self._entries(manifest, tree, found)
        with _located("log/checkpoint"):
            tree.require_all_used(name for name, _ in manifest.named("log/tile/<level>/<number>"))
        self._limits(found)
        return found

    def _own_keys(self, name: str, manifest: Manifest) -> list[VerifierKey]:
        """The keys that the bundle itself names; none where it has no such file."""
        if name not in manifest.files:
            return []
        with _located(name):
            lines = list(islice(self._lines(name, KEYS_BYTES_MAX), SIGNATURES_MAX + 1))
            if len(lines) > SIGNATURES_MAX:
                raise BundleRefused(f"More than {SIGNATURES_MAX} keys are named; no note has so many signatures.", name)
            return [VerifierKey.parse(line.decode("utf-8", "replace")) for line in lines]

    def _require_digests(self, manifest: Manifest) -> None:
        for name, (_, expected) in manifest.files.items():
            digest = sha256()
            for piece in self._archive.pieces(name):
                digest.update(piece)
                self._advance(len(piece))
            if digest.hexdigest() != expected:
                raise BundleRefused("The file is not the one that the manifest was signed for: it was changed.", name)

    def _checkpoint(self, manifest: Manifest) -> OpenedCheckpoint:
        needed = self._trusted.witnesses_needed
        if needed is None:
            needed = 1 if self._trusted.witnesses else 0
        with _located("log/checkpoint"):
            if needed and not self._trusted.witnesses:
                raise CosignatureRefused(WITNESSES_NOT_GIVEN)
            opened = self._opened("log/checkpoint", manifest, self._keys, needed)
            if opened.checkpoint.size != manifest.size:
                raise CheckpointRefused(
                    f"The checkpoint is of size {opened.checkpoint.size}, and the manifest names {manifest.size}."
                )
            return opened

    def _opened(
        self, name: str, manifest: Manifest, keys: Sequence[VerifierKey], witnesses_needed: int = 0
    ) -> OpenedCheckpoint:
        opened = open_checkpoint(
            self._archive.read(name, NOTE_BYTES_MAX),
            keys,
            witnesses=self._witnesses,
            witnesses_needed=witnesses_needed,
            origin=manifest.origin,
        )
        size = opened.checkpoint.size
        self._seen += [Seen(size, one.at, f"the witness {one.witness.name}") for one in opened.cosigned]
        return opened

    def _older_checkpoints(self, manifest: Manifest, tree: ProvenTree, found: Verified) -> dict[int, bytes]:
        """The texts of all checkpoints by size, after the older ones were seen to be beginnings of the newest.

        The tree of the newest vouches for what an older one says. So it may be signed by a key that the log has laid
        down since, which a reader need not know.
        """
        keys = list(dict.fromkeys((*self._keys, *self._own)))
        texts = {found.checkpoint.checkpoint.size: found.checkpoint.note.text}
        for name, size in manifest.named("log/checkpoints/<size>"):
            with _located(name):
                opened = self._opened(name, manifest, keys)
                if opened.checkpoint.size != int(size):
                    raise CheckpointRefused(f"The checkpoint is of size {opened.checkpoint.size}.")
                tree.require_prefix(opened.checkpoint)
            texts[opened.checkpoint.size] = opened.note.text
            found.older_checkpoints.append(opened.checkpoint.size)
        found.older_checkpoints.sort()
        return texts

    def _timestamps(self, manifest: Manifest, texts: dict[int, bytes], found: Verified) -> None:
        named = sorted(manifest.named("log/timestamps/<size>[.<number>].tsr"), key=lambda one: int(one[1]))
        roots = self._trusted.timestamp_roots
        if roots is None and "keys/timestamp-roots.pem" in manifest.files:
            roots = self._archive.read("keys/timestamp-roots.pem", ROOTS_BYTES_MAX)
        for name, size in named if roots else ():
            if int(size) not in texts:
                raise BundleRefused(f"The bundle has no checkpoint of size {size} to go with this timestamp.", name)
            with _located(name):
                stamped = _opened_timestamp(self._archive.read(name, TOKEN_BYTES_MAX), texts[int(size)], roots or b"")
            self._seen.append(Seen(int(size), stamped.at, f"the authority {stamped.authority}"))
            found.timestamps.append({"size": int(size), "at": stamped.at, "authority": stamped.authority})
        if named and not roots:
            found.not_proven.append(TIMESTAMPS_NOT_CHECKED)
        elif named and not found.roots_given:
            found.not_proven.append(ROOTS_FROM_BUNDLE)

    def _entries(self, manifest: Manifest, tree: ProvenTree, found: Verified) -> None:
        claims = parse_claims(self._archive.read(CLAIMS, CLAIMS_BYTES_MAX), manifest.kind, manifest.size)
        asked = Asked(manifest.kind, manifest.asked, claims)
        sealed = self._optional_lines(parts.SEALED, manifest)
        reading = Parts(sealed, self._optional_lines(parts.DISCLOSED, manifest))
        proofs = {int(position) for _, position in manifest.named("proofs/<position>.tlog-proof")}
        asked.require_certificates(manifest.named("certificates/<id>.json"))
        certificates = Certificates({one: name for name, one in manifest.named("certificates/<id>.json")})
        clocks = Clocks(self._seen)
        read = 0
        for entry in entries_of(self._lines(entries.FILE, entries.LINE_BYTES_MAX), manifest.tenant):
            try:
                tree.require_entry(entry.content, entry.index)
                if proofs:
                    self._require_proof(entry, found.checkpoint)
            except VerificationRefused as refused:
                raise _with_place(refused, entries.FILE, entry.position) from refused
            reading.check(entry)
            with _said_rightly(entry):
                asked.take(entry)
                claims.take(entry)
                certificates.take(entry)
            clocks.take(entry)
            found.events += 1
            read += len(entry.content)
            if read > PROGRESS_BYTES:
                self._advance(read)
                read = 0
        found.parts, found.proofs = reading.finish(), len(proofs)
        if proofs and len(proofs) != found.events:
            raise BundleRefused("There are proofs of events that are not in the bundle.", entries.FILE)
        found.certificates = len(certificates.names)
        with _said_rightly(None):
            settled = claims.settle(), asked.settle(), certificates.settle(self._certificate), clocks.settle()
            for proven, not_proven in settled:
                found.proven += proven
                found.not_proven += not_proven
        if found.parts.erased:
            found.not_proven.append(ERASED_NOT_PROVEN)

    def _require_proof(self, entry: Entry, checkpoint: OpenedCheckpoint) -> None:
        name = f"proofs/{entry.position}.tlog-proof"
        proof = TlogProof.parse(self._archive.read(name, PROOF_BYTES_MAX))
        if proof.index != entry.index:
            raise BundleRefused("The proof is that of another event.", name, entry.position)
        opened = proof.require_logged(entry.content, self._keys)
        if opened.checkpoint != checkpoint.checkpoint:
            raise BundleRefused("The proof is for another checkpoint than the bundle's.", name, entry.position)

    def _certificate(self, name: str) -> bytes:
        return self._archive.read(name, CERTIFICATE_BYTES_MAX)

    def _limits(self, found: Verified) -> None:
        self._progress(self._total, self._total)
        if found.manifest.files["README.md"][1] != sha256(readme_text().encode()).hexdigest():
            found.not_proven.append(OTHER_README)
        found.not_proven.append(SUMMARIES_NOT_CHECKED)
        if not found.keys_given:
            found.not_proven.insert(0, KEYS_FROM_BUNDLE)

    def _lines(self, name: str, limit: int) -> Iterator[bytes]:
        return self._archive.lines(name, limit)

    def _optional_lines(self, name: str, manifest: Manifest) -> Iterator[bytes]:
        return self._lines(name, parts.LINE_BYTES_MAX) if name in manifest.files else iter(())

    def _advance(self, count: int) -> None:
        self._done = min(self._done + count, self._total)
        self._progress(self._done, self._total)


def _opened_timestamp(token: bytes, text: bytes, roots: bytes) -> Stamped:
    try:
        # Only who has timestamps to check needs the library that reads them.
        from audit.verify.timestamp import open_timestamp  # noqa: PLC0415
    except ImportError:
        raise CheckUnavailable(TIMESTAMPS_UNREADABLE) from None
    return open_timestamp(token, text, roots)


@contextmanager
def _located(file: str) -> Iterator[None]:
    """Whatever is refused inside is said to be about this file."""
    try:
        yield
    except VerificationRefused as refused:
        raise _with_place(refused, file, None) from refused


def _with_place(refused: VerificationRefused, file: str, position: int | None) -> VerificationRefused:
    """The same refusal with the file and the event it is about; one that has them, or needs none, stays as it is."""
    if isinstance(refused, CheckUnavailable):
        return refused
    if isinstance(refused, BundleRefused):
        if position is None or refused.position is not None:
            return refused
        return BundleRefused(str(refused), refused.file or file, position)
    return BundleRefused(str(refused), file, position)


@contextmanager
def _said_rightly(entry: Entry | None) -> Iterator[None]:
    """An event that lacks what its topic has, or holds something else there, is refused and not stumbled over."""
    try:
        yield
    except (LookupError, ArithmeticError, TypeError, ValueError, AttributeError, RecursionError) as wrong:
        position = entry.position if entry is not None else None
        text = f"What a claim rests on is not written as it has to be ({type(wrong).__name__})."
        raise ClaimRefused(text, CLAIMS, position) from wrong
