"""Records are written where only their person's keys lead, once the person is known and never after their time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.bootstrap import Instance
from domain.facts import Fact, opened
from domain.personal import Erased, Unopened
from domain.records import FACT_OF_CLASS, RECORD_CLASSES, Record, period_of
from domain.subject_commands import CorrectContact
from ledger.application import Ledger
from ledger.embedded import EmbeddedPostgres
from ledger.errors import IdempotencyMismatch
from ledger.idempotency import IdempotentPart
from ledger.keys.vault import TENANT_HOLDER, KeyName
from ledger.links import records_kid_of
from ledger.mapper import LedgerEvent
from ledger.recording import (
    CHUNK_RECORDS,
    KEY_WENT,
    KEYS_GONE,
    NO_SUCH_CONTACT,
    SORTED_AT_ONCE,
    RecordAnswer,
    in_chunks,
)
from ledger.subjects import Act
from projections.history import Question, search
from tests.acts import add, person, topics

pytestmark = pytest.mark.store

ANNA, BERT, NOBODY_WE_KNOW = "anna@example.com", "bert@example.com", "nobody@example.com"
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
LOG_CLASSES = ("access_log", "error_log")


def take(ledger: Ledger, *records: Record) -> RecordAnswer:
    """Records in bulk, as the command line."""
    return ledger.records.take(records, actor="cli")


def record(
    retention_class: str = "support", email: str | None = ANNA, at: datetime | None = None, note: str = "hello"
) -> Record:
    return Record(retention_class, {"note": note}, "ticket", email, at)


def kid_of(ledger: Ledger, email: str = ANNA) -> bytes:
    return person(ledger, email).person.records_kid


def facts_of(ledger: Ledger, kid: bytes, *classes: str) -> list[Fact]:
    """Every record that a records kid leads to, opened."""
    streams = ledger.records.streams.of(kid, classes or RECORD_CLASSES)
    found = ledger.log.select_streams(list(streams))
    return [ledger.sealing.open(event, streams[stream_of(event)]) for event in found]


def stream_of(event: LedgerEvent) -> UUID:
    assert isinstance(event.originator_id, UUID)
    return event.originator_id


def notes(facts: list[Fact]) -> list[str]:
    """What the records say, for those that open."""
    held = [opened(getattr(fact, "content")) for fact in facts]  # noqa: B009  The base of records has no content.
    return [content["note"] for content in held if content is not None]


def last_on(instance: Instance, ledger: Ledger, kid: bytes, retention_class: str, generation: int = 1) -> date:
    with instance.vault_pool.connection() as connection:
        row = connection.execute(
            "SELECT last_on FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND holder = %s AND class = %s"
            " AND period = '' AND generation = %s",
            (ledger.tenant, kid, retention_class, generation),
        ).fetchone()
    assert row is not None
    found = row[0]
    assert isinstance(found, date)
    return found


def erase_person(ledger: Ledger, email: str, *, keep: frozenset[str] = frozenset({"billing"})) -> bytes:
    """The intent, and the keys of both kids as an erasure destroys them; returns the records kid."""
    row = person(ledger, email)
    ledger.erasures.intend([email], reason="subject_request", actor="cli")
    for kid, kept in ((row.person.kid, frozenset[str]()), (row.person.records_kid, keep)):
        ledger.services.vault.destroy_holder(
            ledger.tenant, kid, keep=kept, when=ledger.clock(), cause="subject_request", certificate=str(uuid4())
        )
        ledger.keyring.forget(kid)
    return row.person.records_kid


# Written and found ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("retention_class", RECORD_CLASSES)
def test_a_record_is_found_by_its_persons_key_and_opens(ledger: Ledger, retention_class: str) -> None:
    """Given a contact, when something is recorded of them, then their key leads to it and it opens."""
    add(ledger, [ANNA, BERT])
    answer = take(ledger, record(retention_class))
    assert (answer.recorded, answer.rejected) == (1, [])
    assert (answer.first, answer.last) == (ledger.log.max_notification_id(),) * 2
    (fact,) = facts_of(ledger, kid_of(ledger))
    assert fact.TOPIC == FACT_OF_CLASS[retention_class].TOPIC
    assert notes([fact]) == ["hello"]
    assert facts_of(ledger, kid_of(ledger, BERT)) == []


def test_one_stream_for_each_person_class_and_period(ledger: Ledger) -> None:
    """Given records of two days, two classes and two persons, then each class and period of each has its stream."""
    add(ledger, [ANNA, BERT])
    today = ledger.clock().replace(hour=0, minute=0, second=0, microsecond=0)
    yesterday = today - timedelta(days=1)
    take(ledger, *(record(c, e, at) for c in LOG_CLASSES for e in (ANNA, BERT) for at in (today, yesterday, today)))
    events = [e for e in ledger.log.select_log(1, 1000) if e.topic.startswith("record.")]
    assert len(events) == 12
    assert len({e.originator_id for e in events}) == 8
    for kid in (kid_of(ledger), kid_of(ledger, BERT)):
        found = facts_of(ledger, kid)
        assert len(found) == 6
        assert {(f.TOPIC, f.originator_version) for f in found} == {
            (FACT_OF_CLASS[c].TOPIC, n) for c in LOG_CLASSES for n in (1, 2)
        }


def test_the_stream_says_its_period_and_nothing_else(ledger: Ledger) -> None:
    """Given a record, then its stream's id begins with the first moment of its period, and names no kid."""
    add(ledger, [ANNA])
    moment = ledger.clock() - timedelta(hours=1)
    take(ledger, record("access_log", at=moment))
    event = ledger.log.select_log(ledger.log.max_notification_id(), 1)[0]
    first_ms = int.from_bytes(stream_of(event).bytes[:6], "big")
    day = datetime.fromtimestamp(first_ms / 1000, UTC)
    assert day == moment.replace(hour=0, minute=0, second=0, microsecond=0)
    row = person(ledger, ANNA).person
    stored = bytes(event.state) + (event.sealed or b"")
    for secret in (row.kid, row.records_kid, row.subject, row.handle):
        assert secret not in stored
        assert secret.hex().encode() not in stored


