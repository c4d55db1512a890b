"""Files become rows: broken ones name their line, good ones are kept, and no file can hurt (FAULTS 22)."""

from __future__ import annotations

import csv
import io
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import fields
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.imports import mailchimp_files
from api.imports.errors import ImportFileError
from api.imports.mailchimp import read_mailchimp
from api.imports.mailchimp_files import is_mailchimp_export
from api.imports.plain_csv import read_consents, read_contacts
from api.imports.records import CELL_CHARACTERS_MAX, LINE_CHARACTERS_MAX
from api.imports.rejects import SOURCE_FILES_MAX, LineRejectsWriter, RejectsWriter
from api.imports.rows import ConsentRow, ContactRow, ImportRow, RejectedRow, SuppressionRow
from audit.formulas import neutralised, unneutralised

Contacts = list[ContactRow | RejectedRow]


def contacts(text: str | bytes) -> Contacts:
    """Read ``text`` as a plain CSV of contacts."""
    return list(read_contacts(io.BytesIO(text if isinstance(text, bytes) else text.encode()), file="list.csv"))


def emails(rows: Iterable[ImportRow]) -> list[str]:
    return [row.email for row in rows if not isinstance(row, RejectedRow)]


def rejects(rows: Iterable[ImportRow]) -> list[tuple[int, str]]:
    return [(row.line, row.reason) for row in rows if isinstance(row, RejectedRow)]


def test_a_full_row_has_every_field_in_its_place() -> None:
    """Names of columns are flexible, values are checked, and what is unknown becomes custom."""
    (row,) = contacts(
        "E-Mail Address,First_Name,LAST NAME,phone,Country,Birth-Date,category,source,tags,Shoe size,Note,Note,\n"
        'Anna.Smith@Bücher.example,Anna,Smith,+44 7700 900123,gb,1990-02-28,customer,fair,"a; b;a",38,x,y,\n'
    )
    assert row == ContactRow(
        line=2,
        file="list.csv",
        email="Anna.Smith@xn--bcher-kva.example",
        first_name="Anna",
        last_name="Smith",
        phone="+44 7700 900123",
        country="GB",
        birth_date=date(1990, 2, 28),
        category="customer",
        source="fair",
        custom={"Shoe size": "38", "Note": "x", "Note (2)": "y"},
        tags=("a", "b"),
    )


@pytest.mark.parametrize(
    "content",
    [
        b"email,name\na@example.com,Zo\xc3\xab\nb@example.com,B\n",
        b"\xef\xbb\xbfemail,name\r\na@example.com,Zo\xc3\xab\r\nb@example.com,B",
        b"email;name\na@example.com;Zo\xc3\xab\n\n;\nb@example.com;B\n",
        b"email\tname\ra@example.com\tZo\xc3\xab\rb@example.com\tB\r",
        b"sep=;\r\nemail;name\r\na@example.com;Zo\xc3\xab\r\nb@example.com;B\r\n",
        b'\n\n"email","name"\n"a@example.com","Zo\xc3\xab"\n"b@example.com","B"\n',
        "email,name\na@example.com,Zoë\nb@example.com,B\n".encode("utf-16"),
        b"\xfe\xff" + "email\tname\na@example.com\tZoë\nb@example.com\tB\n".encode("utf-16-be"),
        b"name,email,,\nZo\xc3\xab,a@example.com,,\nB,b@example.com,,,,,\n",
        b'"first, or only\nname",email\nZo\xc3\xab,a@example.com\nB,b@example.com\n',
    ],
    ids=["plain", "bom+crlf", "semicolon", "tab+cr", "sep", "quoted", "utf16", "utf16be", "blanks", "header lines"],
)
def test_what_spreadsheets_write_is_read(content: bytes) -> None:
    """Marks, line ends, delimiters and encodings make no difference to the rows."""
    rows = contacts(content)
    assert rejects(rows) == []
    assert emails(rows) == ["a@example.com", "b@example.com"]
    first = rows[0]
    assert isinstance(first, ContactRow)
    assert "Zoë" in (first.first_name, *first.custom.values())


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("secret,Anna,GB", "no_at_sign"),
        (",Anna,GB", "empty"),
        ("s" * 308 + "@example.com,Anna,GB", "too_long"),
        ("secret\x07@example.com,Anna,GB", "control_character"),
        ("secret@example.com,Anna", "2 cells, the header has 3"),
        ("secret@example.com,Anna,GB,more", "4 cells, the header has 3"),
        ("secret@example.com,Anna,England", "country: write two letters"),
        ("secret@example.com,An\0na,GB", "cell 2 holds a NUL byte"),
        ("secret@example.com," + "n" * (CELL_CHARACTERS_MAX + 1) + ",GB", "cell 2 is longer than"),
        ("secret@example.com," + "n" * (2 * LINE_CHARACTERS_MAX) + ",GB", "the line is longer than"),
        ('secret@example.com,"Anna,GB', "never closed"),
        ('secret@example.com,"An"na,GB', "after a closing quote"),
        ('secret@example.com,"Anna"s",GB', "after a closing quote"),
        ('"secret@example.com', "never closed"),
    ],
)
def test_a_broken_row_is_named_and_the_others_are_kept(broken: str, reason: str) -> None:
    """Given one broken row among good ones, it alone is rejected, with its line and without its contents."""
    rows = contacts(f"email,first_name,country\na@example.com,A,DE\n{broken}\nb@example.com,B,FR\nc@example.com,C,\n")
    assert emails(rows) == ["a@example.com", "b@example.com", "c@example.com"]
    ((line, said),) = rejects(rows)
    assert line == 3
    assert reason in said
    assert "secret" not in said
    assert [row.line for row in rows] == [2, 3, 4, 5]


