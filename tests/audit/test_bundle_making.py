"""Bundles of every kind are made from a real log, and verified by the offline verifier; nothing leaves unrecorded."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4
from zipfile import ZipFile

import psycopg
import pytest

from api.bootstrap import Instance
from api.bundling import collected_by_id, proof_source
from audit.bundles import basis, making, reading
from audit.bundles.basis import ProofSource
from audit.bundles.making import prepared_bundle
from audit.bundles.model import CannotBundle, Collected, LogBehind, NothingToBundle, PeriodBackwards, positions_of
from audit.bundles.period import collect_period
from audit.bundles.person import collect_person
from audit.bundles.scratch import Scratch
from audit.bundles.send import collect_send
from audit.log.errors import LogContradiction
from audit.verify.errors import ClaimRefused
from domain.access import ExportProduced, PersonalDataViewed, rounded_up
from domain.facts import Fact
from domain.message import SendAuthorised
from domain.records import Record
from ledger.application import Ledger
from ledger.embedded import EmbeddedPostgres
from ledger.errors import KeyDestroyed
from ledger.exports import export_stream_id
from ledger.keys.names import KeyName
from ledger.mapper import LedgerEvent
from projections.history import Question, search
from retention.daily import run_daily
from retention.erasure.erasing import finish_erasures
from tests.acts import ask, emails, person, register, report, say, topics, willing
from tests.audit.bundling import ACTOR, make, verified
from tests.retention.plans import hold
from tests.support import SettableClock

pytestmark = pytest.mark.store

PEOPLE = emails(8)
VICTIM = PEOPLE[3]


class Life:
    """An account with some life in it: a campaign, clicks, records, a withdrawal."""

    def __init__(self, ledger: Ledger) -> None:
        willing(ledger, PEOPLE)
        self.campaign = register(ledger)
        self.tokens = ask(ledger, self.campaign, PEOPLE).allowed
        report(ledger, [(self.tokens[p], "clicked") for p in PEOPLE[:5]], url="https://example.com/a", ip="192.0.2.44")
        ledger.records.take([Record("support", {"text": "Where is my order?"}, "ticket", VICTIM)], actor=ACTOR)
        say(ledger, [VICTIM], "withdraw")


@pytest.fixture
def life(ledger: Ledger) -> Life:
    return Life(ledger)


Collect = Callable[[Ledger, Life], Collected]

KINDS: dict[str, Collect] = {
    "person": lambda ledger, _: collect_person(ledger, VICTIM),
    "campaign": lambda ledger, life: collected_by_id(ledger, "campaign", life.campaign),
    "period": lambda ledger, _: collect_period(ledger),
    "send": lambda ledger, life: collect_send(ledger, life.tokens[VICTIM]),
}


@pytest.mark.parametrize("opened", [False, True], ids=["closed", "opened"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_verifies_offline(
    instance: Instance, ledger: Ledger, life: Life, tmp_path: Path, kind: str, opened: bool
) -> None:
    """Given a log, when a bundle of a kind is made, then the verifier accepts it by the key that the log itself has."""
    collected = KINDS[kind](ledger, life)
    path, made = make(instance, ledger, collected, tmp_path, opened=opened)
    found = verified(instance, ledger, path)
    assert (found.manifest.kind, found.events) == (kind, len(collected.positions))
    assert found.proofs == found.events
    assert found.parts.opened == made.counts.opened
    assert bool(found.parts.opened) == opened
    assert found.manifest.by == ACTOR
    with ZipFile(path) as archive:
        assert ("sealed.tsv" in archive.namelist()) == opened
        assert archive.read("summary.pdf").startswith(b"%PDF")
        page = archive.read("summary.html").decode()
    assert (VICTIM in page) == (opened and kind != "campaign")


def test_a_person_is_shown_whole(instance: Instance, ledger: Ledger, life: Life, tmp_path: Path) -> None:
    """Given messages and records that name nobody, when the person's bundle is opened, then all of theirs opens."""
    path, made = make(instance, ledger, collect_person(ledger, VICTIM), tmp_path, opened=True)
    assert made.counts.not_disclosed == 0
    shown = [json.loads(line) for line in ZipFile(path).read("disclosed.ndjson").splitlines()]
    text = json.dumps(shown)
    assert all(wanted in text for wanted in (VICTIM, "Where is my order?", "https://example.com/a", "double_opt_in"))
    assert PEOPLE[0] not in text


