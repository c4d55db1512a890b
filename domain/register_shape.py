"""What a register's entry may say: known codes, bounded words, and no address of a person in the clear.

`statement` makes the fact of an entry from the plain values that a file, a form or a policy pack gives. Every mistake
is named by its field and nothing of the value is repeated.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from domain.category import MEANINGS
from domain.countries import COUNTRIES
from domain.personal import RETENTION_CLASSES, Personal
from domain.register import DECLARED, KINDS, Kind, RegisterFact, RegisterRefused, SafeguardStated
from domain.time_limit import InvalidTimeLimit, TimeLimit

KEY_PATTERN: Final = re.compile(r"[a-z][a-z0-9-]{0,63}", re.ASCII)
SEEN_PATTERN: Final = re.compile(r"[a-z_]{1,20}:[A-Za-z0-9_.:*-]{1,60}", re.ASCII)
SHA256_PATTERN: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
CLAUSE_PATTERN: Final = re.compile(r"[A-Za-z0-9][\w .,&()/§-]{0,59}")

NAME_CHARACTERS_MAX: Final = 200
WORDS_CHARACTERS_MAX: Final = 4_000
"""One text of an entry: a purpose or a measure takes some lines."""
ENTRY_CHARACTERS_MAX: Final = 50_000
"""All that one entry says: some twenty pages. Who needs it: whoever reads all registers of an account at once."""
ITEMS_MAX: Final = 60
"""Of each list in an entry: categories, recipients, countries, measures. One event stays far below its size limit."""

LINK: Final = "link"
NO_LETTERS: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
TURNING: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Embeddings, overrides and isolates: they make a record show other words than it holds (Unicode TR 36, 3.3)."""

CATEGORIES_OF_DATA: Final[dict[str, str]] = {
    "identity": "Who a person is: address, name, phone, country, birth date, custom fields",
    "consent": "What shows that a consent was asked for, given or taken back",
    "suppression": "Whom not to mail: objections, complaints, bounces, and fingerprints of addresses",
    "feed": "Addresses that senders are told not to mail any more",
    "link": "Which messages a person was sent",
    "engagement": "What a recipient clicked",
    "engagement_technical": "The network address and software that an opening or click came from",
    "usage": "How somebody used the product",
    "access_log": "Lines of access logs",
    "error_log": "Lines of error logs",
    "support": "What was said with support",
    "billing": "Transactions",
    "content": "What a controller writes: campaigns, names, registers",
    "hold": "Whom a legal hold is about",
}
assert CATEGORIES_OF_DATA.keys() == RETENTION_CLASSES | {LINK}

LAWFUL_BASES: Final[dict[str, str]] = {
    "consent": "consent (GDPR Art. 6(1)(a))",
    "contract": "a contract with the person (GDPR Art. 6(1)(b))",
    "legal_obligation": "a legal obligation (GDPR Art. 6(1)(c))",
    "vital_interests": "vital interests (GDPR Art. 6(1)(d))",
    "public_task": "a task in the public interest (GDPR Art. 6(1)(e))",
    "legitimate_interests": "legitimate interests (GDPR Art. 6(1)(f))",
}
RECIPIENT_KINDS: Final[dict[str, str]] = {
    "processor": "a processor",
    "sub_processor": "a sub-processor",
    "integration": "an integration that the controller connects",
    "authority": "an authority, court or auditor",
    "partner": "another recipient",
}
BOUND_KINDS: Final = frozenset({"processor", "sub_processor"})
"""Recipients who are bound by a contract (GDPR Art. 28(3), 28(4))."""

MECHANISMS: Final[dict[str, str]] = {
    "adequacy": "an adequacy decision (GDPR Art. 45)",
    "scc": "standard contractual clauses (GDPR Art. 46(2)(c))",
    "uk_idta": "the UK international data transfer agreement",
    "bcr": "binding corporate rules (GDPR Art. 47)",
    "code_of_conduct": "an approved code of conduct or certification (GDPR Art. 46(2)(e), (f))",
    "derogation": "a derogation for a specific situation (GDPR Art. 49)",
    "other": "another lawful means",
}
DOCUMENTED_MECHANISMS: Final = frozenset({"scc", "uk_idta", "bcr", "code_of_conduct"})
"""Safeguards that are a document, of which a person may ask for a copy (GDPR Art. 13(1)(f))."""