def test_records_about_nobody_have_a_stream_each_and_open_by_themselves(ledger: Ledger) -> None:
    """Given two lines about nobody, then each has a random stream, and a search by position opens both."""
    take(ledger, record("error_log", None, note="one"), record("error_log", None, note="two"))
    page = search(ledger, Question(kinds=["record.error_log"]), opened=True)
    assert len({event.stream for event in page.events}) == 2
    assert sorted(event.personal["content"]["note"] for event in page.events) == ["one", "two"]
    assert all(event.plain["about_person"] is False for event in page.events)


def test_a_record_about_a_person_opens_only_through_the_person(ledger: Ledger) -> None:
    """Given a record about a person, when it is met along the log, then it stays sealed; by their address it opens."""
    add(ledger, [ANNA])
    take(ledger, record())
    met = search(ledger, Question(kinds=["record"]), opened=True)
    assert [event.personal for event in met.events] == [{"content": None, "at": None}]
    asked = search(ledger, Question(email=ANNA, kinds=["record"]), opened=True)
    assert [event.personal["content"] for event in asked.events] == [{"note": "hello"}]
    everything = search(ledger, Question(email=ANNA), opened=False)
    assert [event.kind for event in everything.events] == ["contact.added.v1", "record.support.v1"]
    assert everything.events[1].personal == {"content": None, "at": None}
    event = ledger.log.select_log(ledger.log.max_notification_id(), 1)[0]
    fact = ledger.sealing.open(event)
    assert isinstance(getattr(fact, "content"), Unopened)  # noqa: B009  The base of records has no content.


