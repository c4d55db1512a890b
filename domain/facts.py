"""Facts: the base of every event, with its topic, its header and its personal parts.

A fact is a frozen pydantic model that satisfies eventsourcing's `DomainEventProtocol`. Deciders return facts
that carry only what happened; the ledger fills in the header (stream, version, ids, actor, times) when it
writes them. Each class has a short, stable, versioned topic and never a Python path, so that code can move.
When a stored shape changes, the topic gets a new version and `upcasts` a function that lifts the older one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, ClassVar, Literal, NamedTuple, Self, get_args, get_origin
from uuid import UUID

from eventsourcing.utils import register_topic
from pydantic import BaseModel, ConfigDict

from domain.personal import Erased, Personal, Unopened

NIL = UUID(int=0)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Stored = dict[str, Any]


class SealedBy(NamedTuple):
    """Whose key seals a part, and for which period.

    `holder` is subject (its kid stands in the envelope), message (the kid is known from the person the message was
    for, and stands nowhere), record (as message, with the person's records kid; the tenant's own key where the record
    is about nobody) or tenant. `period` is the month or day of `occurred_at`, or ever.
    """

    holder: Literal["subject", "message", "record", "tenant"]
    period: Literal["month", "day", "ever"]


BY_SUBJECT_AND_MONTH = SealedBy("subject", "month")
BY_MESSAGE_AND_MONTH = SealedBy("message", "month")
BY_RECORD_AND_MONTH = SealedBy("record", "month")
BY_RECORD_AND_DAY = SealedBy("record", "day")
BY_TENANT_AND_MONTH = SealedBy("tenant", "month")
BY_TENANT_AND_DAY = SealedBy("tenant", "day")
BY_TENANT_FOR_EVER = SealedBy("tenant", "ever")

Upcaster = Callable[[Stored], Stored]


class UnknownTopic(LookupError):
    """A stored topic that no class of this program answers to: the program is older than its ledger."""


class Fact(BaseModel):
    """One event. `originator_*` name its stream and version; the rest of the header tells who, when and why.

    `occurred_at` is when it was true, `recorded_at` when the ledger learnt it (None until written);
    `position` is where it stands in its tenant's log (None until read back).
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True, strict=False
    )

    TOPIC: ClassVar[str]
    SEALED_BY: ClassVar[Mapping[str, SealedBy]] = {}
    """For classes not sealed by a subject's keys of the month: whose keys, and of which period."""

    originator_id: UUID = NIL
    originator_version: int = 0
    event_id: UUID = NIL
    occurred_at: datetime = EPOCH
    recorded_at: datetime | None = None
    actor: str = ""
    command: UUID | None = None
    cause: UUID | None = None
    rules: str | None = None
    position: int | None = None

    def headed(self, header: dict[str, Any]) -> Self:
        """This fact with its header filled in: `model_copy(update=header)` for the writer of many, at a fifth of it."""
        fact = type(self).__new__(type(self))
        _set(fact, "__dict__", self.__dict__ | header)
        _set(fact, "__pydantic_fields_set__", self.__pydantic_fields_set__ | header.keys())
        _set(fact, "__pydantic_extra__", None)
        _set(fact, "__pydantic_private__", None)
        return fact

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        topic = cls.__dict__.get("TOPIC")
        if topic is not None:
            register_topic(topic, cls)
            TOPICS[topic] = cls


_set = object.__setattr__
"""A fact is frozen; only its making writes to it."""

TOPICS: dict[str, type[Fact]] = {}
_UPCASTERS: dict[str, tuple[str, Upcaster]] = {}

HEADER_FIELDS: frozenset[str] = frozenset(Fact.model_fields)


def upcasts(old_topic: str, new_topic: str) -> Callable[[Upcaster], Upcaster]:
    """Register a function that turns the stored plain fields and parts of one topic into those of a newer one.

    It receives `{"plain": {...}, "parts": {class: {...}}}` and returns the same shape. A part whose key is gone, or
    that was not opened, stands there as `Erased` or `Unopened` in place of its values. The newer class keeps the
    `SEALED_BY` of every retention class that an older one sealed under, because parts are opened by it.
    """

    def register(upcaster: Upcaster) -> Upcaster:
        _UPCASTERS[old_topic] = (new_topic, upcaster)
        return upcaster

    return register


def upcast(topic: str, stored: Stored) -> tuple[type[Fact], Stored]:
    """The current class for a stored topic, and the stored values lifted to its shape."""
    while topic in _UPCASTERS:
        topic, upcaster = _UPCASTERS[topic]
        stored = upcaster(stored)
    return current_class(topic), stored


def current_class(topic: str) -> type[Fact]:
    """The class that a stored topic is read as today. Raises `UnknownTopic`."""
    while topic in _UPCASTERS:
        topic, _ = _UPCASTERS[topic]
    try:
        return TOPICS[topic]
    except KeyError:
        raise UnknownTopic(
            f"The ledger holds an event of topic {topic!r}, which this version of Lethe does not know. "
            "Run the version that wrote it, or a newer one."
        ) from None


@cache
def personal_fields(fact_class: type[Fact]) -> dict[str, str]:
    """Which fields of a fact are personal: field name -> retention class name."""
    found = {}
    for name, field in fact_class.model_fields.items():
        retention_class = _retention_class(field.annotation)
        if retention_class is not None:
            found[name] = retention_class
    return found


@cache
def plain_fields(fact_class: type[Fact]) -> tuple[str, ...]:
    """The fields of a fact that are neither header nor personal, in the order they were declared."""
    personal = personal_fields(fact_class)
    return tuple(n for n in fact_class.model_fields if n not in HEADER_FIELDS and n not in personal)


def _retention_class(annotation: Any) -> str | None:
    if get_origin(annotation) is Personal:
        return str(get_args(annotation)[1].name)
    for argument in get_args(annotation):
        found = _retention_class(argument)
        if found is not None:
            return found
    return None


def opened(value: object) -> Any:
    """The value inside a personal field, or None where it is absent, not opened, or its key is gone."""
    if value is None or isinstance(value, Erased | Unopened):
        return None
    assert isinstance(value, Personal)
    return value.reveal()