PARTY_ROLES: Final[dict[str, str]] = {
    "controller": "the controller",
    "controller_representative": "the controller's representative",
    "controller_dpo": "the controller's data protection officer",
    "joint_controller": "a joint controller",
    "processor": "the processor",
    "processor_representative": "the processor's representative",
    "processor_dpo": "the processor's data protection officer",
}
ROLES: Final[dict[str, str]] = {
    "controller": "as controller (GDPR Art. 30(1))",
    "processor": "as processor (GDPR Art. 30(2))",
}
MEASURES: Final[dict[str, str]] = {
    "sealing": "Personal data is encrypted at rest with AES-256-GCM, under keys of its person and its period",
    "erasure-by-key": "What is erased becomes unreadable by the destruction of its keys",
    "tls-1.2": "Data in transit is encrypted with TLS 1.2 or later",
    "tls-1.3": "Data in transit is encrypted with TLS 1.3 or later",
    "roles": "Access by roles, as far as the work needs it",
    "second-factor": "Staff sign in with a second factor",
    "access-trail": "Every view of personal data and every refused request is recorded",
    "encrypted-backups": "Backups are encrypted, under keys that end with their epoch",
    "key-copies": "Keys are held in at least two places",
    "input-limits": "Input is checked and bounded, and requests are limited by the minute",
    "append-only": "The program's own database role cannot change or delete an event",
}
"""Measures that the program knows something about. Any other is said in words."""

Check = Callable[[str, Any], Any]


def statement(kind: str, values: Mapping[str, Any], *, source: str | None = None) -> RegisterFact:
    """The statement of an entry, as a declaration. Raises `RegisterRefused`, which names the field."""
    if kind not in KINDS:
        raise RegisterRefused("unknown_kind", f"A kind is one of {', '.join(KINDS)}.")
    checks = FIELDS[kind]
    unknown = sorted(set(values) - checks.keys())
    if unknown:
        raise _wrong(kind, "unknown_field", f"has no such field. Fields: {', '.join(checks)}.")
    missing = [name for name in REQUIRED[kind] if not values.get(name)]
    if missing:
        raise _wrong(missing[0], "missing_field", f"is missing. A {kind} needs {', '.join(REQUIRED[kind])}.")
    checked = {name: checks[name](name, value) for name, value in values.items() if value is not None}
    made = DECLARED[kind](**checked, source=source)
    _require_together(made)
    if len(str(values_of(made))) > ENTRY_CHARACTERS_MAX:
        raise RegisterRefused("too_long", f"The texts of an entry have at most {ENTRY_CHARACTERS_MAX:,} characters.")
    return made


def needs_document(stated: SafeguardStated) -> bool:
    """Whether a safeguard is a document, and nothing says which."""
    return stated.mechanism in DOCUMENTED_MECHANISMS and stated.document_sha256 is None


def _require_together(made: RegisterFact) -> None:
    limits = getattr(made, "limits", {})
    for name in ("limits", "clauses"):
        if set(getattr(made, name, {})) - set(getattr(made, "categories", ())):
            raise _wrong(name, "unknown_category", "speaks of a category that the activity does not name.")
    if set(getattr(made, "clauses", {})) - set(limits):
        raise _wrong("clauses", "no_limit", "gives a clause for a category without a time limit.")


def _wrong(name: str, reason: str, text: str) -> RegisterRefused:
    return RegisterRefused(reason, f"{name} {text}")


def _text(most: int) -> Check:
    def check(name: str, value: Any) -> Personal[str, Any]:
        return Personal(_plain_text(name, value, most))

    return check


def _plain_text(name: str, value: Any, most: int) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _wrong(name, "no_text", "is a text that is not empty.")
    if len(value) > most:
        raise _wrong(name, "too_long", f"has at most {most:,} characters.")
    if any(character != "\n" and _steers(character) for character in value):
        raise _wrong(name, "control_character", "holds control characters. Take them out.")
    return value.strip()


def _steers(character: str) -> bool:
    """Whether a character is no word's: a control, half a character or none at all, or one that turns what follows.

    Marks of scripts that are written from right to left are letters' own, and stay.
    """
    return unicodedata.category(character) in NO_LETTERS or character in TURNING or ord(character) & 0xFFFE == 0xFFFE


def _texts(name: str, value: Any) -> Personal[tuple[str, ...], Any]:
    return Personal(tuple(_plain_text(name, text, WORDS_CHARACTERS_MAX) for text in _list(name, value)))


def _list(name: str, value: Any) -> Sequence[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise _wrong(name, "no_list", "is a list.")
    if len(value) > ITEMS_MAX:
        raise _wrong(name, "too_many", f"has at most {ITEMS_MAX} items.")
    return value


def _one_of(known: Mapping[str, str]) -> Check:
    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in known:
            raise _wrong(name, "unknown_code", f"is one of {', '.join(known)}.")
        return value

    return check


def _some_of(known: Mapping[str, str]) -> Check:
    one = _one_of(known)

    def check(name: str, value: Any) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one(name, item) for item in _list(name, value)))

    return check


