"""What the log shows of processing: categories by their sealed parts, and recipients, by both of their days."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal
from uuid import uuid4

import orjson
import pytest

from api.bootstrap import Instance
from domain.facts import TOPICS
from domain.records import Record
from domain.register_shape import CATEGORIES_OF_DATA
from ledger.application import Ledger
from projections.observed import CATEGORY_OF_TOPIC, Counted, Seen, count, observed
from projections.rebuild import rebuild
from projections.tracking import all_tracked
from projections.worker import catch_up
from retention.erasure.erasing import finish_erasures
from tests.acts import ask, emails, register, report, say, willing
from tests.support import SettableClock

TODAY = date(2040, 3, 10)
NOON = datetime(2040, 3, 10, 12, tzinfo=UTC)

store = pytest.mark.store


def seen(ledger: Ledger, on: date = TODAY, meaning: Literal["recorded", "occurred"] = "recorded") -> Counted:
    """What was seen by the end of a day, everything taken in."""
    catch_up(ledger)
    return observed(ledger.services.reader, ledger.tenant, on, meaning)


def by_category(found: Counted) -> dict[str, int]:
    """Events by category."""
    total: dict[str, int] = {}
    for one in found.seen:
        if one.category:
            total[one.category] = total.get(one.category, 0) + one.count
    return total


def by_code(found: Counted) -> dict[str, Seen]:
    """Recipients by code."""
    return {one.code: one for one in found.seen if one.code}


def a_life(ledger: Ledger, clock: SettableClock) -> list[str]:
    """Three people who are mailed, two of whom click; a letter to support; one is erased."""
    clock.set(NOON)
    people = emails(3)
    willing(ledger, people)
    asked = ask(ledger, register(ledger), people)
    report(ledger, [(token, "dispatched") for token in asked.allowed.values()], at=clock())
    clicks = [(asked.allowed[email], "clicked") for email in people[:2]]
    report(ledger, clicks, at=clock(), ip="192.0.2.1", url="https://example.com/shoes")
    ledger.records.take([Record("support", {"letter": "hello"}, "ticket", people[0])], actor="cli")
    ledger.erasures.intend([people[2]], reason="asked", actor="cli")
    finish_erasures(ledger)
    return people


@store
def test_categories_and_recipients_are_seen(ledger: Ledger, clock: SettableClock) -> None:
    """Given lives in an account, then each category has its events, and each recipient what went there."""
    a_life(ledger, clock)
    ledger.record_export("person", "something", entries=1, opened=0, actor="cli")
    found = seen(ledger)
    assert found.position == ledger.log.max_notification_id()
    categories = by_category(found)
    assert categories["identity"] == 3
    assert categories["engagement"] == categories["engagement_technical"] == 2
    assert categories["link"] == 3 + 3 + 2, "Authorised, dispatched and clicked: all say that somebody was mailed."
    assert categories["support"] == 1
    assert categories["feed"] == 1
    assert categories["content"] >= 2
    assert "billing" not in categories
    assert {code: one.count for code, one in by_code(found).items()} == {
        "sender:cli": 3,
        "feed:senders": 1,
        "export:person": 1,
    }


@store
def test_days_are_those_of_both_times(ledger: Ledger, clock: SettableClock) -> None:
    """Given clicks of the 8th that were reported on the 10th, then the 9th knows nothing of them, and it was true."""
    clock.set(NOON - timedelta(days=3))
    people = emails(2)
    willing(ledger, people)
    asked = ask(ledger, register(ledger), people)
    clock.set(NOON)
    clicked = datetime(2040, 3, 8, 9, tzinfo=UTC)
    tokens = [(token, "clicked") for token in asked.allowed.values()]
    report(ledger, tokens, at=clicked, ip="192.0.2.1", url="https://example.com")
    the_9th = date(2040, 3, 9)
    assert "engagement" not in by_category(seen(ledger, the_9th))
    assert by_category(seen(ledger, the_9th, "occurred"))["engagement"] == 2
    (one,) = [s for s in seen(ledger).seen if s.category == "engagement"]
    assert (one.first_on, one.last_on) == (clicked.date(), clicked.date())
    opening = by_category(seen(ledger, date(2040, 3, 1), "occurred"))
    assert opening == {"content": 1}, "The account was opened before."


@store
def test_a_rebuilt_projection_equals_the_live_one(ledger: Ledger, instance: Instance, clock: SettableClock) -> None:
    """Given lives and an erasure, when the projection is built again, then it holds the same rows, and no others."""
    a_life(ledger, clock)
    before = seen(ledger)
    assert rows(ledger)
    held = rows(ledger)
    rebuild(ledger, instance.rebuilder, "observed", grace_seconds=0)
    assert rows(ledger) == held
    assert seen(ledger) == before
    with ledger.services.writer.transaction() as connection:
        generations = [t.generation for t, _ in all_tracked(connection, ledger.tenant) if t.projection == "observed"]
    assert generations == [2]
    (left,) = ledger_rows(ledger, "SELECT count(*) FROM lethe.observed_count WHERE tenant_id = %s AND generation = 1")
    assert left[0] == 0


@store
def test_one_account_sees_nothing_of_another(ledger: Ledger, clock: SettableClock) -> None:
    """Given another account, then its view holds none of these counts (I10)."""
    a_life(ledger, clock)
    assert seen(ledger).seen
    assert observed(ledger.services.reader, uuid4(), TODAY, "recorded") == Counted(0, ())


def test_the_days_are_read_from_the_entry_itself() -> None:
    """Given values that look like an entry's own fields, then the day, the parts and the actor are the entry's."""
    entry = {
        "actor": 'x","sealed":{"billing":"0"}',
        "id": "0",
        "occurred_at": "2040-03-08T09:00:00.000000Z",
        "plain": {
            "campaign": '"recorded_at":"1999-01-01"',
            "occurred_at": "1998-01-01",
            "recorded_at": "1997-01-01",
            "sealed": {"billing": "1"},
        },
        "recorded_at": "2040-03-10T12:00:00.000000Z",
        "sealed": {"engagement": "0", "engagement_technical": "1"},
        "stream": "0",
        "topic": "message.clicked.v1",
    }
    counts = count([(1, "message.clicked.v1", canonical(entry))])
    assert {key[1] for key in counts} == {"engagement", "engagement_technical", "link"}
    assert {key[3:] for key in counts} == {("2040-03-10", "2040-03-08")}


def test_an_entry_without_sealed_parts_is_of_its_topic() -> None:
    """Given facts that seal nothing, then somebody's being mailed or saying no is counted, and a plan is not."""
    plain: dict[str, Any] = {"actor": "cli", "occurred_at": "2040-03-08T", "plain": {}, "recorded_at": "2040-03-08T"}
    found = {
        topic: {key[1] for key in count([(1, topic, canonical(plain | {"topic": topic}))])}
        for topic in ("send.refused.v1", "objection.raised.v1", "keys.plan_applied.v1", "contact.complained.v1")
    }
    assert found == {
        "send.refused.v1": {"link"},
        "objection.raised.v1": {"suppression"},
        "keys.plan_applied.v1": set(),
        "contact.complained.v1": {"suppression"},
    }


