"""Checks a folder of C2SP tlog-tiles with tlog-scales: the signature of each checkpoint, every entry in each
checkpoint's tree, and each tree as the beginning of the next. Wants FOLDER VERIFIER-KEY; exits 1 at the first lie.
"""

import sys
from functools import cache
from pathlib import Path

from tlog_scales.backend import LocalBackend
from tlog_scales.reader import TilesReader
from tlog_scales.signing import Vkey
from tlog_scales.tiles import leaf_hash
from tlog_scales.tlog import Checkpoint


class RememberingReader(TilesReader):
    """Hashes every subtree once, and not again for each proof."""

    @cache  # noqa: B019 - there is one reader, and it lives as long as the program
    def mth(self, start: int, end: int) -> bytes:
        return super().mth(start, end)


def checkpoint(path: Path, key: Vkey) -> Checkpoint:
    """The checkpoint in a file, signed by this key for the log of the same name."""
    opened = Checkpoint.from_text(path.read_bytes().decode())
    opened.verify(key)
    if opened.origin != key.name:
        raise ValueError(f"{path} is none of this log")
    return opened


def check(folder: Path, key: Vkey) -> None:
    """Raise at the first lie."""
    last = checkpoint(folder / "checkpoint", key)
    reader = RememberingReader(LocalBackend(folder))
    reader.set_size(last.size)
    if reader.calculate_root_hash() != last.root_hash:
        raise ValueError("the tiles do not give the root")
    leaves = [leaf_hash(reader.get_entry(index)) for index in range(last.size)]
    others = [checkpoint(path, key) for path in folder.glob("checkpoints/*")]
    older: Checkpoint | None = None
    for tree in sorted([*others, last], key=lambda tree: tree.size):
        for index, leaf in enumerate(leaves[: tree.size]):
            reader.get_inclusion_proof(index, tree.size).check(leaf, tree.root_hash)
        if older is not None:
            reader.get_consistency_proof(older.size, tree.size).check(older.root_hash, tree.root_hash)
        older = tree


if __name__ == "__main__":
    try:
        check(Path(sys.argv[1]), Vkey.from_string(sys.argv[2]))
    except Exception as reason:  # noqa: BLE001 - the edge of a process: whatever it is, the folder is not believed
        sys.exit(f"refused: {type(reason).__name__} {reason}")
