"""An attack on neighbourhood: which transaction of the vault came just before or after that of a kept bill's key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg

from api.bootstrap import Instance
from domain.records import Record
from ledger.application import Ledger
from retention.daily import run_daily
from retention.erasure.erasing import finish_erasures
from tests.acts import emails, person, willing
from tests.support import SettableClock

SELECT_WRAPS = """
SELECT xmin::text::bigint FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND class = 'billing' AND holder <> ''
"""
SELECT_TOMBSTONES = "SELECT DISTINCT xmin::text::bigint FROM lethe_vault.tombstone WHERE tenant_id = %s AND holder = %s"
NEAR = 3


def test_no_bills_key_stands_beside_the_tombstones_of_its_persons_records(
    own_instance: Instance, own_ledger: Ledger, clock: SettableClock
) -> None:
    """Given five persons with bills, of whom one was erased three days ago, when the vault's transactions are read in
    order, then no bill's key was written just before or after the tombstones of the erased person's records: in the
    journal these stand next to the kid of the erased stream (I11)."""
    clock.set(datetime(2026, 11, 21, 12, tzinfo=UTC))
    people = emails(5)
    willing(own_ledger, people)
    for email in people:
        own_ledger.records.take([Record("billing", {"name": email}, "invoice", email, None)], actor="cli")
    gone = person(own_ledger, people[2]).person
    own_ledger.erasures.intend([people[2]], reason="subject_request", actor="cli")
    finish_erasures(own_ledger)
    for _ in range(3):
        clock.advance(timedelta(days=1))
        run_daily(own_ledger)
    owner = own_instance.settings.vault_owner_url
    assert owner is not None
    with psycopg.connect(owner) as superuser:
        wraps = [row[0] for row in superuser.execute(SELECT_WRAPS, (own_ledger.tenant,))]
        marks = [row[0] for row in superuser.execute(SELECT_TOMBSTONES, (own_ledger.tenant, gone.records_kid))]
    assert len(wraps) == len(people)
    assert marks
    assert [xmin for xmin in wraps if any(abs(xmin - mark) <= NEAR for mark in marks)] == []
