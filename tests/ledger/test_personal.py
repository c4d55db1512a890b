"""A personal value never shows itself: not in text, not in errors, not in logs, not in tracebacks (I4, FAULTS 6)."""

from __future__ import annotations

import json
import logging
import pickle
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from io import StringIO
from typing import Any

import orjson
import pytest
import structlog
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from domain.address import InvalidAddress, canonical_address
from domain.personal import Erased, Personal, Unopened
from domain.subject import ContactAdded
from domain.subject_commands import AddContact, CommandRefused, RecordConsent, decide
from ledger.application import Ledger
from ledger.subjects import Act
from tests.acts import add, emails, person, say, stream_of

SECRET = "s3cret.name@example.com"


@dataclass(frozen=True)
class Holding:
    """Something that holds a personal value beside others."""

    number: int
    value: Personal[str, Any]


def fact() -> ContactAdded:
    return ContactAdded(email=Personal(SECRET), first_name=Personal(SECRET), custom=Personal({SECRET: SECRET}))


SHOWN: dict[str, Callable[[], object]] = {
    "str": lambda: str(Personal(SECRET)),
    "repr": lambda: repr(Personal(SECRET)),
    "format": lambda: f"{Personal(SECRET)} {Personal(SECRET):>40} {Personal(SECRET)!r} {Personal(SECRET)!s}",
    "percent": lambda: "%s %r" % (Personal(SECRET), Personal(SECRET)),  # noqa: UP031  The old way is a way as well.
    "inside a list": lambda: repr([Personal(SECRET), {1: Personal(SECRET)}]),
    "inside a dataclass": lambda: repr(Holding(1, Personal(SECRET))),
    "inside a fact": lambda: f"{fact()!r} {fact()}",
    "dumped by pydantic": lambda: repr(fact().model_dump()),
    "json.dumps with default=str": lambda: json.dumps(asdict(Holding(1, Personal(SECRET))), default=str),
    "orjson with default=str": lambda: orjson.dumps({"a": Personal(SECRET)}, default=str),
    "ascii": lambda: ascii(Personal(SECRET)),
    "a number": lambda: repr(Personal(123456789)),
    "its attributes": lambda: repr(getattr(Personal(SECRET), "__dict__", None)),
}


@pytest.mark.parametrize("way", SHOWN)
def test_a_personal_value_is_masked_everywhere(way: str) -> None:
    """Given a personal value, when it is turned into text in any usual way, then the mask shows and the value not."""
    text = str(SHOWN[way]())
    assert SECRET not in text
    assert "123456789" not in text


@pytest.mark.parametrize(
    "dump",
    [lambda: fact().model_dump_json(), lambda: orjson.dumps(Personal(SECRET)), lambda: json.dumps(Personal(SECRET))],
)
def test_what_cannot_mask_refuses(dump: Callable[[], object]) -> None:
    """Given a serialiser that would need the value, when it meets one, then it fails without naming it."""
    with pytest.raises((PydanticSerializationError, TypeError)) as refused:
        dump()
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"email": 7, "first_name": SECRET},
        {"email": {"a": SECRET}},
        {"email": SECRET, "birth_date": [SECRET]},
        {"email": SECRET, "custom": SECRET},
        {"email": SECRET, SECRET: 1},
        {"email": SECRET, "originator_version": SECRET},
    ],
)
def test_validation_errors_never_echo_the_input(wrong: dict[str, Any]) -> None:
    """Given values a fact does not take, when it refuses them, then the error names fields and never the input."""
    with pytest.raises(ValidationError) as refused:
        ContactAdded.model_validate(wrong)
    shown = "".join(traceback.format_exception(refused.value)) + repr(refused.value)
    if SECRET not in wrong:  # A key that is no field is named; the doors above take known keys only.
        assert SECRET not in shown


