"""Where the declared and the observed differ: pure, over a record's parts. A finding asks for an act, a note does not.

Each finding has a stable code (`FINDINGS`). What an account declares is never judged by its words, only by its codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

from audit.records.declared import Declared
from audit.records.model import Activity, Coded, Finding, Observed, ObservedCategory, Severity
from audit.records.observing import Living
from domain.register_shape import BOUND_KINDS, CATEGORIES_OF_DATA, DOCUMENTED_MECHANISMS

FINDINGS: Final[Mapping[str, tuple[Severity, str, str]]] = {
    "undeclared_category": (
        "finding",
        "The ledger holds data of a category that no activity in force names.",
        "Declare the activity that needs it, or stop storing it and let its time run out.",
    ),
    "retired_with_data": (
        "finding",
        "An activity was retired, and data that only it named is still there to be read.",
        "Destroy what it left (lethe retention plan), or declare what it is still kept for.",
    ),
    "undeclared_recipient": (
        "finding",
        "Data went to somebody whom no recipient in force stands for.",
        "Declare the recipient, with the code under seen_as; or find out why it went there.",
    ),
    "transfer_without_safeguard": (
        "finding",
        "A recipient in a third country has no safeguard that covers the country.",
        "Declare the safeguard, and name it in the recipient (GDPR Art. 44 to 49).",
    ),
    "safeguard_without_document": (
        "finding",
        "Nothing says which document the safeguard is.",
        "Record the SHA-256 of the signed document, and where a copy can be had (GDPR Art. 13(1)(f)).",
    ),
    "overdue_key": (
        "finding",
        "Keys are alive after the day on which the policy has them destroyed.",
        "Run lethe retention plan and apply it, or see which legal hold keeps them back.",
    ),
    "no_time_limit": (
        "finding",
        "An activity names a category and no time limit for its erasure.",
        "Give the limit (GDPR Art. 30(1)(f)).",
    ),
    "time_limit_differs": (
        "finding",
        "The time limit declared is not the one that the policy keeps.",
        "Amend the activity, or adopt a policy that keeps what it says.",
    ),
    "measure_untrue": (
        "finding",
        "A measure is declared that the program knows to be untrue here.",
        "Make it true, or take the measure out of the activity.",
    ),
    "missing_party": (
        "finding",
        "Nobody is named who is answerable.",
        "Declare the party (GDPR Art. 30(1)(a), 30(2)(a)).",
    ),
    "nothing_declared": (
        "finding",
        "No processing activity is declared.",
        "Start from the policy: lethe register seed.",
    ),
    "no_subjects": (
        "finding",
        "An activity does not say whose data it is about.",
        "Name the categories of persons (GDPR Art. 30(1)(c)).",
    ),
    "never_seen": ("note", "A category is declared of which the ledger has never seen anything.", "Nothing."),
    "no_agreement": (
        "note",
        "Nothing says which contract binds a processor.",
        "Record the SHA-256 of the signed contract (GDPR Art. 28(3), 28(4)).",
    ),
    "no_lawful_basis": ("note", "An activity names no lawful basis.", "Art. 30 does not ask for it; Art. 13 does."),
    "not_counted": (
        "note",
        "The log goes on behind what was counted for this record, or an event of it was put aside.",
        "Is a worker running? The rest is counted within seconds of its start. What was put aside: lethe doctor.",
    ),
    "keys_not_told": (
        "note",
        "Living keys are those of today, so a record as of an earlier day does not tell them.",
        "Look at the record as of today.",
    ),
}
"""Every code with its severity, what it means, and what to do."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What findings are made from. `living` is None where the record is as of an earlier day."""

    declared: Declared
    observed: Observed
    living: Living | None
    position: int

    @property
    def is_counted(self) -> bool:
        """Whether everything that the record takes in was counted."""
        return self.observed.counted_to >= self.position


def find(compared: Compared) -> tuple[Finding, ...]:
    """Every finding, then every note, each in a stable order."""
    made = [
        *_of_activities(compared.declared.activities),
        *_of_parties(compared),
        *_of_transfers(compared.declared),
        *_of_agreements(compared.declared),
        *_of_categories(compared),
        *_of_recipients(compared),
        *_of_keys(compared),
        *_of_counting(compared),
    ]
    return tuple(sorted(made, key=lambda finding: (finding.severity == "note", _ORDER[finding.code], finding.about)))


TOLD_OF_TODAY: Final = frozenset({"overdue_key", "measure_untrue"})
"""What only a record as of today can tell: living keys, and where the program runs."""

_ORDER: Final = {code: number for number, code in enumerate(FINDINGS)}


def _finding(
    code: str, about: str, words: str | None = None, *, since: date | None = None, clause: str | None = None
) -> Finding:
    severity, meaning, what_to_do = FINDINGS[code]
    return Finding(code, severity, about, words or meaning, what_to_do, since, clause)