def test_messages_and_records_of_others_stay_closed(
    instance: Instance, ledger: Ledger, life: Life, tmp_path: Path
) -> None:
    """Given a bundle of a campaign, when it is opened, then whose messages they are is not computed for it."""
    path, made = make(instance, ledger, collected_by_id(ledger, "campaign", life.campaign), tmp_path, opened=True)
    assert made.counts.opened == 1
    assert made.counts.not_disclosed == 10
    text = ZipFile(path).read("disclosed.ndjson").decode()
    assert "Spring" in text
    assert "192.0.2.44" not in text


# Completeness -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_version_that_is_left_out_is_caught(
    instance: Instance, ledger: Ledger, life: Life, tmp_path: Path, kind: str
) -> None:
    """Given a maker that leaves one event out, when the bundle is verified, then the gap is refused, and named."""
    collected = KINDS[kind](ledger, life)
    claimed = {UUID(hex=stream) for stream in collected.claims["complete"].get("streams", {})}
    for left_out in list(collected.positions):
        (event,) = ledger.log.select_log(left_out, 1)
        message = kind == "campaign" and event.originator_version == 1 and event.topic.startswith("send.")
        alone = sum(e.originator_id == event.originator_id for e in _events(ledger, collected)) == 1
        if kind == "period" or event.originator_id in claimed or (message and not alone):
            kept = replace(collected, positions=positions_of(set(collected.positions) - {left_out}))
            path, _ = make(instance, ledger, kept, tmp_path)
            with pytest.raises(ClaimRefused):
                verified(instance, ledger, path)
            path.unlink()
            break
    else:
        pytest.fail("Nothing that could be left out was claimed.")


def test_the_middle_of_a_persons_stream_cannot_be_left_out(
    instance: Instance, ledger: Ledger, life: Life, tmp_path: Path
) -> None:
    """Given a person who took their consent back, when that alone is left out of a bundle, then it is refused."""
    collected = collect_person(ledger, VICTIM)
    (withdrawn,) = (e.position for e in _events(ledger, collected) if e.topic == "consent.withdrawn.v1")
    say(ledger, [VICTIM], "grant", at=ledger.clock() + timedelta(seconds=0))
    later = collect_person(ledger, VICTIM)
    kept = replace(later, positions=positions_of(set(later.positions) - {withdrawn}))
    path, _ = make(instance, ledger, kept, tmp_path)
    with pytest.raises(ClaimRefused):
        verified(instance, ledger, path)


def _events(ledger: Ledger, collected: Collected) -> list[LedgerEvent]:
    found: list[LedgerEvent] = []
    for position in collected.positions:
        found += ledger.log.select_log(position, 1)
    return found


# What is recorded ---------------------------------------------------------------------------------------------------


