"""Entries are canonical and stay readable: golden files, upcasters, and two ways to the same bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import orjson
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

import domain.access
import domain.account
import domain.campaign
import domain.hold
import domain.keys
import domain.log
import domain.message
import domain.records
import domain.register
import domain.subject
import domain.suppression
from domain import facts
from domain.facts import TOPICS, Fact, SealedBy, Stored, UnknownTopic, personal_fields, plain_fields, upcasts
from domain.ids import unix_ms, uuid7
from domain.message import MessageClicked, SendAuthorised, SendRefused
from domain.personal import Erased, Identity, Personal, Unopened
from ledger.application import Ledger
from ledger.entry import (
    ENTRY_BYTES_MAX,
    EntryTooLong,
    around,
    canonical,
    entry_time,
    pack_sealed,
    parse_entry_time,
    unpack_sealed,
)
from ledger.errors import TamperError
from ledger.mapper import Holder, LedgerEvent
from retention.erasure.erasing import finish_erasures
from tests.acts import ask, emails, person, register, report, stream_of, willing

GOLDEN = Path(__file__).parents[1] / "golden"
DOMAIN = (
    domain.access,
    domain.account,
    domain.campaign,
    domain.hold,
    domain.keys,
    domain.log,
    domain.message,
    domain.records,
    domain.register,
    domain.subject,
    domain.suppression,
)
SHIPPED = sorted(topic for topic, known in TOPICS.items() if known.__module__.startswith("domain."))

ascii_keys = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ascii_keys, inner, max_size=4),
    max_leaves=12,
)


# Canonical bytes -----------------------------------------------------------------------------------------------------


@given(st.dictionaries(ascii_keys, json_values, max_size=8))
def test_entries_are_canonical_json(value: dict[str, Any]) -> None:
    """Given any mapping with ASCII keys and no floats, when it is written, then the bytes are those of RFC 8785."""
    assert canonical(value) == rfc8785.dumps(value)


@given(st.text(), ascii_keys, st.text(max_size=40), st.text(max_size=40))
def test_an_entry_around_its_blanks_is_the_entry(actor: str, key: str, one: str, other: str) -> None:
    """Given any values, also such as look like a field, when two blanks are filled in, then it is the entry itself."""
    entry: dict[str, Any] = {"actor": actor, "id": "", "plain": {"a" + key: actor, "tag": ""}, "z": '"id":""'}
    before, between, after = around(entry, "id", "tag")
    filled = {**entry, "id": one, "plain": entry["plain"] | {"tag": other}}
    written = [orjson.dumps(value)[1:-1] for value in (one, other)]
    assert before + written[0] + between + written[1] + after == canonical(filled)
    with pytest.raises(ValueError, match="no empty tag"):
        around({"id": "", "tag": "full"}, "id", "tag")


def test_a_fact_is_headed_as_a_copy_with_that_header() -> None:
    """Given any fact, when its header is filled in, then it is the copy pydantic makes; the first has not changed."""
    for topic in SHIPPED:
        fact = sample(TOPICS[topic])
        header = {"originator_version": 7, "event_id": UUID(int=9), "actor": "cli"}
        before = fact.model_dump()
        headed = fact.headed(header)
        assert headed == fact.model_copy(update=header)
        assert type(headed) is type(fact)
        assert headed.model_fields_set == fact.model_copy(update=header).model_fields_set
        assert fact.model_dump() == before


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])))
def test_times_of_entries_have_one_spelling(moment: datetime) -> None:
    """Given any aware time, when it is written and read, then it is the same moment, in 27 characters that sort."""
    text = entry_time(moment)
    assert len(text) == 27
    assert parse_entry_time(text) == moment


@given(st.datetimes(timezones=st.just(UTC)), st.datetimes(timezones=st.just(UTC)))
def test_times_of_entries_sort_as_the_moments_do(one: datetime, other: datetime) -> None:
    """Expiries are compared as they stand in entries."""
    assert (entry_time(one) < entry_time(other)) == (one < other)


@given(st.dictionaries(st.text("abcdefgh_", min_size=1, max_size=20), st.binary(max_size=300), max_size=5))
def test_sealed_parts_are_packed_and_unpacked(parts: dict[str, bytes]) -> None:
    """Given any parts, when they are packed, then the same come back, and the bytes depend on no order."""
    packed = pack_sealed(parts)
    assert unpack_sealed(packed) == parts
    assert packed == pack_sealed(dict(reversed(parts.items())))
    if packed is None:
        return
    for cut in {1, len(packed) // 2, len(packed) - 1} - {0, len(packed)}:
        try:
            held = unpack_sealed(packed[:cut])
        except TamperError:
            continue
        assert held != parts


@pytest.mark.store
def test_an_entry_that_does_not_fit_is_refused_before_it_is_written(ledger: Ledger) -> None:
    """Given plain fields beyond what an entry bundle can hold, when they are recorded, then nothing is written."""
    before = ledger.log.max_notification_id()
    with pytest.raises(EntryTooLong):
        ledger.record_refusal("x" * ENTRY_BYTES_MAX, "too long", key_id=None)
    assert ledger.log.max_notification_id() == before


# Golden files --------------------------------------------------------------------------------------------------------


def sample(fact_class: type[Fact]) -> Fact:
    """A fact with every field filled, the same each time."""
    values: dict[str, Any] = {}
    for name, field in fact_class.model_fields.items():
        if name in plain_fields(fact_class) or name in personal_fields(fact_class):
            values[name] = SAMPLES.get(name, _plain_sample(str(field.annotation)))
    fact = fact_class.model_validate(values)
    return fact.model_copy(
        update={
            "originator_id": UUID(int=1),
            "originator_version": 1,
            "event_id": UUID(int=2),
            "occurred_at": datetime(2026, 11, 21, 20, 15, tzinfo=UTC),
            "actor": "key:0011223344556677",
            "command": UUID(int=3),
        }
    )


SAMPLES: dict[str, Any] = {
    "kind": "ongoing",
    "scopes": ("campaign",),
    "classes": ("identity", "link"),
    "content": {"invoice": "2026-0042"},
    "counts": {"unknown_recipient": 2},
    "custom": {"shoe size": "43"},
    "evidence": {"ip": "192.0.2.1", "method": "form"},
    "fingerprints": ("00112233445566778899aabbccddeeff",),
    "kept": ("all legal",),
    "target": "person",
    "campaigns": ("00112233445566778899aabbccddeeff",),
    "periods": ("engagement 2026-11",),
    "persons": ("00112233445566778899aabbccddeeff" * 3,),
    "too_late": ("engagement|2026-11|0a1b2c3d-0000-7000-8000-000000000002",),
    "review_on": "2027-02-20",
    "figures": {"dispatched": 25},
    "withheld": ("first_clicked",),
    "action": "destroy_period",
    "methods": ("overwritten and unlinked", "overwritten and unlinked"),
    "expires_at": datetime(2026, 11, 22, 20, 15, tzinfo=UTC),
    "subject": UUID(int=4),
    "reason": "other",
    "backups": ("0a1b2c3d-0000-4000-8000-000000000001",),
    "lawful_bases": ("consent",),
    "subjects": ("contact",),
    "categories": ("identity", "link"),
    "recipients": ("mail-servers",),
    "limits": {"identity": "account_closed:P60D"},
    "clauses": {"identity": "8 campaign & subscriber"},
    "measures": ("sealing",),
    "countries": ("US",),
    "safeguards": ("clauses-2021",),
    "seen_as": ("sender:*",),
    "purposes": ("to send what was asked for",),
    "measures_said": ("doors are locked",),
    "other_categories": ("shoe sizes",),
}


def _plain_sample(annotation: str) -> Any:
    if "bool" in annotation:
        return True
    return 7 if "int" in annotation and "str" not in annotation else "text"


@pytest.mark.parametrize("topic", SHIPPED)
def test_the_shape_of_every_topic_is_kept_in_a_golden_file(ledger: Ledger, topic: str) -> None:
    """Given a topic, when a full fact of it is written, then its entry has just the fields of the golden file.

    A test that fails here says that a stored shape changed: make a new topic version with an upcaster, or, where a
    field was added that older events may lack, a new golden file beside this one (LETHE_WRITE_GOLDEN=1 writes it).
    """
    fact = sample(TOPICS[topic])
    draft = ledger.sealing.draft(fact, Holder(b"k" * 16))
    shape = {
        "topic": topic,
        "header": sorted(draft.entry.keys() - {"plain", "sealed"}),
        "plain": draft.entry["plain"],
        "sealed": {part: _fields_of(type(fact), part) for part in draft.entry.get("sealed", ())},
        "sealed_by": {c: list(by) for c, by in sorted(type(fact).SEALED_BY.items())},
    }
    text = orjson.dumps(shape, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"
    path = GOLDEN / f"{topic}.json"
    if os.environ.get("LETHE_WRITE_GOLDEN"):
        path.write_bytes(text)
    assert path.exists(), f"No golden file for {topic}. Look at the shape, then write it: LETHE_WRITE_GOLDEN=1."
    assert text == path.read_bytes()


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_every_shape_ever_stored_still_loads(ledger: Ledger, path: Path) -> None:
    """Given a golden file, when an event of that shape is opened today, then it is a fact with those plain values."""
    shape = orjson.loads(path.read_bytes())
    entry = {
        "v": 1,
        "tenant": ledger.tenant.hex,
        "id": UUID(int=2).hex,
        "stream": UUID(int=1).hex,
        "version": 1,
        "topic": shape["topic"],
        "recorded_at": "2026-11-21T20:15:00.000000Z",
        "occurred_at": "2026-11-21T20:15:00.000000Z",
        "actor": "cli",
        "plain": shape["plain"],
    }
    envelopes = dict.fromkeys(shape["sealed"], b"never opened")
    if envelopes:
        entry["sealed"] = {name: sha256(envelope).hexdigest() for name, envelope in envelopes.items()}
    stored = LedgerEvent(UUID(int=1), 1, shape["topic"], canonical(entry), pack_sealed(envelopes), 5)
    fact = ledger.sealing.open(stored, personal=False)
    for name, value in shape["plain"].items():
        held = getattr(fact, name)
        assert _as_stored(held) == value
    for names in shape["sealed"].values():
        assert all(isinstance(getattr(fact, name), Unopened) for name in names)
    assert fact.position == 5


def _fields_of(fact_class: type[Fact], part: str) -> list[str]:
    return sorted(name for name, retention_class in personal_fields(fact_class).items() if retention_class == part)


def _as_stored(value: Any) -> Any:
    if isinstance(value, datetime):
        return entry_time(value)
    if isinstance(value, UUID):
        return value.hex
    return list(value) if isinstance(value, tuple) else value


def test_every_shipped_fact_has_a_topic_and_no_golden_file_is_left_over() -> None:
    """Topics are names with a version, never a Python path; a golden file without a topic is a topic that was lost."""
    assert len(SHIPPED) >= 25
    assert all(topic.split(".")[-1].startswith("v") and topic.islower() for topic in SHIPPED)
    for path in GOLDEN.glob("*.json"):
        assert facts.current_class(orjson.loads(path.read_bytes())["topic"])


def test_a_topic_from_the_future_is_named() -> None:
    """Given a topic this version does not know, when it is read, then the error says to run a newer version."""
    with pytest.raises(UnknownTopic, match="newer"):
        facts.upcast("consent.dreamt.v1", {"plain": {}, "parts": {}})


# Upcasters -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def old_and_new() -> Iterator[tuple[type[Fact], type[Fact]]]:
    """A topic whose second version renamed a plain field and a personal one, and joined two personal fields."""

    class TestNoticeV1(Fact):
        TOPIC: ClassVar[str] = "test.notice.v1"
        colour: str
        first: Personal[str, Identity] | None = None
        last: Personal[str, Identity] | None = None

    old = TOPICS.pop("test.notice.v1")
    OLD_TOPICS["test.notice.v1"] = old

    class TestNoticeV2(Fact):
        TOPIC: ClassVar[str] = "test.notice.v2"
        SEALED_BY: ClassVar[Mapping[str, SealedBy]] = {}
        color: str
        name: Personal[str, Identity] | None = None

    @upcasts("test.notice.v1", "test.notice.v2")
    def lift(stored: Stored) -> Stored:
        parts = dict(stored["parts"])
        held = parts.get("identity")
        if isinstance(held, dict):
            parts["identity"] = {"name": f"{held['first']} {held['last']}"}
        return {"plain": {"color": stored["plain"]["colour"]}, "parts": parts}

    yield TestNoticeV1, TestNoticeV2
    TOPICS.pop("test.notice.v2", None)
    facts._UPCASTERS.pop("test.notice.v1", None)


OLD_TOPICS: dict[str, type[Fact]] = {}


@pytest.mark.store
def test_an_old_event_is_read_in_todays_shape(ledger: Ledger, old_and_new: tuple[type[Fact], type[Fact]]) -> None:
    """Given an event of an older version, when it is opened, then it is today's class, personal parts lifted."""
    old, new = old_and_new
    willing(ledger, emails(1))
    row = person(ledger, emails(1)[0])
    stream = UUID(bytes=row.person.subject)
    with ledger.appender.locked() as locked:
        fact = old.model_validate({"colour": "red", "first": Personal("Ada"), "last": Personal("Lovelace")}).model_copy(
            update={
                "originator_id": stream,
                "event_id": uuid7(unix_ms(locked.now), os.urandom(10)),
                "occurred_at": locked.now,
            }
        )
        version = row.standing.version + 1
        locked.record([(ledger.sealing.draft(fact, Holder(row.person.kid)), version)], restricts=True)
    stored = ledger.log.select_streams([stream])[-1]
    assert stored.topic == "test.notice.v1"
    assert_is(ledger.sealing.open(stored), new, color="red", name=Personal("Ada Lovelace"))
    assert_is(ledger.sealing.open(stored, personal=False), new, color="red", name=Unopened())
    ledger.services.vault.destroy_holder(
        ledger.tenant, row.person.kid, when=ledger.clock(), cause="x", certificate=None
    )
    ledger.keyring.forget(row.person.kid)
    opened = ledger.sealing.open(stored)
    assert type(opened) is new
    assert isinstance(getattr(opened, "name"), Erased)  # noqa: B009  Made-up classes are unknown to the type checker.