def _matching(pattern: re.Pattern[str], said: str) -> Check:
    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise _wrong(name, "bad_code", f"is {said}.")
        return value

    return check


def _all_matching(pattern: re.Pattern[str], said: str) -> Check:
    one = _matching(pattern, said)

    def check(name: str, value: Any) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one(name, item) for item in _list(name, value)))

    return check


def _country(name: str, value: Any) -> str:
    if not isinstance(value, str) or value not in COUNTRIES:
        raise _wrong(name, "bad_code", "is a country as two capital letters (ISO 3166-1), such as GB or GR.")
    return value


def _countries(name: str, value: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_country(name, item) for item in _list(name, value)))


def _by_category(one: Check) -> Check:
    def check(name: str, value: Any) -> dict[str, str]:
        if not isinstance(value, Mapping) or len(value) > ITEMS_MAX:
            raise _wrong(name, "no_table", "is a table by category of data.")
        return {_one_of(CATEGORIES_OF_DATA)(name, category): one(name, said) for category, said in value.items()}

    return check


def _limit(name: str, value: Any) -> str:
    try:
        return TimeLimit.parse(value if isinstance(value, str) else "").code
    except InvalidTimeLimit as error:
        raise _wrong(name, "bad_limit", f"cannot be read. {error}") from None


_KEY = _matching(KEY_PATTERN, "up to 64 lower-case letters, digits and -, beginning with a letter")
_KEYS = _all_matching(KEY_PATTERN, "a list of keys of the register")
_SHA256 = _matching(SHA256_PATTERN, "a SHA-256 as 64 lower-case hexadecimal digits")
_NAME, _WORDS = _text(NAME_CHARACTERS_MAX), _text(WORDS_CHARACTERS_MAX)

FIELDS: Final[Mapping[str, Mapping[str, Check]]] = {
    "activity": {
        "key": _KEY,
        "role": _one_of(ROLES),
        "name": _NAME,
        "purposes": _texts,
        "lawful_bases": _some_of(LAWFUL_BASES),
        "subjects": _some_of(MEANINGS),
        "categories": _some_of(CATEGORIES_OF_DATA),
        "other_categories": _texts,
        "recipients": _KEYS,
        "limits": _by_category(_limit),
        "clauses": _by_category(_matching(CLAUSE_PATTERN, "the number of a clause")),
        "measures": _some_of(MEASURES),
        "measures_said": _texts,
        "note": _WORDS,
    },
    "recipient": {
        "key": _KEY,
        "recipient_kind": _one_of(RECIPIENT_KINDS),
        "name": _NAME,
        "category": _NAME,
        "countries": _countries,
        "safeguards": _KEYS,
        "agreement_sha256": _SHA256,
        "seen_as": _all_matching(SEEN_PATTERN, "a list of codes such as sender:*, export:person or feed:suppressions"),
        "contact": _WORDS,
        "note": _WORDS,
    },
    "safeguard": {
        "key": _KEY,
        "mechanism": _one_of(MECHANISMS),
        "name": _NAME,
        "countries": _countries,
        "document_sha256": _SHA256,
        "where": _WORDS,
        "note": _WORDS,
    },
    "party": {
        "key": _KEY,
        "role": _one_of(PARTY_ROLES),
        "name": _NAME,
        "person": _NAME,
        "address": _WORDS,
        "email": _NAME,
        "phone": _NAME,
        "website": _NAME,
        "country": _country,
        "note": _WORDS,
    },
}
REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    "activity": ("key", "role", "name", "purposes"),
    "recipient": ("key", "recipient_kind", "name"),
    "safeguard": ("key", "mechanism", "name", "countries"),
    "party": ("key", "role", "name"),
}


def values_of(stated: RegisterFact) -> dict[str, Any]:
    """A statement as plain values, the form that `statement` takes; sealed words that are gone are left out."""
    found: dict[str, Any] = {}
    for name in FIELDS[_kind(stated)]:
        value = getattr(stated, name)
        if isinstance(value, Personal):
            value = value.reveal()
        elif value is not None and not isinstance(value, str | tuple | dict):
            continue
        if value in (None, (), {}):
            continue
        found[name] = list(value) if isinstance(value, tuple) else value
    return found


def _kind(stated: RegisterFact) -> Kind:
    return next(kind for kind, fact_class in DECLARED.items() if isinstance(stated, fact_class.__mro__[1]))