def test_an_export_about_one_person_is_found_by_their_key_only(
    instance: Instance, ledger: Ledger, life: Life, tmp_path: Path
) -> None:
    """Given an opened bundle of a person, then the log says that it left and what it is known by, and names nobody."""
    _, made = make(instance, ledger, collect_person(ledger, VICTIM), tmp_path, opened=True)
    row = person(ledger, VICTIM)
    exported = [e for e in _log(ledger) if isinstance(e, ExportProduced)]
    assert [(e.kind, e.what, e.digest) for e in exported] == [("bundle.person", "one person", made.manifest_sha256)]
    counts = (made.counts.entries, made.counts.opened)
    assert (exported[0].entries, exported[0].opened) == tuple(map(rounded_up, counts)) != counts
    (stored,) = ledger.log.select_log(exported[0].position or 0, 1)
    assert row.person.subject.hex().encode() not in stored.state
    key = ledger.keyring.find([KeyName(row.person.kid, "identity")]).keys[KeyName(row.person.kid, "identity")]
    assert stored.originator_id == UUID(bytes=export_stream_id(key, f"{ledger.clock():%Y-%m}"))
    viewed = [e for e in _log(ledger) if isinstance(e, PersonalDataViewed)]
    assert [(e.what, e.subject, e.parts_opened) for e in viewed] == [
        ("bundle person", None, rounded_up(made.counts.opened))
    ]
    assert "access.export_produced.v1" in {e.kind for e in search(ledger, Question(email=VICTIM), opened=False).events}
    assert "access.export_produced.v1" not in {
        e.kind for e in search(ledger, Question(email=PEOPLE[0]), opened=False).events
    }


def test_every_other_export_says_what_was_asked_for(
    instance: Instance, ledger: Ledger, life: Life, tmp_path: Path
) -> None:
    """Given a bundle of a campaign that opens nothing, then the export is recorded with its id, and no view is."""
    make(instance, ledger, collected_by_id(ledger, "campaign", life.campaign), tmp_path)
    (exported,) = (e for e in _log(ledger) if isinstance(e, ExportProduced))
    assert (exported.kind, exported.what) == ("bundle.campaign", f"campaign={life.campaign.hex}")
    assert not [e for e in _log(ledger) if isinstance(e, PersonalDataViewed)]


def test_nothing_leaves_that_cannot_be_recorded(instance: Instance, ledger: Ledger, life: Life, tmp_path: Path) -> None:
    """Given a person whose erasure begins while their bundle is read, then the bundle is refused: no certificate of
    theirs would name it."""
    collected = collect_person(ledger, VICTIM)
    ledger.erasures.intend([VICTIM], reason="subject_request", actor=ACTOR)
    with pytest.raises(KeyDestroyed, match="being forgotten"):
        make(instance, ledger, collected, tmp_path, opened=True)
    assert list(tmp_path.iterdir()) == []
    assert "access.export_produced.v1" not in topics(ledger)


def _log(ledger: Ledger) -> list[Fact]:
    return [ledger.sealing.open(event, personal=False) for event in ledger.log.select_log(1, 10_000)]


# The basis ----------------------------------------------------------------------------------------------------------