def assert_is(fact: Fact, fact_class: type[Fact], **values: Any) -> None:
    assert type(fact) is fact_class
    assert {name: getattr(fact, name) for name in values} == values


# Two ways to the same bytes ------------------------------------------------------------------------------------------


@pytest.mark.store
def test_the_bulk_path_writes_what_the_mapper_would(ledger: Ledger) -> None:
    """Given sends recorded in bulk, when the mapper writes the same facts, then the bytes are the same."""
    people = emails(6)
    willing(ledger, people)
    once, ongoing = register(ledger), register(ledger, kind="ongoing")
    ask(ledger, once, people)
    ask(ledger, ongoing, [(p, f"order {n}") for n, p in enumerate(people)])
    ask(ledger, register(ledger, purpose="offers"), people)
    sends = [e for e in ledger.log.select_log(1, 1000) if e.topic in (SendAuthorised.TOPIC, SendRefused.TOPIC)]
    assert {event.topic for event in sends} == {SendAuthorised.TOPIC, SendRefused.TOPIC}
    for event in sends:
        fact = ledger.sealing.open(event)
        assert fact.recorded_at is not None
        again = ledger.sealing.draft(fact).finish(fact.originator_version, entry_time(fact.recorded_at))
        assert again == event.state
        assert event.sealed is None


