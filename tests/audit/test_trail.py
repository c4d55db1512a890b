"""The audit trail as CSV and NDJSON: whole, in order, provable line by line, closed unless asked, in bounded memory."""

from __future__ import annotations

import csv
import io
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import orjson
import psycopg
import pytest

from api.bootstrap import Instance
from audit.trail import export as exports
from audit.trail import section as sections
from audit.trail.export import TrailExport
from audit.trail.lines import COLUMNS, Form, OpenedEvent, lines
from audit.trail.section import Section, SectionRefused, section_of
from domain.access import ExportOpened, ExportProduced, PersonalDataViewed
from domain.merkle import leaf_hash
from ledger.application import Ledger
from ledger.embedded import EmbeddedPostgres
from ledger.mapper import LedgerEvent
from projections.history import EventUnreadable, UnknownKind
from tests.acts import add, ask, emails, register, say, topics, willing
from tests.rolls import new_account
from tests.support import SettableClock

pytestmark = pytest.mark.store


def exported(ledger: Ledger, form: Form = "ndjson", *, opened: bool = False, **asked: Any) -> tuple[bytes, TrailExport]:
    """An export read to its end."""
    export = TrailExport(ledger, section_of(ledger, **asked), form, opened=opened, actor="cli")
    return b"".join(export.blocks()), export


def ndjson(content: bytes) -> list[dict[str, Any]]:
    """The lines of an NDJSON export."""
    return [orjson.loads(line) for line in content.splitlines()]


def table(content: bytes) -> list[dict[str, str]]:
    """The lines of a CSV export."""
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


@pytest.fixture
def told(ledger: Ledger) -> Ledger:
    """An account with three willing people and a campaign to them."""
    willing(ledger, emails(3))
    ask(ledger, register(ledger), emails(3))
    return ledger


def test_holds_every_event_in_order_with_the_bytes_of_its_leaf(told: Ledger) -> None:
    """Given a log, when it is exported as NDJSON, then each line's entry hashes to the leaf of that position."""
    events = told.log.select_log(None, 10_000)
    content, _ = exported(told)
    raw = content.splitlines()
    assert [orjson.loads(line)["position"] for line in raw] == [event.position for event in events]
    for line, event in zip(raw, events, strict=True):
        _, _, rest = line.partition(b'"entry":')
        assert leaf_hash(rest[:-1]) == leaf_hash(event.state)
        assert "opened" not in orjson.loads(line)


def test_csv_has_the_same_values_in_columns(told: Ledger) -> None:
    """Given a log, when it is exported as CSV, then every column is what the entry says, and parts are only named."""
    content, _ = exported(told, "csv")
    rows = table(content)
    entries = [line["entry"] for line in ndjson(exported(told, until=None)[0])][: len(rows)]
    assert tuple(rows[0]) == COLUMNS
    for row, entry in zip(rows, entries, strict=True):
        assert row["kind"] == entry["topic"]
        assert row["stream"].replace("-", "") == entry["stream"]
        assert orjson.loads(row["plain"]) == entry["plain"]
        assert row["sealed"].split() == sorted(entry.get("sealed", {}))
        assert (row["actor"], int(row["version"])) == (entry["actor"], entry["version"])
    assert b"person0" not in content


