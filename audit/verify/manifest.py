"""The manifest of a bundle: what it is about, and the digest of every file; signed by the log's key (docs/adr/0032).

    manifest.json    canonical JSON
    manifest.sig     a signed note by a key of the log, over
                         lethe bundle v1
                         <SHA-256 of manifest.json, 64 hex digits>

The signature says that this house put these files together. What happened is not taken from here but from the log.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from audit.verify.canonical import parse_canonical
from audit.verify.entries import is_time
from audit.verify.errors import ArchiveRefused, BundleRefused, SignatureRefused
from audit.verify.note import VerifierKey, open_note

FORMAT: Final = "lethe.bundle.v1"
FIELDS: Final = frozenset({"format", "kind", "asked", "made_at", "by", "tenant", "origin", "size", "files"})
KINDS: Final = ("person", "campaign", "request", "destruction", "period", "send")
MANIFEST_BYTES_MAX: Final = 256 << 20
"""Room for `archive.MEMBERS_MAX` files; that of an ordinary bundle has some kilobytes."""

MANIFEST_BYTES_PER_FILE_MAX: Final = 400
"""A name of 200 letters with size and digest. A manifest is parsed before anybody is known to have signed it, and JSON
takes many times its size in memory: so a small bundle with a large manifest is not read."""

MANIFEST_BYTES_BESIDE_MAX: Final = 64 * 1024
"""What was asked, by whom, when and where."""

NOT_LISTED: Final = frozenset({"manifest.json", "manifest.sig"})
"""The manifest cannot list itself nor its signature."""

REQUIRED: Final = ("README.md", "claims.json", "entries.tsv", "keys/log.vkeys", "log/checkpoint")
OPTIONAL: Final = (
    "disclosed.ndjson",
    "keys/timestamp-roots.pem",
    "keys/witnesses.vkeys",
    "sealed.tsv",
    "summary.html",
    "summary.pdf",
)
PATTERNS: Final[Mapping[str, re.Pattern[str]]] = {
    "certificates/<id>.json": re.compile(r"certificates/(?P<id>[0-9a-f]{32})\.json"),
    "log/checkpoints/<size>": re.compile(r"log/checkpoints/(?P<size>[1-9][0-9]{0,18})"),
    "log/tile/<level>/<number>": re.compile(r"log/(?P<path>tile/[0-9]{1,2}/[0-9x./p]+)"),
    "log/timestamps/<size>[.<number>].tsr": re.compile(
        r"log/timestamps/(?P<size>[1-9][0-9]{0,18})(?:\.[1-9][0-9]?)?\.tsr"
    ),
    "proofs/<position>.tlog-proof": re.compile(r"proofs/(?P<position>[1-9][0-9]{0,18})\.tlog-proof"),
}
"""Files of which a bundle may have several, by the name that the documentation gives them."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle says of itself. `files` holds size and digest (hex) by name; `asked` holds ids only."""

    kind: str
    asked: Mapping[str, Any]
    made_at: str
    by: str
    tenant: str
    origin: str
    size: int
    files: Mapping[str, tuple[int, str]]

    def named(self, pattern: str) -> Iterable[tuple[str, str]]:
        """The files of one of `PATTERNS`: each name, and what tells it from the others."""
        for name in self.files:
            found = PATTERNS[pattern].fullmatch(name)
            if found is not None:
                yield name, found[1]


def parse_manifest(content: bytes) -> Manifest:
    """The manifest in these bytes. Raises `BundleRefused` for one that is not of this format."""
    said = parse_canonical(content, "manifest.json")
    if said.get("format") != FORMAT:
        raise BundleRefused(f"This is no bundle of the format {FORMAT}; use the verifier of its time.", "manifest.json")
    try:
        manifest = Manifest(
            kind=_text(said["kind"]),
            asked=_object(said["asked"]),
            made_at=_text(said["made_at"]),
            by=_text(said["by"]),
            tenant=_text(said["tenant"]),
            origin=_text(said["origin"]),
            size=_number(said["size"]),
            files={name: (_number(one["bytes"]), _text(one["sha256"])) for name, one in said["files"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BundleRefused("A field of the manifest is missing, or is not of its kind.", "manifest.json") from None
    if (
        manifest.kind not in KINDS
        or not is_time(manifest.made_at)
        or not _ID.fullmatch(manifest.tenant)
        or said.keys() != FIELDS
    ):
        text = "The manifest is of no known kind, names no tenant or no time, or says too much."
        raise BundleRefused(text, "manifest.json")
    if not re.search(f"/log/{manifest.tenant}(?:/[1-9][0-9]*)?$", manifest.origin):
        raise BundleRefused("The manifest names the log of another tenant than its own.", "manifest.json")
    return manifest


def bundle_text(manifest: bytes) -> bytes:
    """The text of the note that `manifest.sig` is."""
    return f"lethe bundle v1\n{sha256(manifest).hexdigest()}\n".encode()


def require_signed(
    content: bytes, manifest: bytes, origin: str, trusted: Sequence[VerifierKey], own: Sequence[VerifierKey]
) -> tuple[str, ...]:
    """The trusted keys that signed a manifest. Raises unless one of the log's did, over these very bytes.

    `own` are the keys that the bundle names. Every line of signature has to be by one of them or by a trusted one, and
    to fit: what nobody checks could be changed.
    """
    note = open_note(content, dict.fromkeys((*trusted, *own)))
    if note.unknown:
        raise SignatureRefused(f"A line of signature is by {note.unknown[0].name}, with a key that nobody names.")
    signers = [signed.key for signed in note.signed if signed.key in trusted]
    if origin not in {key.name for key in signers}:
        by = ", ".join(str(signed.key) for signed in note.signed) or "nobody"
        raise SignatureRefused(
            f"No trusted key of {origin} signed the manifest; this did: {by}. If the log's key was rotated since you "
            "got yours, ask whoever gave it to you for the new one. Do not take it from the bundle."
        )
    if note.text != bundle_text(manifest):
        raise BundleRefused("The signature is over another manifest: manifest.json was changed.", "manifest.sig")
    return tuple(str(key) for key in signers)


def require_files(manifest: Manifest, present: Mapping[str, int]) -> None:
    """Raise `ArchiveRefused` unless the files present, by name and size, are exactly those that the manifest names."""
    named = {name: size for name, (size, _) in manifest.files.items()}
    for name in (*REQUIRED, *named):
        if name not in named or name not in present:
            raise ArchiveRefused(f"{name} is missing: it was removed from the bundle, or was never put in.", name)
    for name, size in present.items():
        if name not in named and name not in NOT_LISTED:
            raise ArchiveRefused(f"{name} was added: the manifest does not name it.", name)
        if name in named and named[name] != size:
            raise ArchiveRefused(f"{name} has {size:,} bytes; the manifest says {named[name]:,}.", name)
        if not _known(name):
            raise ArchiveRefused(f"{name} is no file that a bundle of this format has.", name)


def _known(name: str) -> bool:
    fixed = name in NOT_LISTED or name in REQUIRED or name in OPTIONAL
    return fixed or any(pattern.fullmatch(name) for pattern in PATTERNS.values())


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: Any) -> int:
    if type(value) is not int:
        raise TypeError
    return value


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError
    return value


_ID: Final = re.compile(r"[0-9a-f]{32}")
