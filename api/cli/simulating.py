"""`lethe retention simulate`: years of a pack's promises in a minute, as a table that a lawyer can read."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from api.bootstrap import Instance, one_day_of_work, running
from api.cli.failures import CommandFailed, ExitCode
from api.cli.options import JsonFlag, settings
from api.cli.output import Output, counted
from api.settings import Settings
from retention.policy.pack import Pack, load_pack, read_pack
from retention.simulation.simulation import YEARS_DEFAULT, YEARS_MAX, Datum, Simulation, simulate


class SimulatedClock:
    """A clock that stands where the simulation puts it."""

    def __init__(self) -> None:
        self._now = datetime.now(UTC)

    def __call__(self) -> datetime:
        """The simulated time."""
        return self._now

    def set(self, moment: datetime) -> None:
        """Stand still at a moment."""
        self._now = moment


def simulate_pack(
    pack: Annotated[
        str, typer.Option("--pack", metavar="NAME|FILE", help="A policy pack by name, or a file of your own.")
    ],
    years: Annotated[int, typer.Option(min=1, max=YEARS_MAX, help="How many years are lived through.")] = YEARS_DEFAULT,
    as_json: JsonFlag = False,
) -> None:
    """Live through some years under a pack and say when each kind of data became unreachable.

    Runs on a database of its own in a temporary folder, under a simulated clock, with the worker's own chores. Your
    ledger is not touched. Ends with an error if anything ended on another day than the pack promises.
    """
    output = Output(as_json)
    given = settings()
    clock = SimulatedClock()
    with tempfile.TemporaryDirectory(prefix="lethe-simulation-") as folder:
        chosen = _chosen(pack, given, Path(folder))
        with _apart(given, Path(folder), clock) as instance, output.progress("Living", total=None) as bar:
            found = simulate(
                chosen,
                years=years,
                clock=clock,
                ledger_of=instance.ledger,
                tick=one_day_of_work(instance),
                progress=bar.to,
            )
    output.answer(_told(found))
    output.table(
        ("clause", "class", "what", "promised", "counted from", "due", "unreachable on", "as promised"),
        [_row(datum, found.ended) for datum in found.data],
        title=f"{found.pack.title}, version {found.pack.version}: {found.begun} to {found.ended}",
    )
    for sentence in _said(found):
        output.say(sentence)
    if found.broken:
        raise CommandFailed(
            ExitCode.REFUSED, "promise_broken", f"{counted(len(found.broken), 'promise')} did not end on its day."
        )


def _chosen(pack: str, given: Settings, folder: Path) -> Pack:
    """The pack meant; a file is put on a shelf of its own for the simulation."""
    shelf = folder / "packs"
    shelf.mkdir()
    if given.packs_dir is not None:
        for path in given.packs_dir.glob("*.toml"):
            shutil.copy(path, shelf)
    if Path(pack).suffix != ".toml":
        return load_pack(pack)
    if not Path(pack).is_file():
        raise CommandFailed(ExitCode.NOT_FOUND, "unknown_file", "There is no such pack file.")
    read = read_pack(Path(pack))
    shutil.copy(pack, shelf / "simulated.toml")
    return read


@contextmanager
def _apart(given: Settings, folder: Path, clock: SimulatedClock) -> Iterator[Instance]:
    """An instance that has nothing to do with the real one: databases, keys and journal in the folder."""
    apart = Settings(
        data_dir=folder / "data",
        environment="laptop",
        ledger_url=None,
        reader_url=None,
        rebuilder_url=None,
        vault_url=None,
        ledger_owner_url=None,
        vault_owner_url=None,
        key_provider="file",
        key_folders=[],
        custody_folders=[],
        packs_dir=folder / "packs",
        epoch_days=given.epoch_days,
        epoch_kept_days=given.epoch_kept_days,
    )
    with running(apart, clock=clock, application="lethe-simulation") as instance:
        yield instance


def _told(found: Simulation) -> dict[str, Any]:
    return {
        "pack": found.pack.name,
        "version": found.pack.version,
        "begun": found.begun,
        "ended": found.ended,
        "days_looked_at": found.days,
        "data": [
            {
                "clause": datum.clause,
                "class": datum.retention_class,
                "what": datum.what,
                "promised": datum.promised,
                "counted_from": datum.anchor,
                "due": datum.due,
                "unreachable_on": datum.gone_on,
                "as_promised": datum.as_promised(found.ended),
            }
            for datum in found.data
        ],
        "broken": len(found.broken),
    }


def _row(datum: Datum, ended: date) -> list[object]:
    gone = str(datum.gone_on) if datum.gone_on else "still kept"
    due = str(datum.due) if datum.due else "never"
    kept = datum.as_promised(ended)
    return [
        datum.clause,
        datum.retention_class,
        datum.what,
        datum.promised,
        str(datum.anchor),
        due,
        gone,
        kept,
    ]


def _said(found: Simulation) -> list[str]:
    if found.broken:
        return [f"Not as promised: {datum.what}." for datum in found.broken]
    return [
        f"Everything ended on the day that was promised; {counted(found.days, 'day')} were looked at.",
        "Unreachable means that no living key opens it. When no backup does either: lethe vault status.",
    ]
