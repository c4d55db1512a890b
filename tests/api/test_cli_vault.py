"""`lethe vault`: what the epochs look like from a terminal, and what is refused there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from api.bootstrap import Instance
from ledger.application import Ledger
from ledger.errors import KeyMissing
from projections.alone import alone
from retention.horizon.horizon import ROLL
from tests.acts import add, emails
from tests.api.cli_support import CommandLine

pytestmark = pytest.mark.store


@pytest.fixture
def lethe(own_instance: Instance, own_ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    add(own_ledger, emails(3))
    return CommandLine(own_instance, own_ledger, tmp_path, monkeypatch)


def age(lethe: CommandLine, days: int) -> None:
    """Let every epoch have begun so many days earlier."""
    with lethe.instance.vault_pool.transaction() as connection:
        connection.execute(
            "UPDATE lethe_vault.epoch SET opened_at = opened_at - %s, destroy_on = destroy_on - %s",
            (timedelta(days=days), days),
        )


def epochs(lethe: CommandLine) -> list[tuple[int, str, int]]:
    found = lethe.json("vault", "status")
    return [(one["epoch"], one["state"], one["keys"]) for one in found["epochs"]]


def test_status_roll_and_destroy(lethe: CommandLine) -> None:
    """Given a vault, when it is looked at, rolled and aged, then each command says what is so, in words and in JSON,
    and the log tells of it."""
    # given
    today = datetime.now(UTC).date()
    before: Any = lethe.json("vault", "status")
    assert [one["state"] for one in before["epochs"]] == ["open"]
    days = (today, datetime.now(UTC).date())  # Midnight may have passed meanwhile.
    assert before["horizon"] in [(day + timedelta(days=28)).isoformat() for day in days]
    assert (before["accounts_behind"], before["overdue"]) == (0, [])
    keys = before["epochs"][0]["keys"]
    # when: nothing changes by looking
    assert lethe.json("vault", "roll", "--dry-run") == {"dry_run": True, "epoch": 1, "keys": keys}
    assert epochs(lethe) == [(1, "open", keys)]
    rolled = lethe.json("vault", "roll")
    # then
    assert rolled == {"epoch": 2, "keys": keys, "rows": 3, "verified": keys, "orphans": 0}
    assert epochs(lethe) == [(1, "verified", 0), (2, "open", keys)]
    assert "cannot be recovered from any enumerated copy" in lethe("vault", "status")
    assert sorted(topic for topic in lethe.topics() if topic.startswith("keys.epoch")) == [
        "keys.epoch_opened.v1",
        "keys.epoch_opened.v1",
        "keys.epoch_rolled.v1",
    ]
    # when: it is too early
    assert lethe.json("vault", "destroy-epoch", 1, "--yes", code=1)["error"] == "epoch_not_due"
    assert lethe.json("vault", "destroy-epoch", 2, "--yes", code=1)["error"] == "epoch_in_use"
    assert lethe.json("vault", "destroy-epoch", 7, "--yes", code=5)["error"] == "unknown_epoch"
    # when: its day has come
    age(lethe, 28)
    assert lethe.json("vault", "destroy-epoch", 1, "--dry-run")["copies"] == 2
    assert lethe.json("vault", "destroy-epoch", 1, code=2)["error"] == "not_confirmed"
    assert lethe.instance.services.vault.provider.key(1)
    destroyed = lethe.json("vault", "destroy-epoch", 1, "--yes")
    # then
    assert [set(copy) for copy in destroyed["copies"]] == [{"place", "method", "gone_after_days"}] * 2
    lethe.instance.services.vault.provider.forget_cached()
    with pytest.raises(KeyMissing):
        lethe.instance.services.vault.provider.key(1)
    assert epochs(lethe) == [(1, "destroyed", 0), (2, "open", keys)]
    assert lethe.topics()[-1] == "keys.epoch_key_destroyed.v1"
    assert "opens from no enumerated copy any more" in lethe("vault", "destroy-epoch", 1, "--yes")


def test_what_is_overdue_is_told_here_and_by_the_doctor(lethe: CommandLine) -> None:
    """Given an epoch that should have been rolled nine days ago, then status says so and the doctor fails; after the
    roll both are content."""
    lethe("vault", "status")
    age(lethe, 16)
    late = "epoch 1 should have been rolled 9 days ago"
    assert lethe.json("vault", "status")["overdue"] == [late]
    assert late in lethe("vault", "status")
    finding = _epochs_finding(lethe, code=1)
    assert (finding["state"], finding["seen"]) == ("fail", late)
    lethe("vault", "roll")
    assert _epochs_finding(lethe)["state"] == "ok"


def _epochs_finding(lethe: CommandLine, code: int = 0) -> dict[str, Any]:
    findings = lethe.json("doctor", code=code)["findings"]
    (found,) = (finding for finding in findings if finding["check"] == "epochs")
    assert isinstance(found, dict)
    return found


def test_a_roll_elsewhere_is_left_alone(lethe: CommandLine) -> None:
    """Given a process that rolls, when another is asked to, then it is refused by name and nothing is opened."""
    with alone(lethe.instance.vault_pool, ROLL):
        assert lethe.json("vault", "roll", code=1)["error"] == "roll_running"
    assert [state for _, state, _ in epochs(lethe)] == ["open"]


def test_a_wrap_that_was_changed_is_an_incident(lethe: CommandLine) -> None:
    """Given a wrap that does not open, when it is rolled, then the command ends as an incident and says which."""
    lethe.json("vault", "status")
    with lethe.instance.vault_pool.transaction() as connection:
        connection.execute("UPDATE lethe_vault.wrapped_key SET wrap = set_byte(wrap, 20, get_byte(wrap, 20) # 1)")
    assert lethe.json("vault", "roll", code=6)["error"] == "tampered"
    assert lethe.json("vault", "destroy-epoch", 1, "--yes", code=1)["error"] == "epoch_in_use"
