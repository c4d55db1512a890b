"""Certificates of destruction: two stages, signed, checked without us, and leading nowhere (DESIGN section 6)."""

from __future__ import annotations

import base64
import copy
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import psycopg
import pytest

from api.bootstrap import Instance
from audit.fsck import require_whole_log
from domain.keys import CertificateIssued
from domain.personal import Erased
from domain.records import Record
from ledger.application import Ledger
from ledger.certificate_format import CertificateRefused, checked_certificate, digest_of
from ledger.keys.names import TENANT_HOLDER, KeyName
from ledger.signing import SignatureRefused, verify_key
from ledger.standing_row import StandingRow
from retention.certificates.store import Certificate, UnknownCertificate, certificate, exported
from retention.daily import run_daily
from retention.erasure import days as erasure_days
from retention.erasure.days import complete_certificates, settle_erasures
from retention.erasure.erasing import finish_erasures
from retention.horizon.horizon import Horizon
from tests.acts import ask, emails, person, register, report, stream_of, willing
from tests.kills import killed_at
from tests.rolls import new_account
from tests.support import SettableClock

pytestmark = pytest.mark.store

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
TODAY = NOON.date()
PEOPLE = emails(6)
ANNA = PEOPLE[0]


@pytest.fixture
def clock(clock: SettableClock) -> SettableClock:
    """Noon of a day, standing still."""
    clock.set(NOON)
    return clock


@pytest.fixture
def peopled(clock: SettableClock, ledger: Ledger) -> Ledger:
    """An account at noon, with six persons who agreed and were mailed once."""
    willing(ledger, PEOPLE)
    tokens = ask(ledger, register(ledger), PEOPLE).allowed
    report(ledger, [(tokens[ANNA], "clicked")], at=NOON, ip="192.0.2.1", url="https://example.com/")
    return ledger


def erase(ledger: Ledger, *addresses: str, reason: str = "subject_request") -> list[UUID]:
    """Erase persons to the end; returns the ids of their erasures."""
    statuses = ledger.erasures.intend(list(addresses), reason=reason, actor="cli")
    finish_erasures(ledger)
    return [status.erasure_id for status in statuses]


def days_later(ledger: Ledger, clock: SettableClock, days: int) -> None:
    """The daily chores, so many days later."""
    clock.advance(timedelta(days=days))
    run_daily(ledger)


def document_of(ledger: Ledger, certificate_or_erasure: UUID) -> Any:
    return certificate(ledger, certificate_or_erasure).document


def issued(ledger: Ledger) -> list[CertificateIssued]:
    found = [ledger.sealing.open(event) for event in ledger.log.select_log(1, 10_000)]
    return [fact for fact in found if isinstance(fact, CertificateIssued)]


# Stage 1 --------------------------------------------------------------------------------------------------------------


def test_an_erasure_is_certified_at_once(peopled: Ledger) -> None:
    """Given an erasure, when its keys are gone, then its certificate says unreachable, and until when backups may."""
    (erasure_id,) = erase(peopled, ANNA)
    held = certificate(peopled, erasure_id)
    said = held.document
    assert (said["stage"], said["revision"], said["unreachable_from"]) == (1, 1, "2026-11-21")
    assert said["unrecoverable_from"] is None
    horizon = peopled.services.epochs.horizon(NOON).isoformat()
    assert said["horizon"] == horizon
    assert "Unreachable from 2026-11-21" in said["statements"][0]
    assert horizon in said["statements"][1]
    about = said["about"]
    assert (about["cause"], about["reason"], about["asked_on"]) == ("erasure", "subject_request", "2026-11-21")
    assert (about["pack"], about["pack_version"], about["clauses"]) == ("mailkai", 1, ["10.1", "10.2", "11"])
    assert [row["place"] for row in said["copies"]] == list(peopled.services.vault.provider.copies())
    assert {row["artefact"] for row in said["inventory"]} >= {"event log", "vault: backups", "mail that was delivered"}
    assert said["id"] != str(erasure_id)
    status = peopled.erasures.status(erasure_id)[0]
    assert status.certificate_id == held.certificate_id


