"""A request: what one command wrote, or what became of one request to be forgotten.

Every event names the command that wrote it, and all events of one command name the same. So a request is known by its
command id, as the audit trail shows it. A request to be forgotten is known by the id that was answered, of an erasure
or of a deletion: while it waits for the end of a hold it leads to the person's own stream; afterwards it leads to the
certificate and no further (docs/adr/0017), and its bundle is that of the destruction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final
from uuid import UUID

from audit.bundles.destruction import Exported, collect_destruction
from audit.bundles.model import CannotBundle, Collected, NothingToBundle, positions_of
from audit.bundles.reading import Progress, end_of, events_at, places_of, positions_naming
from ledger.application import Ledger
from ledger.erasures import STATE_HELD, STATE_INTENDED, UnfinishedErasure

POSTPONED_PER_QUESTION: Final = 1_000
UNDER_WAY: Final = "This erasure is being carried out just now. Ask again in a moment, when it has its certificate."

CertificateOf = Callable[[UUID], Exported]
"""The exported certificate of an erasure or of a certificate's id. Raises what it raises where there is none."""


def collect_request(
    ledger: Ledger, request: UUID, certificate_of: CertificateOf, progress: Progress | None = None
) -> Collected:
    """Everything of a request. Raises `NothingToBundle`, `CannotBundle`."""
    statuses = ledger.erasures.status(request)
    if len(statuses) > 1:
        raise CannotBundle(
            "several_erasures",
            f"This deletion asked to forget {len(statuses)} persons, each by an erasure of their own. Ask for the "
            "bundle of one erasure, by its id.",
        )
    if statuses:
        status = statuses[0]
        if status.state == STATE_HELD:
            return _waiting(ledger, status.erasure_id)
        if status.state == STATE_INTENDED:
            raise CannotBundle("under_way", UNDER_WAY)
        made = collect_destruction(ledger, certificate_of(status.erasure_id))
        # The certificate's id is what is named: the erasure's stands nowhere in the log, and leads nowhere from here.
        return _as_request(made)
    return _of_command(ledger, request, progress)


def _as_request(made: Collected) -> Collected:
    made.kind, made.claims = "request", {**made.claims, "kind": "request"}
    made.title = "A request to be forgotten"
    return made


def _waiting(ledger: Ledger, erasure_id: UUID) -> Collected:
    """What stands in the log of an erasure that waits for the end of a hold: the person still lives."""
    erasure = next((one for one in _postponed(ledger) if one.erasure_id == erasure_id), None)
    row = ledger.exports.person_of(erasure.kid) if erasure is not None else None
    if erasure is None or row is None:
        raise CannotBundle("under_way", UNDER_WAY)
    subject, end = UUID(bytes=erasure.subject), end_of(ledger)
    found = [
        event.position
        for page in events_at(ledger, sorted(places_of(ledger, [subject], end).positions))
        for event in page
        if event.recorded_at is not None and event.recorded_at >= erasure.requested_at
    ]
    return Collected(
        kind="request",
        asked={"subject": subject.hex},
        positions=positions_of(position for position in found if position is not None),
        claims={"kind": "request", "complete": {"streams": {}}},
        title="A request to be forgotten, which waits",
        words=(
            (
                "What was recorded in the person's own stream since they asked to be forgotten. A legal hold keeps "
                "their data; the keys are destroyed when it is released."
            ),
        ),
        person=row,
    )


def _postponed(ledger: Ledger) -> Iterator[UnfinishedErasure]:
    after = None
    while page := ledger.erasures.postponed(POSTPONED_PER_QUESTION, after):
        yield from page
        after = page[-1]


def _of_command(ledger: Ledger, command: UUID, progress: Progress | None) -> Collected:
    """Every event that one command wrote, wherever it stands: one pass over the whole log."""
    needle = b'"command":"%b"' % command.hex.encode()
    found = positions_naming(ledger, None, needle, 0, end_of(ledger), progress)
    if not found:
        raise NothingToBundle(
            "No erasure, no deletion and no command of this account has this id. A command's id stands in each "
            "entry: lethe trail export."
        )
    return Collected(
        kind="request",
        asked={"command": command.hex},
        positions=positions_of(found),
        claims={"kind": "request", "complete": {"streams": {}}},
        title="One command",
        words=("Every event that one command wrote, in one transaction or, for bulk commands, in several.",),
    )
