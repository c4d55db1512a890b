"""A campaign of a million recipients goes through in bounded memory (DESIGN section 12)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import orjson
import pytest

from api.bootstrap import Instance, running
from api.settings import Settings
from audit.fsck import require_whole_log
from domain.subject_commands import AddContact
from ledger.application import Ledger
from ledger.authorise_layout import Recipient
from ledger.subjects import Act
from tests.acts import register
from tests.workers import start

MEGABYTES_MAX = 300
PEOPLE_PER_APPEND = 5_000
SECONDS_MAX = 3_600


def peak_megabytes() -> int:
    """The most memory that this process has held; `getrusage` would count what its parent held before it."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


def everybody(count: int) -> Iterator[str]:
    """So many addresses, none of them held at once."""
    return (f"recipient{number}@example.com" for number in range(count))


def add_everybody(settings: Settings, tenant: UUID, count: int) -> None:
    """Add the contacts, from a process of its own."""
    with running(settings) as instance:
        ledger = instance.ledger(tenant)
        acts: list[Act] = []
        for address in everybody(count):
            acts.append(Act(AddContact(address, {"country": "US"}), address=address, actor="cli"))
            if len(acts) == PEOPLE_PER_APPEND:
                ledger.subjects.act(acts)
                acts.clear()
        ledger.subjects.act(acts)


def authorise_everybody(settings: Settings, tenant: UUID, campaign: UUID, count: int, answer: Path) -> None:
    """Authorise them in one request, and note how many were allowed and how much memory it took, in megabytes."""
    with running(settings) as instance:
        ledger = instance.ledger(tenant)
        recipients = (Recipient(index, address) for index, address in enumerate(everybody(count)))
        answers = ledger.authorisations.authorise(campaign, recipients, account=ledger.account(), actor="cli")
        allowed = sum(len(part.allowed) for part in answers)
    peak = peak_megabytes()
    answer.write_bytes(orjson.dumps([allowed, peak]))


@pytest.mark.store
@pytest.mark.parametrize(
    "count", [4_000, pytest.param(1_000_000, marks=[pytest.mark.soak, pytest.mark.timeout(2 * SECONDS_MAX)])]
)
def test_authorising_any_number_takes_bounded_memory(
    instance: Instance, ledger: Ledger, tmp_path: Path, count: int
) -> None:
    """Given so many contacts, when one streamed request asks for all, then its process stays below 300 MB."""
    american = instance.ledger(UUID(int=ledger.tenant.int ^ 1))
    american.open_account(name="Acme Inc", pack="mailkai", country="US", minimum_age=16, actor="cli")
    campaign = register(american)
    answer = tmp_path / "answer"
    for target, more in ((add_everybody, ()), (authorise_everybody, (answer,))):
        arguments = (count,) if target is add_everybody else (campaign, count)
        child = start(target, instance.settings, american.tenant, *arguments, *more)
        child.join(SECONDS_MAX)
        assert child.exitcode == 0
    allowed, megabytes = orjson.loads(answer.read_bytes())
    assert allowed == count
    assert megabytes < MEGABYTES_MAX
    require_whole_log(american.services.writer.url, american.tenant)
