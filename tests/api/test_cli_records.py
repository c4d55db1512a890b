"""`lethe records`: files of both kinds in, bad rows out to be mended, and what is held of a person shown and noted."""

from __future__ import annotations

import json
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from api.bootstrap import Instance
from ledger.application import Ledger
from tests.acts import add
from tests.api.cli_support import CommandLine

pytestmark = pytest.mark.store

ANNA, BERT = "anna@example.com", "bert@example.com"
HEADER = "class,kind,email,occurred_at,invoice,amount"


@pytest.fixture
def lethe(instance: Instance, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    add(ledger, [ANNA])
    return CommandLine(instance, ledger, tmp_path, monkeypatch)


def listed(lethe: CommandLine, *options: object) -> list[dict[str, object]]:
    return lethe.lines("records", "list", "--email", "-", *options, stdin=ANNA)


def test_a_csv_becomes_records(lethe: CommandLine) -> None:
    """Given invoices and a log line about nobody, then other columns become content, and empty cells nothing."""
    source = lethe.file(
        "billing.csv",
        HEADER,
        f"billing,invoice,{ANNA},2024-02-29 10:00:00,2024-17,19.90",
        f"Access-Log,,{ANNA},,,GET /",
        "error log,,,2026-01-02T03:04:05+02:00,,",
        "error log,,,2026-01-02T03:04:05+02:00,x,",
    )
    taken = lethe.json("records", "import", source, code=3)
    assert (taken["recorded"], taken["about_nobody"], taken["rejected"]) == (3, 1, 1)
    held = listed(lethe)
    assert {row["class"]: row["content"] for row in held} == {
        "billing": {"invoice": "2024-17", "amount": "19.90"},
        "access_log": {"amount": "GET /"},
    }
    invoice = next(row for row in held if row["class"] == "billing")
    assert (invoice["kind"], invoice["occurred_at"]) == ("invoice", "2024-02-29T10:00:00+00:00")


def test_ndjson_is_taken_in_the_shape_of_the_api(lethe: CommandLine) -> None:
    """Given the rows of a POST as lines, then they are taken, and `--class` stands in where a row names none."""
    rows = [
        {"class": "support", "kind": "ticket", "email": ANNA, "content": {"subject": "Hello"}},
        {"email": ANNA, "occurred_at": "2026-01-02T03:04:05+02:00", "content": {"feature": "editor"}},
    ]
    source = lethe.file("records.ndjson", *map(json.dumps, rows))
    assert lethe.json("records", "import", source, "--class", "usage")["recorded"] == 2
    assert sorted(str(row["class"]) for row in listed(lethe)) == ["support", "usage"]


def test_rejected_rows_of_a_csv_are_mended_and_imported(lethe: CommandLine) -> None:
    """Given bad rows, then a private file holds them with their reasons; mended there, they are taken."""
    tomorrow = (lethe.ledger.clock() + timedelta(days=1)).isoformat()
    source = lethe.file(
        "billing.csv",
        HEADER,
        f"billing,invoice,{BERT},2024-02-29,2024-17,19.90",
        f"billing,invoice,{ANNA},{tomorrow},2024-18,19.90",
        f"invoice,invoice,{ANNA},2024-02-29,2024-19,19.90",
        f"billing,Annas Rechnung,{ANNA},2024-02-29,2024-20,19.90",
        f"billing,invoice,{ANNA},29.2.2024,2024-21,19.90",
        f"billing,invoice,{ANNA},2024-02-29,2024-22,19.90",
    )
    taken = lethe.json("records", "import", source, code=3)
    assert (taken["recorded"], taken["rejected"]) == (1, 5)
    rejects = Path(taken["rejects"][0])
    assert stat.S_IMODE(rejects.stat().st_mode) == 0o600
    text = rejects.read_text(encoding="utf-8-sig")
    for reason in (
        "line 2: unknown_recipient",
        "line 3: in_the_future",
        "line 4: class: write one of",
        "line 5: unknown_kind",
        "line 6: occurred_at: write a time",
    ):
        assert reason in text
    mended = (
        text.replace(BERT, ANNA).replace(tomorrow, "2024-03-01").replace('"invoice","invoice"', '"billing","invoice"')
    )
    rejects.write_text(mended.replace("Annas Rechnung", "invoice").replace("29.2.2024", "2024-02-29"))
    assert lethe.json("records", "import", rejects)["recorded"] == 5
    assert {row["content"]["invoice"] for row in listed(lethe)} == {f"2024-{n}" for n in range(17, 23)}  # type: ignore[index]  # JSON.


def test_rejected_lines_of_ndjson_are_mended_and_imported(lethe: CommandLine) -> None:
    """Given lines that are no records, then they come back as lines with a reason, refused again until mended."""
    good = {"class": "support", "email": ANNA, "content": {"subject": "Hello"}}
    lines = [
        json.dumps(good | {"class": "letter"}),
        '{"class": "support", ',
        json.dumps(good | {"content": {"n": 7}}),
        json.dumps(good | {"occurred_at": "2026-01-02T03:04:05"}),
        json.dumps(good | {"subject": "Hello"}),
        json.dumps(good),
    ]
    taken = lethe.json("records", "import", lethe.file("letters.jsonl", *lines), code=3)
    assert (taken["recorded"], taken["rejected"]) == (1, 5)
    rejects = Path(taken["rejects"][0])
    assert stat.S_IMODE(rejects.stat().st_mode) == 0o600
    held = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [row["lethe_reason"].partition(":")[0] for row in held] == [f"line {n}" for n in range(1, 6)]
    assert held[1]["unreadable"] == '{"class": "support",'
    again = lethe.json("records", "import", rejects, code=3)
    assert (again["recorded"], again["rejected"]) == (0, 5)
    mended = [json.dumps({"lethe_reason": row["lethe_reason"], **good}) for row in held]
    assert lethe.json("records", "import", lethe.file("mended.ndjson", *mended))["recorded"] == 5


def test_one_file_is_taken_once_within_a_day(lethe: CommandLine) -> None:
    """Given an import, when the same file comes again, then nothing is kept twice; a file that differs is another."""
    row = f"billing,invoice,{ANNA},2024-02-29,2024-17,19.90"
    source = lethe.file("billing.csv", HEADER, row, row)
    assert lethe.json("records", "import", source)["recorded"] == 2
    end = lethe.end()
    again = lethe.json("records", "import", source)
    assert (again["recorded"], again["repeated"]) == (0, 2)
    assert lethe.end() == end
    longer = lethe.file("billing.csv", HEADER, row, row, row)
    assert lethe.json("records", "import", longer)["recorded"] == 3


def test_an_import_that_died_goes_on_where_it_stopped(lethe: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a death between two chunks, when the import runs again, then each record is kept once."""
    rows = [f"access_log,,{ANNA},2026-01-{day:02d},,GET /" for day in range(1, 6)]
    source = lethe.file("log.csv", HEADER, *rows)
    desk = type(lethe.ledger.records)
    write = desk._write
    written: list[object] = []

    def dies_at_the_third(self: object, *arguments: object) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(arguments)
        write(self, *arguments)  # type: ignore[arg-type]  # The desk's own arguments, passed on.

    with monkeypatch.context() as patched:
        patched.setattr(desk, "_write", dies_at_the_third)
        lethe("records", "import", source, code=130)
    taken = lethe.json("records", "import", source)
    assert (taken["recorded"], taken["repeated"]) == (3, 2)
    assert len(listed(lethe)) == 5


@pytest.mark.parametrize(
    ("name", "content", "options", "code"),
    [
        ("empty.csv", "", (), 1),
        ("no_class.csv", "email,amount\nanna@example.com,1\n", (), 1),
        ("broken.csv", "class\n\xff".replace("\xff", "\udcff"), (), 1),
        ("fine.csv", "email,amount\nanna@example.com,1\n", ("--class", "letters"), 2),
    ],
)
def test_a_file_that_is_none_is_refused_whole(
    lethe: CommandLine, name: str, content: str, options: tuple[str, ...], code: int
) -> None:
    """Given no class, no text or no such class, when it is imported, then nothing is kept and the error says why."""
    (lethe.folder / name).write_bytes(content.encode(errors="surrogateescape"))
    before = lethe.end()
    lethe("records", "import", lethe.folder / name, *options, code=code)
    assert lethe.said
    assert lethe.end() == before


def test_looking_at_records_is_recorded(lethe: CommandLine) -> None:
    """Given records of two classes, when one is listed, then just it is opened, and that it was is on record (I8)."""
    rows = [f"billing,invoice,{ANNA},2024-02-29,2024-17,19.90", f"support,ticket,{ANNA},2024-02-29,,hello"]
    lethe("records", "import", lethe.file("both.csv", HEADER, *rows))
    (found,) = listed(lethe, "--class", "billing")
    assert found["content"] == {"invoice": "2024-17", "amount": "19.90"}
    viewed = lethe.ledger.log.select_log(lethe.end(), 1)[0]
    assert viewed.topic == "access.viewed.v1"
    assert b'"parts_opened":2' in viewed.state
    table = lethe("records", "list", "--email", ANNA)
    assert "invoice: 2024-17" in table
    assert "2 records. That you looked was recorded." in table


def test_strangers_and_unknown_classes_are_named(lethe: CommandLine) -> None:
    """Given nobody of this address, or a class that is none, then the error has a name, and no look is recorded."""
    before = lethe.end()
    assert lethe.json("records", "list", "--email", BERT, code=5)["error"] == "unknown_contact"
    assert lethe.json("records", "list", "--email", ANNA, "--class", "x", code=2)["error"] == "unknown_class"
    assert lethe.json("records", "list", "--email", ANNA, "--email", BERT, code=2)["error"] == "one_address"
    assert lethe.end() == before


def test_everything_held_of_a_person_includes_their_records(lethe: CommandLine) -> None:
    """Given a record, when the person is shown or their events are searched, then it is among them."""
    lethe("records", "import", lethe.file("one.csv", HEADER, f"billing,invoice,{ANNA},2024-02-29,2024-17,1"))
    shown = lethe.json("subject", "show", "--email", ANNA)
    (event,) = [event for event in shown["events"] if event["kind"] == "record.transaction.v1"]
    assert (event["own_kind"], event["content"]) == ("invoice", {"invoice": "2024-17", "amount": "1"})
    events = lethe.lines("events", "--email", ANNA, "--kind", "record", "--open")
    assert [event["content"] for event in events] == [{"invoice": "2024-17", "amount": "1"}]


def test_the_operator_has_one_account(
    own_instance: Instance, own_ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given the platform itself, then it opens an account of its own, once, and its subjects have their categories."""
    lethe = CommandLine(own_instance, own_ledger, tmp_path, monkeypatch)
    opened = lethe.json("account", "open", "--name", "Platform", "--policy", "mailenium", "--operator")
    account = opened["account_id"]
    assert opened["operator"] is True
    people = lethe.file("people.csv", "email,category", "carl@example.com,Account holder", "dora@example.com,Affiliate")
    assert lethe.json("contacts", "import", people, "--account", account)["contacts"]["added"] == 2
    found = {row["account_id"]: row["operator"] for row in lethe.lines("account", "list")}
    assert found[account] is True
    assert found[str(lethe.ledger.tenant)] is False
    again = lethe.json("account", "open", "--name", "Platform", "--operator", code=1)
    assert again["error"] == "operator_exists"
