"""Link generations: opening the next one of a person's link key, and letting go of one that was destroyed.

The vault says which generation serves which link months; standing rows carry the two newest, so that bulk work asks
nobody. Under the head lock the vault is told first and the rows are written then; killed in between, the row is what
served, and the next run says it anew. A generation never serves a month that has begun: what was authorised in it is
found again under the key it was authorised with, so that nobody is sent one message twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from domain.ids import month_of, next_month
from domain.personal import Identity
from ledger.append import LockedTenant
from ledger.desk import Desk
from ledger.errors import KeyMissing
from ledger.keys.generations import ALL_MONTHS, FIRST_GENERATION, GenerationKey, Generations
from ledger.keys.keyring import LINK
from ledger.keys.vault import Vault
from ledger.links import handle_of, month_number
from ledger.standing_row import ALWAYS, NO_KEY, Person, StandingRow

PERSONS_PER_APPEND = 1_000
"""Persons whose rows are written anew per transaction, so that the tenant's other writers are not kept waiting."""

AHEAD = timedelta(days=1)
"""A month that begins sooner counts as begun: what was prepared for it before the lock may still be on its way."""

PersonGeneration = tuple[bytes, int]
"""A kid, and a generation of that person's link key."""


class LinkDesk(Desk):
    """Keeps the link keys in the standing rows of one tenant what the vault says they are."""

    def open_next(self, persons: Sequence[PersonGeneration]) -> int:
        """Open the next generation for those whose newest in use is the one named; returns for how many it was.

        The next one serves from the next month on. Safe to kill and to run again.
        """
        return sum(self._open(batch) for batch in _batches(persons))

    def close(self, persons: Sequence[PersonGeneration]) -> int:
        """Take destroyed generations out of the standing rows; returns how many rows changed.

        Whose newest generation that was gets the next one, which serves from the next month on. Idempotent.
        """
        return sum(self._close(batch) for batch in _batches(persons))

    def _open(self, persons: Sequence[PersonGeneration]) -> int:
        handles = self._handles(kid for kid, _ in persons)
        due = set(persons)
        rows = [row for row in self._serving(handles) if (row.person.kid, row.person.link_generation) in due]
        nexts = self._make(rows)
        if not nexts:
            return 0
        with self._appender.locked() as locked:
            living = [
                row.person
                for row in self._rows(locked, locked.generation, handles)
                if (row.person.kid, row.person.link_generation) in due and row.person.kid in nexts
            ]
            return self._rewrite(locked, handles, self._taken_over(locked, living, nexts))

    def _close(self, persons: Sequence[PersonGeneration]) -> int:
        self._keyring.forget(*{kid for kid, _ in persons})
        gone = self._gone(persons)
        handles = self._handles(kid for kid, _ in gone)
        nexts = self._make([r for r in self._serving(handles) if (r.person.kid, r.person.link_generation) in gone])
        with self._appender.locked() as locked:
            serving = [row.person for row in self._rows(locked, locked.generation, handles)]
            newest = [p for p in serving if (p.kid, p.link_generation) in gone and p.kid in nexts]
            changed = self._taken_over(locked, newest, nexts)
            for person in serving:
                kept = _without(changed.get(person.handle, person), gone)
                if kept != person:
                    changed[person.handle] = kept
            return self._rewrite(locked, handles, changed)

    def _gone(self, persons: Sequence[PersonGeneration]) -> set[PersonGeneration]:
        """Those of these generations that do not live any more: a key that was spared stays in its row."""
        known = self._keyring.vault.generations(self._tenant, LINK, list({kid for kid, _ in persons}))
        return {(kid, number) for kid, number in persons if kid in known and number not in known[kid].living}

    def _make(self, rows: Sequence[StandingRow]) -> dict[bytes, tuple[int, bytes]]:
        """The next generation of these persons by kid, made durably before the lock: its number and key.

        One that was made before and did not come into use is taken again.
        """
        if not rows:
            return {}
        current = {row.person.kid: row.person.link_generation for row in rows}
        known = self._keyring.vault.generations(self._tenant, LINK, list(current))
        wanted: dict[int, list[bytes]] = defaultdict(list)
        for kid, number in current.items():
            held = known.get(kid)
            if held is not None:
                spare = held.newest > number and held.newest in held.living
                wanted[held.newest if spare else held.newest + 1].append(kid)
        made: dict[bytes, tuple[int, bytes]] = {}
        today = self._clock().date()
        for number, kids in wanted.items():
            keys = self._keyring.vault.ensure_subject_keys(self._tenant, LINK, kids, generation=number, used_on=today)
            made |= {kid: (number, key) for kid, key in keys.items()}
        return made

    def _taken_over(
        self, locked: LockedTenant, persons: Sequence[Person], nexts: Mapping[bytes, tuple[int, bytes]]
    ) -> dict[bytes, Person]:
        """These persons with their next generation, by handle; the vault is told before the rows are."""
        month = first_month_after(locked.now)
        changes = sorted((person.kid, person.link_generation, nexts[person.kid][0]) for person in persons)
        living = self._keyring.vault.serve(self._tenant, LINK, changes, month, locked.now.date())
        return {
            person.handle: _with_next(person, *nexts[person.kid], month) for person in persons if person.kid in living
        }

    def _rewrite(self, locked: LockedTenant, handles: Sequence[bytes], changed: Mapping[bytes, Person]) -> int:
        """Write changed persons in every generation of the projection: what serves, is built, or was left behind."""
        if not changed:
            return 0
        for generation in (locked.generation - 1, locked.generation, locked.generation + 1):
            rows = self._rows(locked, generation, handles)
            kept = [StandingRow(r.fingerprint, changed[r.handle], r.standing) for r in rows if r.handle in changed]
            self._book.write(locked.connection, self._tenant, generation, kept)
        return len(changed)

    def _handles(self, kids: Iterable[bytes]) -> list[bytes]:
        """The handles of those of these persons who are still known."""
        identities = self._keyring.vault.generations(self._tenant, Identity.name, list(dict.fromkeys(kids)))
        held = [found.living.get(FIRST_GENERATION) for found in identities.values()]
        return [handle_of(identity.key) for identity in held if identity is not None]

    def _serving(self, handles: Sequence[bytes]) -> list[StandingRow]:
        """The rows that serve, read without a lock: advice only."""
        with self._appender.pool.transaction() as connection:
            generation = self._appender.read_head(connection).generation
            return list(self._book.read_handles(connection, self._tenant, generation, handles).values())

    def _rows(self, locked: LockedTenant, generation: int, handles: Sequence[bytes]) -> list[StandingRow]:
        return list(self._book.read_handles(locked.connection, self._tenant, generation, handles).values())


