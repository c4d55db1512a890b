"""Times: an event has that of the house's clock, and others saw the log at theirs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from audit.verify.clocks import CLOCKS_APART_SECONDS_MAX, TIMES_NOT_PROVEN
from audit.verify.timestamp import timestamp_request
from ledger.entry import entry_time
from tests.bundles import BEGIN, HOUSE, ORIGIN, WITNESS, Draft, Story, draft, moment, signed, verified
from tests.timestamp_authority import TimestampAuthority

TRUST = {"log_keys": [HOUSE.verifier], "witnesses": [WITNESS.verifier]}


def _cosigned_at(minute: float, *, events: int = 3, older: Sequence[int] = ()) -> Draft:
    """A log of which one event is recorded each minute, cosigned at some minute."""
    story = Story()
    story.fill(events)
    made = draft(story, range(1, events + 1), {"kind": "period", "complete": {"positions": [1, events]}}, older=older)
    made.files["keys/witnesses.vkeys"] = f"{WITNESS.verifier}\n".encode()
    name = f"log/checkpoints/{older[0]}" if older else "log/checkpoint"
    text = made.files[name].rpartition(b"\n\n")[0] + b"\n"
    seconds = int((BEGIN + timedelta(minutes=minute)).timestamp())
    made.files[name] = signed(text, HOUSE) + WITNESS.line(text, seconds)
    return made


def _attentions(made: Draft, **trusted: object) -> list[str]:
    return [line for line in verified(made.zipped(), **trusted).proven if line.startswith("ATTENTION")]


def test_the_houses_clock_is_not_proven() -> None:
    """Given any bundle with events, then it is said that their times are the word of the house."""
    found = verified(_cosigned_at(3).zipped(), **TRUST)
    assert TIMES_NOT_PROVEN in found.not_proven
    assert f"The house dates them from {entry_time(moment(1))} to {entry_time(moment(3))}." in found.proven
    assert not any("were recorded from" in sentence for sentence in found.proven)


def test_an_event_dated_later_than_a_witness_saw_it_is_shouted() -> None:
    """Given a witness that saw the log an hour before its last event says that it was recorded, then it is shouted."""
    (attention,) = _attentions(_cosigned_at(-57), **TRUST)
    assert "event 3 says that it was recorded at" in attention
    assert f"the witness {WITNESS.verifier.name} saw a log that holds it at" in attention


@pytest.mark.parametrize(
    "minute",
    [3, 3 - CLOCKS_APART_SECONDS_MAX / 60, 600, (datetime.max.replace(tzinfo=UTC) - BEGIN).total_seconds() // 60 - 1],
)
def test_clocks_may_be_a_little_apart(minute: float) -> None:
    """Given a witness whose clock is a few minutes behind, or that came later, then nothing is shouted."""
    assert _attentions(_cosigned_at(minute), **TRUST) == []


def test_a_cosignature_speaks_of_the_events_before_it_only() -> None:
    """Given an older checkpoint that was cosigned early, then only the events under it are held against that time."""
    made = _cosigned_at(2, events=300, older=(2,))
    assert _attentions(made, log_keys=[HOUSE.verifier]) == []
    (attention,) = _attentions(_cosigned_at(-58, events=300, older=(2,)), log_keys=[HOUSE.verifier])
    assert "event 2 says" in attention


def test_an_event_dated_later_than_its_timestamp_is_shouted(tmp_path: Path) -> None:
    """Given an authority that stamped a checkpoint before its event says that it was recorded, then it is shouted."""
    authority, made = TimestampAuthority(tmp_path), _cosigned_at(2)
    story = Story()
    story.fill(2)
    story.add(bytes(16), "contact.added.v1", recorded_at="2999-01-01T00:00:00.000000Z")
    made = draft(story, [1, 2, 3], {"kind": "period", "complete": {"positions": [1, 3]}})
    text = made.files["log/checkpoint"].rpartition(b"\n\n")[0] + b"\n"
    made.files["log/timestamps/3.tsr"] = authority.answer(timestamp_request(text).content)
    (attention,) = _attentions(made, log_keys=[HOUSE.verifier], timestamp_roots=authority.roots_pem)
    assert "event 3 says that it was recorded at 2999-01-01T00:00:00.000000Z" in attention
    assert f"log of {ORIGIN}" not in attention