def test_cells_that_a_spreadsheet_would_run_are_text() -> None:
    """Given an entry with values that begin like formulas, when it is a line of CSV, then none of them runs."""
    entry = {
        "recorded_at": "2026-11-21T20:15:00.000000Z",
        "occurred_at": "2026-11-21T20:15:00.000000Z",
        "topic": "x.v1",
        "stream": "00" * 16,
        "id": "00" * 16,
        "version": 1,
        "actor": '=HYPERLINK("http://x.example")',
        "rules": "+1",
        "plain": {"name": "=1+1"},
        "sealed": {"@part": "00"},
    }
    event = LedgerEvent("00", 1, "x.v1", orjson.dumps(entry), None, 1)
    (row,) = csv.reader(io.StringIO(lines("csv", [OpenedEvent(event, {"email": "=cmd"})]).decode(), newline=""))
    assert not [cell for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert row[7] == '\'=HYPERLINK("http://x.example")'
    assert row[10] == "'+1"


def test_parts_are_opened_where_asked_and_that_is_recorded_first(told: Ledger) -> None:
    """Given persons and messages, when parts are opened, then persons' are shown, messages' stay closed, and both the
    look and the export are recorded."""
    content, export = exported(told, opened=True)
    found = {line["position"]: line for line in ndjson(content)}
    people = [line for line in found.values() if line["entry"]["topic"] == "contact.added.v1"]
    assert sorted(line["opened"]["email"]["value"] for line in people) == emails(3)
    written = told.log.select_log(max(found) + 1, 10)
    assert [e.topic for e in written] == [ExportOpened.TOPIC, PersonalDataViewed.TOPIC, ExportProduced.TOPIC]
    opening, view, export_fact = (orjson.loads(event.state)["plain"] for event in written)
    assert opening == {"kind": "trail"}
    assert view == {"what": "trail.export", "parts_opened": export.opened}
    assert export_fact == {
        "kind": "trail",
        "what": f"positions 1 to {max(found)}",
        "entries": len(found),
        "opened": export.opened,
    }


def test_no_digest_is_kept_of_opened_parts(told: Ledger) -> None:
    """Given an export with opened parts, then its fact has no digest: guesses could be tried on it after an erasure."""
    closed, export = exported(told)
    assert export.digest == sha256(closed).hexdigest()
    fact = orjson.loads(told.log.select_log(None, 10_000)[-1].state)["plain"]
    assert fact["digest"] == export.digest
    _, export = exported(told, opened=True)
    assert export.digest is None
    assert "digest" not in orjson.loads(told.log.select_log(None, 10_000)[-1].state)["plain"]


def test_the_address_in_a_destruction_feed_is_never_opened(told: Ledger) -> None:
    """Given an erasure, when the trail is opened, then erased parts say so, and fingerprints stay closed."""
    told.erasures.intend(emails(1), reason="subject_request", actor="cli")
    content, _ = exported(told, opened=True, kinds=["erasure"])
    (line,) = ndjson(content)
    assert set(line["opened"]) >= {"fingerprints"}
    assert all(value == {"sealed": True} for value in line["opened"].values())
    assert b"person0" not in content


def test_whoever_follows_a_quiet_log_does_not_make_it_grow(told: Ledger) -> None:
    """Given a follower, when nothing but its own exports happened, then the next one is not recorded."""
    _, first = exported(told)
    assert topics(told)[-1] == ExportProduced.TOPIC
    end = len(topics(told))
    content, second = exported(told, after=first.section.last)
    assert [line["entry"]["topic"] for line in ndjson(content)] == [ExportProduced.TOPIC]
    assert len(topics(told)) == end
    assert exported(told, after=second.section.last)[0] == b""
    add(told, emails(1, "late"))
    exported(told, after=second.section.last)
    assert len(topics(told)) == end + 2


def test_a_section_is_by_time_topic_and_position(told: Ledger, clock: SettableClock) -> None:
    """Given events of two days, when a day and a kind are asked for, then those come, and none twice on resuming."""
    before = len(topics(told))
    clock.advance(timedelta(days=1))
    since = datetime.now(UTC) + timedelta(hours=12)
    say(told, emails(2), "withdraw")
    content, _ = exported(told, since=since, kinds=["consent"])
    assert [line["entry"]["topic"] for line in ndjson(content)] == ["consent.withdrawn.v1"] * 2
    older, export = exported(told, until=since)
    assert len(ndjson(older)) == before == export.section.last
    rest, _ = exported(told, after=export.section.last)
    assert ndjson(rest)[0]["position"] == before + 1


def test_what_is_written_meanwhile_belongs_to_the_next_export(told: Ledger) -> None:
    """Given an export that began, when events are added before it ends, then it does not hold them."""
    end = len(topics(told))
    export = TrailExport(told, section_of(told), "ndjson", opened=False, actor="cli")
    add(told, emails(1, "late"))
    assert ndjson(b"".join(export.blocks()))[-1]["position"] == end


def test_nonsense_is_refused_and_an_empty_section_is_empty(told: Ledger) -> None:
    """Given an unknown kind, or a time before everything, then the one is refused and the other exports nothing."""
    with pytest.raises(UnknownKind):
        section_of(told, kinds=["nonsense"])
    assert exported(told, until=datetime(2020, 1, 1, tzinfo=UTC))[0] == b""
    content, _ = exported(told, "csv", after=len(topics(told)))
    assert content.decode() == ",".join(COLUMNS) + "\r\n"


def test_who_follows_from_a_place_that_is_still_to_come_is_told(told: Ledger) -> None:
    """Given a position that the log has not reached, then it is refused: what comes until then would be left out."""
    end = len(topics(told))
    with pytest.raises(SectionRefused, match=f"ends at position {end}"):
        section_of(told, after=end + 1)
    assert section_of(told, after=end).last == end


def test_a_time_that_ends_before_it_begins_is_refused(told: Ledger, clock: SettableClock) -> None:
    """Given beginning and end exchanged, then that is said, and no empty file is taken for an answer."""
    with pytest.raises(SectionRefused, match="Exchange the two"):
        section_of(told, since=clock(), until=clock() - timedelta(days=1))


def test_another_accounts_events_are_not_in_it(told: Ledger, instance: Instance) -> None:
    """Given two accounts, when one is exported, then no line names the other (I10)."""
    other = new_account(instance)
    add(other, emails(1, "other"))
    content, _ = exported(told)
    assert {line["entry"]["tenant"] for line in ndjson(content)} == {told.tenant.hex}


def test_a_tampered_part_stops_the_export_before_its_window(
    told: Ledger, server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given sealed bytes that were changed, when parts are opened, then what came before is out and recorded, and the
    rest is refused by position."""
    monkeypatch.setattr(sections, "OPENED_POSITIONS", 2)
    position = next(e.position for e in told.log.select_log(None, 100) if e.topic == "consent.granted.v1")
    with psycopg.connect(server.url("lethe_ledger"), autocommit=True) as connection:
        connection.execute("ALTER TABLE lethe.event DISABLE TRIGGER ALL")
        connection.execute(
            "UPDATE lethe.event SET sealed = set_byte(sealed, 40, get_byte(sealed, 40) # 1) "
            "WHERE tenant_id = %s AND position = %s",
            (told.tenant, position),
        )
        connection.execute("ALTER TABLE lethe.event ENABLE TRIGGER ALL")
    export = TrailExport(told, section_of(told), "ndjson", opened=True, actor="cli")
    blocks: list[bytes] = []
    with pytest.raises(EventUnreadable) as refused:
        blocks.extend(export.blocks())
    assert refused.value.position == position
    assert ndjson(b"".join(blocks))[-1]["position"] < (position or 0)
    assert topics(told)[-1] == ExportProduced.TOPIC


def test_a_reader_that_goes_away_ends_it_and_what_went_out_is_recorded(
    told: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given an export of several windows, when it is closed after the first, then no more is read, and the fact says
    how much was handed out."""
    monkeypatch.setattr(sections, "WINDOW_POSITIONS", 3)
    export = TrailExport(told, section_of(told), "ndjson", opened=False, actor="cli")
    blocks = export.blocks()
    assert len(ndjson(next(blocks))) == 3
    blocks.close()
    fact = orjson.loads(told.log.select_log(None, 10_000)[-1].state)["plain"]
    assert (fact["entries"], "digest" in fact) == (3, False)


def test_memory_does_not_grow_with_the_section(told: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a million events, when they are exported, then at no time is more than a window of them in memory."""
    model = told.log.select_log(None, 1)[0]
    asked: list[int] = []

    def windows(_: Ledger, section: Section, *, opened: bool) -> Iterator[list[LedgerEvent]]:
        assert not opened
        for after in range(0, section.last, sections.WINDOW_POSITIONS):
            asked.append(after)
            yield [
                LedgerEvent(model.originator_id, 1, model.topic, model.state, None, after + number + 1)
                for number in range(sections.WINDOW_POSITIONS)
            ]

    monkeypatch.setattr(exports, "read", windows)
    tracemalloc.start()
    count, peaks = 0, []
    try:
        export = TrailExport(told, Section(0, 1_000_000), "ndjson", opened=False, actor="cli")
        for block in export.blocks():
            count += block.count(b"\n")
            if len(asked) in (10, 500):
                peaks.append(tracemalloc.get_traced_memory()[1])
                tracemalloc.reset_peak()
    finally:
        tracemalloc.stop()
    assert count == 1_000_000
    assert peaks[1] < 1.5 * peaks[0]
    assert peaks[1] < 30_000_000
