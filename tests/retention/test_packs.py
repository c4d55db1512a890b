"""Policy packs: the two that ship say what the policies say, and every mistake in a pack is explained by its line."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.personal import RETENTION_CLASSES
from retention.policy.controls import CONTROLS
from retention.policy.lines import Lines, lines_of
from retention.policy.pack import (
    CAUSES,
    OWN_CLASSES,
    PACK_BYTES_MAX,
    PACK_CLASSES,
    RULED_CLASSES,
    Mistake,
    PackInvalid,
    PackShelf,
    Span,
    UnknownPack,
    load_pack,
    read_pack,
    shelf,
    use_packs_of,
)
from retention.policy.reading import parse_pack
from tests.retention.pack_texts import block, changed, text_of, version_two

SHIPPED = ("mailkai", "mailenium")

CLAUSES = {
    "mailkai": """
        1 | 2.1 | 2.2 | 2.3 | 2.4 | 2.5 | 3.1 | 3.2 | 3.3 | 3.4 | 4 | 5.1 | 5.2 | 5.3 | 5.4 | 5.5 | 6.1 | 6.2 | 6.3
        | 6.4 | 6.5 | 7 | 8 account | 8 campaign & subscriber | 8 billing | 8 usage & analytics | 8 support
        | 8 legal hold | 9 | 10.1 | 10.2 | 10.3 | 10.4 | 11 | 12 | 13 | 14""",
    "mailenium": """
        1.1 | 2.1 | 2.2 | 2.3 | 2.4 | 3.1 | 3.2 | 3.3 | 4.1 | 4.2 | 4.3 | 4.4 | 4.5 | 5.1 active | 5.1 terminated
        | 5.1 billing | 5.1 support | 5.2 active | 5.2 deleted | 5.2 unsubscribed | 5.2 engagement | 5.3 access logs
        | 5.3 error logs | 5.3 analytics | 5.4 | 6.1 | 6.2 | 6.3 | 6.4 | 6.5 | 6.6 | 7.1 | 7.2 | 7.3 | 7.4 | 8.1 | 8.2
        | 8.3 | 9.1 | 9.2 | 9.3 | 9.4 | 10.1 | 10.2 | 10.3 | 10.4 | 11.1 | 11.2 | 11.3 | 12.1 | 12.2 | 13.1
        | 13.2 | 14""",
}
"""Every clause of the published documents, by number."""

RULES = {
    "mailkai": {
        "usage": ("8 usage & analytics", "calendar", Span(24), "month", False, True),
        "engagement": ("8 usage & analytics", "calendar", Span(24), "month", False, True),
        "engagement_technical": ("8 usage & analytics", "calendar", Span(24), "month", False, False),
        "link": ("8 usage & analytics", "calendar", Span(24), "month", False, True),
        "access_log": ("8 usage & analytics", "calendar", Span(24), "day", False, False),
        "error_log": ("8 usage & analytics", "calendar", Span(24), "day", False, False),
        "support": ("8 support", "last_interaction", Span(36), None, False, False),
        "billing": ("8 billing", "last_transaction", Span(84), None, True, False),
        "identity": ("8 campaign & subscriber", "account_closed", Span(days=60), None, False, False),
        "consent": ("8 campaign & subscriber", "account_closed", Span(days=60), None, False, False),
        "suppression": ("8 campaign & subscriber", "account_closed", Span(days=60), None, False, False),
        "content": ("8 account", "account_closed", Span(days=90), None, False, False),
    },
    "mailenium": {
        "engagement": ("5.2 engagement", "last_engagement", Span(24), None, False, False),
        "engagement_technical": ("5.2 engagement", "last_engagement", Span(24), None, False, False),
        "link": ("5.2 engagement", "last_engagement", Span(24), None, False, False),
        "usage": ("5.3 analytics", "calendar", Span(24), "month", False, True),
        "access_log": ("5.3 access logs", "calendar", Span(days=90), "day", False, False),
        "error_log": ("5.3 error logs", "calendar", Span(days=30), "day", False, False),
        "support": ("5.1 support", "last_interaction", Span(36), None, False, False),
        "billing": ("5.1 billing", "last_transaction", Span(84), None, True, False),
        "suppression": ("5.2 unsubscribed", "for_ever", None, None, False, False),
        "identity": ("5.2 active", "account_closed", Span(days=30), None, False, False),
        "consent": ("5.2 active", "account_closed", Span(days=30), None, False, False),
        "content": ("5.1 terminated", "account_closed", Span(days=30), None, False, False),
    },
}
"""What the two policies promise, class by class: clause, clock, time, unit, minimum, aggregated first."""


@pytest.fixture
def _own_shelf() -> Iterator[None]:
    """Whatever a test puts beside the packs that ship is taken away again."""
    yield
    use_packs_of(None)


# What ships -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_every_clause_of_the_policy_is_there_once_and_has_a_control(name: str) -> None:
    """Given a published policy, then its pack names every clause in order, each with a control that is known."""
    pack = load_pack(name)
    assert [clause.number for clause in pack.clauses] == [number.strip() for number in CLAUSES[name].split("|")]
    for clause in pack.clauses:
        for keeping in clause.keepings:
            assert keeping.control is not None
            assert keeping.kind in CONTROLS[keeping.control].kinds


@pytest.mark.parametrize("name", SHIPPED)
def test_the_periods_are_those_of_the_policy(name: str) -> None:
    """Given a published policy, then each class has its clause, clock and time, and no other class has a rule."""
    rules = load_pack(name).rules
    said = {c: (r.clause, r.clock, r.keep, r.unit, r.minimum, r.aggregate_first) for c, r in rules.items()}
    assert said == RULES[name]


def test_what_a_closed_account_leaves_goes_within_the_days_promised() -> None:
    """Given the closure of an account, then what is destroyed after how many days is what each policy says."""
    mailkai, mailenium = load_pack("mailkai"), load_pack("mailenium")
    everything = PACK_CLASSES - {"billing", "hold"}
    days = {c: rule.keep.days for c, rule in mailkai.closure.items()}
    assert days == dict.fromkeys(everything - {"content"}, 60) | {"content": 90}
    assert {key: rule.keep for key, rule in mailkai.closure_of_category.items()} == {
        ("identity", "account_holder"): Span(days=90)
    }
    assert {c: rule.keep for c, rule in mailenium.closure.items()} == dict.fromkeys(everything, Span(days=30))


@pytest.mark.parametrize("name", SHIPPED)
def test_what_outlives_an_erasure_is_said_with_its_limb(name: str) -> None:
    """Given a person who is erased or deleted, then only these classes are kept, each under its limb of Art. 17(3)."""
    outcomes = load_pack(name).outcomes
    assert set(outcomes) == {(c, cause) for c in PACK_CLASSES for cause in CAUSES}
    for cause in ("erasure", "deleted_by_controller"):
        kept = {c: o.limb for (c, of), o in outcomes.items() if of == cause and not o.destroyed}
        assert kept == {
            "billing": "17(3)(b)",
            "suppression": "17(3)(b), 17(3)(e)",
            "feed": "17(3)(b)",
            "hold": "17(3)(e)",
            "content": None,
        }
    assert load_pack(name).kept_on("account_closure") == {"billing", "hold"}


def test_notice_age_and_horizon_are_those_of_the_policies() -> None:
    """Given the two policies, then notice, minimum age and horizon are the figures that they state."""
    mailkai, mailenium = load_pack("mailkai"), load_pack("mailenium")
    assert (mailkai.notice_days, mailkai.minimum_age, mailkai.horizon_days) == (14, 16, None)
    assert (mailenium.notice_days, mailenium.minimum_age, mailenium.horizon_days) == (0, 0, 30)
    assert mailenium.effective_from == date(2026, 3, 2)


def test_every_class_of_the_program_has_a_place_in_a_pack() -> None:
    """Given the retention classes, then each needs a rule, but for the two whose end the program sets itself."""
    assert RETENTION_CLASSES | {"link"} == PACK_CLASSES
    assert RULED_CLASSES | OWN_CLASSES == PACK_CLASSES
    assert {"feed", "hold"} == OWN_CLASSES


@pytest.mark.parametrize("name", SHIPPED)
def test_packs_repeat_no_wording_that_claims_too_much(name: str) -> None:
    """Given a pack, then no text of ours in it claims what may not be claimed."""
    for clause in load_pack(name).clauses:
        said = f"{clause.title} {clause.note} {clause.answers}".lower()
        assert not any(word in said for word in ("anonym", "immutable", "tamper-proof", "provable deletion"))


# Lines ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_every_table_and_key_of_a_pack_is_found_on_its_line(name: str) -> None:
    """Given a pack that ships, then the line of each clause's number is the line on which it is written."""
    text = text_of(name)
    written, lines = text.split("\n"), lines_of(text)
    for index, clause in enumerate(load_pack(name).clauses):
        assert written[lines["clause", index, "number"] - 1] == f'number = "{clause.number}"'
        assert written[lines["clause", index] - 1] == "[[clause]]"
        assert clause.line == lines["clause", index]