@pytest.mark.store
def test_bulk_feedback_writes_what_the_mapper_would_open(ledger: Ledger) -> None:
    """Given feedback sealed in bulk, when the mapper opens and writes it, then the entries agree."""
    people = emails(4)
    willing(ledger, people)
    tokens = ask(ledger, register(ledger), people).allowed
    for kind in ("dispatched", "delivered", "deferred", "bounced", "opened", "clicked"):
        events = [(tokens[p], kind) for p in people]
        report(ledger, events, bounce_type="soft", ip="192.0.2.3", user_agent="Mail/1", url="https://example.com/x?y=1")
    holders = {UUID(bytes=person(ledger, p).person.subject): person(ledger, p).person for p in people}
    seen = set()
    for event in ledger.log.select_log(1, 1000):
        if not event.topic.startswith("message."):
            continue
        opened = [f for f in (attempt(ledger, event, Holder(h.kid)) for h in holders.values()) if f is not None]
        assert opened
        fact = opened[0]
        seen.add(event.topic)
        assert fact.recorded_at is not None
        draft = ledger.sealing.draft(fact, Holder(next(h.kid for h in holders.values())))
        again = orjson.loads(draft.finish(fact.originator_version, entry_time(fact.recorded_at)))
        stored = orjson.loads(event.state)
        assert again.pop("sealed", {}).keys() == stored.pop("sealed", {}).keys()
        assert again == stored
        if isinstance(fact, MessageClicked):
            assert fact.url == Personal("https://example.com/x?y=1")
            assert fact.ip == Personal("192.0.2.3")
            assert fact.user_agent == Personal("Mail/1")
    assert len(seen) == 6


