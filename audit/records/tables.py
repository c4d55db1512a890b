"""A record of processing as tables: what the CSV, XLSX, PDF and HTML forms all show, in one order and one wording.

A table says which point of GDPR Article 30 it answers. What the Article does not ask for is marked as an extra, a
whole table or single columns of one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

from audit.records.model import (
    Activity,
    Coded,
    Enforced,
    Finding,
    Measure,
    ObservedCategory,
    ObservedRecipient,
    OldestKey,
    Party,
    PartyRole,
    Recipient,
    RecordsOfProcessing,
    Safeguard,
    TimeLimit,
    Transfer,
)

Cell = str | int | bool | date | datetime | tuple[str, ...] | None

ERASED: Final = "(erased)"
"""Where words were sealed under keys that are destroyed since; the codes beside them remain."""

ROLES: Final[dict[PartyRole, str]] = {
    "controller": "Controller",
    "controller_representative": "Representative of the controller",
    "controller_dpo": "Data protection officer of the controller",
    "joint_controller": "Joint controller",
    "processor": "Processor",
    "processor_representative": "Representative of the processor",
    "processor_dpo": "Data protection officer of the processor",
}
MEANINGS: Final = {
    "recorded": "as the ledger knew it by the end of this day (UTC)",
    "occurred": "as it was by the end of this day (UTC), as far as is known by now",
}
TODAY_ONLY: Final = "The vault knows the keys of today, so only a record as of today can tell this."


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `width` is in characters; `extra` marks what Article 30 does not ask for."""

    title: str
    width: int = 20
    extra: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """One part of a record. `name` names files and sheets; `empty` is said where there are no rows."""

    name: str
    title: str
    article: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    empty: str
    extra: bool = False


def tables_of(record: RecordsOfProcessing) -> tuple[Table, ...]:
    """Every table of a record, in order; the first says what it is a record of."""
    return (
        _about(record),
        _parties(record),
        _activities(record),
        _processing_for_others(record),
        _of_activities(record, "purposes", "Purposes by activity", "Art. 30(1)(b)", PURPOSES, _purposes),
        _of_activities(record, "recipients", "Recipients by activity", "Art. 30(1)(d)", RECIPIENTS, _recipients),
        _of_activities(record, "transfers", "Transfers to third countries", TRANSFERS_ASKED, TRANSFERS, _transfers),
        _of_activities(record, "time-limits", "Time limits for erasure", "Art. 30(1)(f)", TIME_LIMITS, _time_limits),
        _of_activities(record, "measures", "Security measures", "Art. 30(1)(g), 30(2)(d)", MEASURES, _measures),
        _register_of_recipients(record),
        _safeguards(record),
        _retired(record),
        _observed_categories(record),
        _observed_recipients(record),
        _enforced(record),
        _oldest_keys(record),
        _findings(record),
    )