VALUES = st.sampled_from(
    [
        "1",
        '"a"',
        '"a # [b]"',
        "'''\nx = 1\n[y]\n'''",
        '"""\n[[z]]\n"""',
        "[\n  1,\n  2, # ]\n]",
        "{ a = 1, b = [2] }",
        "true",
    ]
)


@given(st.lists(st.tuples(st.sampled_from(["one", "two", "three"]), VALUES, st.booleans()), min_size=1, max_size=12))
def test_lines_are_right_whatever_stands_between(rows: list[tuple[str, str, bool]]) -> None:
    """Given tables with long values, comments and brackets in quotes, then each key is found where it was written."""
    written: list[str] = []
    expected: Lines = {}
    counts = {"one": 0, "two": 0, "three": 0}
    for name, value, commented in rows:
        written += ["# [[one]]", ""] if commented else []
        expected[name, counts[name]] = len(written) + 1
        expected[name, counts[name], "key"] = len(written) + 2
        written += [f"[[{name}]]", *f"key = {value}".split("\n")]
        counts[name] += 1
    lines = lines_of("\n".join(written))
    assert {path: lines[path] for path in expected} == expected


def test_lines_of_tables_inside_tables() -> None:
    """Given a table below a table of an array, then it belongs to the last one before it."""
    lines = lines_of('[a]\nx = 1\n[[b]]\n[b.c]\ny = 2\n[[b]]\n[[b.d]]\nz.w = 3\n[[b.d]]\n"q r" = 4\n')
    assert lines["a", "x"] == 2
    assert (lines["b", 0, "c", "y"], lines["b", 1], lines["b", 1, "d", 0, "z", "w"]) == (5, 6, 8)
    assert lines["b", 1, "d", 1, "q r"] == 10


