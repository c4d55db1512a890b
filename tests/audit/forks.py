"""A log in memory whose key signs whatever a test wants: also two histories of one origin."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from nacl.bindings import crypto_sign, crypto_sign_BYTES, crypto_sign_seed_keypair

from audit.log.store import PublishedCheckpoint
from audit.verify.checkpoint import Checkpoint
from audit.verify.merkle import leaf_hash
from audit.verify.note import ED25519, Signature, VerifierKey
from audit.verify.tiles import GrowingTiles, TileName, Tiles

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class ForkableLog:
    """Entries under one origin and one key. `forked` gives another history after a common beginning."""

    def __init__(
        self, entries: Sequence[bytes], origin: str = "lethe.localhost/log/1", seed: bytes = b"s" * 32
    ) -> None:
        self.origin, self.entries, self._seed = origin, list(entries), seed
        public, self._secret = crypto_sign_seed_keypair(seed)
        self.key = VerifierKey(origin, ED25519, public)
        self._stored: dict[tuple[int, int], bytes] = {}
        tree = GrowingTiles()
        for entry in entries:
            self._keep(tree.append(leaf_hash(entry)))
        self._keep(tree.partial())

    def _keep(self, tiles: Sequence[tuple[TileName, bytes]]) -> None:
        self._stored.update({(name.level, name.number): hashes for name, hashes in tiles})

    @property
    def tiles(self) -> Tiles:
        """The log's tiles."""
        return Tiles(lambda level, number, width: self._stored[level, number][: width * 32])

    def checkpoint(self, size: int | None = None) -> PublishedCheckpoint:
        """A signed checkpoint of a size."""
        chosen = len(self.entries) if size is None else size
        said = Checkpoint(self.origin, chosen, self.tiles.root(chosen))
        line = Signature(
            self.origin, self.key.key_id, crypto_sign(said.body(), self._secret)[:crypto_sign_BYTES]
        ).line()
        note = (said.body() + b"\n" + line).decode()
        return PublishedCheckpoint(UUID(int=1), 1, self.origin, chosen, said.root, note, NOW)

    def proof(self, old: int, new: int | None = None) -> list[bytes]:
        """The consistency proof between two sizes."""
        return self.tiles.consistency_path(old, len(self.entries) if new is None else new)

    def forked(self, after: int, entries: Sequence[bytes]) -> ForkableLog:
        """Another history that agrees with this one on the first entries."""
        return ForkableLog([*self.entries[:after], *entries], self.origin, self._seed)


def entries(count: int, name: str = "entry") -> list[bytes]:
    """So many entries."""
    return [f"{name} {number}".encode() for number in range(count)]
