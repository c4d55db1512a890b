"""Escrow: a held person survives the end of a period, which everybody else's data does not (DESIGN section 5).

Before a period's key goes, the two-key K of every held person is stored under the person's own kid, with the period
in its name; `Keyring.opening_scope` finds it once the period's key has a tombstone. Link keys are kept in the same
way, so that a held person's messages of that month are still found. When nobody holds the person any more these keys
are destroyed, each person's in a transaction of the vault's own and by the day only, so that what is left there ties
a person to no other person, to no records of theirs, and to no hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any
from uuid import UUID

from psycopg import Connection

from domain.hold import Hold
from domain.personal import ConsentEvidence, Engagement, EngagementTechnical, Identity
from domain.records import RECORD_CLASSES
from ledger.application import Ledger
from ledger.errors import KeyMissing
from ledger.keys.keyring import LINK
from ledger.keys.names import TENANT_HOLDER, KeyName
from ledger.sealing import scope_key

OWN_CLASSES = frozenset({Identity.name, ConsentEvidence.name, Engagement.name, EngagementTechnical.name, LINK})
"""Classes whose keys a person has under their kid; those of records stand under the records kid."""

CLASSES_OF_ONE = OWN_CLASSES.union(RECORD_CLASSES)
"""Classes that belong to persons; everything else is the account's own."""

PERSONS_PER_PAGE = 2_000
HOLDERS_PER_LOCK = 100
"""Persons whose kept keys go while the head is locked: the tenant's other writers wait for a tenth of a second."""

KEY_CAUSE = "legal hold ended"

SELECT_FINGERPRINTS = """
SELECT fingerprint FROM lethe.standing WHERE tenant_id = %s AND generation = %s AND fingerprint > %s
ORDER BY fingerprint LIMIT %s
"""
SELECT_ACTIVE = """
SELECT DISTINCT hold_id FROM lethe.legal_hold_target WHERE tenant_id = %s AND kind = 'person' ORDER BY hold_id
"""
SELECT_SUBJECT_KEYS = """
SELECT holder, generation FROM lethe_vault.wrapped_key
WHERE tenant_id = %s AND holder = ANY(%s) AND class = %s AND period = '' ORDER BY holder, generation
"""
SELECT_ESCROWED = """
SELECT holder, class, period, generation FROM lethe_vault.wrapped_key
WHERE tenant_id = %s AND holder > %s AND period <> '' AND holder IN (
    SELECT DISTINCT holder FROM lethe_vault.wrapped_key
    WHERE tenant_id = %s AND holder > %s AND period <> '' ORDER BY holder LIMIT %s)
ORDER BY holder, class, period, generation
"""


@dataclass(frozen=True, slots=True)
class HeldPerson:
    """A living person of whom a hold speaks. `records_kid` is None where only a campaign's messages are held."""

    kid: bytes
    records_kid: bytes | None


def held_persons(
    ledger: Ledger, as_of: datetime | None = None, *, loss_accepted: bool = False
) -> Iterator[list[HeldPerson]]:
    """Every person held as a person or through a campaign, in pages; a person may come twice.

    With `as_of` by holds as they stood at that moment, and still stand. Raises `KeyMissing` for a hold whose own key is
    lost with an old vault, unless that was accepted: then nothing tells whom it speaks of.
    """
    with ledger.services.writer.transaction() as connection:
        holds = [row[0] for row in connection.execute(SELECT_ACTIVE, (ledger.tenant,))]
        targets = _targets(ledger, connection, holds, as_of, loss_accepted)
    persons = {person for hold in targets for person in hold.persons}
    if persons:
        yield [HeldPerson(person.kid, person.records_kid) for person in sorted(persons)]
    yield from _held_by_campaigns(ledger, as_of, loss_accepted)


def escrow_held(
    ledger: Ledger,
    retention_class: str,
    period: str,
    *,
    as_of: datetime | None = None,
    loss_accepted: bool = False,
) -> int:
    """Keep the K of this class and period for every held person; returns how many. Called before the period's key goes.

    Idempotent. Holds on the period or the account keep the period's key itself and are asked for before. What was
    kept once and destroyed since is not kept again.
    """
    of_period = KeyName(TENANT_HOLDER, retention_class, period)
    period_key = ledger.keyring.find([of_period]).keys.get(of_period)
    if period_key is None:
        return 0
    kept: set[KeyName] = set()
    for page in held_persons(ledger, as_of, loss_accepted=loss_accepted):
        holders = _holders(page, retention_class)
        names = _subject_keys(ledger, retention_class, holders)
        keys = ledger.keyring.find(names).keys
        scopes = {
            KeyName(name.holder, retention_class, period, name.generation): scope_key(key, period_key)
            for name, key in keys.items()
        }
        gone = ledger.keyring.find(scopes).tombstones
        scopes = {name: scope for name, scope in scopes.items() if name not in gone}
        ledger.services.vault.escrow(ledger.tenant, scopes)
        kept |= scopes.keys()
    return len(kept)


