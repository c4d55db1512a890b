"""`lethe contacts import` and `lethe consents import`: good rows in, bad rows named, twice is as good as once."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from api.bootstrap import Instance
from api.demo.mailchimp_export import write_mailchimp_export
from api.demo.people import make_people
from domain.subject_commands import RecordConsent
from ledger.application import Ledger
from ledger.subjects import Act
from tests.api.cli_support import CommandLine

pytestmark = pytest.mark.store

HEADER = "email,first_name,country,birth_date"
CONSENTS = "email,purpose,action,occurred_at,ip,method,channel"


@pytest.fixture
def lethe(instance: Instance, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    return CommandLine(instance, ledger, tmp_path, monkeypatch)


def test_a_rejected_row_is_mended_and_imported_again(lethe: CommandLine) -> None:
    """Bad rows go to a private file with their reasons; mended there, they are taken, and the good ones are known."""
    source = lethe.file(
        "list.csv",
        HEADER,
        "ann@example.com,Ann,DE,1980-01-31",
        "bob at example.com,Bob,FR,",
        "cem@example.com,Cem,TR,1980-02-31",
    )

    first = lethe.json("contacts", "import", source, code=3)

    assert first["contacts"] == {"added": 1, "known": 0}
    assert first["rejected"] == 2
    rejects = Path(first["rejects"][0])
    assert stat.S_IMODE(rejects.stat().st_mode) == 0o600
    text = rejects.read_text(encoding="utf-8-sig")
    assert "line 3: no_at_sign" in text
    assert "line 4: birth_date" in text
    rejects.write_text(text.replace("bob at example.com", "bob@example.com").replace("1980-02-31", "1980-02-28"))

    mended = lethe.json("contacts", "import", rejects)

    assert mended["contacts"] == {"added": 2, "known": 0}
    assert mended["rejects"] == []
    again = lethe.json("contacts", "import", source, code=3)
    assert again["contacts"] == {"added": 0, "known": 1}


def test_a_mailchimp_zip_is_taken_as_it_comes_and_twice_is_harmless(lethe: CommandLine) -> None:
    """Contacts, two facts per double opt-in and suppressions arrive; a second import adds no event at all."""
    folder = lethe.folder / "export"
    folder.mkdir()
    export = write_mailchimp_export(make_people(120, 7), folder, 7, as_zip=True)

    first = lethe.json("contacts", "import", export.paths[0], code=3)

    assert first["contacts"] == {"added": export.contacts - export.repeated, "known": export.repeated}
    assert first["consents"]["recorded"] == export.requests + export.grants
    assert first["suppressions"]["added"] == export.unsubscribed + export.cleaned
    assert first["rejected"] == export.rejected
    end = lethe.end()

    second = lethe.json("contacts", "import", export.paths[0], code=3)

    assert second["contacts"]["added"] == second["consents"]["recorded"] == second["suppressions"]["added"] == 0
    assert second["consents"]["known"] == export.requests + export.grants
    assert lethe.end() == end


def test_an_import_lifts_no_no(lethe: CommandLine) -> None:
    """A grant that is imported after a withdrawal is on record without effect, and the person stays unmailable (I7)."""
    lethe("contacts", "import", lethe.file("list.csv", HEADER, "ann@example.com,Ann,DE,"))
    lethe.ledger.act(Act(RecordConsent("newsletter", "email", "withdraw"), address="ann@example.com"))
    consents = lethe.file("consents.csv", CONSENTS, "ann@example.com,newsletter,grant,2020-05-01,192.0.2.1,form,")

    taken = lethe.json("consents", "import", consents)

    assert taken["consents"]["without_effect"] == {"import_never_lifts": 1}
    assert lethe.ledger.check([("ann@example.com", "newsletter", "email")])[0].rule == "withdrawn"
    end = lethe.end()
    assert lethe.json("consents", "import", consents)["consents"] == {"recorded": 0, "known": 1, "without_effect": {}}
    assert lethe.end() == end


def test_an_unsubscribed_person_of_ours_is_suppressed_once(lethe: CommandLine) -> None:
    """A "no" about a contact that is held goes into the person's own stream, and not again at the next import."""
    lethe("contacts", "import", lethe.file("list.csv", HEADER, "ann@example.com,Ann,DE,"))
    leavers = lethe.file("gone.csv", "email", "ann@example.com", "stranger@example.org")

    first = lethe.json("suppressions", "import", leavers)

    assert first["suppressions"] == {"added": 2, "known": 0}
    assert lethe.topics().count("contact.unsubscribed.v1") == 1
    second = lethe.json("suppressions", "import", leavers)
    assert second["suppressions"] == {"added": 0, "known": 2}


def test_consents_of_strangers_and_free_text_are_rejected_by_row(lethe: CommandLine) -> None:
    """Consents need their contact; what would be stored in the clear must be a short name, not a sentence (I4)."""
    lethe("contacts", "import", lethe.file("list.csv", HEADER, "ann@example.com,Ann,DE,"))
    consents = lethe.file(
        "consents.csv",
        CONSENTS,
        "stranger@example.org,newsletter,grant,2020-05-01,192.0.2.1,form,",
        "ann@example.com,newsletter,grant,2020-05-01,192.0.2.1,form,Ann's phone",
        "ann@example.com,News & Offers,grant,2020-05-01,192.0.2.1,form,",
        "ann@example.com,newsletter,grant,2020-05-01,192.0.2.1,form,",
    )

    taken = lethe.json("consents", "import", consents, code=3)

    assert taken["consents"]["recorded"] == 1
    assert taken["rejected"] == 3
    reasons = Path(taken["rejects"][0]).read_text(encoding="utf-8-sig")
    assert "line 2: no such contact" in reasons
    assert "line 3: channel: write a short lower-case name" in reasons
    assert "line 4: A purpose is a short lower-case name" in reasons


def test_a_category_that_is_a_sentence_is_rejected(lethe: CommandLine) -> None:
    """The category of a contact stands in the clear, so it is checked as well."""
    source = lethe.file(
        "list.csv", "email,category", "ann@example.com,Ann from the gym", "bob@example.com,Support contact"
    )
    taken = lethe.json("contacts", "import", source, code=3)
    assert (taken["contacts"]["added"], taken["rejected"]) == (1, 1)


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [("empty.csv", "", "unreadable_file"), ("nothing.csv", "name,city\nAnn,Bonn\n", "unreadable_file")],
)
def test_a_file_that_is_no_list_is_refused_whole(lethe: CommandLine, name: str, content: str, error: str) -> None:
    """Without an e-mail column nothing is imported, and the error names the columns."""
    (lethe.folder / name).write_text(content)
    before = lethe.end()
    assert lethe.json("contacts", "import", lethe.folder / name, code=1)["error"] == error
    assert lethe.end() == before


def test_a_file_that_is_not_there(lethe: CommandLine) -> None:
    """A wrong path is said before a database is asked."""
    assert lethe.json("contacts", "import", lethe.folder / "no.csv", code=5)["error"] == "unreadable_file"


def test_plain_and_mailchimp_files_are_not_mixed(lethe: CommandLine) -> None:
    """A plain list beside an export's file is a question of usage, not a guess."""
    plain = lethe.file("list.csv", HEADER, "ann@example.com,Ann,DE,")
    export = lethe.file("subscribed_x.csv", "Email Address,OPTIN_TIME", "ann@example.com,")
    assert lethe.json("contacts", "import", plain, export, code=2)["error"] == "mixed_files"
