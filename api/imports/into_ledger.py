"""Carries the rows of an import into one account's ledger, in chunks, and names every row that was not taken.

The order of the rows is kept: a reader that yields suppressions first gets them written first. Importing the same
file twice is harmless. A contact that is there stays as it is; a consent is passed over where the person's own
stream already says it (same act, purpose, channel and time); a "no" where it stands since as late or later.

Nothing of an import lifts a "no" (invariant I7): every consent is recorded as imported. A channel stands in the clear,
so it must be a short name: no free text about a person gets into an entry (I4).
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from api.imports.cells import UnreadableCell
from api.imports.columns import folded
from api.imports.rejects import RejectsWriter
from api.imports.rows import ConsentRow, ContactRow, ImportRow, RejectedRow, SuppressionRow
from domain import standing as states
from domain.address import InvalidAddress
from domain.ids import micros
from domain.scope import InvalidScope, checked_purpose
from domain.standing import Standing, permission_key
from domain.subject import ConsentFact, ConsentGranted, ConsentRefused, ConsentRequested, ConsentWithdrawn, ContactAdded
from domain.subject_commands import AddContact, CommandRefused, RecordConsent
from ledger.application import Ledger
from ledger.standing_row import StandingRow
from ledger.subjects import Act, Outcome
from ledger.suppressing import SuppressionRequest

CHUNK_ACTS: Final = 1000
"""Acts in one transaction: enough to spread its cost, few enough to let other commands in between."""

TAGS_FIELD: Final = "tags"

_is_short_name = re.compile(r"[a-z][a-z0-9_]{0,31}").fullmatch

_CONSENT_FACTS: Final[dict[type[ConsentFact], str]] = {
    ConsentRequested: "request",
    ConsentGranted: "grant",
    ConsentRefused: "refuse",
    ConsentWithdrawn: "withdraw",
}
_STATUS: Final = {
    "request": states.REQUESTED,
    "grant": states.GRANTED,
    "refuse": states.REFUSED,
    "withdraw": states.WITHDRAWN,
}

PersonRow = ContactRow | ConsentRow
SaidAct = tuple[str, str, str, datetime]
"""A consent act as a person's stream holds it: action, purpose, channel and time."""


@dataclass(slots=True)
class ImportReport:
    """What came of an import. `without_effect` counts, by reason, consents that are on record but lift nothing."""

    contacts_added: int = 0
    contacts_known: int = 0
    consents_recorded: int = 0
    consents_known: int = 0
    suppressions_added: int = 0
    suppressions_known: int = 0
    rejected: int = 0
    without_effect: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, object]:
        """The report by name, for machines."""
        return {
            "contacts": {"added": self.contacts_added, "known": self.contacts_known},
            "consents": {
                "recorded": self.consents_recorded,
                "known": self.consents_known,
                "without_effect": dict(sorted(self.without_effect.items())),
            },
            "suppressions": {"added": self.suppressions_added, "known": self.suppressions_known},
            "rejected": self.rejected,
        }


@dataclass(slots=True)
class _Wanted:
    """One act that a row asks for, with the row to blame if it is refused."""

    row: PersonRow
    act: Act