def test_tracebacks_and_logs_show_the_mask() -> None:
    """Given an exception with personal locals, when it is logged with its locals, then the values are masked."""
    out = StringIO()
    logger = structlog.wrap_logger(
        structlog.PrintLogger(out),
        processors=[
            structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=True)),
            structlog.processors.JSONRenderer(default=repr),
        ],
    )
    try:
        fail_with(Personal(SECRET), fact())
    except RuntimeError:
        logger.exception("it failed", address=Personal(SECRET), fact=fact())
    written = out.getvalue()
    assert "personal" in written
    assert "held" in written
    assert SECRET not in written


def fail_with(held: Personal[str, Any], of_fact: ContactAdded) -> None:
    raise RuntimeError(held, of_fact)


def test_the_standard_logger_shows_the_mask(caplog: pytest.LogCaptureFixture) -> None:
    """Given the standard library's logging, when a value is an argument, then its record is masked."""
    with caplog.at_level(logging.INFO):
        logging.getLogger("test").info("added %s, %r", Personal(SECRET), fact())
    assert "personal" in caplog.text
    assert SECRET not in caplog.text


def test_equality_and_hash_work_without_showing() -> None:
    """Two wrappers of the same value are equal, and no stranger is equal to one."""
    assert Personal(SECRET) == Personal(SECRET)
    assert hash(Personal(SECRET)) == hash(Personal(SECRET))
    assert Personal(SECRET) != Personal("other")
    assert Personal(SECRET) != SECRET
    assert Personal(SECRET).reveal() == SECRET
    assert pickle.loads(pickle.dumps(Personal(SECRET))) == Personal(SECRET)  # noqa: S301  Our own bytes, just made.


def test_erased_and_unopened_are_neither_empty_nor_each_other() -> None:
    """I6: an erased part, an unopened one and an absent one are three things."""
    erased: Any = ContactAdded.model_validate({"email": Erased(fact().occurred_at, "asked")})
    unopened: Any = ContactAdded.model_validate({"email": Unopened(), "first_name": None})
    assert isinstance(erased.email, Erased)
    assert isinstance(unopened.email, Unopened)
    assert unopened.first_name is None
    assert repr(erased.email) != repr(unopened.email)


@pytest.mark.parametrize(
    "address",
    [
        "s3cret",
        "s3cret@@example.com",
        "s3cret@example",
        "s3cret name@example.com",
        "s3cret@exa_mple.com",
        "s3cret\n@example.com",
        '"s3cret',
    ],
)
def test_errors_about_addresses_never_quote_them(address: str) -> None:
    """Given text that is no address, when it is refused, then neither error nor traceback repeats it."""
    with pytest.raises(InvalidAddress) as refused:
        canonical_address(address)
    assert "s3cret" not in f"{refused.value!r} {refused.value} {refused.value.args}"


def test_refusals_of_commands_never_quote_values() -> None:
    """Given commands that are refused, when their errors are read, then no value of theirs stands there."""
    for command in (
        RecordConsent("newsletter", "email", "grant", evidence={"ip": SECRET}),
        AddContact(SECRET, {"s3cret": SECRET}),
    ):
        with pytest.raises(CommandRefused) as refused:
            decide(None, command, (), fact().occurred_at)
        assert "s3cret" not in f"{refused.value!r} {refused.value}"


@pytest.mark.store
def test_free_text_never_stands_in_a_plain_field(ledger: Ledger) -> None:
    """Given free text where callers may put it, when it is recorded, then it is sealed or made a code (I4)."""
    who = emails(1)
    add(ledger, who, source="typed in for s3cret", custom={"s3cret": "s3cret"})
    say(ledger, who, "grant", evidence={"method": "called s3cret on the phone", "form": "s3cret", "wording": "s3cret"})
    ledger.act(Act(RecordConsent("offers", "email", "withdraw", evidence={"method": "s3cret said so"}), address=who[0]))
    row = person(ledger, who[0])
    ledger.erasures.intend(who, reason="s3cret asked twice", actor="cli")
    for event in ledger.log.select_log(1, 100):
        assert b"s3cret" not in event.state
        assert b"s3cret" not in (event.sealed or b"")
    evidence = [getattr(f, "evidence", None) for f in stream_of(ledger, row)]
    assert any(isinstance(held, Personal) and "s3cret" in held.reveal()["method"] for held in evidence)
