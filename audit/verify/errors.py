"""Why something is not believed. Every check of this folder raises one of these at the first lie, and returns no bool.

`VerificationRefused` is the root: whoever catches it has seen every way in which evidence can fail. The messages say
what is wrong and carry no personal value.
"""

from __future__ import annotations


class VerificationRefused(Exception):
    """The root of this folder's errors: something is not what it is said to be."""


class NoteMalformed(VerificationRefused):
    """Bytes are no signed note, or no verifier key, as C2SP signed-note writes them."""


class SignatureRefused(VerificationRefused):
    """A signature of a known key does not fit, or no known key signed at all."""


class CheckpointRefused(VerificationRefused):
    """A signed text is no checkpoint, or not one of the log it was taken for."""


class CosignatureRefused(VerificationRefused):
    """Fewer witnesses cosigned a checkpoint than are needed."""


class ProofRefused(VerificationRefused):
    """A Merkle path does not lead where it is said to, or a proof is malformed."""


class TileRefused(VerificationRefused):
    """A hash tile or an entry bundle is missing, has another size than its place gives it, or does not fit its tree."""


class TimestampRefused(VerificationRefused):
    """An RFC 3161 token is malformed, over something else, or not from an authority that is trusted here."""


class EnvelopeRefused(VerificationRefused):
    """A sealed part does not open with the key that was disclosed for it."""


class CheckUnavailable(VerificationRefused):
    """This machine cannot make a check. What was not checked is not believed: use another machine."""


class BundleRefused(VerificationRefused):
    """A bundle is not what it is said to be: in which file, and at which event, where it is known."""

    def __init__(self, text: str, file: str | None = None, position: int | None = None) -> None:
        place = f"Event {position}: " if position is not None else ""
        super().__init__(place + text if file is None or file in text else f"{file}: {place}{text}")
        self.file = file
        self.position = position


class ArchiveRefused(BundleRefused):
    """The zip file of a bundle is not written as bundles are, or a file of it was changed, removed or added."""


class ClaimRefused(BundleRefused):
    """What a bundle says its events mean does not follow from them."""
