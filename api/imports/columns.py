"""Column names as people and tools write them, and which of our fields they mean.

Names are compared case-folded, NFKC, with spaces, underscores, hyphens and dots alike, so that
``E-Mail``, ``e_mail`` and ``E-mail `` are one. The tables hold the words that the mailing tools use in
the languages of our packs. A name that is not in a table is a custom field under the name as given.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

REASON_COLUMN: Final = "lethe_reason"
"""The last column of our reject files; every reader passes over it."""

COLUMNS_MAX: Final = 500  # who needs it: a header that is really a megabyte of something else
NAME_CHARACTERS_MAX: Final = 200


def _names(*lines: str) -> frozenset[str]:
    """Folded column names out of lines of them, with a bar between each two."""
    return frozenset(name for line in lines for name in line.split("|"))


EMAIL: Final = _names(
    "email|e mail|mail|email address|e mail address|mail address|emailaddress|subscriber email",
    "e mail adresse|email adresse|mailadresse|e mailadresse|emailadresse|adresse e mail|adresse email",
    "adresse mail|adresse électronique|adresse de messagerie|courriel|adresse courriel",
    "correo|correo electrónico|correo electronico|dirección de correo electrónico|dirección de correo",
    "dirección de email|indirizzo e mail|indirizzo email|indirizzo di posta elettronica",
    "e mailadres|emailadres|endereço de e mail|endereço de email|endereço eletrônico",
    "e postadress|e post|epost|e postadresse|sähköposti|sähköpostiosoite|adres e mail|adres email",
    "e mailová adresa|e pošta|e posta adresi|e posta|e mail cím|adresă de e mail",
    "ηλεκτρονικό ταχυδρομείο|адрес электронной почты|электронная почта",
    "メールアドレス|电子邮件|電子郵件|电子邮箱|이메일 주소|이메일",
)

CONTACT_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "email": EMAIL,
    "first_name": _names(
        "first name|firstname|fname|given name|forename|vorname|prénom|prenom|nombre|nome|voornaam",
        "förnamn|fornavn|etunimi|imię|jméno|keresztnév|имя|名",
    ),
    "last_name": _names(
        "last name|lastname|lname|surname|family name|nachname|familienname|nom|nom de famille|apellido",
        "apellidos|cognome|sobrenome|apelido|achternaam|efternamn|etternavn|efternavn|sukunimi|nazwisko",
        "příjmení|vezetéknév|фамилия|姓",
    ),
    "phone": _names(
        "phone|phone number|telephone|tel|mobile|mobile number|telefon|telefonnummer|téléphone",
        "numéro de téléphone|teléfono|número de teléfono|telefono|numero di telefono|telefoonnummer",
        "telefone|puhelin|puhelinnumero|телефон|電話番号",
    ),
    "country": _names("country|country code|cc"),
    "birth_date": _names("birth date|birthdate|date of birth|dob|geburtsdatum|date de naissance"),
    "category": _names("category"),
    "source": _names("source"),
    "tags": _names("tags"),
}

_separators = re.compile(r"[\s_\-.]+")


def folded(name: str) -> str:
    """Return ``name`` as names are compared: no case, and one kind of separator."""
    return _separators.sub(" ", unicodedata.normalize("NFKC", name).casefold()).strip()


def unique_names(header: Sequence[str]) -> list[str]:
    """Return the header's names made distinct: a repeat becomes ``Name (2)``, no name ``column 7``."""
    taken: set[str] = set()
    names = []
    for index, raw in enumerate(header):
        stem = raw.strip() or f"column {index + 1}"
        name, repeat = stem, 1
        while name in taken:
            repeat += 1
            name = f"{stem} ({repeat})"
        taken.add(name)
        names.append(name)
    return names


def field_columns(header: Sequence[str], fields: Mapping[str, Iterable[str]]) -> dict[str, int]:
    """Return for each field the index of the first column whose name means it."""
    meanings = {meaning: field for field, names in fields.items() for meaning in names}
    found: dict[str, int] = {}
    for index, name in enumerate(header):
        field = meanings.get(folded(name))
        if field is not None:
            found.setdefault(field, index)
    return found


def described(header: Sequence[str]) -> str:
    """Say which columns a file has, for an error message.

    A first line that holds an @ or mostly digits is no header but somebody's row: it is not repeated.
    """
    if any("@" in name or sum(map(str.isdigit, name)) > 4 for name in header):
        return "its first line looks like a contact, not like column names"
    shown = ", ".join(repr(name.strip()[:40]) for name in header[:30])
    return f"its columns are {shown}" + (f" and {len(header) - 30} more" if len(header) > 30 else "")
