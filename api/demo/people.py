"""Made-up contacts for the demo: believable, the same for the same seed, and never a real person's.

Every address is at a domain that RFC 2606 and RFC 6761 reserve (example.com, .org, .net and names under
.example, some of them international), every IP from the documentation ranges of RFC 5737 (in
``mailchimp_export.py``), and phone numbers from the ranges that regulators set aside for fiction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from random import Random
from typing import Final

PLUS_TAG_SHARE: Final = 0.06
UPPER_CASE_SHARE: Final = 0.05
BIRTH_DATE_SHARE: Final = 0.6
PHONE_SHARE: Final = 0.35
YOUNGEST_BORN: Final = date(2006, 12, 31)  # the packs exclude the under-16s; the demo has none by accident
OLDEST_BORN: Final = date(1938, 1, 1)


@dataclass(frozen=True, slots=True)
class Person:
    """One made-up contact. ``email`` as the person typed it; ``canary`` marks the planted one."""

    first_name: str
    last_name: str
    email: str
    phone: str | None
    country: str
    birth_date: date | None
    tags: tuple[str, ...]
    custom: dict[str, str] = field(default_factory=dict)
    canary: bool = False


@dataclass(frozen=True, slots=True)
class _Culture:
    """Names of one language with their ASCII forms (``name/ascii``), and where their bearers live."""

    first_names: str
    last_names: str
    countries: str
    domains: str
    phone: str | None
    weight: int


# In ``phone`` each # is a digit. 555-01##: North America; 7700 900###: Ofcom; 30 23125###: BNetzA;
# 1 99 00 ## ##: ARCEP; 491 570 1##: ACMA; 070-1740 6##: PTS.
_CULTURES: Final = (
    _Culture(
        "Olivia Jack Amelia Noah Grace Harry Chloe Oscar Ruby Ethan Maya Liam Zoe Lucas Hannah Owen",
        "Smith Taylor O'Brien/obrien Walker Hughes Bennett Clarke Patel Murphy Reid Fletcher Okafor",
        "GB GB GB IE",
        "example.com example.org example.net mail.example",
        "+44 7700 900###",
        22,
    ),
    _Culture(
        "Emma James Sophia Michael Ava Daniel Isabella David Mia Joseph Harper Samuel Ella Andre Keisha",
        "Johnson Williams Garcia Martinez Davis Nguyen Lee Thompson Robinson Lewis Washington Kim",
        "US US US US CA",
        "example.com example.net inbox.example",
        "+1 202 555 01##",
        22,
    ),
    _Culture(
        "Lena Jürgen/juergen Hannah Björn/bjoern Käthe/kaethe Lukas Sören/soeren Marie Anja",
        "Müller/mueller Schmidt Weiß/weiss Schäfer/schaefer Köhler/koehler Vogel Krüger/krueger Lang",
        "DE DE DE AT CH",
        "example.org post.example bücher.example straße.example",
        "+49 30 23125###",
        14,
    ),
    _Culture(
        "Amélie/amelie Léo/leo Chloé/chloe Jérôme/jerome Zoé/zoe François/francois Inès/ines Hugo Noël/noel",
        "Dubois Lefèvre/lefevre Moreau Béranger/beranger Garçon/garcon Rousseau Gauthier D'Arc/darc",
        "FR FR FR BE CA",
        "example.com courriel.example café.example",
        "+33 1 99 00 ## ##",
        12,
    ),
    _Culture(
        "Lucía/lucia José/jose Íñigo/inigo María/maria Sofía/sofia Andrés/andres Ángel/angel Carmen Nuria",
        "García/garcia Núñez/nunez Ibáñez/ibanez Pérez/perez Ruiz Muñoz/munoz",
        "ES ES MX AR",
        "example.net correo.example señal.example",
        None,
        8,
    ),
    _Culture(
        "Zofia Łukasz/lukasz Małgorzata/malgorzata Paweł/pawel Święta/swieta Jan Agnieszka Michał/michal",
        "Kowalski Wójcik/wojcik Zieliński/zielinski Dąbrowska/dabrowska Łuczak/luczak Nowak Żak/zak",
        "PL",
        "example.org poczta.example żółw.example",
        None,
        5,
    ),
    _Culture(
        "Åsa/asa Björn/bjorn Linnéa/linnea Søren/soren Jón/jon Þóra/thora Aino Väinö/vaino Freja Östen/osten",
        "Åkesson/akesson Sjöberg/sjoberg Jørgensen/jorgensen Mäkinen/makinen Þórsson/thorsson",
        "SE SE DK NO FI IS",
        "example.com epost.example smörgås.example",
        "+46 70 17406##",
        6,
    ),
    _Culture(
        "Ελένη/eleni Νίκος/nikos Δήμητρα/dimitra Γιώργος/giorgos Οδυσσέας/odysseas",
        "Παπαδόπουλος/papadopoulos Νικολάου/nikolaou Ιωάννου/ioannou Αγγέλου/angelou",
        "GR GR CY",
        "example.org δοκιμή.example",
        None,
        3,
    ),
    _Culture(
        "Priya Arjun Ananya Rohan Kavya Vikram Meera Aditya Nandini",
        "Sharma Iyer Reddy Chatterjee Nair Singh Banerjee Kulkarni",
        "IN",
        "example.com example.net dak.example",
        None,
        5,
    ),
    _Culture(
        "結衣/yui 翔太/shota さくら/sakura 健一/kenichi 美咲/misaki",
        "佐藤/sato 鈴木/suzuki 高橋/takahashi 渡辺/watanabe",
        "JP",
        "example.org 例え.example",
        None,
        3,
    ),
)

_TAGS: Final = (
    "Customer",
    "VIP",
    "Prospect",
    "Newsletter 2023",
    "Spring Sale",
    "Trade fair, Lyon",
    "Webinar",
    "Blog",
)
_COMPANIES: Final = (
    "",
    "",
    "",
    "Nordlicht GmbH",
    "Café des Arts",
    "Smith, Reid & Co.",
    'The "Old" Mill',
    "Łódź Sp. z o.o.",
)
_CITIES: Final = ("", "", "Leeds", "Zürich", "Kraków", "Málaga", "Reykjavík", "Portland", "京都", "Αθήνα")


def make_people(count: int, seed: int, *, canary: Person | None = None) -> Iterator[Person]:
    """Yield ``count`` people with distinct mailboxes; the same for the same seed.

    ``canary`` stands in for the one in the middle, so that ``count`` stays what it is. Constant memory.
    """
    random = Random(seed)  # noqa: S311  a repeatable draw is what is wanted here
    weights = [culture.weight for culture in _CULTURES]
    for number in range(count):
        person = _person(random, random.choices(_CULTURES, weights)[0], number)
        yield canary if canary is not None and number == count // 2 else person


def canary_person(token: str) -> Person:
    """A person with ``token`` in the name, the address and a custom field, for whoever looks for leaks.

    ``token`` is ASCII letters and digits, unique enough to be searched for in the files of a database.
    """
    if not (token.isascii() and token.isalnum()):
        raise ValueError("A canary token is made of ASCII letters and digits.")
    return Person(
        first_name="Canary",
        last_name=token,
        email=f"canary.{token}@example.com",
        phone=None,
        country="DE",
        birth_date=date(1985, 5, 17),
        tags=("Customer",),
        custom={"Company": f"Company {token}"},
        canary=True,
    )


def _person(random: Random, culture: _Culture, number: int) -> Person:
    first_name, first_ascii = _name(random, culture.first_names)
    last_name, last_ascii = _name(random, culture.last_names)
    # The number makes mailboxes distinct, whatever names meet.
    local = random.choice(
        (
            f"{first_ascii}.{last_ascii}{number}",
            f"{first_ascii[0]}{last_ascii}{number}",
            f"{last_ascii}_{first_ascii}.{number}",
            f"{first_ascii}{number}",
        )
    )
    if random.random() < PLUS_TAG_SHARE:
        local += random.choice(("+news", "+shop", "+lists"))
    email = f"{local}@{random.choice(culture.domains.split())}"
    if random.random() < UPPER_CASE_SHARE:
        email = email.upper() if email.isascii() else email.capitalize()
    custom = {"Company": random.choice(_COMPANIES), "City": random.choice(_CITIES)}
    has_phone = culture.phone is not None and random.random() < PHONE_SHARE
    return Person(
        first_name=first_name,
        last_name=last_name,
        email=email,
        phone=_digits(random, culture.phone) if has_phone and culture.phone else None,
        country=random.choice(culture.countries.split()),
        birth_date=_birth_date(random) if random.random() < BIRTH_DATE_SHARE else None,
        tags=tuple(random.sample(_TAGS, random.choice((0, 0, 1, 1, 2, 3)))),
        custom={name: value for name, value in custom.items() if value},
    )


def _name(random: Random, names: str) -> tuple[str, str]:
    name, _, ascii_form = random.choice(names.split()).partition("/")
    return name, ascii_form or name.lower()


def _digits(random: Random, pattern: str) -> str:
    return "".join(str(random.randrange(10)) if character == "#" else character for character in pattern)


def _birth_date(random: Random) -> date:
    return OLDEST_BORN + timedelta(days=random.randrange((YOUNGEST_BORN - OLDEST_BORN).days))