def test_every_step_acknowledges_until_the_day_is_over(peopled: Ledger, clock: SettableClock) -> None:
    """Given an erasure, when it is looked at, then each step says when it was done and how much; next day none does."""
    (erasure_id,) = erase(peopled, ANNA)
    steps = peopled.erasures.status(erasure_id)[0].steps
    assert steps.keys() == {"addresses", "keys", "records", "leases", "change_feed", "opening"}
    assert steps["addresses"][1] == 1
    assert steps["keys"][1] == 5
    assert steps["opening"][1] > 0
    assert all(at == "2026-11-21T12:00:00.000000Z" for at, _ in steps.values())
    days_later(peopled, clock, 1)
    status = peopled.erasures.status(erasure_id)[0]
    assert status.steps == {}
    assert status.requested_at == status.finished_at == datetime(2026, 11, 21, tzinfo=UTC)


def test_billing_is_kept_and_said_so(peopled: Ledger, clock: SettableClock) -> None:
    """Given a person with a bill, when they are erased, then it is kept under its limb, by a new holder."""
    records = [Record("billing", {"note": "invoice 7"}, "invoice", ANNA, NOON)]
    records.append(Record("support", {"note": "hello"}, "ticket", ANNA, NOON))
    peopled.records.take(records, actor="cli")
    who = person(peopled, ANNA).person
    (bill,) = peopled.records.streams.of(who.records_kid, ["billing"])
    before = holders(peopled, "billing")
    (erasure_id,) = erase(peopled, ANNA)
    (other,) = erase(peopled, PEOPLE[1])
    assert [row["class"] for row in document_of(peopled, erasure_id)["kept"]] == ["suppression", "billing"]
    assert document_of(peopled, erasure_id)["kept"][1]["limb"] == "GDPR Art. 17(3)(b)"
    assert [row["class"] for row in document_of(peopled, other)["kept"]] == ["suppression"]
    assert before == {who.records_kid}
    (new_holder,) = holders(peopled, "billing")
    assert new_holder not in (who.records_kid, who.kid)
    assert peopled.records.streams.of(who.records_kid) == {}
    (found,) = peopled.records.streams.of(new_holder, ["billing"]).items()
    assert found[0] == bill
    (stored,) = peopled.log.select_streams([bill])
    assert peopled.sealing.open(stored, found[1]).content.reveal() == {"note": "invoice 7"}  # type: ignore[attr-defined]
    tombstones = peopled.services.vault.find(peopled.tenant, [KeyName(who.records_kid, "support")]).tombstones
    assert len(tombstones) == 1


def holders(ledger: Ledger, retention_class: str) -> set[bytes]:
    with ledger.services.vault.pool.transaction() as connection:
        select = "SELECT holder FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND class = %s AND period = ''"
        return {bytes(row[0]) for row in connection.execute(select, (ledger.tenant, retention_class))}


def test_a_kept_bill_keeps_its_clock_and_its_commitment(peopled: Ledger, clock: SettableClock) -> None:
    """Given a bill kept from an erasure, when its key is looked at, then its days and commitment are its own."""
    peopled.records.take([Record("billing", {"note": "x"}, "invoice", ANNA, NOON)], actor="cli")
    before = clocks(peopled, "billing")
    clock.advance(timedelta(days=40))
    erase(peopled, ANNA)
    assert clocks(peopled, "billing") == before


def clocks(ledger: Ledger, retention_class: str) -> list[Any]:
    with ledger.services.vault.pool.transaction() as connection:
        select = """
        SELECT created_at, created_on, last_on, commitment FROM lethe_vault.wrapped_key
        WHERE tenant_id = %s AND class = %s AND holder <> ''
        """
        return connection.execute(select, (ledger.tenant, retention_class)).fetchall()


def test_what_opens_still_names_a_day_and_no_certificate(peopled: Ledger) -> None:
    """Given an erased person's stream, when it is opened, then `Erased` names the day of the erasure, and nobody."""
    row = person(peopled, ANNA)
    erase(peopled, ANNA)
    gone = [value for fact in stream_of(peopled, row) for value in vars(fact).values() if isinstance(value, Erased)]
    assert gone
    assert {value.certificate for value in gone} == {"erasures of 2026-11-21"}


@pytest.mark.parametrize("kind", ["unknown", "nothing held"])
def test_there_is_no_certificate_where_no_key_went(peopled: Ledger, kind: str) -> None:
    """Given an id that is nobody's, or an address that was not held, when it is asked for, then it says why."""
    (wanted,) = erase(peopled, "ghost@example.com") if kind == "nothing held" else [uuid4()]
    with pytest.raises(UnknownCertificate, match="Nothing was held" if kind == "nothing held" else "no certificate"):
        certificate(peopled, wanted)


