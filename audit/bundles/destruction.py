"""A destruction: the facts that a certificate rests on, as far as they lead to nobody.

    of a plan       its whole stream: what was intended, what went item by item, what was published before
    of an erasure   the facts of everybody who was erased on that day: the certificate does not say which is whose
    of both         the certificate's own facts, the days whose keys it lists, what the log was told of epochs, and
                    the exports about many persons in the time of these keys, with sealed parts opened

An erasure's certificate leads to no person (docs/adr/0017), so its bundle cannot hold "the" intent. It shows the crowd
of the day, and that the certificate's digest stands in the log.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from uuid import UUID

import orjson

from audit.bundles.model import Collected, NothingToBundle, positions_of
from audit.bundles.reading import Places, end_of, events_at, places_of, places_of_topics, position_at
from domain.keys import CertificateIssued, EpochKeyDestroyed, EpochOpened, EpochRolled
from domain.subject import ErasureIntended, KeysDestroyed
from domain.suppression import SuppressionKeyClosed
from ledger.application import Ledger
from ledger.certificate_format import digest_of
from projections.log import every_version

SELECT_EPOCH_STREAMS = "SELECT stream_id FROM lethe.epoch_told WHERE tenant_id = %s"
OF_THE_DAY: Final = every_version([ErasureIntended.TOPIC, KeysDestroyed.TOPIC, SuppressionKeyClosed.TOPIC])
EPOCH_FACTS: Final = (EpochOpened.TOPIC, EpochRolled.TOPIC, EpochKeyDestroyed.TOPIC)
PLAN: Final = "plan"

Exported = Mapping[str, Any]
"""A certificate as it leaves the house: `certificate`, `signature`, `public_key`, `destroyed_keys`."""


def collect_destruction(ledger: Ledger, exported: Exported) -> Collected:
    """The facts of a destruction, given its certificate. Raises `NothingToBundle`."""
    end, said = end_of(ledger), exported["certificate"]
    certificate, of_plan = UUID(said["id"]), said["about"]["kind"] == PLAN
    with ledger.services.writer.transaction() as connection:
        epochs = [row[0] for row in connection.execute(SELECT_EPOCH_STREAMS, (ledger.tenant,))]
    own = places_of(ledger, [certificate, *epochs, *_opened_streams(ledger, exported)], end)
    day = Places() if of_plan else _of_day(ledger, date.fromisoformat(said["unreachable_from"]), end)
    every = [*own.positions, *day.positions, *_published(exported)]
    if not every:
        raise NothingToBundle(
            "Nothing of this destruction stands in the log yet. Its certificate is written into the log when the day "
            "of the destruction is over (UTC)."
        )
    shown = _in_log(ledger, exported, certificate, end)
    around = [position for position in (min(day.positions, default=0), max(every)) if position]
    return Collected(
        kind="destruction",
        asked={"certificate": certificate.hex},
        positions=positions_of(every),
        claims={
            "kind": "destruction",
            "complete": {"streams": own.claimed()},
        },
        title="A destruction of keys",
        words=_words(said, certificate, of_plan, shown),
        around=tuple(around),
        certificate=exported if shown else None,
    )


def _in_log(ledger: Ledger, exported: Exported, certificate: UUID, end: int) -> bool:
    """Whether the log holds the digest of this very revision: before the day is over it holds none."""
    digest = None
    for page in events_at(ledger, sorted(places_of(ledger, [certificate], end).positions)):
        for event in page:
            if event.topic == CertificateIssued.TOPIC:
                digest = orjson.loads(event.state)["plain"]["digest"]
    return bool(digest == digest_of(exported["certificate"]))


def _of_day(ledger: Ledger, day: date, end: int) -> Places:
    """Whoever was erased on a day, all of them; and the end of that day's list."""
    begin = datetime.combine(day, time(), UTC)
    first = position_at(ledger, begin, end) - 1
    last = position_at(ledger, begin + timedelta(days=1), end) - 1
    return places_of_topics(ledger, OF_THE_DAY, first, last)


def _opened_streams(ledger: Ledger, exported: Exported) -> list[UUID]:
    """Where exports about many persons stand that were opened while the listed keys opened what they sealed."""
    made_on = [date.fromisoformat(key["made_on"]) for key in (exported["destroyed_keys"] or {}).get("keys", ())]
    if not made_on:
        return []
    last = date.fromisoformat(exported["certificate"]["unreachable_from"])
    since, until = (datetime.combine(day, time(), UTC) for day in (min(made_on), last))
    return ledger.exports.opened_streams(since, until)


def _published(exported: Exported) -> Iterator[int]:
    """Where the roots stand that the list of keys leads to."""
    for day in ((exported["destroyed_keys"] or {}).get("published") or {}).values():
        yield int(day["position"])


def _words(said: Mapping[str, Any], certificate: UUID, of_plan: bool, shown: bool) -> tuple[str, ...]:
    until = said["unrecoverable_from"]
    stage = f"Certificate {said['id']}, stage {said['stage']}, revision {said['revision']}"
    days = f"unreachable from {said['unreachable_from']}"
    facts = (
        "Its plan is here from the first intent to its end."
        if of_plan
        else "The intents and ends of every erasure of that day are here. The certificate does not say which of them "
        "is whose, and nor does this bundle."
    )
    beside = (
        f"The signed certificate is in the bundle as certificates/{certificate.hex}.json, and the log holds its digest."
        if shown
        else "The certificate itself is not in the bundle: the log holds the digest of this revision not yet, or that "
        "of a later one. Its digest is written when the day of the destruction is over (UTC)."
    )
    return (
        f"{stage}: {days}, " + (f"unrecoverable from {until}." if until else f"horizon {said['horizon']}."),
        facts,
        beside,
    )