def test_quoted_cells_may_hold_anything() -> None:
    """Line breaks, delimiters, doubled quotes and formulas are data."""
    rows = contacts(
        'email,note\r\na@example.com,"one\r\ntwo, ""three""\r\n\r\nb@example.com,four"\r\n'
        "c@example.com,=cmd|' /C calc'!A0\r\nd@example.com,5\" nails\r\n"
    )
    assert rejects(rows) == []
    assert emails(rows) == ["a@example.com", "c@example.com", "d@example.com"]
    notes = [row.custom["note"] for row in rows if isinstance(row, ContactRow)]
    assert notes == ['one\r\ntwo, "three"\r\n\r\nb@example.com,four', "=cmd|' /C calc'!A0", '5" nails']
    assert [row.line for row in rows] == [2, 6, 7]


def test_rows_inside_an_overlong_quoted_cell_are_never_taken_for_rows() -> None:
    """A long free text that is quoted as it should be cannot smuggle contacts into the list."""
    smuggled = "victim@example.com,V\n" * 20_000
    rows = contacts(f'email,note\na@example.com,A\nb@example.com,"{smuggled}"\nc@example.com,C\n')
    assert emails(rows) == ["a@example.com", "c@example.com"]
    ((line, reason),) = rejects(rows)
    assert line == 3
    assert "longer than" in reason


def test_an_unclosed_quote_at_the_end_loses_nothing_before_it() -> None:
    """The truncated last row is reported; every row before it is kept."""
    good = "".join(f'p{number}@example.com,"N, {number}"\n' for number in range(1_000))
    rows = contacts("email,first_name\n" + good + 'last@example.com,"cut o')
    assert len(emails(rows)) == 1_000
    assert rejects(rows) == [(1_002, "a quote is opened on this line and never closed properly")]


def test_an_unclosed_quote_too_far_from_the_end_is_refused_with_its_line() -> None:
    """Where it cannot be told whether the quote is closed, reading stops instead of guessing."""
    found: Contacts = []
    body = 'email,note\na@example.com,A\nb@example.com,"\n' + "c@example.com,C\n" * 600_000
    stream = read_contacts(io.BytesIO(body.encode()), file="list.csv")
    with pytest.raises(ImportFileError, match="opened on line 3 is still open"):
        found.extend(stream)
    assert emails(found) == ["a@example.com"], "the rows before it come first"


@pytest.mark.timeout(60)  # Quadratic work on these takes hours.
@pytest.mark.parametrize("line", ['z","y\n', '"\n', 'x,"y\n', 'x,"""\n', '"",""",\n'])
def test_no_pattern_of_quotes_makes_reading_slow(line: str) -> None:
    """Work per line is bounded: a file of stray quotes costs as much as any other."""
    rows = contacts("email,note\n" + line * 40_000)
    assert emails(rows) == []


