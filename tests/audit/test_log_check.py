"""The log's checkers find what is wrong, and find nothing in a log that is whole (FAULTS 14, 18)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import Connection

from audit.log_check import check_log, check_no_send_after_no
from domain.subject_commands import LiftByHand, Restrict, SayNo
from ledger.application import Ledger
from ledger.embedded import EmbeddedPostgres
from ledger.subjects import Act
from ledger.suppressing import SuppressionRequest
from tests.acts import add, ask, emails, person, plant_send, register, report, say, willing
from tests.support import SettableClock

pytestmark = pytest.mark.store


@pytest.fixture
def superuser(server: EmbeddedPostgres, ledger: Ledger) -> Iterator[Connection[Any]]:
    """Somebody who may do anything to the ledger's database; depends on `ledger` for the schema to be there."""
    with psycopg.connect(server.url("lethe_ledger"), autocommit=True) as connection:
        yield connection


def lived_in(ledger: Ledger) -> tuple[list[str], UUID]:
    """A ledger with some of everything."""
    people = emails(20)
    willing(ledger, people)
    campaign = register(ledger)
    tokens = ask(ledger, campaign, people).allowed
    report(ledger, [(tokens[p], "delivered") for p in people[:10]])
    report(ledger, [(tokens[people[3]], "complained"), (tokens[people[4]], "unsubscribed")])
    ledger.erasures.intend([people[5]], reason="asked", actor="cli")
    return people, campaign


def test_a_log_that_is_whole_has_no_findings(ledger: Ledger, superuser: Connection[Any]) -> None:
    """Given a lived-in ledger, when it is checked, then nothing is found, by connection and by URL."""
    lived_in(ledger)
    assert check_log(superuser, ledger.tenant) == []
    assert check_log(ledger.services.writer.url, ledger.tenant) == []
    assert check_no_send_after_no(ledger) == []


def test_a_tenant_without_a_head_is_a_finding(superuser: Connection[Any]) -> None:
    """A log nobody opened is not silently whole."""
    assert [found.rule for found in check_log(superuser, uuid4())] == ["head"]


