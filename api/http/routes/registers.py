"""Registers: what an account states about its processing (GDPR Art. 30). Codes stand in the clear, words are sealed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import date, datetime
from typing import Annotated, Any, Literal, cast

import orjson
from pydantic import Field, StringConstraints
from starlette.responses import Response

from api.http.bodies import Answer, Body
from api.http.operation import AUDITOR, OFFICER, Call, json_answer, operation
from api.http.routes.holds import Day
from api.processing import record_entries_shown
from api.register_files import ENTRIES_MAX, entry_row, statements_of
from domain.register import KINDS, Kind, Register, RegisterFact, amend, declare, in_turn, retire
from domain.register_shape import ITEMS_MAX, NAME_CHARACTERS_MAX, WORDS_CHARACTERS_MAX
from ledger.append import LockedTenant
from ledger.application import Ledger
from ledger.idempotency import IdempotentPart, Replayed
from ledger.registers import Changed
from retention.policy.seeding import seed

Code = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=NAME_CHARACTERS_MAX)]
Words = Annotated[str, StringConstraints(min_length=1, max_length=WORDS_CHARACTERS_MAX)]
Codes = Annotated[list[Code], Field(default_factory=list, max_length=ITEMS_MAX)]
Texts = Annotated[list[Words], Field(default_factory=list, max_length=ITEMS_MAX)]


class PartyEntry(Body):
    """Who is answerable: the controller, a joint controller, the processor, their representatives and officers."""

    key: Code
    role: Code
    name: Name
    person: Name | None = Field(default=None, description="A natural person's name; sealed, as all words here.")
    address: Words | None = None
    email: Name | None = None
    phone: Name | None = None
    website: Name | None = None
    country: Code | None = None
    note: Words | None = None


class SafeguardEntry(Body):
    """What makes transfers to some countries lawful."""

    key: Code
    mechanism: Code
    name: Name
    countries: Codes
    document_sha256: Code | None = None
    where: Words | None = Field(default=None, description="How a copy can be had.")
    note: Words | None = None


class RecipientEntry(Body):
    """Who data is disclosed to. `seen_as` are the codes under which the ledger observes them."""

    key: Code
    recipient_kind: Code
    name: Name
    category: Name | None = None
    countries: Codes
    safeguards: Codes
    agreement_sha256: Code | None = Field(default=None, description="Of the contract that binds a processor.")
    seen_as: Codes
    contact: Words | None = None
    note: Words | None = None


class ActivityEntry(Body):
    """A processing activity: a row of Art. 30(1) with the role `controller`, of Art. 30(2) with `processor`."""

    key: Code
    role: Code
    name: Name
    purposes: Texts
    lawful_bases: Codes
    subjects: Codes
    categories: Codes
    other_categories: Texts
    recipients: Codes
    limits: dict[Code, Code] = Field(default_factory=dict, description="By category, such as calendar:P24M.")
    clauses: dict[Code, Code] = Field(default_factory=dict, description="By category: the policy's clause.")
    measures: Codes
    measures_said: Texts
    note: Words | None = None


class EntriesBody(Body):
    """Entries by kind, all of them or none. `since`: the day from which they have been true; now without it."""

    party: list[PartyEntry] = Field(default_factory=list, max_length=ENTRIES_MAX)
    safeguard: list[SafeguardEntry] = Field(default_factory=list, max_length=ENTRIES_MAX)
    recipient: list[RecipientEntry] = Field(default_factory=list, max_length=ENTRIES_MAX)
    activity: list[ActivityEntry] = Field(default_factory=list, max_length=ENTRIES_MAX)
    since: Day | None = None


class RetirementBody(Body):
    """The end of an entry."""

    kind: Literal["party", "safeguard", "recipient", "activity"]
    key: Code
    reason: Literal["ended", "replaced", "mistake"] = "ended"
    since: Day | None = None


class RegisterAnswer(Answer):
    """What was recorded, as topics with keys; empty where it stood there in these words already."""

    recorded: list[str]


class SeededAnswer(Answer):
    """What came of seeding, entry by entry. `left` says what was not touched, and why."""

    pack: str
    version: int
    declared: list[str]
    amended: list[str]
    same: list[str]
    left: dict[str, str]


class RegisterEntryAnswer(Answer):
    """An entry as it stands. `entry` has the fields of its kind; words whose keys are gone are left out."""

    kind: str
    key: str
    in_force: bool
    declared_at: datetime
    changed_at: datetime
    retired_at: datetime | None
    ending: str | None
    source: str | None
    entry: dict[str, Any]


class RegistersAnswer(Answer):
    """Every entry, retired ones included."""

    entries: list[RegisterEntryAnswer]


@operation(
    "POST",
    "/v1/registers/declarations",
    "declareRegisterEntries",
    summary="Declare entries of the registers",
    tag="registers",
    scopes=(OFFICER,),
    body=EntriesBody,
    answer=RegisterAnswer,
    status=201,
    keyed=True,
)
async def declare_entries(call: Call) -> Response:
    """New activities, recipients, safeguards and parties, all or none. What stands there in the same words is left as
    it is; in other words it is a conflict, and to be amended. Codes stand in the clear, words are sealed."""
    return await _stated(call, declare)


@operation(
    "POST",
    "/v1/registers/amendments",
    "amendRegisterEntries",
    summary="Amend entries of the registers",
    tag="registers",
    scopes=(OFFICER,),
    body=EntriesBody,
    answer=RegisterAnswer,
    status=201,
    keyed=True,
)
async def amend_entries(call: Call) -> Response:
    """Entries described anew, each of them whole, all or none. What was said before stays in the log."""
    return await _stated(call, amend)


@operation(
    "POST",
    "/v1/registers/retirements",
    "retireRegisterEntry",
    summary="Retire an entry of the registers",
    tag="registers",
    scopes=(OFFICER,),
    body=RetirementBody,
    answer=RegisterAnswer,
    status=201,
    keyed=True,
)
async def retire_entry(call: Call) -> Response:
    """End an entry; what was stated of it stays in the log. One that another entry in force names is a conflict."""
    body, raw = await call.body()
    kind = cast(Kind, body.kind)

    def decide(register: Register) -> list[Any]:
        return retire(register, kind, body.key, body.reason)

    return await _changed(call, raw, decide, body.since)


@operation(
    "POST",
    "/v1/registers/seeds",
    "seedRegisters",
    summary="Begin the registers with the policy",
    tag="registers",
    scopes=(OFFICER,),
    answer=SeededAnswer,
)
async def seed_registers(call: Call) -> Response:
    """What the account's policy pack says of activities, recipients, safeguards and parties. It can be repeated: what
    was amended or retired by hand is left as it is, and named."""
    found = await call.run(seed, call.ledger, actor=call.actor)
    return json_answer(asdict(found))


@operation(
    "GET",
    "/v1/registers",
    "listRegisterEntries",
    summary="List the registers",
    tag="registers",
    scopes=(OFFICER, AUDITOR),
    answer=RegistersAnswer,
)
async def list_entries(call: Call) -> Response:
    """Every entry with its words, retired ones included. Where one names a natural person, the look is recorded."""
    return json_answer({"entries": await call.run(_entries, call.ledger, call.actor)})


def _entries(ledger: Ledger, actor: str) -> list[dict[str, Any]]:
    register = ledger.registers.state()
    entries = [entry for kind in KINDS for entry in register.of_kind(kind)]
    record_entries_shown(ledger, entries, actor=actor)
    return [entry_row(entry) for entry in entries]


async def _stated(call: Call, act: Callable[[Register, RegisterFact], list[Any]]) -> Response:
    body, raw = await call.body()
    tables = body.model_dump(exclude={"since"}, exclude_none=True)
    decide = in_turn([_decision(act, stated) for stated in statements_of(tables)])
    return await _changed(call, raw, decide, body.since)


def _decision(act: Callable[[Register, RegisterFact], list[Any]], stated: RegisterFact) -> Any:
    return lambda register: act(register, stated)


async def _changed(call: Call, raw: bytes, decide: Any, since: str | None) -> Response:
    day = None if since is None else date.fromisoformat(since)
    answer, replayed = await call.run(_once, call.ledger, call.part(raw), decide, day, call.actor)
    return json_answer(answer, 201, replayed=replayed)


def _once(
    ledger: Ledger, part: IdempotentPart | None, decide: Any, since: date | None, actor: str
) -> tuple[dict[str, Any], bool]:
    """Change the registers in one transaction, once per part."""

    def before(locked: LockedTenant) -> None:
        ledger.parts.require_new(locked.connection, part)

    def also(locked: LockedTenant, changed: Changed) -> None:
        ledger.parts.save(locked, part, orjson.dumps(_told(changed)))

    try:
        changed = ledger.registers.change(decide, actor=actor, since=since, before=before, also=also)
        return _told(changed), False
    except Replayed as replayed:
        stored: dict[str, Any] = orjson.loads(replayed.answer)
        return stored, True


def _told(changed: Changed) -> dict[str, Any]:
    return {"recorded": [f"{fact.TOPIC} {getattr(fact, 'key', '')}" for fact in changed.facts]}


OPERATIONS = (
    declare_entries,
    amend_entries,
    retire_entry,
    seed_registers,
    list_entries,
)
