"""Opened parts: what a bundle shows must be what was sealed, and nothing is both shown and said to be gone."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest

from audit.verify.errors import BundleRefused, VerificationRefused
from ledger.sealing import SealedPlace, seal
from tests.bundles import SUBJECT, TENANT, Draft, Receipt, Story, draft, receipt, verified

Row = dict[str, Any]
ERASED = {"certificate": "0" * 32, "when": "2026-11-21T10:00:00.000000Z", "why": "subject_request"}


def _rows(made: Draft) -> list[Row]:
    return [json.loads(line) for line in made.files["disclosed.ndjson"].splitlines()]


def _with_rows(made: Draft, rows: list[Row]) -> Draft:
    lines = (json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n" for row in rows)
    made.files["disclosed.ndjson"] = "".join(lines).encode()
    return made


def _refusal(made: Draft) -> BundleRefused:
    with pytest.raises(VerificationRefused) as refused:
        verified(made.zipped())
    assert isinstance(refused.value, BundleRefused)
    return refused.value


def test_what_became_of_each_part_is_counted() -> None:
    """Given an opened part and an erased one, then both are told apart, and an erased one needs no envelope."""
    made = receipt().draft()
    opened, other = _rows(made)
    _with_rows(made, [opened, {"position": other["position"], "part": other["part"], "erased": ERASED}])
    made.files["sealed.tsv"] = made.files["sealed.tsv"].splitlines(keepends=True)[0]
    parts = verified(made.zipped()).parts
    assert (parts.sealed, parts.envelopes, parts.opened, parts.erased, parts.not_disclosed) == (2, 1, 1, 1, 0)


def test_parts_may_stay_closed() -> None:
    """Given a part that is left closed with a reason, and one of which nothing is said, then the bundle is verified."""
    made = receipt().draft()
    first, _ = _rows(made)
    _with_rows(made, [{"position": first["position"], "part": first["part"], "not_disclosed": "not asked for"}])
    parts = verified(made.zipped()).parts
    assert (parts.sealed, parts.opened, parts.not_disclosed) == (2, 0, 1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda row: row["opened"].update(email="eve@example.org"), "other values than its sealed envelope holds"),
        (lambda row: row["opened"].update(extra="x"), "other values than its sealed envelope holds"),
        (lambda row: row["opened"].pop("first_name"), "other values than its sealed envelope holds"),
        (lambda row: row.update(opened=None), "other values than its sealed envelope holds"),
        (lambda row: row.update(key=b64encode(bytes(32)).decode()), "not sealed with the key disclosed for it"),
        (lambda row: row.update(key=b64encode(bytes(31)).decode()), "has 31 bytes"),
        (lambda row: row.update(key=row["key"] + "\n"), "is none"),
        (lambda row: row.update(key=7), "is none"),
        (lambda row: row.update(period="2026-10"), "stands elsewhere"),
        (lambda row: row.update({"class": "consent"}), "stands elsewhere"),
        (lambda row: row.update(binding="00" * 16), "names another person's key"),
        (lambda row: row.update(binding="x"), "is none"),
        (lambda row: row.update(part="consent"), "has no sealed part 'consent'"),
        (lambda row: row.update(more=1), "nothing known"),
        (lambda row: row.pop("key"), "nothing known"),
    ],
)
def test_an_opened_part_that_does_not_match_its_envelope_is_refused(
    change: Callable[[Row], object], reason: str
) -> None:
    """Given a part shown with other values, another key or place, signed for by the house, then its event is named."""
    made = receipt().draft()
    rows = _rows(made)
    change(rows[0])
    refusal = _refusal(_with_rows(made, rows))
    assert reason in str(refusal)
    assert (refusal.file, refusal.position) == ("disclosed.ndjson", 2)


def test_a_key_disclosed_for_another_event_is_refused() -> None:
    """Given two persons' events of one kind with their keys exchanged, then the first event is named."""
    story = Story()
    identity = {"identity": {"email": "ada@example.org"}}
    for stream in (bytes(15) + b"\1", bytes(15) + b"\2"):
        story.add(stream, "contact.added.v1", {"category": "contact"}, identity)
    made = draft(story, [1, 2], {"kind": "period", "complete": {"positions": [1, 2]}})
    one, two = _rows(made)
    assert verified(made.zipped()).parts.opened == 2
    one["key"], two["key"] = two["key"], one["key"]
    refusal = _refusal(_with_rows(made, [one, two]).sign())
    assert "not sealed with the key disclosed for it, or stands elsewhere" in str(refusal)
    assert refusal.position == 1