def test_a_campaigns_search_holds_no_records(ledger: Ledger) -> None:
    """Given a person's records, when their part in a campaign is asked for, then records are none of it."""
    add(ledger, [ANNA])
    take(ledger, record())
    assert search(ledger, Question(email=ANNA, campaign=uuid4()), opened=True).events == []


def test_records_of_many_months_are_found_by_class(ledger: Ledger) -> None:
    """Given seven years of invoices and a day's log, when one class is asked for, then just its records come."""
    add(ledger, [ANNA])
    now = ledger.clock()
    years = [now - timedelta(days=365 * n) for n in range(7)]
    take(ledger, *(record("billing", at=at, note=f"{at.year}") for at in years), record("access_log"))
    page = search(ledger, Question(email=ANNA, kinds=["record.transaction"]), opened=True)
    assert sorted(event.personal["content"]["note"] for event in page.events) == sorted(f"{at.year}" for at in years)


def test_a_stream_goes_on_where_it_ended_under_a_new_address(ledger: Ledger) -> None:
    """Given a person whose address was corrected, then records by either address go on in the same stream."""
    add(ledger, [ANNA])
    take(ledger, record(note="first"))
    ledger.act(Act(CorrectContact(email=BERT), address=ANNA))
    take(ledger, record(email=BERT, note="second"), record(email=ANNA, note="third"))
    assert [f.originator_version for f in facts_of(ledger, kid_of(ledger))] == [1, 2, 3]
    assert notes(facts_of(ledger, kid_of(ledger))) == ["first", "second", "third"]


def test_a_held_persons_record_is_found_after_its_day_is_over(ledger: Ledger) -> None:
    """Given K of one person kept for a legal hold, when the day's key goes, then theirs is found and opens alone."""
    add(ledger, [ANNA, BERT])
    then = ledger.clock() - timedelta(days=100)
    take(ledger, record("access_log", at=then), record("access_log", BERT, then))
    kid, vault, day = kid_of(ledger), ledger.services.vault, period_of("access_log", then)
    scope = ledger.keyring.opening_scope(kid, "access_log", day)
    assert isinstance(scope, bytes)
    vault.escrow(ledger.tenant, {KeyName(kid, "access_log", day): scope})
    of_day = KeyName(TENANT_HOLDER, "access_log", day)
    vault.destroy_keys(ledger.tenant, [of_day], when=ledger.clock(), cause="retention")
    ledger.keyring.forget_all()
    assert notes(facts_of(ledger, kid)) == ["hello"]
    assert facts_of(ledger, kid_of(ledger, BERT)) == []


# Chunks --------------------------------------------------------------------------------------------------------------


def test_what_goes_at_different_times_never_shares_a_transaction(ledger: Ledger) -> None:
    """Given an invoice, a letter and two days of logs sent in together, then no two of them share a moment (I11)."""
    add(ledger, [ANNA])
    now = ledger.clock()
    before = ledger.log.max_notification_id() or 0
    take(
        ledger,
        record("billing", at=now),
        record("support", at=now),
        record("access_log", at=now),
        record("access_log", at=now - timedelta(days=1)),
    )
    events = ledger.log.select_log(before + 1, 100)
    assert len(events) == 4
    assert len({event.recorded_at for event in events}) == 4
    assert len({orjson.loads(event.state)["command"] for event in events}) == 4


@given(
    st.lists(
        st.tuples(
            st.sampled_from(RECORD_CLASSES), st.sampled_from([None, *(NOON - timedelta(days=n) for n in range(40))])
        ),
        max_size=60,
    )
)
def test_chunks_hold_every_record_once_and_one_period_each(given_records: list[tuple[str, datetime | None]]) -> None:
    """Given any records, when they are sorted into chunks, then none is lost, and no chunk mixes classes or periods."""
    numbered = list(enumerate(Record(c, {"a": "b"}, occurred_at=at) for c, at in given_records))
    chunks = list(in_chunks(numbered))
    assert sorted(index for chunk in chunks for index, _ in chunk) == list(range(len(numbered)))
    for chunk in chunks:
        kinds = {(r.retention_class, r.occurred_at and period_of(r.retention_class, r.occurred_at)) for _, r in chunk}
        assert len(kinds) == 1
    assert chunks == list(in_chunks(numbered))