def _of_activities(activities: Iterable[Activity]) -> Iterator[Finding]:
    for activity in activities:
        limited = {limit.category for limit in activity.time_limits}
        without = [category.code for category in activity.categories if category.code and category.code not in limited]
        if without:
            yield _finding("no_time_limit", activity.key, f"No time limit for {', '.join(without)}.")
        for limit in activity.time_limits:
            if limit.pack_words is not None:
                said = f"{limit.category}: declared {limit.words}; the policy keeps it {limit.pack_words}."
                yield _finding("time_limit_differs", activity.key, said, clause=limit.clause)
        for measure in activity.measures:
            if measure.contradicted is not None:
                yield _finding("measure_untrue", activity.key, f"{measure.code}: {measure.contradicted}")
        if not activity.subjects:
            yield _finding("no_subjects", activity.key)
        if not activity.lawful_bases and activity.role == "controller":
            yield _finding("no_lawful_basis", activity.key)


def _of_parties(compared: Compared) -> Iterator[Finding]:
    declared = compared.declared
    roles = {party.role for party in declared.parties}
    if not declared.activities:
        yield _finding("nothing_declared", "activities")
        return
    if "controller" not in roles:
        yield _finding("missing_party", "controller", "The controller's name and contact are not declared.")
    if "processor" not in roles and any(activity.role == "processor" for activity in declared.activities):
        yield _finding("missing_party", "processor", "The processor's name and contact are not declared.")


def _of_transfers(declared: Declared) -> Iterator[Finding]:
    for transfer in declared.transfers:
        if transfer.mechanism is None:
            said = f"Nothing covers the transfer of {transfer.recipient} to {transfer.country}."
            yield _finding("transfer_without_safeguard", f"{transfer.recipient} {transfer.country}", said)
    for safeguard in declared.safeguards:
        if safeguard.mechanism.code in DOCUMENTED_MECHANISMS and safeguard.document_sha256 is None:
            yield _finding("safeguard_without_document", safeguard.key)


def _of_agreements(declared: Declared) -> Iterator[Finding]:
    for recipient in declared.recipients:
        if recipient.kind.code in BOUND_KINDS and recipient.agreement_sha256 is None:
            yield _finding("no_agreement", recipient.key)


def _of_categories(compared: Compared) -> Iterator[Finding]:
    left = {
        category.code: activity
        for activity in compared.declared.retired
        for category in activity.categories
        if category.code
    }
    seen = set()
    for category in compared.observed.categories:
        name = category.category.code
        seen.add(name)
        if category.declared_by or (compared.living is not None and not compared.living.readable(name)):
            continue
        activity = left.get(name)
        if activity is None:
            yield _finding("undeclared_category", name, _stored(category), since=category.first_on)
        else:
            said = f"{activity.key} ended on {activity.retired_on}. {_stored(category)}"
            yield _finding("retired_with_data", name, said, since=activity.retired_on)
    if not compared.is_counted:
        return  # It may stand in the part of the log that was not counted yet.
    for name in sorted(set(_declared_codes(compared.declared.activities)) - seen):
        yield _finding("never_seen", name, f"Nothing of it has been stored: {CATEGORIES_OF_DATA.get(name, name)}.")


def _stored(category: ObservedCategory) -> str:
    topics = ", ".join(topic.topic for topic in category.topics)
    return f"{category.category.words}: {_events(category.events)}, last on {category.last_on} ({topics})."


def _declared_codes(activities: Iterable[Activity]) -> Iterator[str]:
    for activity in activities:
        yield from (category.code for category in activity.categories if category.code)


def _of_recipients(compared: Compared) -> Iterator[Finding]:
    for recipient in compared.observed.recipients:
        if not recipient.declared_as:
            said = f"{recipient.words}: {_events(recipient.events)}, last on {recipient.last_on}."
            yield _finding("undeclared_recipient", recipient.code, said, since=recipient.first_on)


def _of_keys(compared: Compared) -> Iterator[Finding]:
    keys = compared.observed.oldest_keys
    if keys is None:
        yield _finding("keys_not_told", "keys")
        return
    holds = compared.living.holds if compared.living is not None else 0
    held = f" Active legal holds that may keep them back: {holds}." if holds else ""
    for key in keys:
        if key.overdue:
            said = f"{key.category}: {_oldest(key.kind, key.oldest)} and was due on {key.due_on}.{held}"
            yield _finding("overdue_key", key.category, said, since=key.due_on, clause=key.clause)


def _oldest(kind: str, oldest: str) -> str:
    if kind == "period":
        return f"the key of {oldest} is alive"
    return f"a person's key last used on {oldest} is alive" if kind == "person" else f"the account ended on {oldest}"


def _of_counting(compared: Compared) -> Iterator[Finding]:
    if not compared.is_counted:
        said = f"Counted without a gap up to position {compared.observed.counted_to:,} of {compared.position:,}."
        yield _finding("not_counted", "log", said)


def declared_by(activities: Iterable[Activity]) -> dict[str, tuple[str, ...]]:
    """The keys of the activities that name each category."""
    found: dict[str, list[str]] = {}
    for activity in activities:
        for category in activity.categories:
            _note(found, category, activity.key)
    return {code: tuple(keys) for code, keys in found.items()}


def _events(count: int) -> str:
    return "1 event" if count == 1 else f"{count:,} events"


def _note(found: dict[str, list[str]], category: Coded, key: str) -> None:
    if category.code:
        found.setdefault(category.code, []).append(key)
