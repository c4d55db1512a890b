"""Kill -9 of a writer at random moments: nothing acknowledged is lost, and nothing is half-done (FAULTS 7)."""

from __future__ import annotations

import random
import time
from pathlib import Path
from uuid import UUID

import orjson
import psycopg
import pytest

from api.bootstrap import Instance
from audit.fsck import require_whole_log
from audit.sends.after_no import check_no_send_after_no
from domain.subject import fold
from ledger.application import Ledger
from ledger.keys.keyring import LINK
from ledger.links import link_scope, message_id, open_token
from tests.acts import register, stream_of
from tests.workers import CHUNK, see_killed, start, write_until_killed

pytestmark = pytest.mark.store

SELECT_CHUNKS = """
SELECT count(*) FROM lethe.event WHERE tenant_id = %s AND topic LIKE 'send.%%'
GROUP BY convert_from(entry, 'UTF8')::json ->> 'command'
"""
SELECT_LIVING = "SELECT fingerprint FROM lethe.standing WHERE tenant_id = %s AND generation = 1"
START_SECONDS_MAX = 60
LIFE_SECONDS_MAX = 0.5


@pytest.mark.parametrize("rounds", [5, pytest.param(50, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
def test_kill_minus_nine_loses_nothing_acknowledged(
    instance: Instance, ledger: Ledger, tmp_path: Path, rounds: int
) -> None:
    """Given a process that writes for ever, when it is killed, then the log holds all it said it holds."""
    campaign = register(ledger)
    chance = random.Random(20261121 + rounds)
    told = 0
    for number in range(rounds):
        acknowledged = tmp_path / f"acknowledged-{number}"
        child = start(write_until_killed, instance.settings, ledger.tenant, campaign, f"k{number}", str(acknowledged))
        wait_for_the_first(acknowledged)
        time.sleep(chance.uniform(0, LIFE_SECONDS_MAX))
        child.kill()
        see_killed(child, instance)
        told += check_acknowledged(ledger, campaign, acknowledged)
    assert told > rounds
    require_whole_log(ledger.services.writer.url, ledger.tenant)
    assert check_no_send_after_no(ledger) == []
    check_nothing_is_half_done(ledger)


def wait_for_the_first(acknowledged: Path) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while not (acknowledged.exists() and acknowledged.stat().st_size):
        assert time.monotonic() < deadline, "The child never wrote anything."
        time.sleep(0.01)


def check_acknowledged(ledger: Ledger, campaign: UUID, acknowledged: Path) -> int:
    """Everything the child had noted stands in the log; returns how many notes there are."""
    lines = acknowledged.read_bytes().split(b"\n")[:-1]
    for line in lines:
        said = orjson.loads(line)
        for position in said.get("positions", ()):
            assert ledger.log.select_log(position, 1, position), f"Position {position} was acknowledged and is gone."
        if said.get("tokens"):
            streams = [UUID(bytes=stream_of_token(ledger, campaign, token)) for token in said["tokens"]]
            assert {event.originator_id for event in ledger.log.select_streams(streams)} == set(streams)
    return len(lines)


def stream_of_token(ledger: Ledger, campaign: UUID, token: str) -> bytes:
    month_key = ledger.keyring.period_key(LINK, ledger.campaign(campaign).month(ledger.clock()))
    handle = open_token(token, month_key).handle
    with ledger.services.writer.transaction() as connection:
        rows = ledger.services.book.read_handles(connection, ledger.tenant, 1, [handle])
    return message_id(link_scope(rows[handle].person.link_key, month_key), campaign.bytes)


def check_nothing_is_half_done(ledger: Ledger) -> None:
    """Every chunk is whole, and every standing is the fold of its stream."""
    with psycopg.connect(ledger.services.writer.url, autocommit=True) as connection:
        sizes = [row[0] for row in connection.execute(SELECT_CHUNKS, (ledger.tenant,))]
        fingerprints = [bytes(row[0]) for row in connection.execute(SELECT_LIVING, (ledger.tenant,), binary=True)]
    assert set(sizes) <= {CHUNK}
    assert len(fingerprints) % CHUNK == 0
    with ledger.services.writer.transaction() as connection:
        rows = ledger.services.book.read(connection, ledger.tenant, 1, fingerprints)
    for row in rows.values():
        assert fold(None, stream_of(ledger, row)) == row.standing
