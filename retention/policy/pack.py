"""Policy packs: a public privacy policy as data. Each clause by its number, how it is kept, and when what must go.

A pack is a TOML file in `retention/packs/`, or in a folder of the platform's own. `load_pack` finds one by name and
version; `read_pack` reads a file and raises `PackInvalid` with every mistake in it and the line of each. What the
words mean is in docs/reference/policy-packs.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Final

from retention.policy.clocks import Clock, Span
from retention.policy.model import (
    CAUSES,
    OWN_CLASSES,
    PACK_CLASSES,
    RULED_CLASSES,
    Cause,
    ClassRule,
    Clause,
    ClosureRule,
    Keeping,
    Mistake,
    Outcome,
    Pack,
    PackError,
    PackInvalid,
    UnknownPack,
)
from retention.policy.reading import parse_pack

__all__ = [
    "CAUSES",
    "OWN_CLASSES",
    "PACK_CLASSES",
    "RULED_CLASSES",
    "Cause",
    "ClassRule",
    "Clause",
    "Clock",
    "ClosureRule",
    "Keeping",
    "Mistake",
    "Outcome",
    "Pack",
    "PackError",
    "PackInvalid",
    "PackShelf",
    "Span",
    "UnknownPack",
    "load_pack",
    "read_pack",
    "shelf",
    "use_packs_of",
]

PACK_BYTES_MAX: Final = 1 << 20  # who needs it: somebody who names the wrong file; the packs have some 20 KB


class PackShelf:
    """Every pack that can be had, by name and version: those that ship, and those of a folder of one's own."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        """Read all files, given as name -> text. Raises `PackInvalid`."""
        self._packs: dict[str, dict[int, Pack]] = {}
        for file, text in sorted(texts.items()):
            pack = parse_pack(text, file)
            versions = self._packs.setdefault(pack.name, {})
            if pack.version in versions:
                said = f"Version {pack.version} of {pack.name} is there twice. Give this file a version of its own."
                raise PackInvalid(file, [Mistake(1, said)])
            versions[pack.version] = pack

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all packs."""
        return tuple(sorted(self._packs))

    def versions(self, name: str) -> tuple[int, ...]:
        """The versions of one pack, oldest first. Raises `UnknownPack`."""
        if name not in self._packs:
            raise UnknownPack(f"There is no policy pack called {name!r}. There are: {', '.join(self.names)}.")
        return tuple(sorted(self._packs[name]))

    def pack(self, name: str, version: int | None = None) -> Pack:
        """One pack; its newest version where none is named. Raises `UnknownPack`."""
        versions = self.versions(name)
        wanted = versions[-1] if version is None else version
        if wanted not in versions:
            there = ", ".join(map(str, versions))
            raise UnknownPack(
                f"There is no version {wanted} of the policy pack {name}; there is {there}. Put its file into the "
                "folder that LETHE_PACKS_DIR names."
            )
        return self._packs[name][wanted]


_shelves: list[PackShelf] = []


def shelf() -> PackShelf:
    """The packs of this process; made when first asked for."""
    if not _shelves:
        use_packs_of(None)
    return _shelves[0]


def use_packs_of(folder: Path | None) -> PackShelf:
    """Put the packs of a folder beside those that ship, for this process. The composition root calls it once.

    Raises `PackInvalid` for a file that cannot be used, and `UnknownPack` for a folder that is not there.
    """
    texts = dict(_packaged())
    if folder is not None:
        if not folder.is_dir():
            raise UnknownPack(f"LETHE_PACKS_DIR names {folder}, which is no folder. Make it, or unset the setting.")
        texts.update({f"{path.name} (yours)": read_text(path) for path in sorted(folder.glob("*.toml"))})
    made = PackShelf(texts)
    _shelves[:] = [made]
    return made


def load_pack(name: str, version: int | None = None) -> Pack:
    """A pack by name, and by version where one is meant. Raises `UnknownPack`."""
    return shelf().pack(name, version)


def read_pack(path: Path) -> Pack:
    """The pack in a file. Raises `PackInvalid` with every mistake and its line."""
    return parse_pack(read_text(path), path.name)


def read_text(path: Path) -> str:
    """The text of a pack's file. Raises `PackInvalid` where it is none, and `OSError`."""
    raw = path.read_bytes()[: PACK_BYTES_MAX + 1]
    if len(raw) > PACK_BYTES_MAX:
        raise PackInvalid(path.name, [Mistake(1, f"A pack has at most {PACK_BYTES_MAX:,} bytes. Is this the file?")])
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise PackInvalid(path.name, [Mistake(line, "This is not UTF-8. Save the file as UTF-8.")]) from None


def _packaged() -> Iterator[tuple[str, str]]:
    for item in files("retention").joinpath("packs").iterdir():
        if item.name.endswith(".toml"):
            yield item.name, item.read_text(encoding="utf-8")
