"""Records: what is kept of a person's dealings with an account besides their mail.

A support interaction, a transaction, a line of an access log or of an error log, a fact of usage: each retention
clause of the packs (Mailkai 8, Mailenium 5.1 and 5.3) has its class here and so real data to act on. The content is
sealed; in the clear stand the class, a code for the kind, the day, and whether the record is about a person at all.
Whom it is about stands nowhere: the stream's id is computed from the person's key (DESIGN section 3). The moment is
sealed with the content: a line of a log and an error that were written in the same microsecond would otherwise lead
from one to the other when the time of one of them is over (invariant I11).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import ClassVar, Final

from domain.facts import BY_RECORD_AND_DAY, BY_RECORD_AND_MONTH, Fact, SealedBy
from domain.ids import day_of, month_of
from domain.personal import AccessLog, Billing, ErrorLog, Personal, Support, Usage

CONTENT_FIELDS_MAX: Final = 50
FIELD_NAME_CHARACTERS_MAX: Final = 200
FIELD_CHARACTERS_MAX: Final = 10_000
CONTENT_CHARACTERS_MAX: Final = 32_768
"""One sealed part: a long letter to support, or a traceback."""

KIND_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,31}")


class RecordFact(Fact):
    """One record. `kind` is a code of the account's own, such as `ticket` or `invoice`.

    `occurred_at` is the day (midnight, UTC); `at`, which every record seals beside its content, is the moment.
    """

    about_person: bool = False
    kind: str | None = None


class SupportRecorded(RecordFact):
    """An interaction with support; the clock of its class runs from a person's last one."""

    TOPIC: ClassVar[str] = "record.support.v1"
    SEALED_BY: ClassVar[Mapping[str, SealedBy]] = {Support.name: BY_RECORD_AND_MONTH}
    content: Personal[dict[str, str], Support]
    at: Personal[str, Support]


class TransactionRecorded(RecordFact):
    """A transaction. Tax law keeps it for years after the last one (GDPR Art. 17(3)(b))."""

    TOPIC: ClassVar[str] = "record.transaction.v1"
    SEALED_BY: ClassVar[Mapping[str, SealedBy]] = {Billing.name: BY_RECORD_AND_MONTH}
    content: Personal[dict[str, str], Billing]
    at: Personal[str, Billing]


class AccessLogged(RecordFact):
    """A line of an access log."""

    TOPIC: ClassVar[str] = "record.access_log.v1"
    SEALED_BY: ClassVar[Mapping[str, SealedBy]] = {AccessLog.name: BY_RECORD_AND_DAY}
    content: Personal[dict[str, str], AccessLog]
    at: Personal[str, AccessLog]


class ErrorLogged(RecordFact):
    """A line of an error log."""

    TOPIC: ClassVar[str] = "record.error_log.v1"
    SEALED_BY: ClassVar[Mapping[str, SealedBy]] = {ErrorLog.name: BY_RECORD_AND_DAY}
    content: Personal[dict[str, str], ErrorLog]
    at: Personal[str, ErrorLog]


class UsageRecorded(RecordFact):
    """Something somebody did with the product."""

    TOPIC: ClassVar[str] = "record.usage.v1"
    SEALED_BY: ClassVar[Mapping[str, SealedBy]] = {Usage.name: BY_RECORD_AND_MONTH}
    content: Personal[dict[str, str], Usage]
    at: Personal[str, Usage]


FACT_OF_CLASS: Final[Mapping[str, type[RecordFact]]] = {
    Support.name: SupportRecorded,
    Billing.name: TransactionRecorded,
    AccessLog.name: AccessLogged,
    ErrorLog.name: ErrorLogged,
    Usage.name: UsageRecorded,
}
RECORD_CLASSES: Final = tuple(FACT_OF_CLASS)

CLOCKED_CLASSES: Final = frozenset({Support.name, Billing.name})
"""Classes whose keys are a person's clock: the last interaction, the last transaction."""


class RecordRefused(Exception):
    """A record that is not taken. `reason` is a stable code; the text says what to do and repeats no value."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(f"{reason}: {text}")
        self.reason = reason


@dataclass(frozen=True, slots=True, repr=False)
class Record:
    """One record as it is given. `email` says whom it is about, None for nobody; without a time it happened now."""

    retention_class: str
    content: Mapping[str, str]
    kind: str | None = None
    email: str | None = None
    occurred_at: datetime | None = None

    def __repr__(self) -> str:
        return f"<Record {self.retention_class}>"


def period_of(retention_class: str, moment: datetime) -> str:
    """The calendar month or day whose key seals a record of this class."""
    sealed_by = FACT_OF_CLASS[retention_class].SEALED_BY[retention_class]
    return day_of(moment) if sealed_by.period == "day" else month_of(moment)


def decide(record: Record, now: datetime) -> RecordFact:
    """The fact that a record leads to, without its header. Raises `RecordRefused`."""
    require_shape(record)
    occurred_at = (record.occurred_at or now).astimezone(UTC)
    if occurred_at > now:
        raise RecordRefused("in_the_future", "occurred_at lies in the future. Check the clock that it comes from.")
    fact_class: Callable[..., RecordFact] = FACT_OF_CLASS[record.retention_class]
    return fact_class(
        about_person=record.email is not None,
        kind=record.kind,
        content=Personal(dict(record.content)),
        at=Personal(occurred_at.isoformat()),
        occurred_at=datetime.combine(occurred_at.date(), time(), UTC),
    )


def require_shape(record: Record) -> None:
    """Raise `RecordRefused` for a record that no clock and no person could make right."""
    if record.retention_class not in FACT_OF_CLASS:
        raise RecordRefused("unknown_class", f"A record's class is one of {', '.join(RECORD_CLASSES)}.")
    if record.kind is not None and not KIND_PATTERN.fullmatch(record.kind):
        raise RecordRefused(
            "unknown_kind",
            "A kind is a code of up to 32 lower-case letters, digits and _, such as ticket. "
            "It stands in the clear, so it says nothing about anybody.",
        )
    if not record.content:
        raise RecordRefused("no_content", "A record has content: at least one field.")
    if len(record.content) > CONTENT_FIELDS_MAX:
        raise RecordRefused("too_long", f"A record's content has at most {CONTENT_FIELDS_MAX} fields.")
    for name, value in record.content.items():
        if not name or len(name) > FIELD_NAME_CHARACTERS_MAX:
            raise RecordRefused("too_long", f"A field's name has 1 to {FIELD_NAME_CHARACTERS_MAX} characters.")
        if len(value) > FIELD_CHARACTERS_MAX:
            raise RecordRefused("too_long", f"A field of a record has at most {FIELD_CHARACTERS_MAX:,} characters.")
    if sum(len(name) + len(value) for name, value in record.content.items()) > CONTENT_CHARACTERS_MAX:
        raise RecordRefused("too_long", f"A record's content has at most {CONTENT_CHARACTERS_MAX:,} characters.")