class PastLinks:
    """Which link key was whose in which month, for as long as one question is being answered.

    A row knows the two newest generations. Older ones are asked of the vault, once per person.
    """

    def __init__(self, vault: Vault, tenant: UUID) -> None:
        self._vault = vault
        self._tenant = tenant
        self._known: dict[bytes, Generations | None] = {}

    def ask(self, rows: Iterable[StandingRow]) -> None:
        """Ask the vault about these persons at once, where it can know more than their rows do."""
        kids = {r.person.kid for r in rows if r.person.link_generation > _GENERATIONS_IN_A_ROW} - self._known.keys()
        if kids:
            found = self._vault.generations(self._tenant, LINK, sorted(kids))
            self._known.update({kid: found.get(kid) for kid in kids})

    def link_for(self, row: StandingRow, month: str) -> tuple[bytes, int] | None:
        """The person's link key for a month and its generation; None where that was destroyed."""
        found = row.link_for(month_number(month))
        if found is not None:
            return found
        self.ask((row,))
        known = self._known.get(row.person.kid)
        return known.for_month(month) if known is not None else None


def first_month_after(now: datetime) -> str:
    """The first link month that a generation can serve which is opened now."""
    return next_month(month_of(now + AHEAD))


def linked(person: Person, known: Generations | None) -> Person:
    """A person with the link keys that the vault knows. Raises `KeyMissing` if it never knew one: an incident (I6)."""
    if known is None:
        raise KeyMissing(
            "A person's link key is gone from the vault and has no tombstone. This is an incident: restore the vault "
            "from a backup; do not treat the data as erased."
        )
    in_use = known.in_use
    if not in_use:
        return replace(person, link_key=NO_KEY, link_generation=known.newest)
    newest = in_use[-1]
    if newest.serves_until is not None:  # The one after it was destroyed, and none was opened yet.
        after = replace(person, link_key=NO_KEY, link_generation=newest.generation + 1)
        return _with_before(after, newest.serves_until, newest)
    current = replace(person, link_key=newest.key, link_generation=newest.generation)
    before = known.living.get(newest.generation - 1)
    return _with_before(current, newest.serves_from or ALL_MONTHS, before)


_GENERATIONS_IN_A_ROW = 2


def _with_before(person: Person, serves_from: str, before: GenerationKey | None) -> Person:
    person = replace(person, link_from=_number(serves_from))
    if before is None or before.serves_until != serves_from:
        return person
    return replace(person, link_key_before=before.key, link_from_before=_number(before.serves_from or ALL_MONTHS))


def _with_next(person: Person, generation: int, key: bytes, month: str) -> Person:
    """A person whose next generation serves from a month on. The one before is kept if the numbers follow."""
    follows = generation == person.link_generation + 1
    return replace(
        person,
        link_key=key,
        link_generation=generation,
        link_from=_number(month),
        link_key_before=person.link_key if follows else NO_KEY,
        link_from_before=person.link_from if follows else ALWAYS,
    )


def _without(person: Person, gone: set[PersonGeneration]) -> Person:
    """A person without the link keys of these generations."""
    if (person.kid, person.link_generation) in gone:
        person = replace(person, link_key=NO_KEY)
    if (person.kid, person.link_generation - 1) in gone:
        person = replace(person, link_key_before=NO_KEY, link_from_before=ALWAYS)
    return person


def _number(month: str) -> bytes:
    return month_number(month) if month != ALL_MONTHS else ALWAYS


def _batches(persons: Sequence[PersonGeneration]) -> Iterator[Sequence[PersonGeneration]]:
    for start in range(0, len(persons), PERSONS_PER_APPEND):
        yield persons[start : start + PERSONS_PER_APPEND]
