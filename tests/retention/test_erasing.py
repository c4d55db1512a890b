"""Erasure: killed anywhere it converges, twice is once, and who comes back is somebody new (FAULTS 7, 9)."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import psycopg
import pytest

from api.bootstrap import Instance
from audit.fsck import require_whole_log
from domain.facts import personal_fields
from domain.personal import Erased, Personal
from domain.scope import Cause
from domain.subject_commands import AddContact, CommandRefused, CorrectContact, RecordConsent
from ledger.application import Ledger
from ledger.erasures import STATE_INTENDED, STATE_KEYS_DESTROYED, STATE_NOTHING_HELD, ErasureDesk
from ledger.errors import KeyDestroyed
from ledger.keys.keyring import Keyring
from ledger.keys.vault import KeyName, Vault
from ledger.mapper import SealingMapper
from ledger.recorder import TenantRecorder
from ledger.standing_row import StandingRow
from ledger.subjects import Act
from ledger.suppressing import SuppressionRequest
from projections.rebuild import rebuild
from retention.daily import run_daily
from retention.erasure import erasing
from retention.erasure.erasing import ErasureIncomplete, finish_erasures
from tests.acts import NEWSLETTER, add, ask, person, register, report, say, stream_of, topics, willing
from tests.kills import Killed, killed_at
from tests.support import SettableClock

pytestmark = pytest.mark.store

ANNA, BERT = "anna@example.com", "bert@example.com"


def intend(ledger: Ledger, *addresses: str) -> list[Any]:
    return ledger.erasures.intend(list(addresses), reason="subject_request", actor="cli")


def everything_of(ledger: Ledger, row: StandingRow) -> list[Any]:
    """All personal values of a person's stream that belong to them."""
    return [
        getattr(fact, name)
        for fact in stream_of(ledger, row)
        for name, retention_class in personal_fields(type(fact)).items()
        if retention_class not in fact.SEALED_BY
    ]


def assert_gone(ledger: Ledger, row: StandingRow) -> None:
    """The erasure is finished, once, and nothing of the person opens."""
    held = everything_of(ledger, row)
    assert held
    assert not any(isinstance(value, Personal) for value in held)
    assert any(isinstance(value, Erased) for value in held)
    facts = [fact.TOPIC for fact in stream_of(ledger, row)]
    assert facts.count("erasure.intended.v1") == facts.count("keys.destroyed.v1") == 1
    assert facts[-1] == "keys.destroyed.v1"
    assert ledger.erasures.unfinished(10) == []
    require_whole_log(ledger.services.writer.url, ledger.tenant)


def test_an_erased_person_cannot_be_read_mailed_or_written(ledger: Ledger) -> None:
    """Given a person with a life, when they are erased, then nothing opens, sends or seals for them."""
    willing(ledger, [ANNA, BERT])
    campaign = register(ledger)
    token = ask(ledger, campaign, [ANNA]).allowed[ANNA]
    report(ledger, [(token, "clicked")], ip="192.0.2.1", url="https://example.com/")
    row = person(ledger, ANNA)
    (status,) = intend(ledger, ANNA)
    assert status.state == STATE_INTENDED
    assert ledger.person(ANNA) is None
    assert ledger.check([(ANNA, NEWSLETTER, "email")])[0].rule == "erased"
    assert ask(ledger, campaign, [ANNA]).refused == {ANNA: "erased"}
    (outcome,) = finish_erasures(ledger)
    assert set(outcome.classes) == {"consent", "engagement", "engagement_technical", "identity", "link"}
    assert_gone(ledger, row)
    assert ledger.erasures.status(status.erasure_id)[0].state == STATE_KEYS_DESTROYED
    with pytest.raises(KeyDestroyed):
        ledger.keyring.ensure([KeyName(row.person.kid, "identity")])
    with pytest.raises(CommandRefused):
        ledger.act(Act(RecordConsent(NEWSLETTER, "email", "grant"), address=ANNA))
    assert isinstance(everything_of(ledger, person(ledger, BERT))[0], Personal)


