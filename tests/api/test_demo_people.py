"""The demo's people are repeatable and reserved, and their export reads back as it was counted."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from api.demo.mailchimp_export import ExportFiles, write_mailchimp_export
from api.demo.people import canary_person, make_people
from api.imports.mailchimp import read_mailchimp
from api.imports.rows import ConsentRow, ContactRow, RejectedRow, SuppressionRow
from domain.address import canonical_address

COUNT = 6_000


def test_the_same_seed_makes_the_same_people_and_another_seed_others() -> None:
    """A demo that is told twice tells the same story."""
    assert list(make_people(300, 7)) == list(make_people(300, 7))
    assert list(make_people(300, 7)) != list(make_people(300, 8))
    assert list(make_people(300, 7))[:100] == list(make_people(100, 7))


def test_every_mailbox_is_distinct_and_at_a_reserved_domain() -> None:
    """Nobody real can be mailed by accident."""
    people = list(make_people(COUNT, 1))
    canonical = {canonical_address(person.email) for person in people}
    assert len(canonical) == COUNT
    reserved = re.compile(r".+@(?:example\.(?:com|org|net)|[a-z0-9-]+\.example)")
    assert all(reserved.fullmatch(address) for address in canonical)


def test_people_are_as_mixed_as_real_lists() -> None:
    """Names that are not ASCII, tags, capitals, international domains and a dozen countries all occur."""
    people = list(make_people(COUNT, 2))
    assert sum(not person.last_name.isascii() for person in people) > COUNT / 10
    assert sum(not person.email.isascii() for person in people) > COUNT / 20
    assert sum("+" in person.email for person in people) > COUNT / 50
    assert sum(person.email != person.email.lower() for person in people) > COUNT / 50
    assert len({person.country for person in people}) >= 12
    assert sum(person.birth_date is not None for person in people) > COUNT / 2


@pytest.mark.parametrize("as_zip", [False, True])
def test_the_export_reads_back_as_it_was_counted(tmp_path: Path, *, as_zip: bool) -> None:
    """Given an export of known people, when it is read, then every row is accounted for."""
    written = write_mailchimp_export(make_people(COUNT, 3), tmp_path, 3, as_zip=as_zip)
    assert written.people == COUNT
    rows = list(read_mailchimp(written.paths[0] if as_zip else tmp_path))
    kinds = Counter(type(row) for row in rows)
    consents = Counter(row.action for row in rows if isinstance(row, ConsentRow))
    causes = Counter(row.cause for row in rows if isinstance(row, SuppressionRow))
    assert kinds[ContactRow] == written.contacts
    assert consents == {"request": written.requests, "grant": written.grants}
    assert causes == {"unsubscribed": written.unsubscribed, "hard_bounce": written.cleaned}
    assert kinds[RejectedRow] == written.rejected == 8
    assert written.contacts - written.repeated + written.unsubscribed + written.cleaned == COUNT
    mailboxes = {canonical_address(row.email) for row in rows if not isinstance(row, RejectedRow)}
    assert len(mailboxes) == COUNT, "a row repeated in another case is no other mailbox"
    assert _shares_hold(written)
    assert all(
        row.evidence["ip"].startswith(("192.0.2.", "198.51.100.", "203.0.113."))
        for row in rows
        if isinstance(row, ConsentRow)
    )


def _shares_hold(written: ExportFiles) -> bool:
    subscribed = written.contacts - written.repeated
    return (
        abs(subscribed / COUNT - 0.88) < 0.02
        and abs(written.unsubscribed / COUNT - 0.09) < 0.02
        and abs(written.requests / subscribed - 0.70) < 0.03
        and abs((written.grants - written.requests) / subscribed - 0.10) < 0.02
    )


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    """Zip or not, an export can be compared by its digest."""
    for as_zip in (False, True):
        contents = []
        for name in ("first", "second"):
            folder = tmp_path / f"{name}-{as_zip}"
            folder.mkdir()
            written = write_mailchimp_export(make_people(200, 5), folder, 5, as_zip=as_zip)
            contents.append([path.read_bytes() for path in written.paths])
        assert contents[0] == contents[1]


def test_the_canary_is_one_of_the_people_and_has_consented(tmp_path: Path) -> None:
    """The planted token is in name, address and custom field, once each, of a mailable contact."""
    token = "kanarie7f3a9c"
    canary = canary_person(token)
    assert sum(person == canary for person in make_people(500, 4, canary=canary)) == 1
    write_mailchimp_export(make_people(500, 4, canary=canary), tmp_path, 4)
    rows = [row for row in read_mailchimp(tmp_path) if not isinstance(row, RejectedRow) and token in row.email]
    contact, request, grant = rows
    assert isinstance(contact, ContactRow)
    assert contact.last_name == token
    assert contact.custom == {"Company": f"Company {token}"}
    assert isinstance(request, ConsentRow)
    assert request.action == "request"
    assert isinstance(grant, ConsentRow)
    assert grant.action == "grant"
    with pytest.raises(ValueError, match="letters and digits"):
        canary_person("two words")
