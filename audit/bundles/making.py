"""Making a bundle: members first, then what is recorded of it, then the file.

    collect     which events (`person`, `campaign`, …): positions only
    basis       a served checkpoint that covers all of them; the log is published first where it must be
    members     read page by page, each entry compared with the log's own tree, into a sealed scratch file
    record      that sealed parts were opened (I8), and that the export leaves the house, with the manifest's digest
    write       one zip (`audit/verify/archive.py`), from the scratch file

Nothing leaves before it is recorded. Memory holds a page of events and the list of what is in the bundle, so a bundle
of a million events is made like one of ten.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from audit.bundles.basis import Basis, ProofSource, basis_for, reader_of
from audit.bundles.disclosing import Part, disclosed_parts
from audit.bundles.model import EXPORT_KINDS, VIEWED, Collected
from audit.bundles.reading import Progress, events_at
from audit.bundles.scratch import Growing, Scratch, Stored
from audit.bundles.summary import Summary, SummaryEvent, summary_page
from audit.bundles.summary_pdf import summary_pdf
from audit.log.errors import LogContradiction
from audit.log.keys import signed_note
from audit.verify.archive import Sink, write_archive
from audit.verify.bundle import PROOFS_ENTRIES_MAX
from audit.verify.canonical import canonical
from audit.verify.errors import VerificationRefused
from audit.verify.manifest import FORMAT, bundle_text
from audit.verify.merkle import leaf_hash
from audit.verify.proving import FOLDER, needed_tiles
from audit.verify.readme import readme_text
from audit.verify.tiles import ProvenTiles, Tiles
from audit.verify.tlog_proof import TlogProof
from domain.access import rounded_up
from ledger.application import Ledger
from ledger.entry import entry_time, unpack_sealed
from ledger.mapper import LedgerEvent


@dataclass(frozen=True, slots=True)
class Counts:
    """How much is in a bundle."""

    entries: int
    sealed_parts: int
    opened: int
    erased: int
    not_disclosed: int


@dataclass(slots=True)
class Prepared:
    """A bundle that is recorded and ready to leave. `manifest_sha256` (hex) is what its export is known by."""

    manifest: dict[str, Any]
    manifest_sha256: str
    counts: Counts
    _members: dict[str, Stored]

    def write(self, target: Path | Sink) -> int:
        """Write the zip; returns how many bytes it has. A path is created for its owner only, and must not exist."""
        return write_archive(target, self._members.items())


@contextmanager
def prepared_bundle(
    ledger: Ledger,
    collected: Collected,
    source: ProofSource,
    *,
    opened: bool,
    actor: str,
    progress: Progress | None = None,
) -> Iterator[Prepared]:
    """A bundle of what was collected, for the length of the block.

    Raises `LogBehind`, `KeyDestroyed` where the person is being forgotten, and for incidents `LogContradiction`,
    `KeyMissing` and `TamperError`. Until then nothing was handed out.
    """
    basis = basis_for(ledger, collected.positions, collected.around, source)
    with Scratch() as scratch:
        maker = _Maker(ledger, collected, basis, scratch, opened=opened, now=ledger.clock(), actor=actor)
        maker.read(progress)
        members = maker.members()
        manifest = maker.manifest(members)
        content = canonical(manifest)
        digest = sha256(content).hexdigest()
        _record(ledger, collected, maker.counts, digest, actor)
        with ledger.services.writer.transaction() as connection:
            signature = signed_note(ledger, connection, bundle_text(content).decode())
        members |= {"manifest.json": scratch.stored(content), "manifest.sig": scratch.stored(signature.encode())}
        yield Prepared(manifest, digest, maker.counts, members)


def _record(ledger: Ledger, collected: Collected, counts: Counts, digest: str, actor: str) -> None:
    """Note what was opened, and that it leaves (I8). What is about one person stands where only their keys find it."""
    what = " ".join(f"{name}={value}" for name, value in sorted(collected.asked.items()))
    if collected.person is None:
        if counts.opened:
            ledger.record_view(VIEWED[collected.kind], subject=None, parts_opened=counts.opened, actor=actor)
        ledger.record_export(
            EXPORT_KINDS[collected.kind], what, entries=counts.entries, opened=counts.opened, actor=actor, digest=digest
        )
        return
    # The view names no subject, and the export's own fact no id of theirs: see `ledger/exports.py`.
    ledger.exports.record(
        collected.person,
        EXPORT_KINDS[collected.kind],
        "one person",
        entries=counts.entries,
        opened=counts.opened,
        actor=actor,
        digest=digest,
    )
    if counts.opened:
        opened = rounded_up(counts.opened)
        ledger.record_view(VIEWED[collected.kind], subject=None, parts_opened=opened, actor=actor)


@dataclass(slots=True)
class _Tally:
    sealed: int = 0
    opened: int = 0
    erased: int = 0
    not_disclosed: int = 0

    def take(self, part: Part) -> None:
        self.opened += part.opened
        self.erased += "erased" in part.said
        self.not_disclosed += "not_disclosed" in part.said


@dataclass(slots=True)
class _Maker:
    """The members of one bundle in the making."""

    ledger: Ledger
    collected: Collected
    basis: Basis
    scratch: Scratch
    opened: bool
    now: datetime
    actor: str
    _entries: Growing = field(init=False)
    _sealed: Growing = field(init=False)
    _disclosed: Growing = field(init=False)
    _summary: Summary = field(init=False)
    _proofs: dict[str, Stored] = field(default_factory=dict)
    _tally: _Tally = field(default_factory=_Tally)

    def __post_init__(self) -> None:
        self._entries, self._sealed, self._disclosed = (self.scratch.growing() for _ in range(3))
        checkpoint = self.basis.served.checkpoint
        self._summary = Summary(
            kind=self.collected.kind,
            title=self.collected.title,
            words=self.collected.words,
            asked=dict(self.collected.asked),
            account=str(self.ledger.tenant),
            origin=checkpoint.origin,
            size=checkpoint.size,
            published_at=checkpoint.published_at,
            made_at=self.now,
            by=self.actor,
            entries=len(self.collected.positions),
            opens=self.opened,
            rules=self.collected.claims.get("send", {}).get("rules"),
            cosigned=self.basis.served.cosigned,
            marks=self.collected.marks,
        )

    @property
    def counts(self) -> Counts:
        """What was read."""
        tally = self._tally
        return Counts(len(self.collected.positions), tally.sealed, tally.opened, tally.erased, tally.not_disclosed)

    def read(self, progress: Progress | None) -> None:
        """Read every event once, and write what is made of it. Raises `LogContradiction` for one that is not proven."""
        read, checkpoint = reader_of(self.ledger, self.basis), self.basis.served.checkpoint
        proven, paths = ProvenTiles(read, checkpoint.size, checkpoint.root), Tiles(read)
        singly, done, total = len(self.collected.positions) <= PROOFS_ENTRIES_MAX, 0, len(self.collected.positions)
        for page in events_at(self.ledger, self.collected.positions):
            parts = self._parts(page)
            for event in page:
                assert event.position is not None
                index = event.position - 1
                try:
                    proven.require_leaf(index, leaf_hash(event.state))
                    if singly:
                        path = tuple(paths.inclusion_path(index, checkpoint.size))
                        proof = TlogProof(index, path, self.basis.served.note.encode())
                        name = f"proofs/{event.position}.tlog-proof"
                        self._proofs[name] = self.scratch.stored(proof.format())
                except VerificationRefused as refused:
                    raise LogContradiction(
                        f"Position {event.position} cannot be proven: {refused} Run: lethe fsck"
                    ) from None
                self._entries.write(b"%d\t%b\n" % (event.position, event.state))
                self._summary.take(SummaryEvent.of(event, parts.get(event.position)))
            done += len(page)
            if progress is not None:
                progress(done, total)
        if done != total:
            raise LogContradiction("An event of this bundle is not in the log any more. Run: lethe fsck")

    def _parts(self, page: list[LedgerEvent]) -> dict[int, list[Part]]:
        found: dict[int, list[Part]] = {}
        envelopes = {event.position: unpack_sealed(event.sealed) for event in page if event.sealed is not None}
        self._tally.sealed += sum(map(len, envelopes.values()))
        if not self.opened:
            return found
        for part in disclosed_parts(self.ledger, page, self.collected.holders):
            if part.opened and not self._tally.opened and self.collected.person is None:
                self.ledger.exports.note_opened(EXPORT_KINDS[self.collected.kind], actor=self.actor)
            self._tally.take(part)
            found.setdefault(part.position, []).append(part)
            if part.opened:
                envelope = b64encode(envelopes[part.position][part.name])
                self._sealed.write(b"%d\t%b\t%b\n" % (part.position, part.name.encode(), envelope))
            self._disclosed.write(canonical(part.line()) + b"\n")
        return found

    def members(self) -> dict[str, Stored]:
        """Every member but the manifest and its signature."""
        stored, basis = self.scratch.stored, self.basis
        self._summary.finish(
            opened=self._tally.opened, erased=self._tally.erased, not_disclosed=self._tally.not_disclosed
        )
        members = {
            "README.md": stored(readme_text().encode()),
            "claims.json": stored(canonical(dict(self.collected.claims))),
            "entries.tsv": self._entries.done(),
            "keys/log.vkeys": stored(_lines(basis.keys)),
            "log/checkpoint": stored(basis.served.note.encode()),
            "summary.html": stored(summary_page(self._summary).encode()),
            "summary.pdf": stored(summary_pdf(self._summary)),
            **self._proofs,
            **self._tiles(),
            **self._around(),
        }
        optional = {"sealed.tsv": self._sealed.done(), "disclosed.ndjson": self._disclosed.done()}
        members |= {name: member for name, member in optional.items() if member.size}
        if basis.witnesses:
            members["keys/witnesses.vkeys"] = stored(_lines(basis.witnesses))
        if self.collected.certificate is not None:
            name = self.collected.certificate["certificate"]["id"].replace("-", "")
            members[f"certificates/{name}.json"] = stored(canonical(dict(self.collected.certificate)))
        return members

    def manifest(self, members: dict[str, Stored]) -> dict[str, Any]:
        """What the bundle says of itself."""
        checkpoint = self.basis.served.checkpoint
        return {
            "format": FORMAT,
            "kind": self.collected.kind,
            "asked": dict(self.collected.asked),
            "made_at": entry_time(self.now),
            "by": self.actor,
            "tenant": self.ledger.tenant.hex,
            "origin": checkpoint.origin,
            "size": checkpoint.size,
            "files": {name: {"bytes": one.size, "sha256": one.sha256} for name, one in sorted(members.items())},
        }

    def _tiles(self) -> dict[str, Stored]:
        read, size = reader_of(self.ledger, self.basis), self.basis.size
        older = [checkpoint.size for checkpoint, _, _ in self.basis.around if checkpoint.size < size]
        names = sorted(needed_tiles(size, self.collected.positions, older))
        return {FOLDER + name.path(): self.scratch.stored(read(name.level, name.number, name.width)) for name in names}

    def _around(self) -> dict[str, Stored]:
        """The other checkpoints that matter, and every time stamp of those that are here."""
        members, stamped = {}, False
        for checkpoint, note, tokens in self.basis.around:
            if checkpoint.size < self.basis.size:
                members[f"log/checkpoints/{checkpoint.size}"] = self.scratch.stored(note.encode())
            for number, stamp in enumerate(tokens, start=1):
                suffix = "" if number == 1 else f".{number}"
                members[f"log/timestamps/{checkpoint.size}{suffix}.tsr"] = self.scratch.stored(stamp.token)
                stamped = True
        if stamped and self.basis.roots:
            members["keys/timestamp-roots.pem"] = self.scratch.stored(self.basis.roots)
        return members


def _lines(lines: tuple[str, ...]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