BOUNDARIES: list[tuple[type, str, bool]] = [
    (Vault, "destroy_holder", False),
    (Vault, "destroy_holder", True),
    (Vault, "rehome", False),
    (Vault, "rehome", True),
    (ErasureDesk, "remember", False),
    (ErasureDesk, "remember", True),
    (ErasureDesk, "acknowledge", False),
    (ErasureDesk, "acknowledge", True),
    (Keyring, "forget", False),
    (TenantRecorder, "select_streams", False),
    (SealingMapper, "open", True),
    (ErasureDesk, "finish", False),
    (ErasureDesk, "finish", True),
]


@pytest.mark.parametrize(("owner", "step", "after"), BOUNDARIES)
def test_killed_at_any_step_it_converges(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, owner: type, step: str, after: bool
) -> None:
    """Given an erasure killed before or after a step, when it is run again, then it is finished, and done once."""
    willing(ledger, [ANNA])
    row = person(ledger, ANNA)
    intend(ledger, ANNA)
    for _ in range(2):
        with killed_at(monkeypatch, owner, step, after=after):
            finish_erasures(ledger)
    assert ledger.person(ANNA) is None
    finish_erasures(ledger)
    assert_gone(ledger, row)


def test_killed_after_the_last_commit_it_is_not_done_again(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given an erasure whose last acknowledgement was lost, when the saga runs again, then it finds nothing to do."""
    willing(ledger, [ANNA])
    row = person(ledger, ANNA)
    intend(ledger, ANNA)
    with killed_at(monkeypatch, erasing._Saga, "_conclude", after=True):
        finish_erasures(ledger)
    assert finish_erasures(ledger) == []
    assert_gone(ledger, row)


def test_an_intent_that_is_cut_off_never_was(ledger: Ledger) -> None:
    """Given an intent whose transaction fails at its end, when the person is looked at, then they live as before."""
    willing(ledger, [ANNA])
    before = topics(ledger)

    def cut(*_: Any) -> None:
        raise Killed

    with pytest.raises(Killed):
        ledger.erasures.intend([ANNA], reason="other", actor="cli", also=cut)
    assert topics(ledger) == before
    assert ledger.check([(ANNA, NEWSLETTER, "email")])[0].allowed
    assert ledger.erasures.unfinished(10) == []


def test_erasing_twice_is_erasing_once(ledger: Ledger) -> None:
    """Given an erased address, when it is erased again, before or after the keys went, then there is nothing held."""
    willing(ledger, [ANNA])
    row = person(ledger, ANNA)
    intend(ledger, ANNA, ANNA, "Anna@EXAMPLE.com")
    assert [status.state for status in intend(ledger, ANNA)] == [STATE_NOTHING_HELD]
    finish_erasures(ledger)
    assert [status.state for status in intend(ledger, ANNA)] == [STATE_NOTHING_HELD]
    assert finish_erasures(ledger) == []
    assert_gone(ledger, row)


def test_erasing_at_the_same_time_is_erasing_once(ledger: Ledger) -> None:
    """Given threads that intend and finish one person's erasure at once, when all are done, then it happened once."""
    willing(ledger, [ANNA])
    row = person(ledger, ANNA)

    def erase(_: int) -> str:
        (status,) = intend(ledger, ANNA)
        finish_erasures(ledger)
        return str(status.state)

    with ThreadPoolExecutor(6) as threads:
        states = sorted(threads.map(erase, range(6)))
    assert states == [STATE_INTENDED] + [STATE_NOTHING_HELD] * 5
    assert_gone(ledger, row)


def test_several_sagas_at_once_record_one_destruction(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given two workers that took the same unfinished erasure, when both finish it, then KeysDestroyed stands once."""
    willing(ledger, [ANNA])
    row = person(ledger, ANNA)
    intend(ledger, ANNA)
    (unfinished,) = ledger.erasures.unfinished(10)
    finish_erasures(ledger)
    monkeypatch.setattr(ledger.erasures, "unfinished", lambda limit: [unfinished])
    finish_erasures(ledger)
    monkeypatch.undo()
    assert_gone(ledger, row)


def test_who_comes_back_is_somebody_new(ledger: Ledger) -> None:
    """Given an erased person who registers again, when both incarnations are read, then they share no id and no key."""
    willing(ledger, [ANNA])
    before = person(ledger, ANNA)
    campaign = register(ledger, purpose="transactional:receipts")
    token = ask(ledger, campaign, [ANNA]).allowed[ANNA]
    intend(ledger, ANNA)
    finish_erasures(ledger)
    willing(ledger, [ANNA])
    after = person(ledger, ANNA)
    old, new = before.person, after.person
    assert {old.subject, old.kid, old.handle, old.link_key}.isdisjoint({new.subject, new.kid, new.handle, new.link_key})
    assert before.fingerprint == after.fingerprint
    assert ask(ledger, campaign, [ANNA]).allowed[ANNA] != token
    assert_gone(ledger, before)
    assert all(isinstance(value, Personal) for value in everything_of(ledger, after) if value is not None)


def test_no_import_lifts_an_erasure_and_a_later_evidenced_grant_does(ledger: Ledger, clock: SettableClock) -> None:
    """Given an erased person, when they are imported they stay unmailed; a new consent allows its purpose (I7)."""
    clock.set(clock())
    willing(ledger, [ANNA])
    old_consent = clock()
    intend(ledger, ANNA)
    finish_erasures(ledger)
    clock.advance(timedelta(hours=3))
    add(ledger, [ANNA], country="DE")
    news, offers = register(ledger), register(ledger, purpose="offers")
    for evidence, at, imported in (
        ({"method": "form"}, clock(), True),
        ({"method": "import"}, clock(), False),
        (None, clock(), False),
        ({"method": "form"}, old_consent, False),
    ):
        (outcome,) = say(ledger, [ANNA], "grant", evidence=evidence, at=at, imported=imported)
        assert [getattr(fact, "effective", None) for fact in outcome.facts] == [False]
        assert ask(ledger, news, [ANNA]).refused == {ANNA: "erased"}
    say(ledger, [ANNA], "grant")
    assert ask(ledger, news, [ANNA]).allowed
    assert ask(ledger, offers, [ANNA]).refused == {ANNA: "erased"}


@pytest.mark.parametrize(
    ("cause", "scope", "rule"),
    [
        ("legal", "all", "legal"),
        ("manual", "marketing", "manual"),
        ("manual", "purpose:newsletter", "manual"),
        # Only a double opt-in shows that a dead address lives; another grant has no force, and lifts no erasure either.
        ("hard_bounce", "all", "erased"),
    ],
)
def test_a_no_that_nobody_can_take_back_outlives_the_person(
    instance: Instance, ledger: Ledger, clock: SettableClock, cause: Cause, scope: str, rule: str
) -> None:
    """Given a "no" of staff, the law or a dead address, when its person is erased and back, then it stands (I7)."""
    willing(ledger, [ANNA])
    ledger.suppressions.impose([SuppressionRequest(ANNA, cause, scope)], actor="cli")
    intend(ledger, ANNA)
    finish_erasures(ledger)
    clock.advance(timedelta(days=1))
    add(ledger, [ANNA], country="DE")
    say(ledger, [ANNA], "grant", evidence={"method": "form"})

    def stands() -> bool:
        (looked,) = ledger.suppressions.look_up([ANNA])
        assert ask(ledger, register(ledger), [ANNA]).refused == {ANNA: rule}
        return (scope, cause) in [entry[:2] for entry in looked.entries]

    assert stands()
    run_daily(ledger)
    assert stands(), "The day's batch lists it as well."
    clock.advance(timedelta(days=9))
    run_daily(ledger)
    rebuild(ledger, instance.rebuilder, "standing", grace_seconds=0)
    assert stands(), "The list built from the log says the same."


@pytest.mark.parametrize("named", [ANNA, "anna.before@example.com", "anna.first@example.com"])
def test_erased_by_any_address_they_ever_had(ledger: Ledger, named: str) -> None:
    """Given a person who changed addresses twice, when they are erased by any of them, then all are unmailable."""
    addresses = ["anna.first@example.com", "anna.before@example.com", ANNA]
    willing(ledger, addresses[:1])
    for old, new in pairwise(addresses):
        ledger.act(Act(CorrectContact(email=new), address=old))
    row = person(ledger, ANNA)
    assert [status.state for status in intend(ledger, named)] == [STATE_INTENDED]
    finish_erasures(ledger)
    assert_gone(ledger, row)
    campaign = register(ledger)
    assert ask(ledger, campaign, addresses).refused == dict.fromkeys(addresses, "erased")
    add(ledger, addresses)
    assert ask(ledger, campaign, addresses).refused == dict.fromkeys(addresses, "erased")


def test_two_corrections_in_one_transaction_leave_no_address_behind(ledger: Ledger) -> None:
    """Given a person corrected twice at once, when they are erased, then the address in between is unmailable, too."""
    willing(ledger, [ANNA])
    steps = ["between@example.com", "last@example.com"]
    ledger.subjects.act([Act(CorrectContact(email=new), address=ANNA) for new in steps])
    assert ledger.person("between@example.com") == ledger.person(ANNA) == person(ledger, "last@example.com")
    intend(ledger, "between@example.com")
    finish_erasures(ledger)
    refused = ask(ledger, register(ledger), [ANNA, *steps]).refused
    assert refused == dict.fromkeys([ANNA, *steps], "erased")


def test_an_address_nobody_holds_is_suppressed_all_the_same(ledger: Ledger) -> None:
    """Given an address without a person, when it is erased, then nothing is held, and it stays unmailed."""
    (status,) = intend(ledger, BERT)
    assert (status.state, status.finished_at is not None) == (STATE_NOTHING_HELD, True)
    assert finish_erasures(ledger) == []
    add(ledger, [BERT])
    assert ask(ledger, register(ledger), [BERT]).refused == {BERT: "erased"}


def test_a_part_that_still_opens_keeps_the_saga_open(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given keys that were not destroyed, when the saga looks, then it says so, records nothing, and is tried again."""
    willing(ledger, [ANNA])
    row = person(ledger, ANNA)
    intend(ledger, ANNA)
    with monkeypatch.context() as patched:
        patched.setattr(Vault, "destroy_holder", lambda *_, **__: ())
        with pytest.raises(ErasureIncomplete):
            finish_erasures(ledger)
    assert topics(ledger)[-1] == "erasure.intended.v1"
    finish_erasures(ledger)
    assert_gone(ledger, row)


def test_the_bookmark_forgets_whose_erasure_it_was(ledger: Ledger) -> None:
    """Given a finished erasure, when its row is read, then it names nobody; before, it does so under a key only."""
    willing(ledger, [ANNA])
    row = person(ledger, ANNA)
    (status,) = intend(ledger, ANNA)
    held = bookmark(ledger, status.erasure_id)
    assert held is not None
    assert row.person.subject not in held
    assert row.person.kid not in held
    finish_erasures(ledger)
    assert bookmark(ledger, status.erasure_id) is None


def bookmark(ledger: Ledger, erasure_id: UUID) -> bytes | None:
    with psycopg.connect(ledger.services.writer.url) as connection:
        select = "SELECT reference FROM lethe.erasure WHERE tenant_id = %s AND erasure_id = %s"
        found = connection.execute(select, (ledger.tenant, erasure_id)).fetchone()
    assert found is not None
    return bytes(found[0]) if found[0] else None


def test_a_command_racing_the_intent_writes_before_it_or_not_at_all(ledger: Ledger) -> None:
    """Given commands that run against an erasure, when the stream is read, then no word of theirs stands behind it."""
    willing(ledger, [ANNA])
    row = person(ledger, ANNA)

    def speak(number: int) -> None:
        word = RecordConsent(f"topic{number}", "email", "withdraw", evidence={"form": "x"})
        with suppress(CommandRefused):
            ledger.act(Act(word, address=ANNA))

    with ThreadPoolExecutor(8) as threads:
        runs: list[Future[Any]] = [threads.submit(speak, n) for n in range(20)]
        runs.append(threads.submit(intend, ledger, ANNA))
        runs += [threads.submit(speak, n) for n in range(20, 40)]
        for run in runs:
            run.result(60)
    finish_erasures(ledger)
    assert [fact.TOPIC for fact in stream_of(ledger, row)][-2:] == ["erasure.intended.v1", "keys.destroyed.v1"]
    assert_gone(ledger, row)


def test_a_new_person_prepared_before_an_erasure_of_the_same_address(ledger: Ledger) -> None:
    """Given an import of an address, when it was erased a moment before, then the import makes somebody unmailable."""
    intend(ledger, ANNA)
    ledger.act(Act(AddContact(ANNA), address=ANNA))
    say(ledger, [ANNA], "grant", imported=True)
    assert ask(ledger, register(ledger), [ANNA]).refused == {ANNA: "erased"}