# Mistakes -------------------------------------------------------------------------------------------------------------

MISTAKES: list[tuple[str, str, str, str]] = [
    ('name = "mailkai"', 'name = "Mailkai!"', 'name = "Mailkai!"', "should match pattern"),
    ("version = 1\n", 'version = "1"\n', 'version = "1"', "valid integer"),
    ("notice_days = 14\n", "", "[pack]", "notice_days is missing"),
    ("notice_days = 14\n", "notice_days = 14\nhorizon = 3\n", "horizon = 3", "There is no key horizon here. The keys"),
    ("effective_from = 2026-01-01", 'effective_from = "soon"', 'effective_from = "soon"', "a day without quotes"),
    ('number = "2.1"', 'number = "1"', 'number = "1"', "Clause '1' stands on line"),
    ('control = "tenancy"', 'control = "tenancies"', 'control = "tenancies"', "Do you mean 'tenancy'?"),
    ('control = "age-rule"', 'control = "declaration"', 'control = "declaration"', "cannot make clause '11' enforced"),
    (
        'classes = ["support"]',
        'classes = ["suport"]',
        'classes = ["suport"]',
        "There is no retention class 'suport'. Do you mean 'support'?",
    ),
    (
        'answers = "the data protection officer, privacy@mailkai.com"\n',
        "",
        '[[clause]]\nnumber = "13"',
        "say who answers for it",
    ),
    (
        block("retention", "support", 'clause = "8 support"\nclock = "last_interaction"\nkeep_years = 3\n'),
        "",
        "",
        "support has no rule",
    ),
    (
        'clock = "last_interaction"',
        'clock = "last_engagement"',
        'clock = "last_engagement"',
        "Its clocks: calendar, last_",
    ),
    ('clock = "last_interaction"', 'clock = "sometimes"', 'clock = "sometimes"', "clock: input should be 'calendar'"),
    ("keep_years = 3\n", "", '[[retention]]\nclass = "support"', "Say how long once"),
    ("keep_years = 3\n", "keep_years = 3\nkeep_days = 2\n", '[[retention]]\nclass = "support"', "Say how long once"),
    ("keep_years = 3\n", "keep_years = 0\n", "keep_years = 0", "greater than or equal to 1"),
    ("keep_years = 3\n", "keep_years = 3\naggregate_first = true\n", "aggregate_first = true", "goes by calendar"),
    ('clause = "8 support"', 'clause = "8 supports"', 'clause = "8 supports"', "Do you mean '8 support'?"),
    ('clause = "8 support"', 'clause = "8 billing"', 'clause = "8 billing"', "Add 'support' to its classes"),
    (
        block("retention", "content", 'clause = "8 account"\nclock = "account_closed"\n'),
        block("retention", "content", 'clause = "8 account"\nclock = "account_closed"\nkeep_days = 1\n'),
        '[[retention]]\nclass = "content"',
        "says how long in [[closure]]",
    ),
    (
        block("closure", "content", 'clause = "8 account"\nkeep_days = 90\n'),
        "",
        'account_closure = "destroyed"\nwhy = "What the controller',
        "no [[closure]] says after how many days",
    ),
    (
        block("closure", "link", ""),
        block("closure", "billing", ""),
        '[[closure]]\nclass = "billing"',
        "billing is not destroyed on account_closure",
    ),
    (
        'category = "account_holder"',
        'category = "account holder"',
        'category = "account holder"',
        "category of persons",
    ),
    (
        'erasure = "kept"\ndeleted_by_controller = "kept"\naccount_closure = "kept"\nlimbs = ["17(3)(b)"]\n',
        'erasure = "kept"\ndeleted_by_controller = "destroyed"\naccount_closure = "kept"\nlimbs = ["17(3)(b)"]\n',
        'deleted_by_controller = "destroyed"\naccount_closure = "kept"',
        "billing has a minimum, so it must be kept on deleted_by_controller",
    ),
    (
        "keep_years = 7\n",
        "keep_years = 6\n",
        "keep_years = 6",
        "The law has billing kept for at least 7 years; 6 years",
    ),
    (
        "keep_years = 7\n",
        "keep_days = 2557\n",
        "keep_days = 2557",
        "The law has billing kept for at least 7 years; 2557",
    ),
    ("keep_years = 7\nminimum = true\n", "keep_years = 7\nminimum = false\n", "minimum = false", "minimum = true"),
    ("keep_years = 7\nminimum = true\n", "keep_years = 7\n", '[[retention]]\nclass = "billing"', "minimum = true"),
    (
        'category = "account_holder"\nclause = "8 account"',
        (
            'category = "account_holder"\nclause = "8 account"\nkeep_days = 90\n\n[[closure]]\nclass = "billing"\n'
            'category = "visitor"\nclause = "8 billing"'
        ),
        'class = "billing"\ncategory = "visitor"',
        "billing has a minimum and outlives the account",
    ),
    (
        'limbs = ["17(3)(b)", "17(3)(e)"]\n',
        "",
        '[[outcome]]\nclass = "suppression"',
        "say under which limb",
    ),
    ('limbs = ["17(3)(b)", "17(3)(e)"]', 'limbs = ["17(3)(f)"]', 'limbs = ["17(3)(f)"]', "no limb of GDPR Art. 17(3)"),
    (
        block("retention", "link", 'clause = "8 usage & analytics"\nclock = "calendar"\nkeep_months = 24\n'),
        block("retention", "link", 'clause = "8 usage & analytics"\nclock = "calendar"\nkeep_months = 25\n'),
        '[[retention]]\nclass = "link"',
        "link must have the clock and the time of engagement",
    ),
    ('[[outcome]]\nclass = "hold"', '[[outcomes]]\nclass = "hold"', "[[outcomes]]", "There is no table [outcomes]"),
]


