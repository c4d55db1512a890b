"""The one spelling of JSON: the ledger's writer and the verifier's reader agree on it."""

from __future__ import annotations

from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from audit.verify.canonical import canonical, parse_canonical
from audit.verify.errors import BundleRefused
from ledger.entry import canonical as written

TEXT = st.text(st.characters(codec="utf-8"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.from_regex(r"[ -~]{0,8}", fullmatch=True), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.from_regex(r"[ -~]{0,8}", fullmatch=True), VALUES))
def test_what_the_ledger_writes_is_read_and_is_rfc_8785(value: dict[str, Any]) -> None:
    """Given any object with ASCII keys and without fractions, then all three spell it alike, and it reads back."""
    assert canonical(value) == written(value) == rfc8785.dumps(value)
    assert parse_canonical(canonical(value), "file") == value


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"1",
        b'{"a":1} ',
        b' {"a":1}',
        b'{"a": 1}',
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a":1.0}',
        b'{"a":1e2}',
        b'{"a":NaN}',
        b'{"a":-0}',
        b'{"a":"\\u0041"}',
        b'{"a":"\\/"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\xff"}',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":' + b"[" * 100_000,
        b'{"a":' + b"9" * 5_000 + b"}",
    ],
)
def test_any_other_spelling_is_refused(content: bytes) -> None:
    """Given another order, spaces, a key twice, a fraction, or another escape, then it is refused with its place."""
    with pytest.raises(BundleRefused, match="Event 7: This is not the one spelling") as refused:
        parse_canonical(content, "entries.tsv", 7)
    assert (refused.value.file, refused.value.position) == ("entries.tsv", 7)
