"""What a verification found, in sentences for a person and as an object for a program."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from audit.verify.bundle import KEYS_FROM_BUNDLE, ROOTS_FROM_BUNDLE, Verified

WITNESSES_FROM_BUNDLE: Final = "The keys of these witnesses were taken from the bundle; give them with --witness."


def as_object(verified: Verified) -> dict[str, Any]:
    """Everything that was found; times as ISO 8601 texts. Verified is only what a key of the reader's vouches for."""
    manifest, checkpoint = verified.manifest, verified.checkpoint
    return {
        "verified": verified.keys_given,
        "self_consistent": True,
        "kind": manifest.kind,
        "asked": dict(manifest.asked),
        "made_at": manifest.made_at,
        "by": manifest.by,
        "tenant": manifest.tenant,
        "origin": manifest.origin,
        "size": manifest.size,
        "root": checkpoint.checkpoint.root.hex(),
        "keys": "given" if verified.keys_given else "bundle",
        "signers": list(verified.signers),
        "cosigned": [{"witness": str(one.witness), "at": _time(one.at)} for one in checkpoint.cosigned],
        "witness_keys": "given" if verified.witnesses_given else "bundle",
        "older_checkpoints": verified.older_checkpoints,
        "timestamp_roots": "given" if verified.roots_given else "bundle",
        "timestamps": [{**stamp, "at": _time(stamp["at"])} for stamp in verified.timestamps],
        "events": verified.events,
        "proofs": verified.proofs,
        "certificates": verified.certificates,
        "parts": {name: getattr(verified.parts, name) for name in verified.parts.__slots__},
        "proven": verified.proven,
        "not_proven": verified.not_proven,
    }


def sentences(verified: Verified) -> Iterator[str]:
    """What was found, line by line, in signs that can be shown on a terminal."""
    yield from map(shown, _sentences(verified))


def shown(text: str) -> str:
    """A text that came with a bundle, with a visible sign in place of what could steer a terminal."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _sentences(verified: Verified) -> Iterator[str]:
    manifest, parts = verified.manifest, verified.parts
    if not verified.keys_given:
        yield f"ATTENTION: {KEYS_FROM_BUNDLE}"
    word = "VERIFIED" if verified.keys_given else "SELF-CONSISTENT"
    yield f"{word}: a bundle of the kind {manifest.kind!r}, made at {manifest.made_at} by {manifest.by}."
    yield f"Asked for: {', '.join(f'{name} {value}' for name, value in sorted(manifest.asked.items()))}."
    yield f"Log {manifest.origin}, size {manifest.size}, root {verified.checkpoint.checkpoint.root.hex()}."
    for signer in verified.signers:
        yield f"Signed by {signer}."
    yield from _others(verified)
    yield f"Events: {verified.events:,}, each proven to stand in the log; tlog-proofs: {verified.proofs:,}."
    yield (
        f"Sealed parts: {parts.sealed:,}. Opened and compared with their envelopes: {parts.opened:,}; shown without a "
        f"key, so not checked: {parts.unprovable:,}; said to be erased: {parts.erased:,}; left closed: "
        f"{parts.sealed - parts.opened - parts.unprovable - parts.erased:,}."
    )
    yield "Proven:"
    yield from (f"  - {sentence}" for sentence in verified.proven)
    yield "Not proven:"
    yield from (f"  - {sentence}" for sentence in verified.not_proven)


def _others(verified: Verified) -> Iterator[str]:
    """Who else vouches for the log."""
    for one in verified.checkpoint.cosigned:
        yield f"Cosigned by the witness {one.witness.name} at {_time(one.at)}."
    if verified.checkpoint.cosigned and not verified.witnesses_given:
        yield WITNESSES_FROM_BUNDLE
    if not verified.checkpoint.cosigned:
        yield "No witness is known to have cosigned the checkpoint."
    if not verified.timestamps:
        yield "No timestamp of an authority was checked."
    for stamp in verified.timestamps:
        by = f" by {stamp['authority']}" if stamp["authority"] else ""
        yield f"The log of size {stamp['size']} existed at {_time(stamp['at'])}, timestamped{by}."
    if verified.timestamps and not verified.roots_given:
        yield ROOTS_FROM_BUNDLE
    for size in verified.older_checkpoints:
        yield f"The checkpoint of size {size} is a beginning of this log."


def _time(moment: datetime) -> str:
    return moment.isoformat()
