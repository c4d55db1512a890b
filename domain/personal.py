"""Personal values: what a field holds when it says something about a person.

Every field of a fact is either plain or personal, and its type says which. A personal value is wrapped in
`Personal[T, C]`, where C names the retention class whose keys seal it at rest (DESIGN sections 3 and 5). The
wrapper never shows what it holds: its `str`, `repr` and log form are a mask, and there is no switch for that.
Whoever really needs the value calls `.reveal()`, which is easy to search for in a review.

When the keys of a part have been destroyed the field holds an `Erased` instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Generic, TypeVar, get_args

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema


class RetentionClass:
    """A group of personal data that shares one clock: its keys are made and destroyed together."""

    name: ClassVar[str]


class Identity(RetentionClass):
    """Who a person is: address, name, phone, country, birth date, custom fields."""

    name = "identity"


class ConsentEvidence(RetentionClass):
    """What shows that a consent was given or taken back (GDPR Art. 7(1))."""

    name = "consent"


class SuppressionData(RetentionClass):
    """Fingerprints on a suppression list; they outlive the person (Mailenium 5.2)."""

    name = "suppression"


class Engagement(RetentionClass):
    """What a recipient clicked."""

    name = "engagement"


class EngagementTechnical(RetentionClass):
    """The network address and software an opening or click came from."""

    name = "engagement_technical"


class Content(RetentionClass):
    """What a controller writes: campaign and account names."""

    name = "content"


class Feed(RetentionClass):
    """An address that senders must still be told about; its key lives seven days (DESIGN section 3)."""

    name = "feed"


class Usage(RetentionClass):
    """How somebody used the product: what Mailkai 8 calls usage and analytics."""

    name = "usage"


class AccessLog(RetentionClass):
    """Lines of access logs (Mailenium 5.3)."""

    name = "access_log"


class ErrorLog(RetentionClass):
    """Lines of error logs (Mailenium 5.3)."""

    name = "error_log"


class Support(RetentionClass):
    """What was said with support; kept from the last interaction on."""

    name = "support"


class Billing(RetentionClass):
    """Transactions; tax law keeps them longer than a person may wish (GDPR Art. 17(3)(b))."""

    name = "billing"


class HoldReference(RetentionClass):
    """Whom a legal hold is about; its key goes when the hold is over."""

    name = "hold"


RETENTION_CLASSES: frozenset[str] = frozenset(c.name for c in RetentionClass.__subclasses__())

T = TypeVar("T")
C = TypeVar("C", bound=RetentionClass)


@dataclass(frozen=True, slots=True)
class Erased:
    """What stands where a value was, once its key has been destroyed and a tombstone says so.

    `when` is the time of destruction, `why` its cause, `certificate` the id under which it was recorded.
    """

    when: datetime
    why: str
    certificate: str | None = None


@dataclass(frozen=True, slots=True)
class Unopened:
    """What stands where a value was not opened: who a message was for is not written in it (DESIGN section 3)."""


class Personal(Generic[T, C]):
    """One personal value of type T, sealed at rest under the keys of retention class C."""

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def reveal(self) -> T:
        """The value itself. Each call site is a place where personal data is used on purpose."""
        return self._value

    def __repr__(self) -> str:
        return "‹personal›"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Personal) and bool(self._value == other._value)

    def __hash__(self) -> int:
        return hash((Personal, self._value))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Accept a bare T, a wrapped one, or `Erased`; errors never echo the input (see `Fact`)."""
        value_type = get_args(source)[0]
        inner = handler.generate_schema(value_type)
        return core_schema.union_schema(
            [
                core_schema.is_instance_schema(Personal),
                core_schema.is_instance_schema(Erased),
                core_schema.is_instance_schema(Unopened),
                core_schema.no_info_after_validator_function(Personal, inner),
            ],
            mode="left_to_right",
        )
