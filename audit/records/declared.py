"""What the registers say, as the rows of a record. Pure: from a register to activities, recipients and transfers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, cast

from audit.records.model import (
    Activity,
    Coded,
    Measure,
    Party,
    PartyRole,
    Recipient,
    Role,
    Safeguard,
    TimeLimit,
    Transfer,
)
from audit.records.terms import PolicyTerms
from domain.category import MEANINGS
from domain.facts import opened
from domain.law import rules_on
from domain.personal import Erased
from domain.register import ActivityStated, Entry, PartyStated, RecipientStated, Register, SafeguardStated
from domain.register_shape import CATEGORIES_OF_DATA, LAWFUL_BASES, MEASURES, MECHANISMS, RECIPIENT_KINDS
from domain.time_limit import InvalidTimeLimit
from domain.time_limit import TimeLimit as Limit

EEA_REGIME = "eu"

Contradicted = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Declared:
    """Everything that was declared as of a day."""

    parties: tuple[Party, ...]
    activities: tuple[Activity, ...]
    retired: tuple[Activity, ...]
    recipients: tuple[Recipient, ...]
    safeguards: tuple[Safeguard, ...]
    seen_as: Mapping[str, tuple[str, ...]]
    """By recipient's key: the codes under which the ledger observes them."""

    transfers: tuple[Transfer, ...]
    """Of every recipient in force, whether an activity names it or not."""


def declared(
    register: Register, terms: PolicyTerms, on: date, home: str | None, contradicted: Contradicted
) -> Declared:
    """The rows of a record as of a day. `home` is the controller's country; transfers leave the EEA and it."""
    safeguards = {entry.key: _safeguard(entry) for entry in register.in_force("safeguard")}
    entries = register.in_force("recipient")
    recipients = {entry.key: _recipient(entry, on, home) for entry in entries}
    transfers = {entry.key: tuple(_transfers(entry, recipients[entry.key], safeguards)) for entry in entries}

    def row(entry: Entry) -> Activity:
        return _activity(entry, recipients, transfers, terms, contradicted)

    return Declared(
        parties=tuple(_party(entry) for entry in register.in_force("party")),
        activities=tuple(row(entry) for entry in register.in_force("activity")),
        retired=tuple(row(entry) for entry in register.of_kind("activity") if not entry.in_force),
        recipients=tuple(recipients.values()),
        safeguards=tuple(safeguards.values()),
        seen_as={entry.key: entry.stated.seen_as for entry in entries if isinstance(entry.stated, RecipientStated)},
        transfers=tuple(transfer for of_recipient in transfers.values() for transfer in of_recipient),
    )


def third_countries(countries: Iterable[str], on: date, home: str | None) -> tuple[str, ...]:
    """Those of some countries that lie outside the EEA and are not the controller's own."""
    rules = rules_on(on)
    return tuple(country for country in countries if country != home and rules.regime_of(country).name != EEA_REGIME)


def _party(entry: Entry) -> Party:
    stated = entry.stated
    assert isinstance(stated, PartyStated)
    return Party(
        entry.key,
        cast(PartyRole, stated.role),
        _text(stated.name),
        person=_text(stated.person),
        address=_text(stated.address),
        email=_text(stated.email),
        phone=_text(stated.phone),
        website=_text(stated.website),
        country=stated.country,
        erased=_gone(stated.name),
        note=_text(stated.note),
    )


def _safeguard(entry: Entry) -> Safeguard:
    stated = entry.stated
    assert isinstance(stated, SafeguardStated)
    return Safeguard(
        entry.key,
        _coded(MECHANISMS, stated.mechanism),
        _text(stated.name),
        stated.countries,
        stated.document_sha256,
        _text(stated.where),
        _gone(stated.name),
        _text(stated.note),
    )


