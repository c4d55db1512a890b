"""What the attack on links sees in a column: ids, moments and addresses wherever they stand, and no crowds."""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from audit.attacks.links.values import values_in
from domain.ids import micros

ID = UUID("8e7fd034-178a-4001-a8dd-9f890e823c48")
OTHER = UUID("01a1fdfa-4600-7eda-8202-0e21c793ac3d")
MOMENT = datetime(2026, 11, 21, 12, 30, 1, 234567, tzinfo=UTC)
SEEN = ("bytes", ID.bytes)


@pytest.mark.parametrize(
    ("held", "value"),
    [
        (ID, SEEN),
        (ID.bytes, SEEN),
        (ID.bytes + OTHER.bytes, SEEN),
        ({"note": f"campaign={ID.hex}"}, SEEN),
        (f"shown for {ID}.", SEEN),
        (f"key {b64encode(ID.bytes).decode()} of", SEEN),
        (f"key {urlsafe_b64encode(ID.bytes).rstrip(b'=').decode()} of", SEEN),
        (f"{ID}\n".encode(), SEEN),
        ([{"a": (f"{ID}|{OTHER}",)}], SEEN),
        ("at 2026-11-21T12:30:01.234567Z or so", ("moment", micros(MOMENT))),
        ("asked by <anna.b@example.com>, twice", ("text", "anna.b@example.com")),
        ({"position": 47}, ("position", 47)),
        ({"published": {"size": 47}}, ("position", 47)),
    ],
    ids=[
        *("id", "bytes", "two ids", "named", "in a sentence", "base64", "base64url", "as text", "nested"),
        *("moment", "address", "position", "size"),
    ],
)
def test_a_value_is_seen_wherever_it_stands(held: Any, value: tuple[str, Any]) -> None:
    """Given an id, a moment, an address or a position inside something, then it is among the values."""
    assert value in set(values_in(held))


@pytest.mark.parametrize(
    "held",
    [
        datetime(2026, 11, 21, tzinfo=UTC),
        "2026-11-21T00:00:00.000000Z",
        "erasures of 2026-11-21",
        "access.export_produced.v1",
        {"keys": 47, "count": 3},
        {"position": True},
        "short",
    ],
    ids=["midnight", "written midnight", "day", "topic", "counts", "no number", "short"],
)
def test_what_points_at_a_crowd_is_no_value(held: Any) -> None:
    """Given what only says a day, a count, or a word of the program, then there is nothing to follow."""
    assert set(values_in(held)) == set()
