"""Cosignatures, as C2SP tlog-cosignature writes them: a witness saw this checkpoint, and no shorter or other one since.

    signed bytes    cosignature/v1 LF time SECONDS LF checkpoint text
    signature       seconds, 8 bytes || Ed25519, 64 bytes          key of type 0x04

A witness holds the last checkpoint it saw of each log and cosigns only a continuation of it. Two histories of one log
can therefore not both be cosigned, and a checkpoint that a witness cosigned is one that somebody else holds.
"""

from __future__ import annotations

from typing import Final

from audit.verify.errors import SignatureRefused

TIME_BYTES: Final = 8
SECONDS_MAX: Final = 2**63 - 1
HEADER: Final = b"cosignature/v1\n"


def cosigned_message(text: bytes, time: bytes) -> bytes:
    """What a witness signs: a header, the time, and the checkpoint's text. `time` is the 8 bytes of the signature."""
    return HEADER + b"time %d\n" % cosigned_seconds(time) + text


def cosigned_seconds(time: bytes) -> int:
    """Seconds since 1970 in the 8 bytes before a cosignature. Raises `SignatureRefused`."""
    seconds = int.from_bytes(time, "big")
    if len(time) != TIME_BYTES or seconds > SECONDS_MAX:
        raise SignatureRefused("A cosignature does not begin with a time.")
    return seconds