class LedgerImport:
    """One import into one account. `seen` is told after each chunk how many lines of files it held."""

    def __init__(
        self,
        ledger: Ledger,
        rejects: RejectsWriter,
        *,
        actor: str,
        seen: Callable[[int], None] = lambda lines: None,
    ) -> None:
        self._ledger = ledger
        self._rejects = rejects
        self._actor = actor
        self._seen = seen
        self.report = ImportReport()

    def take(self, rows: Iterable[ImportRow]) -> ImportReport:
        """Carry all rows over. What was taken before a failure stays; running it again completes it."""
        for chunk in _chunks(rows):
            if isinstance(chunk[0], SuppressionRow):
                self._suppress([row for row in chunk if isinstance(row, SuppressionRow)])
            elif isinstance(chunk[0], RejectedRow):
                for row in chunk:
                    assert isinstance(row, RejectedRow)
                    self._reject(row)
            else:
                self._take_persons([row for row in chunk if isinstance(row, ContactRow | ConsentRow)])
            self._seen(len({(row.file, row.line) for row in chunk}))
        return self.report

    # Contacts and consents ------------------------------------------------------------------------------------------

    def _take_persons(self, rows: Sequence[PersonRow]) -> None:
        probes, bad = self._fingerprints(rows)
        known = self._standings([f for fingerprints in probes.values() for f in fingerprints])
        people = {
            index: next((known[f] for f in fingerprints if f in known), None) for index, fingerprints in probes.items()
        }
        said = self._said([person for i, person in people.items() if person and isinstance(rows[i], ConsentRow)])
        wanted = []
        for index, person in people.items():
            row = rows[index]
            try:
                command = _command(row)
            except (UnreadableCell, InvalidScope) as error:
                bad.append((row, str(error)))
                continue
            before = said.setdefault(person.person.subject if person else probes[index][0], set())
            if isinstance(row, ConsentRow) and _is_known(row, person.standing if person else None, before):
                self.report.consents_known += 1
                continue
            wanted.append(_Wanted(row, Act(command, address=row.email, actor=self._actor)))
        outcomes, _ = self._ledger.subjects.act([item.act for item in wanted]) if wanted else ([], None)
        for item, outcome in zip(wanted, outcomes, strict=True):
            if outcome.refused is not None:
                bad.append((item.row, _reason(outcome.refused)))
            else:
                self._count(item.row, outcome)
        self._reject_rows(bad)

    def _fingerprints(
        self, rows: Sequence[PersonRow]
    ) -> tuple[dict[int, tuple[bytes, ...]], list[tuple[PersonRow | SuppressionRow, str]]]:
        probes: dict[int, tuple[bytes, ...]] = {}
        bad: list[tuple[PersonRow | SuppressionRow, str]] = []
        for index, row in enumerate(rows):
            try:
                probes[index] = self._ledger.fingerprint.every(row.email)
            except InvalidAddress as error:
                bad.append((row, str(error)))
        return probes, bad

    def _standings(self, fingerprints: Sequence[bytes]) -> dict[bytes, StandingRow]:
        ledger = self._ledger
        with ledger.services.writer.transaction() as connection:
            generation = ledger.appender.read_head(connection).generation
            return ledger.services.book.resolve(connection, ledger.tenant, generation, fingerprints)

    def _said(self, people: Sequence[StandingRow]) -> dict[bytes, set[SaidAct]]:
        """The consent acts that the streams of these people hold, by subject; nothing personal is opened."""
        said: dict[bytes, set[SaidAct]] = {person.person.subject: set() for person in people}
        spoken = [UUID(bytes=person.person.subject) for person in people if person.standing.permissions]
        for stored in self._ledger.log.select_streams(list(dict.fromkeys(spoken))):
            if not stored.topic.startswith("consent."):
                continue
            fact = self._ledger.sealing.open(stored, personal=False)
            action = _CONSENT_FACTS.get(type(fact)) if isinstance(fact, ConsentFact) else None
            if action is not None:
                assert isinstance(fact, ConsentFact)
                said[fact.originator_id.bytes].add((action, fact.purpose, fact.channel, fact.occurred_at))
        return said

    def _count(self, row: PersonRow, outcome: Outcome) -> None:
        report = self.report
        if isinstance(row, ContactRow):
            added = any(isinstance(fact, ContactAdded) for fact in outcome.facts)
            report.contacts_added += added
            report.contacts_known += not added
            return
        if not outcome.facts:
            report.consents_known += 1
            return
        report.consents_recorded += 1
        first = outcome.facts[0]
        if isinstance(first, ConsentGranted) and not first.effective:
            report.without_effect[first.reason or "unknown"] += 1

    # Suppressions ---------------------------------------------------------------------------------------------------

    def _suppress(self, rows: Sequence[SuppressionRow]) -> None:
        fresh = []
        for row, standing in zip(rows, self._standings_of(rows), strict=True):
            if standing is not None and _stands(row, standing):
                self.report.suppressions_known += 1
            else:
                fresh.append(row)
        # A campaign id of another tool means nothing here, and stays in the file.
        requests = [SuppressionRequest(row.email, row.cause, row.scope, row.since) for row in fresh]
        answer = self._ledger.suppressions.impose(requests, actor=self._actor)
        self.report.suppressions_added += answer.added
        self.report.suppressions_known += answer.known
        self._reject_rows([(fresh[index], reason) for index, reason in answer.rejected])

    def _standings_of(self, rows: Sequence[SuppressionRow]) -> Iterator[Standing | None]:
        probes: list[tuple[bytes, ...]] = []
        for row in rows:
            try:
                probes.append(self._ledger.fingerprint.every(row.email))
            except InvalidAddress:
                probes.append(())  # The suppression desk names it.
        known = self._standings([f for fingerprints in probes for f in fingerprints])
        for fingerprints in probes:
            person = next((known[f] for f in fingerprints if f in known), None)
            yield person.standing if person else None

    # Rejected rows --------------------------------------------------------------------------------------------------

    def _reject_rows(self, bad: Sequence[tuple[PersonRow | SuppressionRow, str]]) -> None:
        """Write each line of a file once, with all that was wrong with it."""
        by_line: dict[tuple[str, int], tuple[PersonRow | SuppressionRow, list[str]]] = {}
        for row, reason in bad:
            reasons = by_line.setdefault((row.file, row.line), (row, []))[1]
            if reason not in reasons:
                reasons.append(reason)
        for row, reasons in by_line.values():
            self._reject(RejectedRow(row.line, row.file, " ".join(reasons), row.cells, row.header))

    def _reject(self, row: RejectedRow) -> None:
        self._rejects.write(row)
        self.report.rejected += 1