@given(st.lists(st.lists(st.text(max_size=12), min_size=2, max_size=2), max_size=8))
def test_whatever_csv_writes_is_read_back(table: list[list[str]]) -> None:
    """Any cells, written by the standard module, come back as custom fields."""
    clean = [[cell.replace("\0", "").encode(errors="ignore").decode() for cell in cells] for cells in table]
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["email", "one", "two"], *[["a@example.com", *cells] for cells in clean]])
    rows = contacts(text.getvalue())
    assert rejects(rows) == []
    custom = [{name: cell for name, cell in zip(("one", "two"), cells, strict=True) if cell} for cells in clean]
    assert [row.custom for row in rows if isinstance(row, ContactRow)] == custom


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"name,phone\nAnna,1\n", "no column 'email': its columns are 'name', 'phone'"),
        (b"secret@example.com,Anna\nb@example.com,B\n", "looks like a contact, not like column names"),
        (b"email,name\na@example.com,A\nb@example.com,Zo\xeb\n", "line 3 looks like Windows-1252 or Latin-1"),
        (b"email,name\na@example.com,Zo\xc3", "line 2 looks like"),
        (b"\xff\xfe\0\0e\0\0\0", "UTF-32"),
        (b"\xff\xfee\0m", "begins as UTF-16 but is damaged"),
        ("email,name\n".encode("utf-16-le"), "is not a CSV file"),
        (b"PK\x03\x04\0\0\0\0", "is not a CSV file"),
        (b'email,"name\na@example.com,A\n', "column names: a quote is opened"),
        (b"email," + b"x," * 600 + b"\n", "more than 500 columns"),
    ],
)
def test_a_file_that_cannot_be_read_says_why_before_any_row(content: bytes, message: str) -> None:
    """The call itself raises, so that nothing of the file is in the ledger yet."""
    with pytest.raises(ImportFileError, match="list") as refused:
        read_contacts(io.BytesIO(content), file="list.csv")
    assert message in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_missing_file_and_a_stream_that_cannot_be_rewound_are_refused(tmp_path: Path) -> None:
    """Both are told in words, not as an OSError."""
    with pytest.raises(ImportFileError, match=r"none\.csv cannot be read: No such file"):
        read_contacts(tmp_path / "none.csv")

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    with pytest.raises(ImportFileError, match="save it to a file first"):
        read_contacts(Pipe(b"email\n"))


def test_the_callers_stream_is_left_open() -> None:
    """An upload belongs to whoever received it."""
    stream = io.BytesIO(b"email\na@example.com\n")
    assert emails(read_contacts(stream)) == ["a@example.com"]
    assert not stream.closed


def test_rows_never_show_what_they_hold() -> None:
    """A row that ends up in a log names its place only."""
    for row in contacts("email,first_name\nsecret@example.com,Secret\nsecret,Secret\n"):
        assert "ecret" not in f"{row!r} {row!s}"
        assert "line" in repr(row)


def test_consents_are_read_with_their_evidence() -> None:
    """Each act has its time in UTC and only the evidence that the file holds."""
    rows = list(
        read_consents(
            io.BytesIO(
                b"email,purpose,channel,action,occurred_at,IP,User Agent,form,wording,notice_version,method,extra\n"
                b'a@example.com,news,Email,Granted,2024-05-01T10:00:00+02:00,192.0.2.1,UA,/f,"Yes, please",3,web,x\n'
                b"b@example.com,news,,withdraw,2024-05-01 10:00:00,,,,,,,\n"
                b"c@example.com,news,,withdraw,,,,,,,,\n"
                b"d@example.com,news,,maybe,,,,,,,,\n"
                b"e@example.com,,,grant,,,,,,,,\n"
                b"f@example.com,news,,grant,yesterday,,,,,,,\n"
                b"g@example.com,news,,grant,0001-01-01T00:00:00+14:00,,,,,,,\n"
            ),
            file="consents.csv",
        )
    )
    first, second, third = rows[:3]
    assert first == ConsentRow(
        line=2,
        file="consents.csv",
        email="a@example.com",
        purpose="news",
        channel="email",
        action="grant",
        occurred_at=datetime(2024, 5, 1, 8, tzinfo=UTC),
        evidence={
            "ip": "192.0.2.1",
            "user_agent": "UA",
            "form": "/f",
            "wording": "Yes, please",
            "notice_version": "3",
            "method": "web",
        },
    )
    assert isinstance(second, ConsentRow)
    assert second.occurred_at == datetime(2024, 5, 1, 10, tzinfo=UTC)
    assert second.evidence == {}
    assert isinstance(third, ConsentRow)
    assert third.occurred_at is None
    assert [reason.split(":")[0] for _, reason in rejects(rows)] == [
        "action",
        "purpose",
        "occurred_at",
        "occurred_at",
    ]