@pytest.mark.parametrize(("old", "new", "stands", "said"), MISTAKES, ids=[said for *_, said in MISTAKES])
def test_a_mistake_is_explained_on_its_line(old: str, new: str, stands: str, said: str) -> None:
    """Given a pack with one mistake, when it is read, then the mistake is told on its line, with what to do."""
    text = changed(text_of("mailkai"), old, new)
    with pytest.raises(PackInvalid) as caught:
        parse_pack(text, "ours.toml")
    told = [mistake for mistake in caught.value.mistakes if said in mistake.text]
    assert told, str(caught.value)
    if stands:
        places = {text[:at].count("\n") + 1 for at in _places(text, stands)}
        assert {mistake.line for mistake in told} <= places


def _places(text: str, passage: str) -> Iterator[int]:
    at = text.find(passage)
    while at >= 0:
        yield at
        at = text.find(passage, at + 1)


def test_every_mistake_is_told_at_once() -> None:
    """Given a pack with mistakes in all of its parts, when it is read, then each is told, in order of lines."""
    text = changed(text_of("mailkai"), "notice_days = 14\n", "notice_days = -1\n")
    text = changed(text, 'control = "tenancy"', 'control = "tenant"')
    text = changed(text, 'clock = "last_interaction"', 'clock = "last_transaction"')
    text = changed(text, 'category = "account_holder"', 'category = "owner"')
    text = changed(text, 'limbs = ["17(3)(b)", "17(3)(e)"]', "limbs = []")
    with pytest.raises(PackInvalid) as caught:
        parse_pack(text, "ours.toml")
    mistakes = caught.value.mistakes
    assert [m.line for m in mistakes] == sorted(m.line for m in mistakes)
    for part in ("notice_days", "'tenant'", "clock last_transaction", "'owner'", "suppression is kept"):
        assert sum(part in mistake.text for mistake in mistakes) == 1, part
    assert len(mistakes) == 5