def test_another_account_does_not_see_it(instance: Instance, peopled: Ledger) -> None:
    """Given a certificate, when another account asks for it by either id, then there is none (I10)."""
    (erasure_id,) = erase(peopled, ANNA)
    stranger = new_account(instance)
    for wanted in (erasure_id, certificate(peopled, erasure_id).certificate_id):
        with pytest.raises(UnknownCertificate):
            certificate(stranger, wanted)


# The day is over ------------------------------------------------------------------------------------------------------


def test_when_the_day_is_over_the_keys_are_listed(peopled: Ledger, clock: SettableClock) -> None:
    """Given three erasures of a day, when it is over, then they share one list, in the log, and it checks offline."""
    erased = erase(peopled, *PEOPLE[:3])
    before = [orjson.dumps(exported(peopled, certificate(peopled, one))) for one in erased]
    days_later(peopled, clock, 1)
    public = verify_key(peopled.keyring)
    lists = set()
    for one in erased:
        held = certificate(peopled, one)
        said = checked_certificate(orjson.dumps(exported(peopled, held)), public)
        assert (said["stage"], said["revision"], said["issued_on"]) == (1, 2, "2026-11-22")
        assert (said["keys"]["list"]["erasures"], said["keys"]["list"]["keys"]) == (3, 11)
        lists.add(said["keys"]["list"]["id"])
        assert "3 erasures together" in said["still_possible"][0]
    assert len(lists) == 1
    facts = issued(peopled)
    assert {(f.originator_id, f.stage, f.digest) for f in facts} == {
        (held.certificate_id, 1, digest_of(held.document)) for held in (certificate(peopled, one) for one in erased)
    }
    for content in before:  # The first revision stays true, and verifies.
        assert checked_certificate(content, public)["revision"] == 1
    require_whole_log(peopled.services.writer.url, peopled.tenant)


def test_each_listed_key_was_published_on_its_day(peopled: Ledger, clock: SettableClock) -> None:
    """Given keys of two days, when their person is erased on a third, then each is under its day's root."""
    clock.advance(timedelta(days=3))
    tokens = ask(peopled, register(peopled), [PEOPLE[1]]).allowed
    report(peopled, [(tokens[PEOPLE[1]], "opened")], at=clock(), ip="192.0.2.2")
    days_later(peopled, clock, 2)
    (erasure_id,) = erase(peopled, PEOPLE[1])
    days_later(peopled, clock, 1)
    keys = exported(peopled, certificate(peopled, erasure_id))["destroyed_keys"]
    assert {key["made_on"] for key in keys["keys"]} == {"2026-11-21", "2026-11-24"} == keys["published"].keys()
    assert all(key["index"] is not None for key in keys["keys"])
    log = {event.position: event for event in peopled.log.select_log(1, 10_000)}
    for day, told in keys["published"].items():
        fact: Any = peopled.sealing.open(log[told["position"]])
        assert (fact.TOPIC, fact.day, fact.count, fact.root) == (
            "keys.committed.v1",
            day,
            told["count"],
            told["root"],
        )


