"""The change feed tells senders about suppressions and recalls, in order, for seven days."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest

from api.bootstrap import Instance
from domain.subject_commands import LiftByHand, RecordConsent, Restrict, SayNo
from ledger.application import Ledger
from ledger.suppressing import SuppressionRequest
from projections.change_feed import ChangeFeed
from projections.errors import CursorTooOld
from projections.worker import catch_up
from retention.daily import expire_feed_keys
from retention.erasure.erasing import finish_erasures
from tests.projections.scenes import (
    add,
    authorise,
    erase,
    feed,
    grant,
    move,
    register,
    report,
    say,
    withdraw,
)
from tests.support import SettableClock

pytestmark = pytest.mark.store

SELECT_POSITIONS = "SELECT position FROM lethe.suppression_change WHERE tenant_id = %s"

ANNE, BERT, CARA = "anne@example.com", "bert@example.com", "cara@example.com"


def told(ledger: Ledger) -> list[tuple[str, str, str, str | None]]:
    """The whole feed as (kind, scope, cause, address)."""
    catch_up(ledger)
    return [(change.kind, change.scope, change.cause, change.email) for change in feed(ledger)[0]]


def test_tells_each_kind_of_change_of_a_person(ledger: Ledger) -> None:
    """Noes, recalls, lifts and withdrawals of a living person come with scope, cause and address."""
    # given
    add(ledger, ANNE)
    # when
    say(ledger, ANNE, SayNo("objection", "marketing"))
    say(ledger, ANNE, SayNo("manual", "purpose:newsletter"))
    say(ledger, ANNE, LiftByHand("purpose:newsletter"))
    say(ledger, ANNE, SayNo("legal", "all"))
    say(ledger, ANNE, Restrict())
    say(ledger, ANNE, Restrict(lift=True))
    withdraw(ledger, ANNE)
    say(ledger, ANNE, RecordConsent("offers", "email", "refuse"))
    # then
    assert told(ledger) == [
        ("suppressed", "marketing", "objection", ANNE),
        ("recalled", "marketing", "recalled", ANNE),
        ("suppressed", "purpose:newsletter", "manual", ANNE),
        ("recalled", "purpose:newsletter", "recalled", ANNE),
        ("lifted", "purpose:newsletter", "manual", ANNE),
        ("suppressed", "all", "legal", ANNE),
        ("recalled", "all", "recalled", ANNE),
        ("suppressed", "all", "restriction", ANNE),
        ("recalled", "all", "recalled", ANNE),
        ("lifted", "all", "restriction", ANNE),
        ("consent_withdrawn", "purpose:newsletter", "withdrawn", ANNE),
        ("recalled", "purpose:newsletter", "recalled", ANNE),
        ("consent_withdrawn", "purpose:offers", "refused", ANNE),
        ("recalled", "purpose:offers", "recalled", ANNE),
    ]


def test_a_no_through_a_campaign_names_it(ledger: Ledger) -> None:
    """A complaint that came back for a message carries the campaign it came through."""
    add(ledger, ANNE)
    grant(ledger, ANNE)
    campaign = register(ledger)
    report(ledger, "complained", authorise(ledger, campaign, [ANNE]).values())
    catch_up(ledger)
    changes, _ = feed(ledger)
    assert [(change.kind, change.campaign) for change in changes] == [("suppressed", campaign), ("recalled", None)]


def test_a_grant_is_told_where_something_stood_in_its_way(ledger: Ledger, clock: SettableClock) -> None:
    """A first consent changes no suppression; one that lifts a withdrawal, or an erasure's entry, does."""
    # given a first consent and a withdrawal
    add(ledger, ANNE)
    grant(ledger, ANNE)
    withdraw(ledger, ANNE)
    # when the person agrees again, and somebody who was erased comes back
    clock.advance(timedelta(minutes=1))
    grant(ledger, ANNE)
    erase(ledger, "gone@example.com")
    clock.advance(timedelta(days=2))
    add(ledger, "gone@example.com")
    grant(ledger, "gone@example.com")
    # then
    granted = [line for line in told(ledger) if line[0] == "granted"]
    assert granted == [
        ("granted", "purpose:newsletter", "consent", ANNE),
        ("granted", "purpose:newsletter", "consent", "gone@example.com"),
    ]


def test_a_grant_without_effect_is_not_told(ledger: Ledger) -> None:
    """An import lifts nothing (I7), and the feed does not say it does."""
    add(ledger, ANNE)
    withdraw(ledger, ANNE)
    say(ledger, ANNE, RecordConsent("newsletter", "email", "grant", imported=True))
    assert [line[0] for line in told(ledger)] == ["consent_withdrawn", "recalled"]


def test_the_address_is_the_one_of_that_time(ledger: Ledger) -> None:
    """A sender knows the person by the address they had when they said no."""
    add(ledger, ANNE)
    withdraw(ledger, ANNE)
    move(ledger, ANNE, BERT)
    say(ledger, BERT, SayNo("objection", "all"))
    assert [line[3] for line in told(ledger)] == [ANNE, ANNE, BERT, BERT]


def test_strangers_are_told_from_the_list(ledger: Ledger) -> None:
    """Addresses that were only ever on a list are told when imposed, and when lifted by hand."""
    ledger.suppressions.impose(
        [SuppressionRequest(BERT, "manual", "all"), SuppressionRequest(CARA, "complaint", "marketing")], actor="cli"
    )
    ledger.suppressions.lift(BERT, "all", actor="cli")
    lines = told(ledger)
    assert sorted(lines[:2]) == [("suppressed", "all", "manual", BERT), ("suppressed", "marketing", "complaint", CARA)]
    assert lines[2:] == [("lifted", "all", "manual", BERT)]