def test_chunks_are_bounded_whatever_comes() -> None:
    """Given more records than are held at once, each of a day of its own, then chunks come before the end is read."""
    read = 0

    def days() -> list[Record]:
        return [Record("access_log", {"a": "b"}, occurred_at=NOON - timedelta(days=n)) for n in range(SORTED_AT_ONCE)]

    def counted() -> object:
        nonlocal read
        for index, each in enumerate(days() * 2):
            read += 1
            yield index, each

    source = in_chunks(counted())  # type: ignore[arg-type]  # A generator of numbered records.
    next(source)
    assert read == SORTED_AT_ONCE
    one_period = [(n, Record("usage", {"a": "b"}, occurred_at=NOON)) for n in range(2 * CHUNK_RECORDS + 1)]
    assert [len(chunk) for chunk in in_chunks(one_period)] == [CHUNK_RECORDS, CHUNK_RECORDS, 1]


def test_a_transaction_of_mixed_periods_is_refused(ledger: Ledger) -> None:
    """Given records of two classes in one chunk, when it is to be written, then nothing is."""
    before = ledger.log.max_notification_id()
    with pytest.raises(ValueError, match="one class and one period"):
        ledger.records.record([(0, record("support", None)), (1, record("usage", None))], actor="cli")
    assert ledger.log.max_notification_id() == before


# Refused -------------------------------------------------------------------------------------------------------------


def test_bad_records_are_named_and_the_good_ones_kept(ledger: Ledger) -> None:
    """Given good and bad records, when they are taken, then each bad one is named by its index, without its value."""
    add(ledger, [ANNA])
    tomorrow = ledger.clock() + timedelta(days=1)
    answer = take(
        ledger,
        record(email=NOBODY_WE_KNOW),
        record(),
        record(email="not an address"),
        record(at=tomorrow),
        Record("support", {}, None, ANNA),
        record("billing"),
    )
    assert answer.recorded == 2
    assert [index for index, _ in answer.rejected] == [0, 2, 3, 4]
    reasons = [reason for _, reason in answer.rejected]
    assert reasons[0] == NO_SUCH_CONTACT
    assert reasons[2].startswith("in_the_future")
    assert reasons[3].startswith("no_content")
    assert not any("not an address" in reason or NOBODY_WE_KNOW in reason for reason in reasons)


@pytest.mark.parametrize("retention_class", RECORD_CLASSES)
@pytest.mark.parametrize("email", [ANNA, None])
def test_what_comes_after_its_period_was_destroyed_is_refused(
    instance: Instance, ledger: Ledger, retention_class: str, email: str | None
) -> None:
    """Given a destroyed period, when a record of it or of an earlier one arrives, then no key is made for it (14a)."""
    add(ledger, [ANNA])
    then = ledger.clock() - timedelta(days=3000)  # No plan and no mistake destroys billing earlier.
    late = then - timedelta(days=70)
    take(ledger, record(retention_class, email, then))
    destroyed = KeyName(TENANT_HOLDER, retention_class, period_of(retention_class, then))
    ledger.services.vault.destroy_keys(ledger.tenant, [destroyed], when=ledger.clock(), cause="retention")
    ledger.keyring.forget_period(retention_class, destroyed.period)
    before = ledger.log.max_notification_id()
    answer = take(ledger, record(retention_class, email, then), record(retention_class, email, late))
    assert answer.recorded == 0
    assert [reason.partition(":")[0] for _, reason in answer.rejected] == ["past_its_time", "past_its_time"]
    assert destroyed.period in answer.rejected[0][1]
    assert ledger.log.max_notification_id() == before
    names = [destroyed, KeyName(TENANT_HOLDER, retention_class, period_of(retention_class, late))]
    assert ledger.services.vault.find(ledger.tenant, names).keys == {}


