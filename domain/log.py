"""The transparency log's own facts: what it is called, which keys sign it, and who mended it (DESIGN section 9).

They stand in the account's stream and so are leaves of the log that they are about: whoever holds an older checkpoint
sees each change of keys that came after it.
"""

from __future__ import annotations

from typing import ClassVar

from domain.facts import Fact


class LogSeriesOpened(Fact):
    """From here on checkpoints are signed under this origin.

    There is one series, unless a restore lost events that were published and somebody accepted that. Then `lost_size`
    and `lost_root` (hex) are the last checkpoint that is known of the series before, which this log does not continue.
    """

    TOPIC: ClassVar[str] = "log.series_opened.v1"
    series: int
    origin: str
    lost_size: int | None = None
    lost_root: str | None = None


class LogKeyOpened(Fact):
    """A key signs every checkpoint of a series from here on. `verifier_key` is public: `name+id+base64`."""

    TOPIC: ClassVar[str] = "log.key_opened.v1"
    series: int
    generation: int
    key_id: str
    verifier_key: str


class LogKeyRetired(Fact):
    """A key signs nothing more. What it signed stays signed; another key of the series signs on."""

    TOPIC: ClassVar[str] = "log.key_retired.v1"
    series: int
    generation: int
    key_id: str


class LogTilesMending(Fact):
    """Stored tiles that did not hold what was signed are about to be made anew from the events.

    So many of them held something else, were not there, or should not have been there. All events to `size` give
    `root` (hex), and at each size that was signed the root that was signed. Recorded before the first tile is written:
    killed, it is begun again.
    """

    TOPIC: ClassVar[str] = "log.tiles_mending.v1"
    damaged: int
    missing: int
    surplus: int
    size: int
    root: str
