"""The law is data: every row is cited and in force when it says so, and old rules are found again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from hashlib import sha256

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.law import LawError, rules_named, rules_on
from domain.law.rows import AgeRow, CountryRow, PermissionRow, RegimeRow, Row
from domain.law.rules import LAW, Law, packaged_texts
from domain.standing import IMPLIED_INQUIRY, IMPLIED_PURCHASE, PERMISSION_BASES, SOFT_OPT_IN

TODAY = date(2026, 11, 21)
EU27 = frozenset(
    "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK".split()  # noqa: SIM905
)
days = st.dates(date(1970, 1, 1), date(2040, 12, 31))


@pytest.mark.parametrize("row", LAW.rows, ids=str)
def test_every_row_says_where_it_is_written_and_since_when(row: Row) -> None:
    """A legal number without a source is an opinion."""
    assert row.source.strip()
    assert row.effective_to is None or row.effective_to >= row.effective_from


def test_no_two_rows_govern_one_key_on_one_day() -> None:
    """Whenever anything changes, each file says one thing about each country, regime and duty."""
    for day in {row.effective_from for row in LAW.rows}:
        keys = [(r.file, key) for r in LAW.rows if r.in_force(day) for key in r.governs()]
        assert len(keys) == len(set(keys))


def test_the_twenty_seven_and_the_eea_are_governed_by_the_directive() -> None:
    """No member state is forgotten, and the three EEA states answer as they do."""
    rules = rules_on(TODAY)
    assert len(EU27) == 27
    governed = {country for country, regime in rules.regimes.items() if regime.name == "eu"}
    assert governed == EU27 | {"IS", "LI", "NO"}
    assert set(rules.ages) >= EU27
    assert all(13 <= rules.age_of_consent(country) <= 16 for country in EU27), "Art. 8(1) allows 13 to 16"


@pytest.mark.parametrize(
    ("country", "regime", "opt_out", "permits"),
    [
        ("DE", "eu", False, {SOFT_OPT_IN: 0}),
        ("GB", "gb", False, {SOFT_OPT_IN: 0}),
        ("CH", "ch", False, {SOFT_OPT_IN: 0}),
        ("US", "us", True, dict.fromkeys(PERMISSION_BASES, 0)),
        ("CA", "ca", False, {IMPLIED_PURCHASE: 24, IMPLIED_INQUIRY: 6}),
        ("IN", "unknown", False, {}),
        ("BR", "unknown", False, {}),
        (None, "unknown", False, {}),
    ],
)
def test_what_each_regime_asks_for(country: str | None, regime: str, opt_out: bool, permits: dict[str, int]) -> None:
    """A country that no row names is treated as the strictest."""
    found = rules_on(TODAY).regime_of(country)
    assert (found.name, found.opt_out, found.permits) == (regime, opt_out, permits)


@pytest.mark.parametrize(
    ("country", "day", "age"),
    [
        ("DK", date(2023, 12, 31), 13),
        ("DK", date(2024, 1, 1), 15),
        ("CZ", date(2019, 4, 23), 16),
        ("CZ", date(2019, 4, 24), 15),
        ("IN", date(2027, 5, 12), 16),
        ("IN", date(2027, 5, 13), 18),
        ("BE", TODAY, 13),
        ("GB", TODAY, 13),
        ("AT", TODAY, 14),
        ("FR", TODAY, 15),
        ("DE", TODAY, 16),
        ("BR", TODAY, 16),
        (None, TODAY, 16),
    ],
)
def test_age_of_consent_on_the_edges_of_its_rows(country: str | None, day: date, age: int) -> None:
    """The last day of a row is still governed by it, and the next day by what follows or by the default."""
    assert rules_on(day).age_of_consent(country) == age


def test_the_last_day_of_a_row_is_governed_even_when_something_else_changes_on_it() -> None:
    """Two changes on neighbouring days do not eat a day of each other."""
    texts = packaged_texts()
    texts["age_of_consent.toml"] += (
        '\n[[row]]\ncountries = ["BR"]\nage = 18\neffective_from = 2023-12-31\n'
        'source = "An act that is not"\nnote = ""\n'
    )
    law = Law(texts)
    found = [law.on(day).age_of_consent("DK") for day in (date(2023, 12, 30), date(2023, 12, 31), date(2024, 1, 1))]
    assert found == [13, 13, 15]


def test_limits_of_opting_out_are_kept_with_their_source() -> None:
    """They can be looked up; that nothing enforces them is written in their file."""
    rules = rules_on(TODAY)
    found = {key: (limit.limit, limit.unit) for key, limit in rules.opt_out_limits.items()}
    assert found == {
        ("us", "honour"): (10, "business_day"),
        ("us", "mechanism_works"): (30, "day"),
        ("ca", "honour"): (10, "business_day"),
        ("ca", "mechanism_works"): (60, "day"),
        ("mailbox-provider", "honour"): (2, "day"),
    }
    assert rules.opt_out_limit("eu", "honour") is None
    assert rules_on(date(2003, 12, 31)).opt_out_limit("us", "honour") is None


@given(days)
def test_a_version_finds_the_rules_of_its_day_again(day: date) -> None:
    """A decision names its rules by version; replaying it uses the very same rules."""
    rules = rules_on(day)
    assert rules_named(rules.version) is rules
    assert rules.since <= day
    assert rules_on(rules.since) is rules
    assert len(rules.version) <= 32


@given(days, st.integers(0, 400))
def test_a_version_changes_exactly_when_a_row_comes_or_goes(day: date, later_days: int) -> None:
    """The same rows have the same version, other rows another one."""
    later = day + timedelta(days=later_days)
    in_force = [[r for r in LAW.rows if r.in_force(d)] for d in (day, later)]
    assert (rules_on(day).version == rules_on(later).version) == (in_force[0] == in_force[1])


def test_a_later_law_leaves_the_versions_of_earlier_days_alone() -> None:
    """Adding a row for 2030 must not orphan the decisions of today, nor must a better citation or note."""
    texts = packaged_texts()
    texts["regimes.toml"] = texts["regimes.toml"].replace("No prior consent;", "No prior consent at all;")
    texts["age_of_consent.toml"] += (
        '\n[[row]]\ncountries = ["BR"]\nage = 18\neffective_from = 2030-01-01\nsource = "An act to come"\nnote = ""\n'
    )
    assert Law(texts).on(TODAY).version == rules_on(TODAY).version
    assert Law(texts).on(date(2030, 1, 1)).version != rules_on(date(2030, 1, 1)).version


def test_rewriting_a_row_changes_the_version() -> None:
    """A decision made under other numbers never passes as one made under these."""
    texts = packaged_texts()
    texts["permission.toml"] = texts["permission.toml"].replace("valid_months = 24", "valid_months = 12")
    changed = Law(texts)
    assert changed.on(TODAY).version != rules_on(TODAY).version
    with pytest.raises(LawError, match="rewritten"):
        changed.named(rules_on(TODAY).version)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("regimes.toml", "No prior consent;", "No prior consent at all;"),
        ("regimes.toml", 'source = "', 'source = "See: '),
        ("permission.toml", "effective_from = 2003-12-11", "effective_from = 2003-12-12"),
    ],
    ids=["note", "source", "day"],
)
def test_the_digest_is_over_days_sources_and_notes_too(file: str, old: str, new: str) -> None:
    """Given a note, a source or a day that is mended, then the version may keep its name, and never its digest."""
    texts = packaged_texts()
    assert old in texts[file]
    texts[file] = texts[file].replace(old, new, 1)
    changed = Law(texts).on(TODAY)
    assert changed.version == rules_on(TODAY).version
    assert changed.digest != rules_on(TODAY).digest


def test_the_digest_does_not_care_for_the_order_of_rows() -> None:
    """Given a file whose rows are turned around, then the rules are the same, to the letter."""
    texts = packaged_texts()
    head, *rows = texts["age_of_consent.toml"].split("[[row]]")
    texts["age_of_consent.toml"] = head + "".join(f"[[row]]{row.rstrip()}\n\n" for row in reversed(rows))
    assert Law(texts).on(TODAY).digest == rules_on(TODAY).digest


def test_the_digest_is_over_bytes_that_others_can_make() -> None:
    """The bytes are those that docs/reference/bundles.md names: canonical JSON, a row a line, the lines in order."""
    rules = rules_on(TODAY)
    lines = sorted(orjson.dumps(row.written(), option=orjson.OPT_SORT_KEYS) for row in rules.rows)
    assert rules.digest == sha256(b"\n".join(lines)).hexdigest()
    assert [row for row in LAW.rows if row.in_force(TODAY)] == list(rules.rows)


def test_no_rules_before_the_first_row() -> None:
    """A date before every row is an error and not a guess."""
    with pytest.raises(LawError, match="first one starts"):
        rules_on(date(1969, 12, 31))


def _mended(file: str, old: str, new: str) -> Callable[[dict[str, str]], None]:
    def mend(texts: dict[str, str]) -> None:
        assert old in texts[file]
        texts[file] = texts[file].replace(old, new, 1)

    return mend


def _second_row(file: str, text: str) -> Callable[[dict[str, str]], None]:
    def add(texts: dict[str, str]) -> None:
        texts[file] += "\n[[row]]\n" + text + '\nsource = "Some act, s. 1"\nnote = ""\n'

    return add


SINCE_2020 = "effective_from = 2020-01-01"


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (_mended("regimes.toml", "[[row]]", "[[row"), r"regimes\.toml: this is not TOML"),
        (_mended("regimes.toml", "[[row]]", "[[rows]]"), r"regimes\.toml: write every row"),
        (
            _mended("regimes.toml", 'marketing = "opt-in"', 'marketing = "optional"'),
            r"regimes\.toml, row 1: marketing",
        ),
        (_mended("regimes.toml", 'note = "Governs', 'remark = "Governs'), r"regimes\.toml, row 1: note"),
        (_mended("age_of_consent.toml", "age = 14", 'age = "14"'), r"age_of_consent\.toml, row 2: age"),
        (_mended("age_of_consent.toml", '["AT"]', '["at"]'), r"age_of_consent\.toml, row 2: countries"),
        (_mended("age_of_consent.toml", '["AT"]', "[]"), r"age_of_consent\.toml, row 2: countries"),
        (_mended("countries.toml", 'source = "Treaty', 'sauce = "Treaty'), r"countries\.toml, row 1"),
        (_mended("age_of_consent.toml", "2023-12-31", "2017-12-31"), r"row 7: effective_to lies before"),
        (
            _mended("age_of_consent.toml", "2023-12-31", "2024-01-01"),
            r"row 8: DK is already governed .* row 7",
        ),
        (
            _second_row("permission.toml", f'regime = "ca"\nbasis = "implied-inquiry"\n{SINCE_2020}'),
            r"permission\.toml, row 6: ca implied-inquiry is already governed",
        ),
        (
            _second_row("permission.toml", f'regime = "fr"\nbasis = "soft-opt-in"\n{SINCE_2020}'),
            r"permission\.toml, row 6: regime 'fr' is not in force",
        ),
        (
            _second_row("countries.toml", f'countries = ["BR"]\nregime = "br"\n{SINCE_2020}'),
            r"countries\.toml, row 8: regime 'br' is not in force",
        ),
        (_mended("regimes.toml", "1970-01-01", "1980-01-01"), r"no row for 'unknown'"),
        (lambda texts: texts.pop("opt_out.toml") and None, r"look at opt_out\.toml"),
    ],
)
def test_a_mistake_is_named_by_file_and_row(break_it: Callable[[dict[str, str]], None], message: str) -> None:
    """Whoever edits the law is told where the mistake is."""
    texts = packaged_texts()
    break_it(texts)
    with pytest.raises(LawError, match=message):
        Law(texts)


def test_each_kind_of_row_is_present() -> None:
    """The files are really read, each as what it is."""
    for row_class in (RegimeRow, CountryRow, PermissionRow, AgeRow):
        assert any(type(row) is row_class for row in LAW.rows)
