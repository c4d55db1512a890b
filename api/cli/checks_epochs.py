"""The check of epochs: is the current one as young as it should be, and did the keys of past ones go on their day?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from api.cli.checks import Finding, Patient
from ledger.keys.epochs import SELECT_EPOCHS, Epoch, roll_due_at
from retention.horizon.horizon import overdue

ADVICE = "Is lethe worker running? Its log says why it cannot. By hand: lethe vault roll."


def check_epochs(patient: Patient) -> Iterator[Finding]:
    """Epochs are rolled when it is time, and their keys destroyed on the day that certificates state."""
    now = datetime.now(UTC)
    for _, connection in patient.on("vault"):
        epochs = [Epoch(*row) for row in connection.execute(SELECT_EPOCHS)]
        if not epochs:
            yield Finding("epochs", "ok", "none is entered yet: the worker does that on its first turn")
            return
        current = epochs[-1]
        due_at = roll_due_at(current, patient.settings.epoch_days)
        late = [said for epoch in epochs if (said := overdue(epoch, current.number, due_at, now))]
        if late:
            yield Finding("epochs", "fail", "; ".join(late), ADVICE)
            return
        waiting = [epoch for epoch in epochs[:-1] if epoch.destroyed_at is None]
        kept = f"; {len(waiting)} older keys are kept, the next until {waiting[0].destroy_on}" if waiting else ""
        yield Finding("epochs", "ok", f"epoch {current.number} is {(now - current.opened_at).days} days old{kept}")
