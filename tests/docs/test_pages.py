"""The pages hold together: links lead somewhere, decisions are numbered, nothing is claimed that is not so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, README, ROOT, anchors, links, named, pages, sentences, tables, without_code

CLAIMS = re.compile(
    r"anonym|immutab|tamper[- ]?proof|immediate and provable|unbreakable|unhackable|bullet[- ]?proof|"
    r"military[- ]grade|(?:gdpr|fully)[- ]compliant|guarantee|100 ?%",
    re.IGNORECASE,
)
DENIED = re.compile(r"\b(?:not|never|no)\b.*\b(?:claim|call|promise)", re.IGNORECASE)
MARKETING = re.compile(
    r"\b(?:seamless|effortless|powerful|robust|blazing|cutting[- ]edge|state[- ]of[- ]the[- ]art|world[- ]class|"
    r"best[- ]in[- ]class|revolutionary|leverag\w+|empower\w*|unlock\w*|delight\w*|supercharg\w+|"
    r"enterprise[- ]grade|game[- ]chang\w+)\b",
    re.IGNORECASE,
)
ABSOLUTE_PATHS = {"v1", "var", "mnt"}
"""How the absolute paths begin that pages show: those of the API, and of key folders in production."""

PAGES = pages()


def _id(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_links_resolve(page: Path) -> None:
    """Given a page, then each of its links leads to a file of the project, and to a heading that is there."""
    broken = []
    for target in links(page.read_text()):
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        inside = found.is_relative_to(ROOT) and found.exists()
        if not inside or (anchor and anchor not in anchors(found.read_text())):
            broken.append(target)
    assert broken == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    """Given the README, when links are followed, then no page of the documentation is left out."""
    reached, waiting = set(), [README]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        targets = {(page.parent / link.partition("#")[0]).resolve() for link in links(page.read_text())}
        waiting += [target for target in targets - reached if target.suffix == ".md" and target.exists()]
    assert set(DOCS.rglob("*.md")) - reached == set()


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_nothing_is_claimed_that_is_not_so(page: Path) -> None:
    """Given a page, then words that promise too much stand only in sentences that deny them."""
    claimed = [s for s in sentences(page.read_text()) if CLAIMS.search(s) and not DENIED.search(s)]
    assert claimed == []


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_no_marketing(page: Path) -> None:
    """Given a page, then it describes and does not praise."""
    assert MARKETING.findall(without_code(page.read_text())) == []


@pytest.mark.parametrize(
    ("sentence", "denied"),
    [
        ("Erased data is anonymous.", False),
        ("The log is immutable and not slow.", False),
        ("Lethe does not call what remains anonymous.", True),
        ('It does not claim to be "tamper-proof".', True),
    ],
)
def test_the_search_for_claims_finds_them(sentence: str, denied: bool) -> None:
    """Given a claim, then it is found; given its denial, then it passes (the control of the test above)."""
    assert CLAIMS.search(sentence)
    assert bool(DENIED.search(sentence)) is denied


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_pages_render(page: Path) -> None:
    """Given a page, then it has one title, every fence is closed, and every row of a table has all its cells."""
    text = page.read_text()
    prose = without_code(text)
    assert "```" not in prose
    assert len(re.findall(r"^# ", prose, re.MULTILINE)) == 1
    assert text.startswith("# ")
    assert text.endswith("\n")
    for table in tables(text):
        assert {len(row) for row in table.rows} == {len(table.columns)}, table.heading


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_pages_name_no_machine_and_no_address(page: Path) -> None:
    """Given a page, then it holds no path of somebody's machine and no address outside the reserved domains."""
    text = page.read_text()
    assert set(re.findall(r"(?<![\w./:}$*>-])/([a-z]\w*)/\w", text)) <= ABSOLUTE_PATHS
    domains = re.findall(r"[\w.+-]+@((?:[\w-]+\.)+[a-z]+)", text)
    assert [d for d in domains if not re.search(r"(?:^|\.)example(?:\.(?:com|org|net))?$", d)] == []


def test_decisions_are_numbered_and_have_their_parts() -> None:
    """Given the decisions, then they are numbered without gaps, listed in order, and each has the same parts."""
    files = sorted(path for path in (DOCS / "adr").glob("*.md") if path.name != "README.md")
    numbers = [path.name[:4] for path in files]
    assert numbers == [f"{number:04d}" for number in range(1, len(files) + 1)]
    index = (DOCS / "adr" / "README.md").read_text()
    assert links(index) == [path.name for path in files]
    for path in files:
        text = path.read_text()
        assert text.startswith(f"# {path.name[:4]}. ")
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
        assert "\nStatus: accepted\n" in text


def test_files_named_in_the_text_exist() -> None:
    """Given a page, then every file of the project that it names in code marks is there."""
    rooms = "api|audit|bench|deploy|docs|domain|ledger|projections|retention|tests"
    named_files = [
        (page.name, word)
        for page in PAGES
        for word in named(without_code(page.read_text()))
        if re.fullmatch(rf"(?:{rooms})/[\w./*-]*", word)
    ]
    assert len(named_files) > 10
    assert [found for found in named_files if not list(ROOT.glob(found[1].rstrip("/")))] == []