def attempt(ledger: Ledger, event: LedgerEvent, holder: Holder) -> Fact | None:
    try:
        return ledger.sealing.open(event, holder)
    except TamperError:
        return None


@pytest.mark.store
def test_eventsourcing_reads_the_same_stream(ledger: Ledger) -> None:
    """Given a stream, when eventsourcing's event store reads it, then the facts are the same."""
    willing(ledger, emails(1))
    row = person(ledger, emails(1)[0])
    ours = stream_of(ledger, row)
    theirs = list(ledger.events.get(UUID(bytes=row.person.subject)))
    assert [fact.model_copy(update={"position": None}) for fact in ours] == [
        fact.model_copy(update={"position": None}) for fact in theirs if isinstance(fact, Fact)
    ]
    assert len(list(ledger.notification_log.select(1, 10))) > 2


@pytest.mark.store
def test_a_fact_read_back_says_where_it_stands(ledger: Ledger) -> None:
    """Given an erased person's stream, when it is read, then all but the values is there."""
    willing(ledger, emails(1))
    row = person(ledger, emails(1)[0])
    ledger.erasures.intend(emails(1), reason="subject_request", actor="key:1")
    finish_erasures(ledger)
    found = stream_of(ledger, row)
    assert [fact.originator_version for fact in found] == [1, 2, 3, 4]
    assert [fact.position for fact in found] == sorted(fact.position or 0 for fact in found)
    assert isinstance(getattr(found[0], "email", None), Erased)
    assert getattr(found[1], "purpose", None) == "newsletter"
    assert isinstance(getattr(found[1], "evidence", None), Erased)
    assert found[-1].TOPIC == "keys.destroyed.v1"


@pytest.mark.store
def test_one_part_is_opened_as_the_whole_event_is(ledger: Ledger) -> None:
    """Given a person, a part alone is what the fact holds; changed it is tampered with; after erasure it is erased."""
    [email] = emails(1)
    willing(ledger, [email])
    event = next(e for e in ledger.log.select_log(1, 100) if e.topic == "contact.added.v1")
    assert isinstance(event, LedgerEvent)
    values = ledger.sealing.open_part(event, Identity.name)
    assert isinstance(values, dict)
    assert values["email"] == email
    assert ledger.sealing.open_part(event, "billing") == {}
    for changed in (replace(event, sealed=(event.sealed or b"")[:-1] + b"x"), replace(event, originator_version=9)):
        with pytest.raises(TamperError):
            ledger.sealing.open_part(changed, Identity.name)
    ledger.erasures.intend([email], reason="other", actor="cli")
    finish_erasures(ledger)
    assert isinstance(ledger.sealing.open_part(event, Identity.name), Erased)