def test_a_log_that_lags_is_published_once_and_waited_for(
    instance: Instance, ledger: Ledger, life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a log that nobody publishes, then the maker asks once, waits, and says so clearly; nothing is recorded."""
    monkeypatch.setattr(basis, "WAIT_SECONDS_MAX", 0.0)
    asked: list[Ledger] = []
    with (
        pytest.raises(LogBehind, match="published up to position 0"),
        prepared_bundle(ledger, collect_period(ledger), ProofSource(publish=asked.append), opened=False, actor=ACTOR),
    ):
        pass
    assert asked == [ledger]
    assert "access.export_produced.v1" not in topics(ledger)


def test_an_event_that_was_changed_is_an_incident_and_no_bundle(
    instance: Instance, ledger: Ledger, life: Life, server: EmbeddedPostgres, tmp_path: Path
) -> None:
    """Given a superuser who changed an event after it was published, then no bundle with it is handed out."""
    proof_source(instance).publish(ledger)
    with psycopg.connect(server.url("lethe_ledger"), autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(
            "UPDATE lethe.event SET entry = replace(convert_from(entry, 'UTF8'), '\"v\":1', '\"v\":2')::bytea "
            "WHERE tenant_id = %s AND position = 20",
            (ledger.tenant,),
        )
    with pytest.raises(LogContradiction, match="Position 20 cannot be proven"):
        make(instance, ledger, collect_period(ledger), tmp_path)


def test_only_the_tiles_that_prove_something_are_in_it(
    instance: Instance, ledger: Ledger, life: Life, tmp_path: Path
) -> None:
    """Given a log of several tiles, when one event is shown, then its tile and the right edge are in, and no others."""
    for _ in range(600):
        ledger.record_refusal("/v1/test", "no_key", key_id=None)
    path, _ = make(instance, ledger, collect_period(ledger, first=300, last=300), tmp_path)
    assert verified(instance, ledger, path).events == 1
    tiles = [name for name in ZipFile(path).namelist() if name.startswith("log/tile/0")]
    assert len(tiles) == 2
    assert "log/tile/0/001" in tiles


@pytest.mark.parametrize(
    "asked",
    [
        {"since": datetime(2026, 3, 2, tzinfo=UTC), "until": datetime(2026, 3, 1, tzinfo=UTC)},
        {"since": datetime(2026, 3, 2, tzinfo=UTC), "until": datetime(2026, 3, 2, tzinfo=UTC)},
        {"first": 9, "last": 8},
    ],
    ids=["times", "no time", "positions"],
)
def test_a_period_that_ends_before_it_begins(ledger: Ledger, asked: dict[str, Any]) -> None:
    """Given the ends of a period exchanged, then that is said: it is not a period in which nothing happened."""
    with pytest.raises(PeriodBackwards, match="Exchange the two"):
        collect_period(ledger, **asked)


# Requests and destructions ------------------------------------------------------------------------------------------


def test_a_command_is_shown_with_everything_that_it_wrote(
    instance: Instance, ledger: Ledger, life: Life, tmp_path: Path
) -> None:
    """Given a bulk command, when its id is asked for, then every event that it wrote is in the bundle: its decisions,
    and the adoption of the rules that it was the first to decide by."""
    commands = {fact.command for fact in _log(ledger) if isinstance(fact, SendAuthorised)}
    (command,) = commands
    assert command is not None
    path, made = make(instance, ledger, collected_by_id(ledger, "request", command), tmp_path)
    assert verified(instance, ledger, path).events == len(PEOPLE) + 1
    assert made.manifest["asked"] == {"command": command.hex}


def test_a_stream_is_no_command(ledger: Ledger, life: Life) -> None:
    """Given the id of a campaign, whose events other commands wrote, then it is not taken for that of a command."""
    with pytest.raises(NothingToBundle, match="no command of this account"):
        collected_by_id(ledger, "request", life.campaign)


def test_a_period_by_its_times_verifies(instance: Instance, ledger: Ledger, life: Life, tmp_path: Path) -> None:
    """Given a period that is asked for by its times, then the verifier holds its events against them, and agrees."""
    (last,) = ledger.log.select_log(20, 1)
    assert last.recorded_at is not None
    since, until = last.recorded_at - timedelta(days=400), last.recorded_at
    path, made = make(instance, ledger, collect_period(ledger, since=since), tmp_path)
    assert verified(instance, ledger, path).manifest.asked["from"] == since.isoformat()
    path.unlink()
    later = replace(collect_period(ledger), asked={**made.manifest["asked"], "to": until.isoformat()})
    path, _ = make(instance, ledger, replace(later, asked={**later.asked, "last": len(later.positions)}), tmp_path)
    with pytest.raises(ClaimRefused, match="not recorded in the time that was asked for"):
        verified(instance, ledger, path)


def test_an_erasure_that_waits_leads_to_its_person(
    instance: Instance, ledger: Ledger, life: Life, tmp_path: Path
) -> None:
    """Given an erasure that a hold keeps back, then its bundle shows that it was asked for, and of one stream only."""
    hold(ledger, VICTIM)
    (status,) = ledger.erasures.intend([VICTIM], reason="subject_request", actor=ACTOR)
    path, made = make(instance, ledger, collected_by_id(ledger, "request", status.erasure_id), tmp_path)
    assert verified(instance, ledger, path).manifest.asked == made.manifest["asked"]
    with ZipFile(path) as archive:
        lines = [json.loads(line.partition("\t")[2]) for line in archive.read("entries.tsv").decode().splitlines()]
    assert "erasure.postponed.v1" in [line["topic"] for line in lines]
    assert {line["stream"] for line in lines} == {made.manifest["asked"]["subject"]}


def test_an_erasure_leads_to_the_crowd_of_its_day_and_to_its_certificate(
    instance: Instance, ledger: Ledger, life: Life, clock: SettableClock, tmp_path: Path
) -> None:
    """Given two erasures of one day, when one is asked for when the day is over, then both intents are shown, and the
    certificate whose digest the log holds; neither is said to be whose."""
    statuses = ledger.erasures.intend(PEOPLE[:2], reason="subject_request", actor=ACTOR)
    finish_erasures(ledger)
    for kind in ("request", "destruction"):
        path, _ = make(instance, ledger, collected_by_id(ledger, kind, statuses[0].erasure_id), tmp_path)
        found = verified(instance, ledger, path)
        assert found.certificates == 0, "The log holds no digest of the first revision."
    clock.advance(timedelta(days=2))
    run_daily(ledger)
    path, made = make(instance, ledger, collected_by_id(ledger, "destruction", statuses[0].erasure_id), tmp_path)
    found = verified(instance, ledger, path)
    assert found.certificates == 1
    with ZipFile(path) as archive:
        lines = archive.read("entries.tsv").decode().splitlines()
        kinds = [json.loads(line.partition("\t")[2])["topic"] for line in lines]
        assert statuses[0].erasure_id.hex not in archive.read("manifest.json").decode()
    assert (kinds.count("erasure.intended.v1"), kinds.count("keys.destroyed.v1")) == (2, 2)
    assert "certificate.issued.v1" in kinds
    assert made.manifest["asked"] == {
        "certificate": statuses[0].certificate_id.hex if statuses[0].certificate_id else ""
    }


def test_what_nobody_knows_is_not_found(ledger: Ledger, life: Life) -> None:
    """Given ids, addresses and periods of nothing, then each is answered as not found, by its own words."""
    with pytest.raises(NothingToBundle, match="No erasure, no deletion and no command"):
        collected_by_id(ledger, "request", uuid4())
    with pytest.raises(NothingToBundle, match="No living contact"):
        collect_person(ledger, "nobody@example.com")
    with pytest.raises(NothingToBundle, match="Nothing was recorded"):
        collect_period(ledger, first=100_000)


def test_a_bundle_that_nobody_could_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given more events than a bundle holds, then it is refused with what to do, and before anything is read."""
    monkeypatch.setattr("audit.bundles.model.BUNDLE_ENTRIES_MAX", 3)
    assert positions_of([3, 1, 1, 2]) == array("Q", [1, 2, 3])
    with pytest.raises(CannotBundle, match="at most 3 events"):
        positions_of(range(1, 5))


def test_members_wait_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a member that waits to be written, then the file that it waits in does not show it, and gives it again."""
    with Scratch() as scratch:
        monkeypatch.setattr("audit.bundles.scratch.BLOCK_BYTES", 64)
        member = scratch.growing()
        for _ in range(10):
            member.write(b"person0@example.com was here ")
        stored = member.done()
        content = b"person0@example.com was here " * 10
        assert b"".join(stored()) == b"".join(stored()) == content
        assert stored.size == len(content)
        scratch._file.seek(0)
        assert b"example.com" not in scratch._file.read()


def test_the_maker_notices_that_an_event_is_gone(
    instance: Instance, ledger: Ledger, life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given an event that is not read back, then the maker says so, and hands nothing out."""
    everything = reading.events_at
    monkeypatch.setattr(making, "events_at", lambda *a: ([e for e in p if e.position != 5] for p in everything(*a)))
    with pytest.raises(LogContradiction, match="not in the log any more"):
        make(instance, ledger, collect_period(ledger), tmp_path)
