"""An export of the audit trail: a section of the log as bytes, window by window, in bounded memory.

What sealed fields were opened is recorded before the window that shows them is handed out (I8). At its end, or where
it was broken off, the export itself is recorded, with what was really handed out.
"""

from __future__ import annotations

from collections.abc import Generator
from hashlib import sha256
from typing import Final

import orjson

from audit.trail.lines import Form, OpenedEvent, head, lines, opened_event
from audit.trail.section import Section, read
from domain.access import ExportOpened, ExportProduced, PersonalDataViewed
from ledger.application import Ledger
from ledger.mapper import LedgerEvent

KIND: Final = "trail"
LOOKED_AT: Final = "trail.export"

OWN_FACTS: Final = {
    ExportOpened.TOPIC: ("kind", KIND),
    ExportProduced.TOPIC: ("kind", KIND),
    PersonalDataViewed.TOPIC: ("what", LOOKED_AT),
}
"""What exports of the trail leave behind. One that found nothing else is not recorded: whoever follows a quiet log
would make it grow for ever. Records of any other look or export are news."""


class TrailExport:
    """One export. `entries`, `opened` and `digest` are known once its blocks have been read."""

    def __init__(self, ledger: Ledger, section: Section, form: Form, *, opened: bool, actor: str) -> None:
        self.section = section
        self.form = form
        self.entries = 0
        self.opened = 0
        self.digest: str | None = None
        self._ledger = ledger
        self._opens = opened
        self._actor = actor
        self._news = False

    def blocks(self) -> Generator[bytes]:
        """The file, piece by piece; empty pieces where a window holds nothing that was asked for.

        Raises `EventUnreadable`, and then nothing of that window is handed out, nor anything after it.
        """
        digest = sha256()
        try:
            block = head(self.form, opened=self._opens)
            for window in read(self._ledger, self.section, opened=self._opens):
                events = [opened_event(self._ledger, e) if self._opens else OpenedEvent(e) for e in window]
                block += lines(self.form, events)
                self._note(events)
                digest.update(block)
                yield block
                block = b""
            if block:
                digest.update(block)
                yield block
            # With opened fields in it somebody could try guesses at them on the digest, after they are forgotten.
            self.digest = None if self._opens else digest.hexdigest()
        finally:
            self._record()

    def _note(self, events: list[OpenedEvent]) -> None:
        opened = sum(event.parts_opened for event in events)
        if opened:
            if not self.opened:
                self._ledger.exports.note_opened(KIND, actor=self._actor)
            self._ledger.record_view(LOOKED_AT, subject=None, parts_opened=opened, actor=self._actor)
        self.entries += len(events)
        self.opened += opened
        self._news = self._news or not all(_is_own(event.event) for event in events)

    def _record(self) -> None:
        if self._news:
            self._ledger.record_export(
                KIND,
                self.section.words(),
                entries=self.entries,
                opened=self.opened,
                actor=self._actor,
                digest=self.digest,
            )


def _is_own(event: LedgerEvent) -> bool:
    field, value = OWN_FACTS.get(event.topic, (None, None))
    return field is not None and orjson.loads(event.state)["plain"].get(field) == value
