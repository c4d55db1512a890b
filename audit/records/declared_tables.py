"""The tables of what GDPR Article 30 asks for, from what was declared. Each names the point that it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from audit.records.model import (
    Activity,
    Coded,
    Measure,
    Party,
    PartyRole,
    Recipient,
    RecordsOfProcessing,
    Safeguard,
    TimeLimit,
    Transfer,
)
from audit.records.table_shape import ERASED, Column, Row, Table, or_erased

ROLES: Final[dict[PartyRole, str]] = {
    "controller": "Controller",
    "controller_representative": "Representative of the controller",
    "controller_dpo": "Data protection officer of the controller",
    "joint_controller": "Joint controller",
    "processor": "Processor",
    "processor_representative": "Representative of the processor",
    "processor_dpo": "Data protection officer of the processor",
}


def declared_tables(record: RecordsOfProcessing) -> tuple[Table, ...]:
    """In the order of a record."""
    return (
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
    )


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
    def row(party: Party) -> Row:
        texts = (party.name, party.person, party.address, party.email, party.phone, party.website)
        return (ROLES[party.role], *or_erased(texts, erased=party.erased), party.country)

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

    def row(activity: Activity) -> Row:
        key, name, purposes, subjects, categories, recipients, countries, limits, measures, _, *rest = _activity(
            activity
        )
        extras = (subjects, categories, recipients, limits)
        return (key, name, controllers, purposes, countries, measures, *extras, *rest)

    rows = tuple(row(activity) for activity in record.of_role("processor"))
    empty = "No processing on behalf of a controller is declared."
    return Table("processing-for-others", "Processing for controllers", "Art. 30(2)", PROCESSING, rows, empty)


def _activity(activity: Activity) -> Row:
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
    name, category = or_erased((recipient.name, recipient.category), erased=recipient.erased)
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
        title, where = or_erased((safeguard.title, safeguard.where), erased=safeguard.erased)
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


def _words(coded: Sequence[Coded]) -> tuple[str, ...]:
    return tuple(one.words for one in coded)
