"""Writes made-up people as the three CSV files of a Mailchimp audience export (FORMATS.md), or their zip.

Believable down to its faults: a repeated column name, quoted lists of tags inside quotes, empty opt-in
times of people who were once imported, and a handful of rows that no importer can take.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Final
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from api.demo.people import Person

SUBSCRIBED_SHARE: Final = 0.88
UNSUBSCRIBED_SHARE: Final = 0.09  # the rest, 3 %, is cleaned
DOUBLE_OPT_IN_SHARE: Final = 0.70  # of the subscribed
SINGLE_OPT_IN_SHARE: Final = 0.10  # of the subscribed; the rest was imported and never opted in
PEOPLE_PER_BROKEN_SET: Final = 5_000  # one set of broken rows is written for each so many people, begun or full

_FIRST_OPT_IN: Final = datetime(2019, 1, 1)  # noqa: DTZ001  the files' times are UTC without saying so
_OPT_IN_DAYS: Final = 2_000
_DOCUMENTATION_NETWORKS: Final = ("192.0.2", "198.51.100", "203.0.113")
_ZIP_TIME: Final = (2025, 1, 1, 0, 0, 0)
_SUFFIX: Final = "email_audience_export_0a1b2c3d4e.csv"

_USER_COLUMNS: Final = (
    "Email Address",
    "First Name",
    "Last Name",
    "Phone Number",
    "Birth Date",
    "Company",
    "City",
)
_TECHNICAL: Final = (
    *("MEMBER_RATING", "OPTIN_TIME", "OPTIN_IP", "CONFIRM_TIME", "CONFIRM_IP", "LATITUDE", "LONGITUDE"),
    *("GMTOFF", "DSTOFF", "TIMEZONE", "CC", "REGION", "LAST_CHANGED", "LEID", "EUID", "NOTES", "TAGS"),
)
_UNSUBSCRIBED: Final = (
    # The tool repeats a name here in some exports; so does this file.
    *("UNSUB_TIME", "UNSUB_CAMPAIGN_TITLE", "UNSUB_CAMPAIGN_ID", "UNSUB_REASON", "UNSUB_REASON"),
    "UNSUB_REASON_OTHER",
)
_CLEANED: Final = ("CLEAN_TIME", "CLEAN_CAMPAIGN_TITLE", "CLEAN_CAMPAIGN_ID")
_REASONS: Final = (
    ("NORMAL", ""),
    ("NORMAL", ""),
    ("NOTSIGNUP", ""),
    ("INAPPROPRIATE", ""),
    ("OTHER", "Moved abroad"),
)


@dataclass(slots=True)
class ExportFiles:
    """What was written, and what an importer should find in it.

    ``paths`` are the three CSV files, or the one zip. ``contacts`` are rows, the repeated ones included;
    ``people`` are mailboxes; ``requests`` and ``grants`` are consent acts; ``rejected`` rows are broken.
    """

    paths: list[Path]
    people: int = 0
    contacts: int = 0
    requests: int = 0
    grants: int = 0
    unsubscribed: int = 0
    cleaned: int = 0
    repeated: int = 0
    rejected: int = 0


def write_mailchimp_export(people: Iterable[Person], folder: Path, seed: int, *, as_zip: bool = False) -> ExportFiles:
    """Write the export of ``people`` into ``folder``, which must exist; the same bytes for the same seed.

    The canary, where there is one, is subscribed with double opt-in. Files are written as people come.
    """
    random = Random(seed)  # noqa: S311  a repeatable draw is what is wanted here
    paths = {kind: folder / f"{kind}_{_SUFFIX}" for kind in ("subscribed", "unsubscribed", "cleaned")}
    written = ExportFiles(list(paths.values()))
    with ExitStack() as files:
        tables = [
            csv.writer(files.enter_context(path.open("w", encoding="utf-8", newline="")), lineterminator="\n")
            for path in paths.values()
        ]
        subscribed, unsubscribed, cleaned = tables
        subscribed.writerow((*_USER_COLUMNS, *_TECHNICAL))
        unsubscribed.writerow((*_USER_COLUMNS, *_TECHNICAL, *_UNSUBSCRIBED))
        cleaned.writerow((*_USER_COLUMNS, *_TECHNICAL, *_CLEANED))
        for person in people:
            draw = random.random()
            opted_in = _FIRST_OPT_IN + timedelta(seconds=random.randrange(_OPT_IN_DAYS * 86_400))
            if draw < SUBSCRIBED_SHARE or person.canary:
                row = _subscribed(random, person, opted_in, written)
                subscribed.writerow(row)
                if written.repeated * PEOPLE_PER_BROKEN_SET <= written.people and not person.canary:
                    subscribed.writerows(_broken(row, written))
            elif draw < SUBSCRIBED_SHARE + UNSUBSCRIBED_SHARE:
                left = opted_in + timedelta(seconds=random.randrange(86_400, 300 * 86_400))
                reason, other = random.choice(_REASONS)
                row = _row(random, person, written.people, opted_in, opted_in + timedelta(minutes=7))
                unsubscribed.writerow([*row, left, "Spring news", _campaign(random), reason, reason, other])
                written.unsubscribed += 1
            else:
                row = _row(random, person, written.people, opted_in, None)
                cleaned.writerow([*row, opted_in + timedelta(days=90), "Summer news", _campaign(random)])
                written.cleaned += 1
            written.people += 1
    if as_zip:
        written.paths = [_zipped(written.paths, folder)]
    return written


def _subscribed(random: Random, person: Person, opted_in: datetime, written: ExportFiles) -> list[object]:
    draw = 0.0 if person.canary else random.random()
    confirmed = opted_in + timedelta(seconds=random.randrange(20, 2 * 86_400))
    written.contacts += 1
    if draw < DOUBLE_OPT_IN_SHARE:
        written.requests += 1
        written.grants += 1
        return _row(random, person, written.people, opted_in, confirmed)
    if draw < DOUBLE_OPT_IN_SHARE + SINGLE_OPT_IN_SHARE:
        written.grants += 1
        return _row(random, person, written.people, opted_in, None)
    return _row(random, person, written.people, None, confirmed)


def _broken(row: list[object], written: ExportFiles) -> list[list[object]]:
    """A good row spoilt in the usual ways, and once repeated in another case, which is not broken."""
    email = str(row[0])
    no_consent: list[object] = ["" if 8 <= index <= 11 else cell for index, cell in enumerate(row)]
    local, _, domain = email.partition("@")
    written.repeated += 1
    written.contacts += 1
    written.rejected += 4
    return [
        [email.replace("@", " at "), *row[1:]],
        row[:4] + row[5:],
        [email.replace("@", "@@"), *row[1:]],
        ["x" * 308 + "@example.com", *row[1:]],
        [f"{local.swapcase()}@{domain}", *no_consent[1:]],
    ]


def _row(
    random: Random, person: Person, number: int, opted_in: datetime | None, confirmed: datetime | None
) -> list[object]:
    name = (person.email, person.first_name, person.last_name, person.phone or "")
    custom = (person.custom.get("Company", ""), person.custom.get("City", ""))
    opt_in = (opted_in or "", _ip(random) if opted_in else "")
    confirmation = (confirmed or "", _ip(random) if confirmed else "")
    place = ("", "", "0", "0", "UTC", person.country, "")
    ids = (
        confirmed or opted_in or _FIRST_OPT_IN,
        str(400_000_000 + number),
        f"{random.getrandbits(40):010x}",
    )
    tags = ",".join(f'"{tag}"' for tag in person.tags)
    birth_date = person.birth_date or ""
    return [
        *name,
        birth_date,
        *custom,
        random.randrange(1, 6),
        *opt_in,
        *confirmation,
        *place,
        *ids,
        "",
        tags,
    ]


def _ip(random: Random) -> str:
    return f"{random.choice(_DOCUMENTATION_NETWORKS)}.{random.randrange(1, 255)}"


def _campaign(random: Random) -> str:
    return f"{random.getrandbits(40):010x}"


def _zipped(paths: list[Path], folder: Path) -> Path:
    """Pack the files with a fixed time, so that the same people give the same bytes, and remove them."""
    path = folder / "audience_export_0a1b2c3d4e.zip"
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for source in paths:
            member = ZipInfo(source.name, _ZIP_TIME)
            member.compress_type = ZIP_DEFLATED
            with source.open("rb") as unpacked, archive.open(member, "w", force_zip64=True) as packed:
                while chunk := unpacked.read(io.DEFAULT_BUFFER_SIZE):
                    packed.write(chunk)
            source.unlink()
    return path