def test_a_period_destroyed_by_another_process_while_a_lease_is_held(ledger: Ledger, instance: Instance) -> None:
    """Given a lease on a period's key, when the key goes elsewhere, then the record is named, not lost in silence."""
    add(ledger, [ANNA])
    take(ledger, record("access_log"))
    period = period_of("access_log", ledger.clock())
    name = KeyName(TENANT_HOLDER, "access_log", period)
    instance.services.vault.destroy_keys(ledger.tenant, [name], when=ledger.clock(), cause="retention")
    before = ledger.log.max_notification_id()
    assert take(ledger, record("access_log")).rejected == [(0, KEY_WENT)]
    assert ledger.log.max_notification_id() == before
    assert take(ledger, record("access_log")).rejected[0][1].startswith("past_its_time")


def test_a_terminated_account_takes_no_records(ledger: Ledger) -> None:
    """Given an account that has ended, when a record is sent, then it is refused whole and nothing is written."""
    ledger.accounts.terminate(actor="cli")
    before = ledger.log.max_notification_id()
    with pytest.raises(Exception, match="terminated"):
        take(ledger, record(email=None))
    assert ledger.log.max_notification_id() == before


# Clocks --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("retention_class", ["support", "billing"])
def test_the_clock_is_the_day_of_the_last_record(instance: Instance, ledger: Ledger, retention_class: str) -> None:
    """Given records in any order, then the person's clock is the day of the latest, and never goes back."""
    add(ledger, [ANNA, BERT])
    now = ledger.clock()
    old, older, recent = (now - timedelta(days=days) for days in (400, 800, 30))
    take(ledger, record(retention_class, at=old))
    assert last_on(instance, ledger, kid_of(ledger), retention_class) == old.date()
    take(ledger, record(retention_class, at=older))
    assert last_on(instance, ledger, kid_of(ledger), retention_class) == old.date()
    take(ledger, record(retention_class, at=recent), record(retention_class, BERT, recent - timedelta(days=1)))
    assert last_on(instance, ledger, kid_of(ledger), retention_class) == recent.date()
    assert last_on(instance, ledger, kid_of(ledger, BERT), retention_class) == (recent - timedelta(days=1)).date()