def destroy_unheld(ledger: Ledger) -> int:
    """Destroy what was kept for persons whom no hold protects any more; returns how many keys. Safe to run again.

    It is looked under the head lock, so that a hold which is placed meanwhile comes before or after, not in between.
    """
    destroyed, after = 0, TENANT_HOLDER
    while escrowed := _escrowed(ledger, after):
        after = max(escrowed)
        with ledger.appender.locked() as locked:
            held = ledger.hold_book.holding(locked.connection, ledger.tenant, list(escrowed), by_period=False)
            for holder, names in escrowed.items():
                if holder not in held:
                    destroyed += _destroy(ledger, holder, names, locked.now)
    return destroyed


def escrowed_count(ledger: Ledger, *, ignoring: UUID | None = None) -> int:
    """How many kept keys no hold protects, or none besides one: what `destroy_unheld` would destroy."""
    count, after = 0, TENANT_HOLDER
    while escrowed := _escrowed(ledger, after):
        after = max(escrowed)
        with ledger.services.writer.transaction() as connection:
            held = ledger.hold_book.holding(
                connection, ledger.tenant, list(escrowed), by_period=False, ignoring=ignoring
            )
        count += sum(len(names) for holder, names in escrowed.items() if holder not in held)
    return count


def _destroy(ledger: Ledger, holder: bytes, names: Sequence[KeyName], now: datetime) -> int:
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    gone = ledger.services.vault.destroy_keys(ledger.tenant, names, when=day, cause=KEY_CAUSE)
    ledger.keyring.forget(holder)
    return len(gone)


def _targets(
    ledger: Ledger, connection: Connection[Any], holds: Sequence[UUID], as_of: datetime | None, loss_accepted: bool
) -> list[Hold]:
    """What these holds speak of, and spoke of then."""
    found = []
    for hold_id in holds:
        try:
            hold = ledger.holds.targets(connection, hold_id, as_of=as_of)
        except KeyMissing:
            if not loss_accepted:
                raise
            continue
        if hold is not None:
            found.append(hold)
    return found


def _held_by_campaigns(ledger: Ledger, as_of: datetime | None, loss_accepted: bool) -> Iterator[list[HeldPerson]]:
    """Living persons with a message of a held campaign: everybody is looked at, because nothing lists them."""
    campaigns = _campaigns_held(ledger, as_of, loss_accepted)
    if not campaigns:
        return
    after = b""
    while True:
        with ledger.services.writer.transaction() as connection:
            generation = ledger.appender.read_head(connection).generation
            values = (ledger.tenant, generation, after, PERSONS_PER_PAGE)
            fingerprints = [bytes(row[0]) for row in connection.execute(SELECT_FINGERPRINTS, values)]
            rows = ledger.services.book.read(connection, ledger.tenant, generation, fingerprints)
            kids = [row.person.kid for row in rows.values()]
            held = ledger.hold_book.held_by_campaign(connection, ledger.tenant, kids, only=campaigns)
        if held:
            yield [HeldPerson(kid, None) for kid in sorted(held)]
        if len(fingerprints) < PERSONS_PER_PAGE:
            return
        after = fingerprints[-1]


def _campaigns_held(ledger: Ledger, as_of: datetime | None, loss_accepted: bool) -> set[UUID]:
    with ledger.services.writer.transaction() as connection:
        held = ledger.hold_book.campaigns_held(connection, ledger.tenant)
        if as_of is None:
            return set(held)
        holds = {hold_id for holds in held.values() for hold_id in holds}
        targets = _targets(ledger, connection, sorted(holds), as_of, loss_accepted)
    then = {campaign for hold in targets for campaign in hold.campaigns}
    return then & held.keys()


def _holders(page: Sequence[HeldPerson], retention_class: str) -> list[bytes]:
    if retention_class in OWN_CLASSES:
        return [person.kid for person in page]
    if retention_class in RECORD_CLASSES:
        return [person.records_kid for person in page if person.records_kid is not None]
    return []  # A class of the account's own: nothing of it belongs to one person.


def _subject_keys(ledger: Ledger, retention_class: str, holders: Sequence[bytes]) -> list[KeyName]:
    """The persons' own keys of a class, every generation."""
    with ledger.services.vault.pool.transaction() as connection:
        rows = connection.execute(SELECT_SUBJECT_KEYS, (ledger.tenant, list(holders), retention_class)).fetchall()
    return [KeyName(bytes(holder), retention_class, "", generation) for holder, generation in rows]


def _escrowed(ledger: Ledger, after: bytes) -> dict[bytes, list[KeyName]]:
    """The kept keys of the next holders, by holder."""
    with ledger.services.vault.pool.transaction() as connection:
        values = (ledger.tenant, after, ledger.tenant, after, HOLDERS_PER_LOCK)
        rows = connection.execute(SELECT_ESCROWED, values).fetchall()
    names = [KeyName(bytes(row[0]), *row[1:]) for row in rows]
    return {holder: list(run) for holder, run in groupby(names, key=lambda name: name.holder)}
