"""Contacts: added in bulk, corrected one by one. Deletions are erasures and stand in `routes/erasures.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, StringConstraints, model_validator
from starlette.responses import Response

from api.http.bodies import Answer, BirthDate, Body, Category, Country, Email, Rows, ShortText, rows_schema
from api.http.bulk import bulk_answer
from api.http.operation import CAMPAIGN, Call, json_answer, operation
from api.http.replays import act_once
from api.http.routes.shapes import PositionAnswer, ReceiptAnswer, RejectedRow
from api.http.rows import RowWork
from domain.address import deliverable_address
from domain.subject_commands import IDENTITY_FIELDS, AddContact, CorrectContact
from ledger.subjects import Act, Outcome

CUSTOM_FIELDS_MAX = 50
CUSTOM_CHARACTERS_MAX = 1000

CustomName = Annotated[str, StringConstraints(min_length=1, max_length=100)]
CustomValue = Annotated[str, StringConstraints(max_length=CUSTOM_CHARACTERS_MAX)]
Phone = Annotated[str, StringConstraints(min_length=1, max_length=40)]


class Identity(Body):
    """What is known of a person. Every field is sealed under the person's keys."""

    first_name: ShortText | None = None
    last_name: ShortText | None = None
    phone: Phone | None = None
    country: Country | None = Field(default=None, description="Where the person lives (ISO 3166-1 alpha-2).")
    birth_date: BirthDate | None = Field(default=None, description="Decides whether the person is old enough.")
    source: ShortText | None = Field(default=None, description="Where the contact comes from.")
    custom: dict[CustomName, CustomValue] | None = Field(
        default=None, max_length=CUSTOM_FIELDS_MAX, description="Fields of your own; their names are sealed as well."
    )

    def values_given(self) -> dict[str, object]:
        """The identity fields that were given, by name."""
        return {name: value for name in IDENTITY_FIELDS if (value := getattr(self, name)) is not None}


class ContactRow(Identity):
    """One contact to add."""

    email: Email
    category: Category = Field(default="contact", description="Whose contact this is; kept in the clear.")


class ContactsBody(Body):
    """Contacts to add."""

    contacts: Annotated[list[Any], rows_schema("ContactRow")]


class ContactsAnswer(Answer):
    """What came of the rows. `known` counts contacts that were there already; they stay as they are."""

    added: int
    known: int
    rejected: list[RejectedRow]
    receipt: ReceiptAnswer | None
    rejected_unnamed: int | None = Field(default=None, description="Rejected rows beyond the first 10,000.")
    ended_early: bool | None = Field(default=None, description="True where an NDJSON body was cut off.")


class CorrectionSet(Identity):
    """What to put right; `email` where the address itself changes. The old address stays unmailable."""

    email: Email | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> CorrectionSet:
        if not self.values_given() and self.email is None:
            raise ValueError("name at least one field to correct")
        return self


class CorrectionBody(Body):
    """A correction of one contact (GDPR Art. 16)."""

    email: Email
    set: CorrectionSet


def _act(row: ContactRow, actor: str) -> Act:
    command = AddContact(deliverable_address(row.email), row.values_given(), row.category)
    return Act(command, address=row.email, actor=actor)


def _answer(indexes: Sequence[int], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    added = sum(bool(outcome.facts) for outcome in outcomes)
    refused = sum(outcome.refused is not None for outcome in outcomes)
    return {"added": added, "known": len(outcomes) - added - refused}


CONTACTS = RowWork(Rows(ContactRow), _act, _answer, sums=("added", "known"))


@operation(
    "POST",
    "/v1/contacts",
    "addContacts",
    summary="Add contacts",
    tag="contacts",
    scopes=(CAMPAIGN,),
    body=ContactsBody,
    ndjson=ContactRow,
    rows=(ContactRow,),
    answer=ContactsAnswer,
    keyed=True,
)
async def add_contacts(call: Call) -> Response:
    """Add up to 10,000 contacts as a JSON array, or any number as NDJSON, one contact a line. A bad row is rejected
    by its index and the good ones are kept. Nobody becomes mailable by this: permission comes with consent, or with
    a basis that you declare."""
    return await bulk_answer(call, CONTACTS, "contacts", lines=True)


@operation(
    "PATCH",
    "/v1/contacts",
    "correctContact",
    summary="Correct a contact",
    tag="contacts",
    scopes=(CAMPAIGN,),
    body=CorrectionBody,
    answer=PositionAnswer,
    keyed=True,
)
async def correct_contact(call: Call) -> Response:
    """Put right what is known of one person. Fields that are not named stay as they are."""
    body, raw = await call.body()
    email = None if body.set.email is None else deliverable_address(body.set.email)
    act = Act(CorrectContact(body.set.values_given(), email), address=body.email, actor=call.actor)
    return await act_singly(call, act, call.part(raw))


async def act_singly(call: Call, act: Act, part: Any) -> Response:
    """One act, answered by its position; null where nothing changed. Its refusal becomes the problem."""
    if part is None:
        outcome = await call.run(call.ledger.act, act)
        return json_answer({"position": outcome.position})
    answer, replayed = await call.run(act_once, call.ledger, [act], part, _position)
    return json_answer(answer, replayed=replayed)


def _position(outcomes: Sequence[Outcome], _: object) -> dict[str, Any]:
    (outcome,) = outcomes
    if outcome.refused is not None:
        raise outcome.refused
    return {"position": outcome.position}


OPERATIONS = (add_contacts, correct_contact)
