"""The paper that everything printed is drawn on: its letters, its days, and that nothing is lost, torn or cut off."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from projections.paper.days import long_day, short_day
from projections.paper.letters import drawable
from projections.paper.page import Paper
from tests.pdfs import pages, streams, words

MADE_AT = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)


def paper(*, line: str = "Kadriorg Books", across: bool = False, made_at: datetime = MADE_AT) -> Paper:
    """Paper with its first page begun."""
    made = Paper("A paper", line, "Said at the foot.", made_at, across=across)
    made.add_page()
    return made


def of_rows(*rows: tuple[str, ...], widths: tuple[float, ...] = (1, 1), across: bool = False) -> bytes:
    """A table alone."""
    made = paper(across=across)
    made.rows(tuple(f"head {number}" for number in range(len(widths))), rows, widths)
    return made.drawn()


# Letters --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("Žižkov Šiauliai Œuvre 5 € – „ja“ … Ünï", "Žižkov Šiauliai Œuvre 5 € – „ja“ … Ünï"),
        ("Łódź Ștefan Ħamrun Đorđe ŉ", "Lódz Stefan Hamrun Dorde 'n"),
        ("STRA\u1e9eE 1\u20112 \u22125 a\u2192b \ufb01", "STRASSE 1-2 -5 a->b fi"),
        ("a\tb\u2028c\nd", "a b\nc\nd"),
        ("中文 ключ", "?? ????"),
        ("pay \u202e0001\u202c\u200b\x07\x9f\u00ad", "pay 0001"),
        ("\U0003fffd \ue000 \ud800", "? ? ?"),
    ],
    ids=["there", "unmarked", "spelt", "broken", "foreign", "unseen", "nobody's"],
)
def test_what_the_faces_lack_is_spelt_or_marked(text: str, drawn: str) -> None:
    """Given letters, then those of the faces stay, near ones are spelt, foreign ones marked and unseen ones gone."""
    assert drawable(text) == drawn
    assert drawable(drawn) == drawn


def test_a_letter_is_the_same_however_it_was_typed() -> None:
    """Given letters whose marks were typed apart, as some file systems name folders, then they are drawn as one."""
    text = "Müller Łódź Ștefan"
    assert drawable(unicodedata.normalize("NFD", text)) == drawable(text) == "Müller Lódz Stefan"


def test_the_euro_and_long_dashes_reach_the_paper() -> None:
    """Given signs beyond Latin-1, when they are drawn, then the page has them under the code that readers expect."""
    made = paper()
    made.paragraph("Žofie pays 5 € – „gern“.")
    assert "Žofie pays 5 € – „gern“." in words(made.drawn())


# Days -----------------------------------------------------------------------------------------------------------------


def test_days_are_written_in_english() -> None:
    """Given days, then they are written the same way on every machine, long and short."""
    assert long_day(date(2026, 9, 1)) == "1 September 2026"
    assert [short_day(date(2026, month, 30)) for month in (5, 12)] == ["30 May 2026", "30 Dec 2026"]


# Pages ----------------------------------------------------------------------------------------------------------------


def test_the_same_calls_give_the_same_bytes() -> None:
    """Given one content, when it is drawn twice, also by a clock of another zone, then not a byte differs."""
    elsewhere = MADE_AT.astimezone(timezone(timedelta(hours=-7)))
    assert paper().drawn() == paper(made_at=elsewhere).drawn()
    assert paper().drawn() != paper(made_at=MADE_AT + timedelta(seconds=1)).drawn()


@pytest.mark.parametrize("across", [False, True], ids=["upright", "across"])
def test_every_page_says_what_it_belongs_to(across: bool) -> None:
    """Given three pages, then each has its foot and number, and all but the first the head."""
    made = paper(across=across)
    made.add_page()
    made.add_page()
    text = words(made.drawn())
    assert text.count("Said at the foot.") == 3
    assert text.count("A paper Kadriorg Books") == 2
    assert all(f"{number} / 3" in text for number in (1, 2, 3))


def test_a_long_line_at_the_head_is_cut_and_says_so() -> None:
    """Given an account with a very long name, when a second page is drawn, then its head fits, and says it was cut."""
    made = paper(line="Kadriorg Books " * 20)
    made.add_page()
    (head,) = re.findall(r"A paper (Kadriorg .*?) \.\.\.", words(made.drawn()))
    assert 5 < head.count("Kadriorg") < 12


def test_a_file_can_be_inside() -> None:
    """Given a file for machines, when it is attached, then it is in the PDF, whole and under its name."""
    made = paper()
    made.attach("said.json", b'{"said": 1}', "For machines", MADE_AT)
    content = made.drawn()
    assert b'{"said": 1}' in streams(content)
    assert b"said.json" in content


# Tables ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("across", [False, True], ids=["upright", "across"])
def test_a_row_higher_than_a_page_goes_on_over_the_next(across: bool) -> None:
    """Given a cell of five hundred lines beside a short one, when it is drawn, then all of it is there, in order."""
    lines = [f"line-{number:03}" for number in range(500)]
    content = of_rows(("first", "\n".join(lines)), ("then", "last"), across=across)
    said = words(content).split()
    assert [word for word in said if word.startswith("line-")] == lines
    assert said.index("first") < said.index("line-000") < said.index("line-499") < said.index("then")
    assert pages(content) > 5
    assert words(content).count("head 0") == pages(content), "the table's head stands on each page"


def test_a_word_without_end_is_broken_and_not_lost() -> None:
    """Given a text of ten thousand letters with no space, when it is drawn, then each of them is on the paper."""
    assert words(of_rows(("x" * 10_000, "y"))).count("x") == 10_000


def test_a_column_is_as_wide_as_its_longest_word() -> None:
    """Given a column that asked for almost nothing, then its days stand in one piece, and the others gave way."""
    content = of_rows(("2026-11-01", "word " * 200), widths=(1, 60))
    assert "2026-11-01" in words(content)


def test_more_words_than_width_share_what_there_is() -> None:
    """Given more columns of long words than a page has room for, when they are drawn, then each is still whole."""
    names = tuple(f"{number:02}abcdefghijklmnopqrstuvwxyz" for number in range(12))
    said = words(of_rows(names, widths=(1,) * 12)).replace(" ", "")
    assert [name for name in names if name not in said] == []
