"""Both packs, lived through: every kind of data ends on the day that POLICIES.md promises, and not a day off.

The days below are worked out by hand from the two policies. Nothing here asks the program when something is due.
"""

from __future__ import annotations

import re
from datetime import date
from importlib.resources import files
from pathlib import Path

import pytest

from api.bootstrap import one_day_of_work
from ledger.embedded import EmbeddedPostgres
from retention.policy.pack import load_pack
from retention.simulation.simulation import Simulation, simulate
from tests.drills import installation
from tests.support import SettableClock

ENDED = "2028-01-15"
"""The day on which the second account is terminated; 2028 is a leap year."""

COMMON = {
    ("support", "a support thread"): "2030-06-15",
    ("support", "a support thread under a legal hold"): "2031-05-05",
    ("billing", "a transaction"): "2035-03-01",
    ("billing", "a transaction of an account that ended"): "2035-01-16",
    ("support", "a record of support about nobody"): "2030-02-28",
    ("billing", "a record of billing about nobody"): "2035-03-01",
    ("identity", "the holder of an account that goes on"): None,
    ("usage", "a fact of usage"): "2029-01-01",
    ("identity", "an erased person"): "2027-05-05",
    ("identity", "a contact that the controller deleted"): "2027-05-05",
    ("suppression", "that an address must not be mailed"): None,
}
PROMISED = {
    "mailkai": COMMON
    | {
        ("access_log", "a line of an access log"): "2029-01-20",
        ("error_log", "a line of an error log"): "2029-01-20",
        ("engagement", "the link that was clicked"): ["2029-01-01", "2029-04-01"],
        ("engagement_technical", "the device that clicked"): ["2029-01-01", "2029-04-01"],
        ("link", "whom a message was for"): "2029-01-01",
        ("identity", "a contact of an account that ended"): "2028-03-15",
        ("identity", "the holder of an account that ended"): "2028-04-14",
        ("consent", "the evidence of a consent of an account that ended"): "2028-03-15",
        ("engagement", "engagement in an account that ended"): "2028-03-15",
        ("engagement_technical", "engagement technical in an account that ended"): "2028-03-15",
        ("content", "the account itself"): "2028-04-14",
    },
    "mailenium": COMMON
    | {
        ("access_log", "a line of an access log"): "2027-04-20",
        ("error_log", "a line of an error log"): "2027-02-19",
        ("engagement", "the link that was clicked"): "2029-04-01",
        ("engagement_technical", "the device that clicked"): "2029-04-01",
        ("link", "whom a message was for"): "2029-04-01",
        ("identity", "a contact of an account that ended"): "2028-02-14",
        ("identity", "the holder of an account that ended"): "2028-02-14",
        ("consent", "the evidence of a consent of an account that ended"): "2028-02-14",
        ("engagement", "engagement in an account that ended"): "2028-02-14",
        ("engagement_technical", "engagement technical in an account that ended"): "2028-02-14",
        ("content", "the account itself"): "2028-02-14",
    },
}


def lived(
    server: EmbeddedPostgres, folder: Path, name: str, years: int, *, packs_dir: Path | None = None
) -> Simulation:
    clock = SettableClock()
    with installation(server, folder / "data", clock=clock, packs_dir=packs_dir) as instance:
        tick = one_day_of_work(instance)
        return simulate(load_pack(name), years=years, clock=clock, ledger_of=instance.ledger, tick=tick)


@pytest.mark.parametrize("name", PROMISED)
def test_everything_ends_on_the_day_that_was_promised(server: EmbeddedPostgres, tmp_path: Path, name: str) -> None:
    """Given eight and a bit years under a pack, then each kind of data became unreachable on its day (must show 1)."""
    simulation = lived(server, tmp_path, name, 9)
    seen: dict[tuple[str, str], object] = {}
    for datum in simulation.data:
        key = (datum.retention_class, datum.what)
        gone = datum.gone_on.isoformat() if datum.gone_on else None
        before = seen.get(key)
        seen[key] = gone if before is None else [before, gone]
    assert seen == PROMISED[name]
    assert simulation.broken == ()


def test_a_pack_that_is_off_by_a_day_is_told(server: EmbeddedPostgres, tmp_path: Path) -> None:
    """Given a pack whose error logs live a day longer, when it is lived through, then they end a day late (control)."""
    shipped = (files("retention") / "packs" / "mailenium.toml").read_text()
    assert shipped.count("keep_days = 30\n") > 0
    longer = re.sub(r'(class = "error_log"\nclause = "5.3[^\[]*?keep_days = )30', r"\g<1>31", shipped, count=1)
    (tmp_path / "longer.toml").write_text(longer.replace('name = "mailenium"', 'name = "longer"', 1))
    simulation = lived(server, tmp_path, "longer", 1, packs_dir=tmp_path)
    gone = {datum.retention_class: datum.gone_on for datum in simulation.data if datum.what.startswith("a line of an")}
    assert gone["error_log"] == date(2027, 2, 20)
    assert gone["access_log"] == date(2027, 4, 20)


def test_a_worker_that_does_nothing_is_told(server: EmbeddedPostgres, tmp_path: Path) -> None:
    """Given days on which no chore runs, when a pack is lived through, then what is due is still there, and named."""
    clock = SettableClock()
    with installation(server, tmp_path, clock=clock) as instance:
        idle = simulate(
            load_pack("mailenium"), years=1, clock=clock, ledger_of=instance.ledger, tick=lambda ledgers: None
        )
    assert {"access_log", "error_log"} <= {datum.retention_class for datum in idle.broken}
