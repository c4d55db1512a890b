"""Canonical e-mail addresses: one spelling per mailbox, so that one person has one fingerprint.

Why it exists: a "no" given as ``Anna@Example.com`` must stop a send to ``anna@example.com``. Every
fingerprint is therefore taken over the canonical form (DESIGN section 5): trimmed, NFC, the domain as
lower-case A-label (UTS 46 and IDNA 2008), the local part lower-cased **for matching only**. Dots and
+tags are never stripped: they may be other people. Mail goes to :func:`deliverable_address`, whose
local part is as given, because RFC 5321 lets a host tell ``Anna`` from ``anna``.

Served: RFC 5321 4.1.2 and 4.5.3.1 (grammar and sizes), RFC 6531 (non-ASCII local parts), RFC 5891/5892.
Refused on purpose: IP literals, single-label domains, invisible and unassigned characters (the NFC of
an unassigned character may change with the next Unicode version, and the fingerprint with it).

No error of this module holds any part of the address: it can be logged and shown as it is.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final

import idna

CANONICALISER_VERSION: Final = 1
"""Stored next to every fingerprint. Any change of what :func:`canonical_address` answers needs a new one."""

ADDRESS_OCTETS_MAX: Final = 254  # RFC 5321 4.5.3.1.3: a path of 256 octets holds two angle brackets
LOCAL_PART_OCTETS_MAX: Final = 64  # RFC 5321 4.5.3.1.1
RAW_CHARACTERS_MAX: Final = 1_000  # before anything costly looks at it: NFC may shorten, but not this far
DOMAIN_CACHE_ENTRIES: Final = 4_096  # who needs it: bulk imports, where few domains carry most addresses

_SENTENCES: Final = {
    "empty": "The address is empty.",
    "too_long": f"The address is longer than {ADDRESS_OCTETS_MAX} octets.",
    "local_part_too_long": f"The part before the @ is longer than {LOCAL_PART_OCTETS_MAX} octets.",
    "no_at_sign": "The address has no @ between a name and a domain.",
    "several_at_signs": "The address has more than one @ outside quotes; give one bare address.",
    "control_character": "The address holds a control, invisible or unassigned character.",
    "whitespace": "The address holds whitespace outside quotes.",
    "local_part_empty": "Nothing stands before the @.",
    "local_part_dots": "The part before the @ begins or ends with a dot or has two in a row.",
    "local_part_character": "The part before the @ holds a character that is only allowed in quotes.",
    "local_part_quotes": "The quoted part before the @ is empty or its quotes do not match.",
    "domain_empty": "Nothing stands after the @.",
    "domain_incomplete": "The domain has no dot: a mail domain has at least two labels.",
    "domain_label": "A label of the domain is empty, too long, or has a character that domains cannot have.",
    "ip_literal": "The domain is an IP address; only names are accepted.",
}


class InvalidAddress(ValueError):
    """The text is not an address that we may mail or fingerprint.

    ``code`` is stable (one of the keys above); ``reason`` is ``"code: sentence"``, the same text as
    ``str(error)``, fit for a reject file or a problem document. Neither ever quotes the address.
    """

    def __init__(self, code: str) -> None:
        self.code: Final = code
        self.reason: Final = f"{code}: {_SENTENCES[code]}"
        super().__init__(self.reason)


_ATEXT: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_LABEL: Final = r"(?![Xx][Nn]--|-)[A-Za-z0-9-]{1,63}+(?<!-)"
_DOMAIN: Final = rf"(?:{_LABEL}\.)+(?![0-9]++\Z){_LABEL}\Z"
# Explicit classes and no IGNORECASE: the latter lets U+212A pass for "k". Classes are possessive, so that nothing is
# tried twice; groups are not, because Python before 3.11.5 gets possessive groups wrong.
_is_plain = re.compile(rf"(?=[^@]{{1,64}}@){_ATEXT}++(?:\.{_ATEXT}++)*@{_DOMAIN}").match
_is_plain_domain = re.compile(_DOMAIN).match
_is_dotted_number = re.compile(r"[0-9]++(?:\.[0-9]++){3}\Z").match
_quoted_local = re.compile(r'"((?:[^"\\]|\\.)*)"@', re.DOTALL).match
_specials_in = re.compile(r'[][()<>,;:\\"@ ]').search
_is_atoms = re.compile(r'[^][()<>,;:\\"@ .]++(?:\.[^][()<>,;:\\"@ .]++)*\Z').match

_TRIMMED: Final = " \t\r\n\v\f\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(
    map(chr, range(0x2000, 0x200C))
)


def canonical_address(raw: str) -> str:
    """Return the one spelling that ``raw`` is matched and fingerprinted under; idempotent.

    At most 254 octets of UTF-8. Raises :class:`InvalidAddress`. A plain ASCII address takes one regular
    expression and ``lower()``: well under 1 µs, since bulk authorisation asks 50,000 times a second.
    """
    if _is_plain(raw) and len(raw) <= ADDRESS_OCTETS_MAX:
        return raw.lower()
    local, domain = _parsed(raw)
    return _matching_local(local) + "@" + domain


def deliverable_address(raw: str) -> str:
    """Return ``raw`` as mail is sent to it: trimmed, NFC, domain as A-label, local part as given.

    Accepts exactly what :func:`canonical_address` accepts; raises :class:`InvalidAddress`.
    """
    if _is_plain(raw) and len(raw) <= ADDRESS_OCTETS_MAX:
        local, _, domain = raw.partition("@")
        return local + "@" + domain.lower()
    local, domain = _parsed(raw)
    return local + "@" + domain


def _parsed(raw: str) -> tuple[str, str]:
    """The checked local part as given (NFC) and the domain as A-label."""
    if len(raw) > RAW_CHARACTERS_MAX:
        raw = raw.strip(_TRIMMED)
        if len(raw) > RAW_CHARACTERS_MAX:
            raise InvalidAddress("too_long")
    text = unicodedata.normalize("NFC", raw.strip(_TRIMMED))
    if not text:
        raise InvalidAddress("empty")
    _refuse_controls(text)
    local, domain = _split(text)
    _check_local(local)
    alabels = _domain_or_refuse(domain)
    matching = _matching_local(local)
    # Lower-casing can lengthen (U+0130): what is stored must itself be an address that is accepted.
    octets = max(len(local.encode()), len(matching.encode()))
    if octets > LOCAL_PART_OCTETS_MAX:
        whole = octets + 1 + len(alabels)
        raise InvalidAddress("too_long" if whole > ADDRESS_OCTETS_MAX else "local_part_too_long")
    if octets + 1 + len(alabels) > ADDRESS_OCTETS_MAX:
        raise InvalidAddress("too_long")
    return local, alabels


def _refuse_controls(text: str) -> None:
    if text.isascii() and text.isprintable():
        return
    for character in text:
        # Category C: controls, format, surrogates, private use, unassigned. The two joiners are Cf too;
        # Persian and Indic domain names need them, IDNA judges them there and _check_local refuses them.
        if unicodedata.category(character)[0] == "C" and character not in "\u200c\u200d":
            whitespace_control = character in "\t\r\n\v\f\x85"
            raise InvalidAddress("whitespace" if whitespace_control else "control_character")


def _split(text: str) -> tuple[str, str]:
    if text.startswith('"'):
        quoted = _quoted_local(text)
        if quoted is None:
            raise InvalidAddress("local_part_quotes")
        local, domain = text[: quoted.end() - 1], text[quoted.end() :]
    else:
        local, at_sign, domain = text.partition("@")
        if not at_sign:
            raise InvalidAddress("no_at_sign")
    if "@" in domain:
        raise InvalidAddress("several_at_signs")
    return local, domain


def _check_local(local: str) -> None:
    if not local:
        raise InvalidAddress("local_part_empty")
    if "\u200c" in local or "\u200d" in local:
        raise InvalidAddress("control_character")
    if local[0] == '"':
        if local == '""':
            raise InvalidAddress("local_part_quotes")
        if any(character != " " and character.isspace() for character in local):
            raise InvalidAddress("whitespace")
        return
    if any(character.isspace() for character in local):
        raise InvalidAddress("whitespace")
    if _specials_in(local):
        raise InvalidAddress("local_part_character")
    if not _is_atoms(local):
        raise InvalidAddress("local_part_dots")


def _matching_local(local: str) -> str:
    """Lower case, NFC; a quoted part that needs no quotes loses them, for it is the same mailbox."""
    if local[0] != '"':
        return unicodedata.normalize("NFC", local.lower())
    content = re.sub(r"\\(.)", r"\1", local[1:-1], flags=re.DOTALL)
    content = unicodedata.normalize("NFC", unicodedata.normalize("NFC", content).lower())
    if _is_atoms(content):
        return content
    return '"' + re.sub(r'(["\\])', r"\\\1", content) + '"'


def _domain_or_refuse(domain: str) -> str:
    if not domain:
        raise InvalidAddress("domain_empty")
    if domain[0] == "[" or _is_dotted_number(domain):
        raise InvalidAddress("ip_literal")
    if any(character.isspace() for character in domain):
        raise InvalidAddress("whitespace")
    alabels = _alabels(domain)
    if alabels is None:
        raise InvalidAddress("domain_label")
    if "." not in alabels:
        raise InvalidAddress("domain_incomplete")
    if not _is_a_domain_name(alabels):
        raise InvalidAddress("ip_literal" if _is_dotted_number(alabels) else "domain_label")
    return alabels


def _is_a_domain_name(alabels: str) -> bool:
    """LDH labels of at most 63 octets, the last one not a number. The xn-- labels were checked before."""
    return _is_plain_domain(re.sub(r"(?:\A|(?<=\.))xn--", "xn0-", alabels)) is not None


@lru_cache(maxsize=DOMAIN_CACHE_ENTRIES)
def _alabels(domain: str) -> str | None:
    """Lower-case A-labels, or None where IDNA has none: an exception of the library would quote it."""
    lowered = domain.lower()
    if lowered.isascii() and "xn--" not in lowered:
        return lowered
    try:
        alabels = idna.encode(domain, uts46=True, std3_rules=True).decode("ascii")
        # A label that somebody else encoded must be the one that we would have made of the same name.
        same = alabels == idna.encode(idna.decode(alabels), std3_rules=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        return None
    return alabels if same else None
