"""The search for personal values finds them in every form they could have on disk, and nowhere else."""

from __future__ import annotations

import os
from base64 import b64encode, urlsafe_b64encode
from pathlib import Path

import pytest

from audit.attacks import clear_text
from audit.attacks.clear_text import search_clear_text

CANARY = "jånë.canary+7@example.org"
FORMS = {
    "raw": CANARY.encode(),
    "hex": CANARY.encode().hex().encode(),
    "HEX": CANARY.encode().hex().upper().encode(),
    "utf-16-le": CANARY.encode("utf-16-le"),
    "utf-16-be": CANARY.encode("utf-16-be"),
    **{f"base64+{n}": b64encode(b"?" * n + CANARY.encode() + b"rest") for n in range(3)},
    **{f"base64+{n} after more": b64encode(bytes(30 + n) + CANARY.encode() + b"~") for n in range(3)},
    **{f"base64url+{n}": urlsafe_b64encode(b"\xff" * n + CANARY.encode() + b"\xff\xfe") for n in range(3)},
}


@pytest.mark.parametrize("form", FORMS)
def test_a_planted_value_is_found_in_every_encoding(tmp_path: Path, form: str) -> None:
    """Given a file of noise, when the canary stands in it in some encoding, then its place is reported."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    noise = os.urandom(10_000)
    (tmp_path / "clean").write_bytes(noise)
    assert search_clear_text([tmp_path], [CANARY]) == []
    (tmp_path / "deep" / "er" / "16384").write_bytes(noise + FORMS[form] + noise)
    hits = search_clear_text([tmp_path], ["somebody.else@example.org", CANARY])
    assert {(hit.path.name, hit.needle) for hit in hits} == {("16384", 1)}
    assert abs(hits[0].offset - len(noise)) <= 44
    assert hits[0].encoding.split("+")[0].removesuffix("url") == form.split("+")[0].removesuffix("url")


@pytest.mark.parametrize("offset", [0, 1, 60, 63, 64, 65, 100, 127, 128, 200])
def test_a_value_across_two_blocks_is_found_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offset: int) -> None:
    """Given blocks of 64 bytes, when a value stands across their edge, then it is found, and counted once."""
    monkeypatch.setattr(clear_text, "BLOCK_BYTES", 64)
    path = tmp_path / "log"
    path.write_bytes(b"." * offset + CANARY.encode() + b"." * 200)
    assert [hit.offset for hit in search_clear_text([path], [CANARY])] == [offset]


def test_each_occurrence_counts(tmp_path: Path) -> None:
    """A value that stands three times is reported three times, by number of the needle and never by its text."""
    path = tmp_path / "wal"
    path.write_bytes(b"x".join([CANARY.encode()] * 3))
    hits = search_clear_text([path], [CANARY])
    assert len(hits) == 3
    assert CANARY not in repr(hits)


def test_values_too_short_to_mean_anything_are_refused(tmp_path: Path) -> None:
    """A needle of five bytes would be found everywhere in base64; the search says so."""
    with pytest.raises(ValueError, match="6 bytes or more"):
        search_clear_text([tmp_path], ["a@b.c"])


def test_a_file_that_vanishes_is_passed_over(tmp_path: Path) -> None:
    """A living database drops files while it is searched; a path that is gone is no error."""
    assert search_clear_text([tmp_path / "gone"], [CANARY]) == []


def test_the_bytes_of_a_key_are_found_in_every_encoding(tmp_path: Path) -> None:
    """Given a key, when it stands raw, in hex, in base64 or as UTF-16 of its hex, then each is found (FAULTS 1)."""
    key = os.urandom(32)
    forms = [key, key.hex().encode(), key.hex().upper().encode(), key.hex().encode("utf-16-le")]
    forms += [b64encode(b"?" * n + key + b"rest") for n in range(3)]
    for number, form in enumerate(forms):
        (tmp_path / f"{number}").write_bytes(b"-" * 100 + form + b"-" * 100)
    (tmp_path / "other").write_bytes(os.urandom(32).hex().encode())
    assert {hit.path.name for hit in search_clear_text([tmp_path], [key])} == {f"{n}" for n in range(len(forms))}
