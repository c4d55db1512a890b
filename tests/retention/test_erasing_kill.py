"""Kill -9 of a real process at each step of an erasure: whoever runs it next finishes it, once (FAULTS 7, 9)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest

from api.bootstrap import Instance
from audit.fsck import require_whole_log
from domain.facts import Fact, personal_fields
from domain.personal import Erased, Personal
from domain.records import Record
from ledger.application import Ledger
from ledger.certificate_format import checked_certificate
from ledger.erasures import STATE_KEYS_DESTROYED
from ledger.keys.names import KeyName
from ledger.signing import verify_key
from retention.certificates.store import certificate, exported
from retention.daily import run_daily
from retention.erasure.erasing import finish_erasures
from tests.acts import emails, person, stream_of, willing
from tests.erasing_kills import die_while_erasing
from tests.support import SettableClock
from tests.workers import see_killed, start

pytestmark = pytest.mark.store

PEOPLE = emails(3)
ANNA = PEOPLE[0]
VAULT, DESK = "ledger.keys.vault:Vault", "ledger.erasures:ErasureDesk"

STEPS = [
    (f"{DESK}.remember", 1, False),
    (f"{DESK}.remember", 1, True),
    (f"{VAULT}.destroy_holder", 1, True),
    (f"{DESK}.acknowledge", 1, True),
    (f"{VAULT}.rehome", 1, False),
    (f"{VAULT}.rehome", 1, True),
    (f"{VAULT}.destroy_holder", 2, False),
    (f"{VAULT}.destroy_holder", 2, True),
    ("ledger.keys.keyring:Keyring.forget", 1, False),
    ("retention.erasure.erasing:forget_person", 1, True),
    ("retention.erasure.erasing:erasure_certificate", 1, True),
    (f"{DESK}.finish", 1, True),
    ("retention.erasure.erasing:insert_certificates", 1, True),
    ("ledger.append:LockedTenant.move_head", 1, True),
    ("ledger.append:Appender.locked", 1, False),
]


@pytest.mark.parametrize(("place", "call", "after"), STEPS)
def test_killed_at_any_step_it_is_finished_once(
    instance: Instance, ledger: Ledger, clock: SettableClock, place: str, call: int, after: bool
) -> None:
    """Given a process killed at a step of an erasure, when another one goes on, then it ends as if nobody had died."""
    willing(ledger, PEOPLE)
    records = [Record(c, {"note": "x"}, None, ANNA, ledger.clock()) for c in ("billing", "support")]
    ledger.records.take(records, actor="cli")
    row = person(ledger, ANNA)
    (status,) = ledger.erasures.intend([ANNA], reason="subject_request", actor="cli")

    child = start(die_while_erasing, instance.settings, ledger.tenant, place, call, after)
    see_killed(child, instance)

    ledger.keyring.forget_all()
    assert ledger.person(ANNA) is None
    finish_erasures(ledger)
    assert finish_erasures(ledger) == []
    assert_erased(ledger, row.person.kid, [value for fact in stream_of(ledger, row) for value in _own(fact)])
    topics = [fact.TOPIC for fact in stream_of(ledger, row)]
    assert topics.count("keys.destroyed.v1") == 1
    assert ledger.erasures.status(status.erasure_id)[0].state == STATE_KEYS_DESTROYED
    require_whole_log(ledger.services.writer.url, ledger.tenant)
    said = certified(ledger, status.erasure_id)
    assert [row["class"] for row in said["kept"]] == ["suppression", "billing"]
    clock.advance(timedelta(days=1, hours=1))
    run_daily(ledger)
    # Identity, consent, link and support; billing is kept.
    assert certified(ledger, status.erasure_id)["keys"]["list"]["keys"] == 4


def _own(fact: Fact) -> list[Any]:
    return [getattr(fact, n) for n, c in personal_fields(type(fact)).items() if c not in fact.SEALED_BY]


def assert_erased(ledger: Ledger, kid: bytes, held: list[Any]) -> None:
    """Nothing of the person opens, every part says erased, and no key of theirs is left."""
    assert any(isinstance(value, Erased) for value in held)
    assert not any(isinstance(value, Personal) for value in held)
    found = ledger.services.vault.find(ledger.tenant, [KeyName(kid, c) for c in ("identity", "consent")])
    assert (found.keys, len(found.tombstones)) == ({}, 2)


def certified(ledger: Ledger, erasure_id: UUID) -> Any:
    """What the erasure's certificate says, after it was checked."""
    content = orjson.dumps(exported(ledger, certificate(ledger, erasure_id)))
    return checked_certificate(content, verify_key(ledger.keyring))