Damage = Callable[[Connection[Any], UUID], None]
SWAP_SEALED = """
UPDATE lethe.event AS e SET sealed = o.sealed FROM lethe.event AS o
WHERE e.tenant_id = %(t)s AND o.tenant_id = e.tenant_id AND e.position = 2 AND o.position = 3
"""
SWAP_ENTRIES = """
UPDATE lethe.event AS e SET entry = o.entry, sealed = o.sealed FROM lethe.event AS o
WHERE e.tenant_id = %(t)s AND o.tenant_id = e.tenant_id AND e.position = 2 AND o.position = 3
"""
DAMAGES = {
    "deleted in the middle": ("DELETE FROM lethe.event WHERE tenant_id = %(t)s AND position = 7", "gapless"),
    "cut off at the end": ("DELETE FROM lethe.event WHERE tenant_id = %(t)s AND position > 60", "head"),
    "head moved back": ("UPDATE lethe.head SET position = position - 1 WHERE tenant_id = %(t)s", "head"),
    "time turned back": (
        "UPDATE lethe.event SET recorded_at = '2001-01-01' WHERE tenant_id = %(t)s AND position = 9",
        "recorded_at",
    ),
    "row without its entry's time": (
        "UPDATE lethe.event SET recorded_at = recorded_at + interval '1 day' WHERE tenant_id = %(t)s AND position = 9",
        "place",
    ),
    "version skipped": (
        "UPDATE lethe.event SET version = version + 7 WHERE tenant_id = %(t)s AND position = 9",
        "versions",
    ),
    "stream renamed": (
        "UPDATE lethe.event SET stream_id = gen_random_uuid() WHERE tenant_id = %(t)s AND position = 9",
        "place",
    ),
    "topic renamed": (
        "UPDATE lethe.event SET topic = 'consent.refused.v1' WHERE tenant_id = %(t)s AND position = 9",
        "place",
    ),
    "sealed parts swapped": (SWAP_SEALED, "digest"),
    "sealed part dropped": ("UPDATE lethe.event SET sealed = NULL WHERE tenant_id = %(t)s AND position = 2", "digest"),
    "entries swapped": (SWAP_ENTRIES, "place"),
    "entry not canonical": (
        "UPDATE lethe.event SET entry = entry || ' '::bytea WHERE tenant_id = %(t)s AND position = 9",
        "canonical",
    ),
    "entry no JSON": (
        "UPDATE lethe.event SET entry = 'x'::bytea WHERE tenant_id = %(t)s AND position = 9",
        "digest",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_a_superuser_does_to_a_log_is_found(ledger: Ledger, superuser: Connection[Any], damage: str) -> None:
    """Given a whole log, when a superuser damages it past every right, then the damage is found by its rule."""
    lived_in(ledger)
    statement, rule = DAMAGES[damage]
    assert superuser.execute(statement, {"t": ledger.tenant}).rowcount >= 1
    assert rule in {found.rule for found in check_log(superuser, ledger.tenant)}


def test_duplicated_positions_are_found_across_pages(
    ledger: Ledger, superuser: Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that stands twice is found also where keyset pages would step over it."""
    monkeypatch.setattr("audit.log_check.ROWS_PER_PAGE", 5)
    lived_in(ledger)
    assert check_log(superuser, ledger.tenant) == []
    with superuser.transaction(force_rollback=True):
        superuser.execute("ALTER TABLE lethe.event DROP CONSTRAINT event_pkey")
        superuser.execute("ALTER TABLE lethe.event DROP CONSTRAINT event_tenant_id_stream_id_version_key")
        superuser.execute(
            "INSERT INTO lethe.event SELECT * FROM lethe.event WHERE tenant_id = %s AND position IN (5, 7)",
            (ledger.tenant,),
        )
        rules = [found.rule for found in check_log(superuser, ledger.tenant)]
    assert rules.count("gapless") >= 2
    assert "versions" in rules


NOES: dict[str, Callable[[Ledger, str], object]] = {
    "withdrawal": lambda ledger, who: say(ledger, [who], "withdraw"),
    "refusal": lambda ledger, who: say(ledger, [who], "refuse"),
    "objection": lambda ledger, who: ledger.act(Act(SayNo("objection", "marketing"), address=who)),
    "complaint": lambda ledger, who: ledger.act(Act(SayNo("complaint", "marketing"), address=who)),
    "hard bounce": lambda ledger, who: ledger.act(Act(SayNo("hard_bounce", "all"), address=who)),
    "unsubscribed": lambda ledger, who: ledger.act(Act(SayNo("unsubscribed", "purpose:newsletter"), address=who)),
    "manual": lambda ledger, who: ledger.act(Act(SayNo("manual", "all"), address=who)),
    "legal": lambda ledger, who: ledger.act(Act(SayNo("legal", "all"), address=who)),
    "restriction": lambda ledger, who: ledger.act(Act(Restrict(), address=who)),
}


@pytest.mark.parametrize("no", NOES)
def test_a_send_after_a_no_is_found(ledger: Ledger, no: str) -> None:
    """Given each kind of "no", when a send is planted behind it, then it is found; one planted before is not."""
    people = emails(3)
    willing(ledger, people)
    campaign = register(ledger)
    plant_send(ledger, people[0], campaign)
    NOES[no](ledger, people[0])
    assert check_no_send_after_no(ledger) == []
    planted = plant_send(ledger, people[0], campaign)
    assert [found.position for found in check_no_send_after_no(ledger)] == [planted]


def test_a_send_after_an_erasure_is_found_for_a_remembered_person(ledger: Ledger) -> None:
    """A message of an erased person is found only by who remembers them; then it is a finding."""
    people = emails(2)
    willing(ledger, people)
    campaign = register(ledger)
    remembered = person(ledger, people[0])
    ledger.erasures.intend([people[0]], reason="asked", actor="cli")
    assert check_no_send_after_no(ledger, also=[remembered]) == []
    planted = plant_send(ledger, remembered, campaign)
    assert check_no_send_after_no(ledger) == []
    assert {found.position for found in check_no_send_after_no(ledger, also=[remembered])} == {planted}


def test_a_later_evidenced_grant_allows_its_purpose_again(ledger: Ledger) -> None:
    """Given a "no", when the person agrees again with evidence, then sends for that purpose alone are no findings."""
    people = emails(1)
    willing(ledger, people)
    news, offers = register(ledger), register(ledger, purpose="offers")
    ledger.act(Act(SayNo("objection", "marketing"), address=people[0]))
    say(ledger, people, "grant")
    plant_send(ledger, people[0], news)
    assert check_no_send_after_no(ledger) == []
    planted = plant_send(ledger, people[0], offers)
    assert [found.position for found in check_no_send_after_no(ledger)] == [planted]


def test_what_does_not_lift_a_no_is_no_excuse(ledger: Ledger, clock: SettableClock) -> None:
    """Given a complaint, when a grant comes without evidence or with an import, then a send behind it is found."""
    people = emails(2)
    willing(ledger, people)
    campaign = register(ledger)
    for who in people:
        ledger.act(Act(SayNo("complaint", "marketing"), address=who))
    say(ledger, people[:1], "grant", evidence=None)
    say(ledger, people[1:], "grant", imported=True)
    planted = [plant_send(ledger, who, campaign) for who in people]
    assert sorted(found.position for found in check_no_send_after_no(ledger)) == planted


def test_a_suppression_by_hand_counts_until_it_is_lifted(ledger: Ledger) -> None:
    """Given a manual suppression, when it is lifted, then sends behind the lifting are no findings."""
    people = emails(1)
    willing(ledger, people)
    campaign = register(ledger)
    ledger.act(Act(SayNo("manual", "all"), address=people[0]))
    first = plant_send(ledger, people[0], campaign)
    ledger.act(Act(LiftByHand("all"), address=people[0]))
    plant_send(ledger, people[0], campaign)
    assert [found.position for found in check_no_send_after_no(ledger)] == [first]


def test_the_list_counts_for_who_is_added_later(ledger: Ledger) -> None:
    """Given an address suppressed before it had a person, when a send is planted for that person, then it is found."""
    ledger.suppressions.impose([SuppressionRequest("person0@example.com", "complaint", "marketing")], actor="cli")
    add(ledger, emails(1))
    planted = plant_send(ledger, "person0@example.com", register(ledger))
    assert [found.position for found in check_no_send_after_no(ledger)] == [planted]