def _chunks(rows: Iterable[ImportRow]) -> Iterator[list[ImportRow]]:
    """Runs of rows of one kind (contacts and consents count as one), CHUNK_ACTS at most, in their order.

    A rejected row on the way ends no run: it is handed on at once, so that good rows stay in large chunks.
    """
    held: list[ImportRow] = []
    for row in rows:
        if isinstance(row, RejectedRow):
            yield [row]
            continue
        if held and (len(held) >= CHUNK_ACTS or isinstance(held[0], SuppressionRow) != isinstance(row, SuppressionRow)):
            yield held
            held = []
        held.append(row)
    if held:
        yield held


def _command(row: PersonRow) -> AddContact | RecordConsent:
    """The command a row asks for. Raises `UnreadableCell` and `InvalidScope`."""
    if isinstance(row, ContactRow):
        category = folded(row.category).replace(" ", "_") if row.category else "contact"
        return AddContact(row.email, _identity(row), category)
    return RecordConsent(
        checked_purpose(row.purpose),
        _channel(row.channel),
        row.action,
        row.occurred_at,
        row.evidence or None,
        imported=True,
    )


def _identity(row: ContactRow) -> dict[str, object]:
    identity: dict[str, object] = {
        "first_name": row.first_name,
        "last_name": row.last_name,
        "phone": row.phone,
        "country": row.country,
        "birth_date": row.birth_date.isoformat() if row.birth_date else None,
        "source": row.source,
        "custom": _custom(row) or None,
    }
    return {name: value for name, value in identity.items() if value is not None}


def _custom(row: ContactRow) -> dict[str, str]:
    if not row.tags:
        return row.custom
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(row.tags)
    name = TAGS_FIELD if TAGS_FIELD not in row.custom else f"{TAGS_FIELD} (2)"
    return row.custom | {name: text.getvalue()}


def _channel(value: str) -> str:
    if not _is_short_name(value):
        raise UnreadableCell("channel: write a short lower-case name, such as email")
    return value


def _is_known(row: ConsentRow, standing: Standing | None, said: set[SaidAct]) -> bool:
    """Whether the ledger, or an earlier row of this chunk, says this already; notes it if not."""
    if row.occurred_at is not None:
        act = (row.action, row.purpose, row.channel, row.occurred_at)
        if act in said:
            return True
        said.add(act)
        return False
    # Without a time, an act is known by what it leads to.
    held = standing.permissions.get(permission_key(row.purpose, row.channel)) if standing else None
    return held is not None and (row.action == "request" or held.status == _STATUS[row.action])


def _stands(row: SuppressionRow, standing: Standing) -> bool:
    since_us = micros(row.since) if row.since else None
    return any(
        (no.cause, no.scope) == (row.cause, row.scope) and (since_us is None or no.occurred_at >= since_us)
        for no in standing.noes
    )


_REASONS: Final[Mapping[str, str]] = {
    "unknown_recipient": "no such contact: import the contact first, then this row again",
}


def _reason(refusal: Exception) -> str:
    if isinstance(refusal, CommandRefused):
        return _REASONS.get(refusal.reason, str(refusal))
    return str(refusal)