def test_what_is_no_toml_is_told_on_the_line_where_it_stops() -> None:
    """Given a text that is no TOML, when it is read, then the line is named, and that nothing after it was read."""
    with pytest.raises(PackInvalid) as caught:
        parse_pack('[pack]\nname = "a"\nversion = = 2\n', "ours.toml")
    (mistake,) = caught.value.mistakes
    assert mistake.line == 3
    assert "This is not TOML" in mistake.text
    with pytest.raises(PackInvalid) as caught:
        parse_pack('[pack]\nname = "a', "ours.toml")
    assert [m.line for m in caught.value.mistakes] == [2]


@pytest.mark.parametrize("text", ["", "pack = 1", "clause = 3\nretention = [1]", "[pack]\n[[clause]]\n", "[[pack]]"])
def test_whatever_is_read_is_a_pack_or_explained(text: str) -> None:
    """Given texts that are TOML and no packs, when they are read, then each is explained."""
    with pytest.raises(PackInvalid) as caught:
        parse_pack(text, "ours.toml")
    assert caught.value.mistakes


@given(st.sampled_from(SHIPPED), st.integers(0, 10_000), st.integers(1, 40))
def test_a_pack_with_lines_missing_is_never_taken_for_another(name: str, start: int, count: int) -> None:
    """Given a pack with some lines torn out, then it is refused with lines that exist, or it still says it all."""
    lines = text_of(name).split("\n")
    torn = lines[: start % len(lines)] + lines[start % len(lines) + count :]
    mistakes: tuple[Mistake, ...] = ()
    try:
        assert set(parse_pack("\n".join(torn), "torn.toml").rules) == RULED_CLASSES
    except PackInvalid as error:
        mistakes = error.mistakes or (Mistake(0, "refused without a word"),)
    assert all(1 <= mistake.line <= len(torn) for mistake in mistakes)