def test_an_erased_person_is_told_of_by_the_erasure_alone(ledger: Ledger) -> None:
    """After an erasure the earlier lines of the person keep no address, whether they were written before or after."""
    # given a withdrawal that was told with its address, and two that were not projected yet
    add(ledger, ANNE, BERT, CARA)
    withdraw(ledger, ANNE)
    catch_up(ledger)
    withdraw(ledger, BERT)
    withdraw(ledger, CARA)
    # when all are erased, of the last one only the intent
    erase(ledger, ANNE, BERT)
    finish_erasures(ledger)
    erase(ledger, CARA)
    # then
    lines = told(ledger)
    assert [line[3] for line in lines[:6]] == [None] * 6
    assert sorted(line[3] or "" for line in lines[6:]) == [ANNE, BERT, CARA]
    assert {line[:3] for line in lines[6:]} == {("suppressed", "all", "erased")}


def test_pages_follow_each_other(ledger: Ledger) -> None:
    """Every change comes exactly once, whatever the page; a cursor at the end moves on with the log."""
    # given
    add(ledger, ANNE, BERT, CARA)
    for email in (ANNE, BERT, CARA):
        withdraw(ledger, email)
    catch_up(ledger)
    # when
    seen, cursor = [], None
    for _ in range(4):
        page, cursor = feed(ledger, cursor, limit=2)
        seen.extend(page)
    # then
    assert [change.position for change in seen] == sorted({change.position for change in seen})
    assert len(seen) == 6
    assert cursor == ledger.log.max_notification_id()
    register(ledger)
    catch_up(ledger)
    assert feed(ledger, cursor) == ([], ledger.log.max_notification_id())


def test_a_generation_is_cleared_from_its_beginning(ledger: Ledger, instance: Instance) -> None:
    """Given six lines, when they are cleared four at a time, then the oldest go first, and no other generation's."""
    # given
    add(ledger, ANNE, BERT, CARA)
    for email in (ANNE, BERT, CARA):
        withdraw(ledger, email)
    catch_up(ledger)
    positions = [change.position for change in feed(ledger)[0]]
    # when
    left = []
    with instance.rebuilder.transaction() as connection:
        assert ChangeFeed().clear(connection, ledger.tenant, 2, 4) == 0
        while ChangeFeed().clear(connection, ledger.tenant, 1, 4):
            rows = connection.execute(SELECT_POSITIONS, (ledger.tenant,))
            left.append(sorted(row[0] for row in rows))
    # then
    assert len(positions) == 6
    assert left == [positions[4:], []]


def test_after_seven_days_the_address_is_gone(ledger: Ledger, clock: SettableClock) -> None:
    """Purged lines and their key go together; a cursor from before is refused and says what to do instead."""
    # given a line, and a cursor from before it
    add(ledger, ANNE, BERT)
    withdraw(ledger, ANNE)
    catch_up(ledger)
    _, cursor = feed(ledger)
    # when seven days have passed, the line is still there; when eight have, it is not
    clock.advance(timedelta(days=7))
    assert expire_feed_keys(ledger, clock()).changes == 0
    assert len(feed(ledger, 1)[0]) == 2
    clock.advance(timedelta(days=1))
    expired = expire_feed_keys(ledger, clock())
    # then
    assert (len(expired.days), expired.changes) == (1, 2)
    with pytest.raises(CursorTooOld, match="suppressions/lookup"):
        feed(ledger, 1)
    assert feed(ledger, cursor)[0] == feed(ledger)[0] == []
    withdraw(ledger, BERT)
    catch_up(ledger)
    assert [change.email for change in feed(ledger, cursor)[0]] == [BERT, BERT]
    assert expire_feed_keys(ledger, clock()).days == ()


def test_a_lagging_worker_makes_no_key_for_days_that_are_over(ledger: Ledger, clock: SettableClock) -> None:
    """What is taken in after its day's key has died is not told any more, and nothing is parked for it."""
    add(ledger, ANNE)
    withdraw(ledger, ANNE)
    clock.advance(timedelta(days=9))
    assert catch_up(ledger).parked == 0
    assert feed(ledger)[0] == []
    assert expire_feed_keys(ledger, clock()).days == ()


def test_rows_hold_no_address_in_the_clear(ledger: Ledger, instance: Instance) -> None:
    """The table holds sealed bytes only (I4); the control finds the address where it is planted."""
    add(ledger, "canary.4711@example.com")
    withdraw(ledger, "canary.4711@example.com")
    assert told(ledger)[0][3] == "canary.4711@example.com"
    with psycopg.connect(instance.urls.writer) as connection:
        rows = connection.execute(
            "SELECT c::text, c.address FROM lethe.suppression_change c WHERE tenant_id = %s", (ledger.tenant,)
        ).fetchall()
    assert len(rows) == 2

    def found(rows: list[tuple[str, bytes]]) -> bool:
        return any("canary" in text or b"canary" in bytes(address) for text, address in rows)

    assert not found(rows)
    assert found([*rows, ("", b"canary.4711@example.com")])


def test_a_line_moved_elsewhere_does_not_open(ledger: Ledger, instance: Instance) -> None:
    """An address sealed for one line is refused on another (FAULTS 15)."""
    from ledger.errors import TamperError

    add(ledger, ANNE)
    withdraw(ledger, ANNE)
    catch_up(ledger)
    with psycopg.connect(instance.urls.writer) as connection:
        connection.execute(
            "UPDATE lethe.suppression_change SET position = position + 1000 WHERE tenant_id = %s", (ledger.tenant,)
        )
    with pytest.raises(TamperError):
        feed(ledger)