@pytest.mark.parametrize("other", [{"erased": ERASED}, {"not_disclosed": "held"}], ids=["erased", "closed"])
@pytest.mark.parametrize("first", [True, False])
def test_a_part_is_never_both_opened_and_said_to_be_gone(other: Row, first: bool) -> None:
    """Given a part that is shown and also said to be erased or closed, then it is refused: only one can be so."""
    made = receipt().draft()
    rows = _rows(made)
    second = {"position": rows[0]["position"], "part": rows[0]["part"], **other}
    pair = [second, rows[0]] if first else [rows[0], second]
    refusal = _refusal(_with_rows(made, [*pair, rows[1]]))
    assert "Two things are said of the part 'identity'" in str(refusal)
    assert refusal.position == 2


@pytest.mark.parametrize(
    "erased", [None, {}, {"certificate": "x"}, {**ERASED, "more": 1}, {**ERASED, "when": 7}, {**ERASED, "when": None}]
)
def test_a_part_erased_in_no_known_way_is_refused(erased: object) -> None:
    """Given a part that is said to be erased without saying when and under which certificate, then it is refused."""
    made = receipt().draft()
    first, second = _rows(made)
    row = {"position": first["position"], "part": first["part"], "erased": erased}
    assert "in no known way" in str(_refusal(_with_rows(made, [row, second])))


@pytest.mark.parametrize("why", [None, 7, {}, ["held"]])
def test_a_part_is_left_closed_for_a_reason(why: object) -> None:
    """Given a part that is left closed without words why, then it is refused."""
    made = receipt().draft()
    first, second = _rows(made)
    row = {"position": first["position"], "part": first["part"], "not_disclosed": why}
    assert "not said why" in str(_refusal(_with_rows(made, [row, second])))


def test_an_envelope_of_another_event_is_refused() -> None:
    """Given two envelopes exchanged, signed for by the house, then the entry's digest refuses the first."""
    made = receipt().draft()
    one, two = (line.split(b"\t") for line in made.files["sealed.tsv"].splitlines())
    one[2], two[2] = two[2], one[2]
    made.files["sealed.tsv"] = b"".join(b"\t".join(row) + b"\n" for row in (one, two))
    refusal = _refusal(made)
    assert "is not the one that the entry was written with" in str(refusal)
    assert (refusal.file, refusal.position) == ("sealed.tsv", 2)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"9\tidentity\tAAAA\n", "not in the bundle"),
        (b"1\tidentity\tAAAA\n", "not in the bundle"),
        (b"2\tother\tAAAA\n", "not the one that the entry was written with"),
        (b"7\tidentity\t====\n", "not a position, a part and an envelope"),
        (b"7\tidentity\tAAAB=\n", "not a position, a part and an envelope"),
        (b"7\tidentity\n", "not a position, a part and an envelope"),
        (b"x\n", "does not begin with the position"),
    ],
)
def test_an_envelope_of_no_event_here_is_refused(line: bytes, reason: str) -> None:
    """Given a sealed part of an event that is not in the bundle or has no such part, then it is refused."""
    made = receipt().draft(proofs=False)
    rows: list[bytes] = [*made.files["sealed.tsv"].splitlines(keepends=True), line]
    rows.sort(key=lambda row: row.split(b"\t")[0])
    made.files["sealed.tsv"] = b"".join(rows)
    assert reason in str(_refusal(made))


def test_an_opened_part_without_its_envelope_is_refused() -> None:
    """Given a part that is shown opened where its envelope is left out, then it is refused: nothing bears it out."""
    made = receipt().draft()
    del made.files["sealed.tsv"]
    assert "is shown opened, and not sealed" in str(_refusal(made))


def test_a_part_shown_without_a_key_where_there_is_one_is_refused() -> None:
    """Given an envelope that a single key opens, shown without that key, then it is refused."""
    made = receipt().draft()
    first, second = _rows(made)
    row = {name: first[name] for name in ("position", "part", "opened")} | {"unprovable": "envelope version 1"}
    assert "such a key there is" in str(_refusal(_with_rows(made, [row, second])))


def test_parts_sealed_before_single_keys_are_counted_as_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given an envelope of version 1, then its part may be shown without a key, and is counted as not checked."""
    told = Receipt().begin()
    place = SealedPlace(TENANT, SUBJECT, bytes(16), "identity", "contact.added.v1", "identity", "2026-11", b"")
    old = b"\1" + seal(bytes(32), b"{}", place)[1:]
    monkeypatch.setattr(
        "tests.bundles._sealed", lambda *given: (old, {"opened": {}, "unprovable": "envelope version 1"})
    )
    told.story.add(SUBJECT, "contact.corrected.v1", {}, {"identity": {"email": "x"}})
    made = draft(told.story, [4], {"kind": "request", "complete": {"streams": {}}})
    assert made.files["sealed.tsv"] == b"4\tidentity\t" + b64encode(old) + b"\n"
    parts = verified(made.zipped()).parts
    assert (parts.sealed, parts.opened, parts.unprovable) == (1, 0, 1)