def test_the_clock_moves_before_the_record_is_written(
    instance: Instance, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a death between clock and append, then the key lives longer and no record is without its clock."""
    add(ledger, [ANNA])
    now = ledger.clock()
    take(ledger, record("billing", at=now - timedelta(days=400)))

    def die() -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        before_lock(ledger, patched, die)
        with pytest.raises(RuntimeError, match="killed"):
            take(ledger, record("billing", at=now))
    assert last_on(instance, ledger, kid_of(ledger), "billing") == now.date()
    assert len(facts_of(ledger, kid_of(ledger))) == 1


def test_who_writes_again_after_their_clock_ran_out_gets_a_new_key(instance: Instance, ledger: Ledger) -> None:
    """Given a support key that expired, when the person writes again, then the old letters stay gone, the new opens."""
    add(ledger, [ANNA])
    now = ledger.clock()
    take(ledger, record(at=now - timedelta(days=1200), note="long ago"))
    kid = kid_of(ledger)
    for generation in (1, 2):
        name = KeyName(kid, "support", "", generation)
        ledger.services.vault.destroy_keys(ledger.tenant, [name], when=now, cause="retention")
        ledger.keyring.forget(kid)
        assert facts_of(ledger, kid) == []
        assert take(ledger, record(at=now, note=f"again {generation}")).rejected == []
        assert notes(facts_of(ledger, kid)) == [f"again {generation}"]
        assert last_on(instance, ledger, kid, "support", generation + 1) == now.date()
    found = ledger.services.vault.find(ledger.tenant, [KeyName(kid, "support"), KeyName(kid, "support", "", 3)])
    assert list(found.keys) == [KeyName(kid, "support", "", 3)]


# Repetitions ---------------------------------------------------------------------------------------------------------


def test_a_part_is_written_once(ledger: Ledger) -> None:
    """Given a chunk under an idempotent part, when it comes again, then it is answered again and written once."""
    add(ledger, [ANNA])
    part = IdempotentPart.of(ledger.tenant, "test", "retry-1", b"content")
    chunk = [(4, record()), (7, record(email=NOBODY_WE_KNOW))]
    first = ledger.records.record(chunk, actor="cli", part=part)
    end = ledger.log.max_notification_id()
    second = ledger.records.record(chunk, actor="cli", part=part)
    assert (first.repeated, second.repeated) == (False, True)
    assert second.rejected == first.rejected == [(7, NO_SUCH_CONTACT)]
    assert (second.recorded, second.first, second.last) == (1, end, end)
    assert ledger.log.max_notification_id() == end
    other = IdempotentPart.of(ledger.tenant, "test", "retry-1", b"other content")
    with pytest.raises(IdempotencyMismatch):
        ledger.records.record(chunk, actor="cli", part=other)


def test_a_repetition_after_an_erasure_brings_nothing_back(ledger: Ledger) -> None:
    """Given a recorded part, when its person is erased and it comes again, then it is answered and writes nothing."""
    add(ledger, [ANNA])
    part = IdempotentPart.of(ledger.tenant, "test", "retry-1", b"content")
    first = ledger.records.record([(0, record())], actor="cli", part=part)
    erase_person(ledger, ANNA)
    end = ledger.log.max_notification_id()
    assert ledger.records.record([(0, record())], actor="cli", part=part).recorded == first.recorded
    assert ledger.log.max_notification_id() == end


# Erasure -------------------------------------------------------------------------------------------------------------


def test_after_an_erasure_billing_is_kept_and_the_rest_is_gone(ledger: Ledger) -> None:
    """Given every kind of record, when the person is erased, then only billing is found from its row, and opens."""
    add(ledger, [ANNA])
    take(ledger, *(record(c, note=c) for c in RECORD_CLASSES))
    kid = kid_of(ledger)
    streams = ledger.records.streams.of(kid)
    assert kid == erase_person(ledger, ANNA)
    assert notes(facts_of(ledger, kid)) == ["billing"]
    facts = [ledger.sealing.open(e, streams[stream_of(e)]) for e in ledger.log.select_streams(list(streams))]
    assert len(facts) == len(RECORD_CLASSES)
    gone = [f for f in facts if isinstance(getattr(f, "content"), Erased)]  # noqa: B009  The base has no content.
    assert {f.TOPIC for f in facts} - {f.TOPIC for f in gone} == {FACT_OF_CLASS["billing"].TOPIC}
    due = ledger.services.vault.keys_due(ledger.tenant, "billing", ledger.clock().date())
    assert [key.holder for key in due] == [kid]


def test_an_erased_person_gets_nothing_more(ledger: Ledger) -> None:
    """Given an intended erasure, when a record about them arrives, then it is refused; who comes back is new."""
    add(ledger, [ANNA])
    take(ledger, record("billing", note="before"))
    kid = kid_of(ledger)
    erase_person(ledger, ANNA)
    assert take(ledger, record("billing")).rejected == [(0, NO_SUCH_CONTACT)]
    add(ledger, [ANNA])
    assert take(ledger, record("billing", note="after")).rejected == []
    assert kid_of(ledger) != kid
    assert notes(facts_of(ledger, kid)) == ["before"]
    assert notes(facts_of(ledger, kid_of(ledger))) == ["after"]


@pytest.mark.parametrize("comes_back", [False, True])
def test_an_erasure_between_preparing_and_the_lock_wins(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, comes_back: bool
) -> None:
    """Given a record that is sealed already, when its person is erased before the lock, then it is not written (8)."""
    add(ledger, [ANNA, BERT])
    before_lock(ledger, monkeypatch, lambda: (erase_person(ledger, ANNA), comes_back and add(ledger, [ANNA])))
    answer = ledger.records.record([(0, record("billing")), (1, record("billing", BERT))], actor="cli")
    assert answer.recorded == 1
    code = "contact_changed" if comes_back else "unknown_recipient"
    assert [(index, reason.partition(":")[0]) for index, reason in answer.rejected] == [(0, code)]
    assert topics(ledger).count(FACT_OF_CLASS["billing"].TOPIC) == 1


def test_a_key_that_went_between_preparing_and_the_lock(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a record that is sealed already, when its key expires before the lock, then it is named."""
    add(ledger, [ANNA])
    take(ledger, record(note="old"))
    kid, vault = kid_of(ledger), ledger.services.vault
    before_lock(
        ledger,
        monkeypatch,
        lambda: vault.destroy_keys(ledger.tenant, [KeyName(kid, "support")], when=ledger.clock(), cause="retention"),
    )
    assert take(ledger, record(note="new")).rejected == [(0, KEY_WENT)]
    assert take(ledger, record(note="new")).recorded == 1
    assert notes(facts_of(ledger, kid)) == ["new"]


def test_a_person_whose_record_keys_were_all_destroyed_is_named(ledger: Ledger) -> None:
    """Given a living person all of whose record keys went for good, then a record is refused and makes no key (I5)."""
    add(ledger, [ANNA])
    kid = kid_of(ledger)
    ledger.services.vault.destroy_holder(
        ledger.tenant, kid, when=ledger.clock(), cause="subject_request", certificate=None
    )
    assert take(ledger, record()).rejected == [(0, KEYS_GONE)]
    assert ledger.records.streams.of(kid) == {}


def test_the_records_kid_dies_with_the_identity_key(ledger: Ledger) -> None:
    """Given a person, then the records kid is computed from their identity key alone, and from nothing that is kept."""
    add(ledger, [ANNA])
    row = person(ledger, ANNA).person
    name = KeyName(row.kid, "identity")
    assert records_kid_of(ledger.keyring.find([name]).keys[name]) == row.records_kid
    erase_person(ledger, ANNA)
    assert ledger.services.vault.find(ledger.tenant, [name]).keys == {}


def test_two_tenants_do_not_see_each_others_records(instance: Instance, ledger: Ledger) -> None:
    """Given the same address in two accounts, then neither finds the other's records (I10)."""
    other = instance.ledger(uuid4())
    other.open_account(name="Other", pack="mailkai", country="DE", minimum_age=16, actor="cli")
    for each in (ledger, other):
        add(each, [ANNA])
    take(ledger, record(note="ours"))
    assert search(other, Question(email=ANNA, kinds=["record"]), opened=True).events == []
    assert other.records.streams.of(kid_of(ledger)) == {}


def test_no_value_of_a_record_stands_in_the_clear(server: EmbeddedPostgres, ledger: Ledger) -> None:
    """Given a record with a canary, then no row of the log shows it (I4)."""
    add(ledger, [ANNA])
    take(ledger, record(note="canary-of-records"), record("error_log", None, note="canary-of-records"))
    for event in ledger.log.select_log(1, 1000):
        assert b"canary-of-records" not in bytes(event.state) + (event.sealed or b"")


def before_lock(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Let something happen once, between preparing and the next lock of the records' desk."""
    prepare = ledger.records._prepare
    done: list[object] = []

    def prepared(*arguments: object) -> object:
        ready = prepare(*arguments)  # type: ignore[arg-type]  # The desk's own arguments, passed on.
        if not done:
            done.append(happens())
        return ready

    monkeypatch.setattr(ledger.records, "_prepare", prepared)