def test_a_crowd_is_divided_by_lot(peopled: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given more erasures on a day than fit one list, when it is over, then they share even lists, each of several."""
    monkeypatch.setattr(erasure_days, "ERASURES_PER_LIST", 3)
    erased = erase(peopled, *PEOPLE[:5])
    clock.advance(timedelta(days=1))
    run_daily(peopled)
    named = [document_of(peopled, one)["keys"]["list"] for one in erased]
    assert sorted({one["id"]: one["erasures"] for one in named}.values()) == [2, 3]


def test_settling_again_changes_nothing(peopled: Ledger, clock: SettableClock) -> None:
    """Given a settled day, when the chore runs again, then certificates, bookmarks and log are as they were."""
    erased = erase(peopled, *PEOPLE[:2])
    days_later(peopled, clock, 1)
    before = [certificate(peopled, one) for one in erased], peopled.log.max_notification_id()
    assert settle_erasures(peopled, clock()) == []
    assert complete_certificates(peopled, clock()) == 0
    assert ([certificate(peopled, one) for one in erased], peopled.log.max_notification_id()) == before


@pytest.mark.parametrize("step", ["destroyed_list", "insert_list", "replace_certificates", "record_issued", "_silence"])
@pytest.mark.parametrize("after", [False, True])
def test_killed_while_settling_it_converges(
    peopled: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    """Given a chore cut off before or after a step, when it runs again, then each certificate was issued once."""
    erased = erase(peopled, *PEOPLE[:2])
    clock.advance(timedelta(days=1))
    with killed_at(monkeypatch, erasure_days, step, after=after):
        run_daily(peopled)
    run_daily(peopled)
    public = verify_key(peopled.keyring)
    for one in erased:
        said = checked_certificate(orjson.dumps(exported(peopled, certificate(peopled, one))), public)
        assert (said["revision"], said["keys"]["list"]["erasures"]) == (2, 2)
    assert len(issued(peopled)) == 2
    assert telling_tombstones(peopled) == 0


def telling_tombstones(ledger: Ledger) -> int:
    """How many tombstones of persons still tell which keys went."""
    with ledger.services.vault.pool.transaction() as connection:
        select = """
        SELECT count(*) FROM lethe_vault.tombstone
        WHERE tenant_id = %s AND certificate LIKE 'erasures of %%' AND destroyed <> '{}'
        """
        row = connection.execute(select, (ledger.tenant,)).fetchone()
    assert row is not None
    return int(row[0])


def test_tombstones_forget_which_keys_went_and_still_forbid_them(peopled: Ledger, clock: SettableClock) -> None:
    """Given a settled day, when its tombstones are read, then they name no key any more, and none is made again."""
    kid = person(peopled, ANNA).person.kid
    erase(peopled, ANNA)
    assert telling_tombstones(peopled) > 0
    days_later(peopled, clock, 1)
    assert telling_tombstones(peopled) == 0
    found = peopled.services.vault.find(peopled.tenant, [KeyName(kid, "identity")])
    assert found.keys == {}
    assert len(found.tombstones) == 1


def test_an_unfinished_erasure_keeps_the_tombstones_telling(
    peopled: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a saga cut off after the keys went, when days pass, then its keys are still listed once it is finished."""
    (status,) = peopled.erasures.intend([ANNA], reason="other", actor="cli")
    with killed_at(monkeypatch, type(peopled.keyring), "forget"):
        finish_erasures(peopled)
    days_later(peopled, clock, 2)
    assert telling_tombstones(peopled) > 0
    finish_erasures(peopled)
    assert document_of(peopled, status.erasure_id)["unreachable_from"] == "2026-11-21"
    days_later(peopled, clock, 1)
    said = document_of(peopled, status.erasure_id)
    assert (said["keys"]["list"]["day"], said["keys"]["list"]["keys"]) == ("2026-11-21", 5)
    assert telling_tombstones(peopled) == 0


# Stage 2 --------------------------------------------------------------------------------------------------------------


def test_stage_two_follows_when_the_epoch_keys_are_gone(own_instance: Instance, clock: SettableClock) -> None:
    """Given a certificate, when the epoch keys of its time are destroyed on their day, then it says unrecoverable."""
    clock.set(NOON)
    ledger = new_account(own_instance)
    willing(ledger, PEOPLE)
    (erasure_id,) = erase(ledger, ANNA)
    stated = date.fromisoformat(document_of(ledger, erasure_id)["horizon"])
    horizon = Horizon(own_instance.services)
    while clock().date() < stated:
        horizon.run_due()
        run_daily(ledger)
        said = document_of(ledger, erasure_id)
        assert (said["stage"], said["unrecoverable_from"]) == (1, None), clock()
        clock.advance(timedelta(days=1))
    horizon.run_due()
    run_daily(ledger)
    held = certificate(ledger, erasure_id)
    said = checked_certificate(orjson.dumps(exported(ledger, held)), verify_key(ledger.keyring))
    assert (said["stage"], said["revision"]) == (2, 3)
    assert said["unrecoverable_from"] == stated.isoformat() == said["horizon"]
    assert "Unrecoverable from the enumerated copies from" in said["statements"][1]
    assert {row["place"] for row in said["copies"]} == set(own_instance.services.vault.provider.copies())
    assert all(row["method"] and row["gone_from"] for row in said["copies"])
    assert [(fact.stage, fact.digest) for fact in issued(ledger)][-1] == (2, digest_of(held.document))
    assert complete_certificates(ledger, clock()) == 0


# Checked without us ---------------------------------------------------------------------------------------------------


@pytest.fixture
def document(peopled: Ledger, clock: SettableClock) -> tuple[Any, bytes]:
    """An exported certificate with its list, and the account's public key."""
    erased = erase(peopled, *PEOPLE[:3])
    days_later(peopled, clock, 1)
    return exported(peopled, certificate(peopled, erased[0])), verify_key(peopled.keyring)


def set_in(*path: Any) -> Callable[[Any], None]:
    """A change of one place of a document; the last of `path` is the new value."""
    *way, name, value = path

    def change(held: Any) -> None:
        for step in way:
            held = held[step]
        held[name] = value

    return change


@pytest.mark.parametrize(
    "lie",
    [
        set_in("certificate", "unreachable_from", "2026-11-20"),
        set_in("certificate", "statements", 0, "Nothing was ever held."),
        set_in("certificate", "kept", []),
        set_in("certificate", "stage", 2),
        set_in("certificate", "signer", "public_key", "00" * 32),
        set_in("signature", "00" * 64),
        set_in("signature", "not hex"),
        set_in("certificate", "format", "another"),
        set_in("certificate", "version", 2),
        set_in("certificate", None),
        set_in("destroyed_keys", None),
        set_in("destroyed_keys", "keys", 0, "commitment", "00" * 32),
        set_in("destroyed_keys", "keys", 0, "class", "billing"),
        set_in("destroyed_keys", "keys", 0, "index", None),
        set_in("destroyed_keys", "keys", 0, "path", 0, "00" * 32),
        set_in("destroyed_keys", "published", "2026-11-21", "root", "00" * 32),
        set_in("destroyed_keys", "erasures", 900),
    ],
)
def test_every_lie_is_refused(document: tuple[Any, bytes], lie: Callable[[Any], None]) -> None:
    """Given a true certificate, when any part of it or of its list is changed, then checking it raises."""
    held, public = document
    checked_certificate(orjson.dumps(held), public)
    changed = copy.deepcopy(held)
    lie(changed)
    with pytest.raises((CertificateRefused, SignatureRefused)):
        checked_certificate(orjson.dumps(changed), public)


def test_a_path_that_we_ourselves_got_wrong_is_found(
    peopled: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a list that was signed with a wrong root in it, when it is checked, then the signature does not save it."""
    (erasure_id,) = erase(peopled, ANNA)
    clock.advance(timedelta(days=1))
    monkeypatch.setattr(
        "retention.erasure.destroyed_lists._published",
        lambda one: {"count": one.keys, "root": "11" * 32, "position": one.position},
    )
    run_daily(peopled)
    content = orjson.dumps(exported(peopled, certificate(peopled, erasure_id)))
    with pytest.raises(CertificateRefused, match="was not published"):
        checked_certificate(content, verify_key(peopled.keyring))


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b"null", b'{"certificate": {}, "signature": ""}'])
def test_what_is_no_certificate_is_refused(content: bytes) -> None:
    """Given bytes that are no certificate, when they are checked, then they are refused in words."""
    with pytest.raises(CertificateRefused, match="no certificate"):
        checked_certificate(content, bytes(32))


def test_anothers_certificate_is_refused(instance: Instance, document: tuple[Any, bytes]) -> None:
    """Given a true certificate, when it is checked with the key of another account, then it is refused."""
    held, _ = document
    with pytest.raises(SignatureRefused):
        checked_certificate(orjson.dumps(held), verify_key(new_account(instance).keyring))


# What must not be in it -----------------------------------------------------------------------------------------------


def encodings(secret: bytes) -> set[str]:
    """A value as it could stand in a text: raw, hex, base64 at three offsets."""
    forms = {secret.hex(), secret.hex().upper(), secret.decode("latin-1")}
    for offset in range(3):
        text = base64.b64encode(bytes(offset) + secret).decode()
        forms |= {text[4 * bool(offset) : -4], text[4 * bool(offset) : -4].translate(str.maketrans("+/", "-_"))}
    return {form for form in forms if len(form) >= 8}


def secrets_of(ledger: Ledger, row: StandingRow) -> list[bytes]:
    """Everything that names or leads to a person: address, fingerprint, ids, kids, keys."""
    who = row.person
    names = [
        *(KeyName(who.kid, c) for c in ("identity", "consent", "link", "engagement")),
        KeyName(TENANT_HOLDER, "pepper"),
    ]
    keys = ledger.services.vault.find(ledger.tenant, names).keys.values()
    ids = [who.subject, who.kid, who.records_kid, who.handle, row.fingerprint, *keys]
    return [ANNA.encode(), b"Pat", b"192.0.2.1", *ids, str(UUID(bytes=who.subject)).encode()]


def test_there_is_nothing_personal_in_it(peopled: Ledger, clock: SettableClock) -> None:
    """Given everything that names a person, when all revisions are searched in every spelling, then none is there."""
    secrets = secrets_of(peopled, person(peopled, ANNA))
    assert len(secrets) > 12
    (erasure_id,) = erase(peopled, ANNA)
    texts = [orjson.dumps(exported(peopled, certificate(peopled, erasure_id))).decode()]
    days_later(peopled, clock, 1)
    texts.append(orjson.dumps(exported(peopled, certificate(peopled, erasure_id))).decode())
    found = [form for text in texts for secret in secrets for form in encodings(secret) if form in text]
    assert found == []
    planted = texts[1].replace("Unreachable", base64.b64encode(b"xy" + secrets[3]).decode())
    assert any(form in planted for form in encodings(secrets[3])), "The search finds what is planted."


def test_no_time_is_finer_than_a_day(peopled: Ledger, clock: SettableClock) -> None:
    """Given a settled erasure, when its document and rows are read, then no moment stands in them."""
    clock.advance(timedelta(microseconds=123_457))
    erased = erase(peopled, *PEOPLE[:2])
    first = orjson.dumps(exported(peopled, certificate(peopled, erased[0]))).decode()
    assert "12:00" not in first
    days_later(peopled, clock, 1)
    with psycopg.connect(peopled.services.writer.url, autocommit=True) as connection:
        for table in ("erasure", "certificate", "destruction_list"):
            rows = connection.execute(f"SELECT * FROM lethe.{table} WHERE tenant_id = %s", (peopled.tenant,)).fetchall()
            assert rows, table
            moments = [value for row in rows for value in row if isinstance(value, datetime)]
            assert all(moment.time().isoformat() == "00:00:00" for moment in moments), table
            assert not re.search(r"(\.|\d{10})123457", str(rows)), "As a fraction, or at the end of microseconds."


def test_nothing_tells_the_order_of_a_settled_day(peopled: Ledger, clock: SettableClock) -> None:
    """Given erasures one after the other, when their day is over, then one transaction and random ids order them."""
    for address in PEOPLE:
        erase(peopled, address)
    assert len(transactions(peopled, "certificate")) == len(PEOPLE)
    days_later(peopled, clock, 1)
    assert len(transactions(peopled, "erasure")) == len(transactions(peopled, "certificate")) == 1
    positions = [fact.position or 0 for fact in sorted(issued(peopled), key=lambda fact: fact.originator_id)]
    assert positions == list(range(positions[0], positions[0] + len(PEOPLE)))


def transactions(ledger: Ledger, table: str) -> set[str]:
    """Which transactions wrote the rows of a table."""
    with psycopg.connect(ledger.services.writer.url, autocommit=True) as connection:
        select = f"SELECT xmin::text FROM lethe.{table} WHERE tenant_id = %s"
        return {row[0] for row in connection.execute(select.encode(), (ledger.tenant,))}


def held_certificates(ledger: Ledger) -> list[Certificate]:
    with ledger.services.writer.transaction() as connection:
        ids = connection.execute("SELECT certificate_id FROM lethe.certificate WHERE tenant_id = %s", (ledger.tenant,))
        wanted = [row[0] for row in ids]
    return [certificate(ledger, one) for one in wanted]


def test_one_erasure_has_one_certificate(peopled: Ledger) -> None:
    """Given a person erased again and again, when certificates are counted, then there is one."""
    erase(peopled, ANNA)
    erase(peopled, ANNA)
    finish_erasures(peopled)
    assert len(held_certificates(peopled)) == 1


def test_sagas_at_the_same_time_issue_one_certificate(peopled: Ledger) -> None:
    """Given several workers that finish the same erasures at once, when all are done, then each has one certificate."""
    peopled.erasures.intend(PEOPLE[:3], reason="subject_request", actor="cli")
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: finish_erasures(peopled), range(4)))
    held = held_certificates(peopled)
    assert len(held) == 3
    assert {one.revision for one in held} == {1}