def test_topics_and_categories_are_those_of_the_program() -> None:
    """Given the table of topics, then each line stands for a topic that there is, and a category that there is."""
    for start, category in CATEGORY_OF_TOPIC:
        assert any(topic.startswith(start) for topic in TOPICS), start
        assert category in CATEGORIES_OF_DATA


@store
def test_no_saying_and_restricting_is_seen(ledger: Ledger, clock: SettableClock) -> None:
    """Given a withdrawal, then it is evidence of a consent."""
    clock.set(NOON)
    willing(ledger, emails(1))
    before = by_category(seen(ledger))["consent"]
    say(ledger, emails(1), "withdraw")
    assert by_category(seen(ledger))["consent"] == before + 1


def canonical(value: dict[str, Any]) -> bytes:
    """As entries are written."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def rows(ledger: Ledger) -> list[Any]:
    """The serving generation's rows, without its number."""
    return ledger_rows(
        ledger,
        "SELECT topic, category, code, recorded_on, occurred_on, count FROM lethe.observed_count c "
        "JOIN lethe.tracking t USING (tenant_id, generation) WHERE c.tenant_id = %s AND t.projection = 'observed' "
        "AND t.live ORDER BY 1, 2, 3, 4, 5",
    )


def ledger_rows(ledger: Ledger, statement: str) -> list[Any]:
    """Rows of a query that takes the account's id."""
    with ledger.services.writer.transaction() as connection:
        return connection.execute(statement, (ledger.tenant,)).fetchall()
