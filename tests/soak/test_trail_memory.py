"""An export of a million events goes through in bounded memory (issue 4, FAULTS 22)."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import orjson
import pytest

from api.bootstrap import Instance, running
from api.settings import Settings
from audit.trail.export import TrailExport
from audit.trail.lines import Form
from audit.trail.section import section_of
from ledger.application import Ledger
from tests.soak.test_memory import MEGABYTES_MAX, SECONDS_MAX, add_everybody, peak_megabytes
from tests.workers import start


def export_everything(settings: Settings, tenant: UUID, form: Form, opened: bool, answer: Path) -> None:
    """Export the whole log, from a process of its own, and note its lines and how many megabytes it took."""
    with running(settings) as instance:
        ledger = instance.ledger(tenant)
        export = TrailExport(ledger, section_of(ledger), form, opened=opened, actor="cli")
        found = sum(block.count(b"\n") for block in export.blocks())
    answer.write_bytes(orjson.dumps([found, peak_megabytes()]))


@pytest.mark.store
@pytest.mark.parametrize(
    "count", [6_000, pytest.param(1_000_000, marks=[pytest.mark.soak, pytest.mark.timeout(2 * SECONDS_MAX)])]
)
@pytest.mark.parametrize("opened", [False, True], ids=["closed", "opened"])
def test_exporting_any_number_of_events_takes_bounded_memory(
    instance: Instance, ledger: Ledger, tmp_path: Path, count: int, opened: bool
) -> None:
    """Given so many contacts, when the trail is exported, then all come out and its process stays below 300 MB."""
    answer = tmp_path / "answer"
    for target, more in ((add_everybody, (count,)), (export_everything, ("ndjson", opened, answer))):
        child = start(target, instance.settings, ledger.tenant, *more)
        child.join(SECONDS_MAX)
        assert child.exitcode == 0
    found, megabytes = orjson.loads(answer.read_bytes())
    assert found >= count
    assert megabytes < MEGABYTES_MAX