def test_a_consent_file_may_leave_the_purpose_to_the_caller() -> None:
    """The parameter stands in for the column; without either the file is refused."""
    content = b"email,action\na@example.com,grant\n"
    (row,) = read_consents(io.BytesIO(content), purpose="newsletter")
    assert isinstance(row, ConsentRow)
    assert (row.purpose, row.channel) == ("newsletter", "email")
    with pytest.raises(ImportFileError, match="no column 'purpose'"):
        read_consents(io.BytesIO(content))


@given(st.text(max_size=20) | st.from_regex(r"['\s]*[=+@\t-].*", fullmatch=True))
def test_a_neutralised_cell_is_text_and_comes_back_as_it_was(cell: str) -> None:
    """No cell that we write starts a formula, and reading takes off what writing put on."""
    written = neutralised(cell)
    assert not written.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert unneutralised(written) == cell


def test_rejects_are_mended_and_imported_again(tmp_path: Path) -> None:
    """Given rejects of every kind, when the file is mended, then each row is taken as it was meant."""
    source = tmp_path / "list.csv"
    source.write_text(
        "email,=name,country,note\n"
        "good@example.com,G,DE,\n"
        "bad,=1+1,DE,'=x\n"
        "short@example.com,S,\n"
        "long@example.com,L,DE,a,b\n"
        'quote@example.com,"Q,DE,\n',
        encoding="utf-8",
    )
    with RejectsWriter(tmp_path) as writer:
        for row in read_contacts(source):
            if isinstance(row, RejectedRow):
                writer.write(row)
    assert writer.count == 4
    (path,) = writer.paths.values()
    assert path.name == "list.rejected.csv"
    assert path.stat().st_mode & 0o777 == 0o600
    written = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    assert written[0] == ["email", "'=name", "country", "note", "lethe_reason"]
    assert written[1][:4] == ["bad", "'=1+1", "DE", "''=x"]
    assert written[1][4].startswith("line 3: no_at_sign")
    assert written[2][:4] == ["short@example.com", "S", "", "?missing?"]

    # Not mended, every row is refused again: none is taken with its cells one column off.
    again = list(read_contacts(path))
    assert emails(again) == []
    assert len(rejects(again)) == 4
    with RejectsWriter(tmp_path) as second:
        for row in again:
            assert isinstance(row, RejectedRow)
            second.write(row)
    assert [other.name for other in second.paths.values()] == ["list.rejected-2.csv"], "nothing is overwritten"

    mended = (
        path.read_bytes()
        .decode("utf-8-sig")
        .replace('"bad"', '"mended@example.com"')
        .replace('"a","line 5', '"a and b","line 5')
        .replace(',"b"\r\n', "\r\n")
        .replace('"Q,DE,","?missing?"', '"Q","DE"')
        .replace('"?missing?"', '""')
    )
    path.write_text(mended, encoding="utf-8-sig", newline="")
    rows = list(read_contacts(path))
    assert rejects(rows) == []
    assert emails(rows) == ["mended@example.com", "short@example.com", "long@example.com", "quote@example.com"]
    first = rows[0]
    assert isinstance(first, ContactRow)
    assert first.custom == {"=name": "=1+1", "note": "'=x"}


def test_reject_files_stay_in_their_folder(tmp_path: Path) -> None:
    """A file name from inside a zip chooses nothing but a word of ours."""
    with RejectsWriter(tmp_path) as writer:
        for name in ("../../etc/passwd", "a/list.csv", "b/list.csv", "...", "x" * 500):
            writer.write(RejectedRow(2, name, "reason", ["c"], ["email"]))
    assert {path.parent for path in writer.paths.values()} == {tmp_path}
    assert len(set(writer.paths.values())) == 5