def _recipient(entry: Entry, on: date, home: str | None) -> Recipient:
    stated = entry.stated
    assert isinstance(stated, RecipientStated)
    return Recipient(
        entry.key,
        _coded(RECIPIENT_KINDS, stated.recipient_kind),
        _text(stated.name),
        _text(stated.category),
        stated.countries,
        third_countries(stated.countries, on, home),
        _gone(stated.name),
        stated.agreement_sha256,
        stated.safeguards,
        stated.seen_as,
        _text(stated.contact),
        _text(stated.note),
    )


def _transfers(entry: Entry, recipient: Recipient, safeguards: Mapping[str, Safeguard]) -> Iterable[Transfer]:
    """One for each third country and safeguard that covers it; one without any where none does."""
    stated = entry.stated
    assert isinstance(stated, RecipientStated)
    named = [safeguards[key] for key in stated.safeguards if key in safeguards]
    for country in recipient.third_countries:
        covering = [safeguard for safeguard in named if country in safeguard.countries]
        if not covering:
            yield Transfer(recipient.key, recipient.name, country, None)
        for safeguard in covering:
            yield Transfer(
                recipient.key,
                recipient.name,
                country,
                safeguard.mechanism,
                safeguard.key,
                safeguard.title,
                safeguard.document_sha256,
                safeguard.where,
            )


def _activity(
    entry: Entry,
    recipients: Mapping[str, Recipient],
    transfers: Mapping[str, tuple[Transfer, ...]],
    terms: PolicyTerms,
    contradicted: Contradicted,
) -> Activity:
    stated = entry.stated
    assert isinstance(stated, ActivityStated)
    others = tuple(Coded("", words) for words in _texts(stated.other_categories))
    codes = tuple(Measure(MEASURES.get(code, code), code, contradicted(code)) for code in stated.measures)
    return Activity(
        key=entry.key,
        role=cast(Role, stated.role),
        name=_text(stated.name),
        purposes=_texts(stated.purposes),
        lawful_bases=tuple(_coded(LAWFUL_BASES, code) for code in stated.lawful_bases),
        subjects=tuple(_coded(MEANINGS, code) for code in stated.subjects),
        categories=(*(_coded(CATEGORIES_OF_DATA, code) for code in stated.categories), *others),
        recipients=tuple(recipients[key] for key in stated.recipients if key in recipients),
        transfers=tuple(transfer for key in stated.recipients for transfer in transfers.get(key, ())),
        time_limits=tuple(_limits(stated, terms)),
        measures=(*codes, *(Measure(words) for words in _texts(stated.measures_said))),
        declared_on=_day(entry.declared_at),
        changed_on=_day(entry.changed_at),
        retired_on=None if entry.retired_at is None else _day(entry.retired_at),
        source=stated.source,
        note=_text(stated.note),
        erased=_gone(stated.name),
    )


def _limits(stated: ActivityStated, terms: PolicyTerms) -> Iterable[TimeLimit]:
    for category in stated.categories:
        code = stated.limits.get(category)
        if code is None:
            continue
        promised = terms.limits.get(category, ())
        differs = bool(promised) and code not in {limit.code for limit in promised}
        said = " or ".join(limit_words(limit.code) for limit in promised) if differs else None
        yield TimeLimit(category, limit_words(code), stated.clauses.get(category), said)


def limit_words(code: str) -> str:
    """A time limit in words; the code itself where a later version of the program wrote it."""
    try:
        return str(Limit.parse(code))
    except InvalidTimeLimit:
        return code


def _coded(words: Mapping[str, str], code: str) -> Coded:
    return Coded(code, words.get(code, code))


def _text(value: object) -> str | None:
    found = opened(value)
    return None if found is None else str(found)


def _texts(value: object) -> tuple[str, ...]:
    found: Any = opened(value)
    return tuple(found or ())


def _gone(value: object) -> bool:
    return isinstance(value, Erased)


def _day(moment: datetime) -> date:
    return moment.astimezone(UTC).date()