def text_of(cell: Cell, *, between: str = "; ") -> str:
    """A cell as text: days and times in ISO 8601, several values with something between them."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, datetime):
        return cell.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(cell, date):
        return cell.isoformat()
    if isinstance(cell, tuple):
        return between.join(cell)
    return str(cell)


# What the Article asks for --------------------------------------------------------------------------------------------


def _about(record: RecordsOfProcessing) -> Table:
    rows: list[tuple[Cell, ...]] = [
        ("Account", record.account_name or ERASED),
        ("Account id", str(record.tenant)),
        ("Kind of account", "the platform's own" if record.operator else "a controller's"),
        ("As of", record.as_of.on),
        ("Meaning", MEANINGS[record.as_of.meaning]),
        ("Made at (UTC)", record.made_at),
        ("Takes in the log up to position", record.position),
        ("Observed up to position", record.observed.counted_to),
        ("Policy", f"{record.pack_title} ({record.pack}, version {record.pack_version})"),
        ("Retention last carried out on", record.observed.last_plan_on),
        ("Persons erased", record.observed.erasures),
        ("Last person erased on", record.observed.last_erasure_on),
        ("Activities in force", len(record.activities)),
        ("Findings", sum(finding.severity == "finding" for finding in record.findings)),
        ("Extras", "what Article 30 does not ask for is marked (extra)"),
    ]
    columns = (Column("What", 32), Column("Value", 60))
    return Table("about", "About this record", "Art. 30", columns, tuple(rows), "")


PARTIES: Final = (
    Column("Role", 30),
    Column("Name", 28),
    Column("Person", 24),
    Column("Address", 34),
    Column("E-mail", 28),
    Column("Phone", 18),
    Column("Website", 28),
    Column("Country", 12),
)


def _parties(record: RecordsOfProcessing) -> Table:
    def row(party: Party) -> tuple[Cell, ...]:
        texts = (party.name, party.person, party.address, party.email, party.phone, party.website)
        return (ROLES[party.role], *_or_erased(texts, erased=party.erased), party.country)

    rows = tuple(row(party) for role in ROLES for party in record.party(role))
    empty = "Nobody is named yet. Declare a controller, or a processor, with contacts."
    return Table("parties", "Who is answerable", "Art. 30(1)(a), 30(2)(a)", PARTIES, rows, empty)


ACTIVITIES: Final = (
    Column("Key", 18),
    Column("Activity", 28),
    Column("Purposes", 36),
    Column("Categories of data subjects", 26),
    Column("Categories of personal data", 30),
    Column("Recipients", 28),
    Column("Third countries", 14),
    Column("Time limits", 36),
    Column("Security measures", 36),
    Column("Lawful bases", 26, extra=True),
    Column("Declared on", 12),
    Column("Changed on", 12),
    Column("Words from", 16, extra=True),
    Column("Note", 30, extra=True),
)


def _activities(record: RecordsOfProcessing) -> Table:
    rows = tuple(_activity(activity) for activity in record.of_role("controller"))
    empty = "No processing activity is declared."
    return Table("activities", "Processing activities of the controller", "Art. 30(1)", ACTIVITIES, rows, empty)


PROCESSING: Final = (
    Column("Key", 18),
    Column("Activity", 28),
    Column("Controllers", 30),
    Column("Categories of processing", 40),
    Column("Third countries", 14),
    Column("Security measures", 36),
    Column("Categories of data subjects", 26, extra=True),
    Column("Categories of personal data", 30, extra=True),
    Column("Sub-processors and recipients", 28, extra=True),
    Column("Time limits", 36, extra=True),
    Column("Declared on", 12),
    Column("Changed on", 12),
    Column("Words from", 16, extra=True),
    Column("Note", 30, extra=True),
)


def _processing_for_others(record: RecordsOfProcessing) -> Table:
    controllers = tuple(party.name or ERASED for party in record.party("controller"))

    def row(activity: Activity) -> tuple[Cell, ...]:
        key, name, purposes, subjects, categories, recipients, countries, limits, measures, _, *rest = _activity(
            activity
        )
        extras = (subjects, categories, recipients, limits)
        return (key, name, controllers, purposes, countries, measures, *extras, *rest)

    rows = tuple(row(activity) for activity in record.of_role("processor"))
    empty = "No processing on behalf of a controller is declared."
    return Table("processing-for-others", "Processing for controllers", "Art. 30(2)", PROCESSING, rows, empty)


def _activity(activity: Activity) -> tuple[Cell, ...]:
    return (
        activity.key,
        activity.name or ERASED,
        activity.purposes or ((ERASED,) if activity.erased else ()),
        _words(activity.subjects),
        _words(activity.categories),
        tuple(recipient.name or f"{recipient.key} {ERASED}" for recipient in activity.recipients),
        tuple(dict.fromkeys(transfer.country for transfer in activity.transfers)),
        tuple(f"{limit.category}: {limit.words}" for limit in activity.time_limits),
        tuple(measure.words or measure.code or ERASED for measure in activity.measures),
        _words(activity.lawful_bases),
        activity.declared_on,
        activity.changed_on,
        activity.source,
        activity.note,
    )


Row = tuple[Cell, ...]

PURPOSES: Final = (Column("Activity", 20), Column("Purpose, or category of processing", 90))

RECIPIENTS: Final = (
    Column("Activity", 20),
    Column("Key", 18),
    Column("Recipient", 30),
    Column("Kind", 22),
    Column("Category", 28),
    Column("Countries", 16),
    Column("Third countries", 16),
)
TRANSFERS: Final = (
    Column("Activity", 20),
    Column("Recipient", 30),
    Column("Country", 12),
    Column("Safeguard", 36),
    Column("Document", 32),
    Column("SHA-256 of the document", 40, extra=True),
    Column("Where to get a copy", 30),
)
TRANSFERS_ASKED: Final = "Art. 30(1)(e), 30(2)(c)"
TIME_LIMITS: Final = (
    Column("Activity", 20),
    Column("Category", 26),
    Column("Time limit", 44),
    Column("Clause of the policy", 20, extra=True),
    Column("The policy says", 44, extra=True),
)
MEASURES: Final = (
    Column("Activity", 20),
    Column("Measure", 60),
    Column("Code", 24, extra=True),
    Column("Known to be untrue", 44, extra=True),
)


def _of_activities(
    record: RecordsOfProcessing,
    name: str,
    title: str,
    article: str,
    columns: tuple[Column, ...],
    rows_of: Callable[[Activity], Sequence[Row]],
) -> Table:
    rows = tuple((activity.key, *row) for activity in record.activities for row in rows_of(activity))
    return Table(name, title, article, columns, rows, "None is declared.")


def _purposes(activity: Activity) -> list[Row]:
    return [(purpose,) for purpose in activity.purposes]


def _recipients(activity: Activity) -> list[Row]:
    return [_recipient(recipient) for recipient in activity.recipients]


def _recipient(recipient: Recipient) -> Row:
    name, category = _or_erased((recipient.name, recipient.category), erased=recipient.erased)
    return (recipient.key, name, recipient.kind.words, category, recipient.countries, recipient.third_countries)


def _transfers(activity: Activity) -> list[Row]:
    return [_transfer(transfer) for transfer in activity.transfers]


def _transfer(transfer: Transfer) -> Row:
    mechanism = transfer.mechanism.words if transfer.mechanism else "none is declared"
    recipient = transfer.recipient_name or f"{transfer.recipient} {ERASED}"
    return (recipient, transfer.country, mechanism, transfer.title, transfer.document_sha256, transfer.where)


def _time_limits(activity: Activity) -> list[Row]:
    return [_time_limit(limit) for limit in activity.time_limits]


def _time_limit(limit: TimeLimit) -> Row:
    return (limit.category, limit.words, limit.clause, limit.pack_words)


def _measures(activity: Activity) -> list[Row]:
    return [_measure(measure) for measure in activity.measures]


def _measure(measure: Measure) -> Row:
    return (measure.words or (ERASED if measure.code is None else None), measure.code, measure.contradicted)


def _register_of_recipients(record: RecordsOfProcessing) -> Table:
    rows = tuple(_recipient(recipient) for recipient in record.recipients)
    columns = RECIPIENTS[1:]
    return Table("register-of-recipients", "All recipients", "Art. 30(1)(d)", columns, rows, "None is declared.")


def _safeguards(record: RecordsOfProcessing) -> Table:
    columns = (
        *(Column("Key", 18), Column("Safeguard", 36), Column("Document", 32), Column("Countries", 16)),
        *(Column("SHA-256 of the document", 40, extra=True), Column("Where to get a copy", 30)),
    )

    def row(safeguard: Safeguard) -> Row:
        title, where = _or_erased((safeguard.title, safeguard.where), erased=safeguard.erased)
        return (
            *(safeguard.key, safeguard.mechanism.words, title, safeguard.countries),
            *(safeguard.document_sha256, where),
        )

    rows = tuple(row(safeguard) for safeguard in record.safeguards)
    return Table("safeguards", "Safeguards for transfers", TRANSFERS_ASKED, columns, rows, "None is declared.")


def _retired(record: RecordsOfProcessing) -> Table:
    columns = (Column("Key", 18), Column("Activity", 30), Column("Purposes", 40), *ENDED)
    rows = tuple((a.key, a.name or ERASED, a.purposes, a.role, a.declared_on, a.retired_on) for a in record.retired)
    return Table("retired", "Activities that ended", "", columns, rows, "None has ended.", extra=True)


ENDED: Final = (Column("Role", 12), Column("Declared on", 12), Column("Ended on", 12))


# What the ledger observed ---------------------------------------------------------------------------------------------


def _observed_categories(record: RecordsOfProcessing) -> Table:
    columns = (
        *(Column("Category", 28), Column("Code", 20), Column("Events", 12)),
        *(Column("First on", 12), Column("Last on", 12), Column("Declared by", 26), Column("Kinds of events", 50)),
    )

    def row(seen: ObservedCategory) -> Row:
        kinds = tuple(f"{topic.topic}: {topic.events}" for topic in seen.topics)
        return (
            *(seen.category.words, seen.category.code, seen.events, seen.first_on, seen.last_on),
            *(seen.declared_by or "not declared", kinds),
        )

    rows = tuple(row(seen) for seen in record.observed.categories)
    return _extra("observed-categories", "Categories of data really stored", columns, rows, "Nothing is stored yet.")


def _observed_recipients(record: RecordsOfProcessing) -> Table:
    columns = (
        *(Column("Seen as", 24), Column("What", 40), Column("Events", 12)),
        *(Column("First on", 12), Column("Last on", 12), Column("Declared as", 26)),
    )

    def row(seen: ObservedRecipient) -> Row:
        return (seen.code, seen.words, seen.events, seen.first_on, seen.last_on, seen.declared_as or "not declared")

    rows = tuple(row(seen) for seen in record.observed.recipients)
    return _extra("observed-recipients", "Recipients really used", columns, rows, "Nothing went to anybody yet.")


def _enforced(record: RecordsOfProcessing) -> Table:
    columns = (
        *(Column("Category", 24), Column("Clause of the policy", 20), Column("Keys destroyed", 14)),
        *(Column("Destructions", 12), Column("Last on", 12), Column("Periods", 50)),
    )

    def row(done: Enforced) -> Row:
        return (done.category, done.clause, done.keys, done.destructions, done.last_on, done.periods)

    rows = tuple(row(done) for done in record.observed.enforced)
    return _extra("retention", "Retention really enforced", columns, rows, "No key was destroyed yet.")


def _oldest_keys(record: RecordsOfProcessing) -> Table:
    columns = (
        *(Column("Category", 24), Column("Keys of", 12), Column("Living keys", 12), Column("Oldest", 14)),
        *(Column("Clause of the policy", 20), Column("Due on", 12), Column("Overdue", 12)),
    )

    def row(key: OldestKey) -> Row:
        return (key.category, key.kind, key.keys, key.oldest, key.clause, key.due_on, key.overdue)

    known = record.observed.oldest_keys
    rows = tuple(row(key) for key in known or ())
    empty = TODAY_ONLY if known is None else "There is no key."
    return _extra("oldest-keys", "Oldest living keys", columns, rows, empty)


def _findings(record: RecordsOfProcessing) -> Table:
    columns = (
        *(Column("Severity", 12), Column("What differs", 50), Column("What to do", 50), Column("About", 24)),
        *(Column("Since", 12), Column("Clause of the policy", 20), Column("Code", 24)),
    )

    def row(finding: Finding) -> Row:
        words = (finding.severity, finding.words, finding.what_to_do, finding.about)
        return (*words, finding.since, finding.clause, finding.code)

    rows = tuple(row(finding) for finding in record.findings)
    empty = "What was declared and what the ledger observed do not differ."
    return _extra("findings", "Findings", columns, rows, empty)


def _extra(name: str, title: str, columns: tuple[Column, ...], rows: tuple[Row, ...], empty: str) -> Table:
    return Table(name, title, "", columns, rows, empty, extra=True)


def _words(coded: Sequence[Coded]) -> tuple[str, ...]:
    return tuple(one.words for one in coded)


def _or_erased(texts: Sequence[str | None], *, erased: bool) -> list[str | None]:
    """Texts as they are; where their keys are destroyed, the first says so and the others are empty."""
    return [ERASED, *([None] * (len(texts) - 1))] if erased else list(texts)