@pytest.mark.parametrize("kind", [RejectsWriter, LineRejectsWriter], ids=["tables", "lines"])
def test_reject_files_are_bounded(tmp_path: Path, kind: type[RejectsWriter] | type[LineRejectsWriter]) -> None:
    """Given rejects of as many files as may be open, when one more comes, then it is refused; the others still take."""
    with kind(tmp_path) as writer:
        for number in range(SOURCE_FILES_MAX):
            writer.write(RejectedRow(2, f"{number}.x", "reason", ["{}"], ["email"]))
        with pytest.raises(ImportFileError, match="import fewer"):
            writer.write(RejectedRow(2, "more.x", "reason", ["{}"], ["email"]))
        writer.write(RejectedRow(3, "0.x", "reason", ["{}"], ["email"]))
    assert writer.count == SOURCE_FILES_MAX + 1
    assert len(list(tmp_path.iterdir())) == len(writer.paths) == SOURCE_FILES_MAX


# -- Mailchimp ----------------------------------------------------------------------------------------------

TECHNICAL = (
    "MEMBER_RATING,OPTIN_TIME,OPTIN_IP,CONFIRM_TIME,CONFIRM_IP,LATITUDE,LONGITUDE,GMTOFF,DSTOFF,TIMEZONE,CC,"
    "REGION,LAST_CHANGED,LEID,EUID,NOTES,TAGS"
)
SUBSCRIBED = (
    f"Prénom,Adresse e-mail,Nom,Anniversaire,Prénom,{TECHNICAL}\n"
    "Zoé,zoe@example.com,Lefèvre,05/17,Zozo,4,2021-03-04 05:06:07,192.0.2.7,2021-03-04 05:09:00,198.51.100.9,"
    "48.8,2.3,1,2,Europe/Paris,fr,IDF,2021-04-01 00:00:00,4001,a1b2c3,"
    '"[{""note"": ""likes tea""}]","""VIP"",""Trade fair, Lyon"""\n'
    "Léo,leo@example.org,,,,2,2021-03-04 05:06:07,192.0.2.8,,,,,,,,DE,,2021-04-01 00:00:00,4002,d4,,\n"
    "Inès,ines@example.net,,,,2,,,2020-01-01 00:00:00,203.0.113.4,,,,,,,,2021-04-01 00:00:00,4003,e5,,\n"
    "Bad,secret at example.com,,,,2,,,,,,,,,,,,,4004,f6,,\n"
    "Odd,odd@example.com,,,,2,2021-03-04 05:06:07,,2020-03-04 05:06:07,,,,,,,,,,4005,a7,,\n"
    "Late,late@example.com,,,,2,04/03/2021,,,,,,,,,,,,4006,a8,,\n"
)
UNSUBSCRIBED = (
    f"Email Address,First Name,{TECHNICAL},"
    "UNSUB_TIME,UNSUB_CAMPAIGN_TITLE,UNSUB_CAMPAIGN_ID,UNSUB_REASON,UNSUB_REASON,UNSUB_REASON_OTHER\n"
    "u1@example.com,U,2,,,2020-01-01 00:00:00,,,,,,,,,,4007,a9,,,2022-02-02 10:00:00,Spring,abc123,,OTHER,Moved\n"
    "u2@example.com,U,2,,,,,,,,,,,,,4008,b9,,,,,,,,\n"
    "u3@example.com,U,2,,,,,,,,,,,,,4009,c9,,,last spring,,,NORMAL,,\n"
)
CLEANED = (
    f"Email Address,First Name,{TECHNICAL},CLEAN_TIME,CLEAN_CAMPAIGN_TITLE,CLEAN_CAMPAIGN_ID\n"
    "c1@example.com,C,2,,,,,,,,,,,,,4010,d9,,,2022-03-03 11:00:00,Summer,def456\n"
)


# The technical block has 17 columns; the compact rows above leave some commas out, so they are set right here.
def _widened(table: str) -> str:
    rows = list(csv.reader(io.StringIO(table)))
    width = len(rows[0])
    start = rows[0].index("MEMBER_RATING")
    wide = [rows[0]]
    for row in rows[1:]:
        surplus = width - len(row)
        at = start + 5
        wide.append(row[:at] + [""] * surplus + row[at:] if surplus > 0 else row)
    text = io.StringIO(newline="")
    csv.writer(text).writerows(wide)
    return text.getvalue()


FILES = {
    "subscribed_email_audience_export_1.csv": _widened(SUBSCRIBED),
    "unsubscribed_email_audience_export_1.csv": _widened(UNSUBSCRIBED),
    "cleaned_email_audience_export_1.csv": _widened(CLEANED),
}