def test_a_file_that_is_too_long_or_no_text_is_refused(tmp_path: Path) -> None:
    """Given a file that cannot be a pack, when it is read, then it is refused by size or by line."""
    big, latin = tmp_path / "big.toml", tmp_path / "latin.toml"
    big.write_bytes(b"#" * (PACK_BYTES_MAX + 1))
    latin.write_bytes(b"# one\n# \xe9\n")
    with pytest.raises(PackInvalid, match="at most"):
        read_pack(big)
    with pytest.raises(PackInvalid) as caught:
        read_pack(latin)
    assert caught.value.mistakes == (Mistake(2, "This is not UTF-8. Save the file as UTF-8."),)


# The shelf ------------------------------------------------------------------------------------------------------------


def test_a_pack_is_found_by_name_and_version() -> None:
    """Given two versions, then the newest is found without a version, and what is not there is said."""
    found = PackShelf({"one": text_of("mailkai"), "two": version_two(), "other": text_of("mailenium")})
    assert found.names == ("mailenium", "mailkai")
    assert found.versions("mailkai") == (1, 2)
    assert (found.pack("mailkai").version, found.pack("mailkai", 1).version) == (2, 1)
    with pytest.raises(UnknownPack, match="There is no version 3"):
        found.pack("mailkai", 3)
    with pytest.raises(UnknownPack, match="mailenium, mailkai"):
        found.pack("mailchimp")


def test_one_version_is_never_on_the_shelf_twice() -> None:
    """Given another file with a name and version that ship, then the shelf is refused: a promise is not overlaid."""
    with pytest.raises(PackInvalid, match="is there twice"):
        PackShelf({"a": text_of("mailkai"), "b": text_of("mailkai")})


@pytest.mark.usefixtures("_own_shelf")
def test_packs_of_a_folder_stand_beside_those_that_ship(tmp_path: Path) -> None:
    """Given a folder with a second version, when it is put on the shelf, then both can be loaded."""
    (tmp_path / "mailkai-2.toml").write_text(version_two())
    use_packs_of(tmp_path)
    assert (load_pack("mailkai").version, load_pack("mailkai", 1).version) == (2, 1)
    use_packs_of(None)
    assert shelf().versions("mailkai") == (1,)
    with pytest.raises(UnknownPack, match="LETHE_PACKS_DIR"):
        use_packs_of(tmp_path / "nowhere")


def test_the_digest_follows_the_promises_and_not_the_words() -> None:
    """Given a pack with better words, then its digest is the same; with another time or control, it is another."""
    pack = load_pack("mailkai")
    text = text_of("mailkai")
    reworded = parse_pack(changed(text, 'title = "What cookies are for"', 'title = "Cookies, and why"'), "x")
    assert reworded.digest == pack.digest
    for old, new in (
        ("keep_years = 3\n", "keep_years = 4\n"),
        ("notice_days = 14\n", "notice_days = 15\n"),
        ('control = "age-rule"', 'control = "permission-rules"'),
        ('limbs = ["17(3)(b)", "17(3)(e)"]', 'limbs = ["17(3)(b)"]'),
    ):
        assert parse_pack(changed(text, old, new), "x").digest != pack.digest
