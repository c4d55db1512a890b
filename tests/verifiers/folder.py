"""A log in memory, signed by a key made from a word, and written out as a folder in C2SP tlog-tiles layout.

The tiles, checkpoints and bundles are made with `audit.verify`, so what verifiers that are not ours think of a folder
is what they think of that code.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from nacl.signing import SigningKey

from audit.verify.checkpoint import Checkpoint
from audit.verify.cosignature import TIME_BYTES, cosigned_message
from audit.verify.merkle import leaf_hash
from audit.verify.note import COSIGNATURE, ED25519, Signature, VerifierKey, compose_note
from audit.verify.tiles import ENTRIES, TILE_WIDTH, GrowingTiles, TileName, Tiles, pack_entries, tiles_at

ORIGIN = "log.example/tests"


def signing_key(word: str) -> SigningKey:
    """The same key for the same word."""
    return SigningKey(sha256(word.encode()).digest())


def verifier_key(name: str, kind: int = ED25519, word: str | None = None) -> VerifierKey:
    """The public half of a name's key, which is made from the name itself or from another word."""
    return VerifierKey(name, kind, bytes(signing_key(word or name).verify_key))


def signed_by(text: bytes, name: str, word: str | None = None) -> Signature:
    """A log's signature over a text."""
    return Signature(name, verifier_key(name, word=word).key_id, signing_key(word or name).sign(text).signature)


def cosigned_by(text: bytes, name: str, seconds: int, word: str | None = None) -> Signature:
    """A witness's cosignature over a checkpoint's text."""
    time = seconds.to_bytes(TIME_BYTES, "big")
    signature = signing_key(word or name).sign(cosigned_message(text, time)).signature
    return Signature(name, verifier_key(name, COSIGNATURE, word).key_id, time + signature)


def entry(number: int) -> bytes:
    """An entry that looks like one of ours, and sometimes is empty or long."""
    return b'{"id":"%032x","topic":"test.v1"}' % number + b"x" * (number * 37 % 300 if number % 5 else 0)


@dataclass
class FolderLog:
    """A log that keeps every entry, hash tile and root it ever had."""

    origin: str = ORIGIN
    entries: list[bytes] = field(default_factory=list)
    roots: list[bytes] = field(default_factory=lambda: [GrowingTiles().root()])
    stored: dict[tuple[int, int], bytes] = field(default_factory=dict)
    _growing: GrowingTiles = field(default_factory=GrowingTiles)

    def append(self, *contents: bytes, roots: bool = True) -> None:
        """Add entries. `roots` says whether every size's root is kept, or the last one's only."""
        for content in contents:
            self.entries.append(content)
            full = self._growing.append(leaf_hash(content))
            self.stored.update({(name.level, name.number): hashes for name, hashes in full})
            self.roots.append(self._growing.root() if roots else b"")
        self.stored.update({(name.level, name.number): hashes for name, hashes in self._growing.partial()})
        self.roots[-1] = self._growing.root()

    @property
    def size(self) -> int:
        return len(self.entries)

    @property
    def key(self) -> VerifierKey:
        return verifier_key(self.origin)

    def read(self, level: int, number: int, width: int) -> bytes:
        """A tile as any of its sizes had it: a prefix."""
        return self.stored[level, number][: width * 32]

    def checkpoint(self, size: int) -> bytes:
        """The signed checkpoint of a size."""
        body = Checkpoint(self.origin, size, self.roots[size] or Tiles(self.read).root(size)).body()
        return compose_note(body, [signed_by(body, self.origin)])

    def write(self, folder: Path, sizes: Iterable[int] = (), size: int | None = None) -> Path:
        """The folder as it is published at `size`, with checkpoints of other sizes beside it."""
        size = self.size if size is None else size
        put(folder / "checkpoint", self.checkpoint(size))
        for other in sizes:
            put(folder / "checkpoints" / str(other), self.checkpoint(other))
        for name in tiles_at(size):
            put(folder / name.path(), self.read(name.level, name.number, name.width))
            if name.level == 0:
                start = name.number * TILE_WIDTH
                bundle = pack_entries(self.entries[start : start + name.width])
                put(folder / TileName(ENTRIES, name.number, name.width).path(), bundle)
        return folder


def log_of(size: int, *, roots: bool = True) -> FolderLog:
    """A log of so many entries."""
    log = FolderLog()
    log.append(*map(entry, range(size)), roots=roots)
    return log


def put(path: Path, content: bytes) -> None:
    """A file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