def zipped(files: dict[str, str] | dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def _expect_the_full_export(rows: list[ImportRow]) -> None:
    kinds = Counter(type(row) for row in rows)
    assert kinds == {SuppressionRow: 4, ContactRow: 3, ConsentRow: 3, RejectedRow: 4}
    suppressions = [row for row in rows if isinstance(row, SuppressionRow)]
    assert [(s.email, s.cause, s.scope, s.since, s.campaign, s.reason) for s in suppressions] == [
        ("u1@example.com", "unsubscribed", "marketing", datetime(2022, 2, 2, 10, tzinfo=UTC), "abc123", "OTHER: Moved"),
        ("u2@example.com", "unsubscribed", "marketing", None, None, None),
        ("u3@example.com", "unsubscribed", "marketing", None, None, "NORMAL"),
        ("c1@example.com", "hard_bounce", "all", datetime(2022, 3, 3, 11, tzinfo=UTC), "def456", None),
    ]
    zoe = next(row for row in rows if isinstance(row, ContactRow))
    assert (zoe.email, zoe.first_name, zoe.last_name, zoe.country) == ("zoe@example.com", "Zoé", "Lefèvre", "FR")
    assert zoe.tags == ("VIP", "Trade fair, Lyon")
    assert zoe.custom == {
        "Anniversaire": "05/17",
        "Prénom (2)": "Zozo",
        "notes": '[{"note": "likes tea"}]',
    }
    acts = [row for row in rows if isinstance(row, ConsentRow)]
    assert [(act.email, act.action, act.occurred_at, act.evidence) for act in acts] == [
        (
            "zoe@example.com",
            "request",
            datetime(2021, 3, 4, 5, 6, 7, tzinfo=UTC),
            {"ip": "192.0.2.7", "method": "double_opt_in"},
        ),
        (
            "zoe@example.com",
            "grant",
            datetime(2021, 3, 4, 5, 9, tzinfo=UTC),
            {"ip": "198.51.100.9", "method": "double_opt_in"},
        ),
        (
            "leo@example.org",
            "grant",
            datetime(2021, 3, 4, 5, 6, 7, tzinfo=UTC),
            {"ip": "192.0.2.8", "method": "single_opt_in"},
        ),
    ]
    assert {act.purpose for act in acts} == {"offers"}
    said = [reason for _, reason in rejects(rows)]
    assert [reason.split(":")[0] for reason in said] == [
        "suppressed, but without its date. UNSUB_TIME",
        "no_at_sign",
        "CONFIRM_TIME is before OPTIN_TIME",
        "OPTIN_TIME",
    ]
    assert isinstance(rows[0], SuppressionRow), "a no comes before any contact"


def test_the_whole_export_is_read_from_zip_stream_folder_and_files(tmp_path: Path) -> None:
    """One export, four ways to hand it over, the same rows."""
    for name, content in FILES.items():
        (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    packed = zipped(FILES | {"__MACOSX/._subscribed_x.csv": "junk", "readme.txt": "hello"})
    archive = tmp_path / "export.zip"
    archive.write_bytes(packed)
    assert is_mailchimp_export(archive)
    assert is_mailchimp_export(tmp_path)
    ways: list[Path | list[Path] | io.BytesIO] = [
        archive,
        io.BytesIO(packed),
        tmp_path,
        [tmp_path / name for name in FILES],
    ]
    for way in ways:
        _expect_the_full_export(list(read_mailchimp(way, purpose="offers")))
    one = list(read_mailchimp(tmp_path / "cleaned_email_audience_export_1.csv"))
    assert [type(row) for row in one] == [SuppressionRow]


def test_the_email_column_is_found_by_its_contents(tmp_path: Path) -> None:
    """In a language that no table knows, the column with addresses in it is the e-mail column."""
    path = tmp_path / "subscribed_x.csv"
    rows = "".join(f"N{number},p{number}@example.com{',' * 17}\n" for number in range(300))
    path.write_text(f"Imię,Skrzynka,{TECHNICAL}\n{rows}", encoding="utf-8")
    assert emails(read_mailchimp(path)) == [f"p{number}@example.com" for number in range(300)]
    path.write_text(f"Imię,Skrzynka,{TECHNICAL}\n" + f"N,secret{',' * 17}\n" * 9, encoding="utf-8")
    with pytest.raises(ImportFileError, match="no column of e-mail addresses"):
        read_mailchimp(path)
    path.write_text(f"Imię,Skrzynka,{TECHNICAL}\n", encoding="utf-8")
    assert list(read_mailchimp(path)) == []


def test_mailchimp_rejects_are_mended_and_imported_again(tmp_path: Path) -> None:
    """A reject file keeps the first word of its name, so it is read as the part of the export that it is."""
    with RejectsWriter(tmp_path) as writer:
        for row in read_mailchimp(io.BytesIO(zipped(FILES))):
            if isinstance(row, RejectedRow):
                writer.write(row)
    path = writer.paths["subscribed_email_audience_export_1.csv"]
    path.write_text(
        path.read_text(encoding="utf-8-sig")
        .replace("secret at", "mended@")
        .replace("mended@ ", "mended@")
        .replace('"04/03/2021"', '"2021-03-04 00:00:00"')
        .replace('"2020-03-04', '"2022-03-04'),
        encoding="utf-8",
    )
    rows = list(read_mailchimp(path))
    assert rejects(rows) == []
    assert Counter(type(row) for row in rows) == {ContactRow: 3, ConsentRow: 3}


def test_zips_that_cannot_be_trusted_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bombs, encryption, damage, truncation, strangers and crowds are told apart, before any row."""
    good = zipped(FILES)
    encrypted = bytearray(good)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = encrypted.find(signature)
        encrypted[at + offset] |= 1
    damaged = bytearray(zipped({"subscribed_1.csv": SUBSCRIBED.encode() * 50}))
    damaged[len(damaged) // 3] ^= 0xFF
    cases = {
        "is encrypted": bytes(encrypted),
        "no zip, or is damaged": good[: len(good) // 2],
        "damaged or cut short": bytes(damaged),
        "unpacks to far more": zipped({"subscribed_1.csv": b"a" * 5_000_000}),
        "holds no file of one": zipped({"notes.txt": "x"}),
        r"no part of one \(people.csv\)": zipped(FILES | {"people.csv": "email\n"}),
        "more than 100 files": zipped({f"subscribed_{number}.csv": "" for number in range(101)}),
        "is empty": zipped({"subscribed_1.csv": ""}),
        "is not UTF-8": zipped({"subscribed_1.csv": b"Email Address\nZo\xeb\n"}),
        "no column OPTIN_TIME": zipped({"subscribed_1.csv": "Email Address\n"}),
    }
    for message, content in cases.items():
        path = tmp_path / "export.zip"
        path.write_bytes(content)
        for way in (path, io.BytesIO(content)):
            with pytest.raises(ImportFileError, match=message):
                read_mailchimp(way)
    monkeypatch.setattr(mailchimp_files, "ZIP_BYTES_MAX", 100)
    with pytest.raises(ImportFileError, match="more than 100 bytes"):
        read_mailchimp(io.BytesIO(good))
    (tmp_path / "people.csv").write_text("email\n", encoding="utf-8")
    with pytest.raises(ImportFileError, match="Import it as a plain CSV"):
        read_mailchimp(tmp_path / "people.csv")


def test_200_000_rows_stream_in_bounded_memory(tmp_path: Path) -> None:
    """Memory does not grow with the file: rows come one by one, from a CSV and out of a zip."""
    path, short = tmp_path / "list.csv", tmp_path / "subscribed_1.csv"
    for file, count in ((path, 200_000), (short, 40_000)):
        with file.open("w", encoding="utf-8") as text:
            text.write(f"Email Address,First Name,{TECHNICAL}\n")
            text.writelines(
                f'p{number}@example.com,"Anna, {number}",4,2021-03-04 05:06:07,192.0.2.7{"," * 14}"""a"",""b"""\n'
                for number in range(count)
            )
    archive = tmp_path / "export.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.write(short, short.name)
    tracemalloc.start()
    try:
        plain = sum(isinstance(row, ContactRow) for row in read_contacts(path))
        export = sum(isinstance(row, ContactRow | ConsentRow) for row in read_mailchimp(archive))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert plain == 200_000
    assert export == 80_000
    assert peak_bytes < 8 * 1024**2


def test_every_kind_of_row_says_where_it_stands() -> None:
    """File and line come first in each row, for whoever has to find it again."""
    for kind in (ContactRow, ConsentRow, SuppressionRow, RejectedRow):
        assert [field.name for field in fields(kind)][:2] == ["line", "file"]
