"""Asynchronous projections against the stock ProjectionRunner, and how fast projections are rebuilt.

Both sides count sends by campaign, and move their tracking in the transaction that counts. The stock runner commits
for each event; ours takes a window of the log at a time. Every projection is rebuilt from the account's whole log,
and the slowest rebuild is the one that is judged.
"""

from __future__ import annotations

from contextlib import closing
from time import perf_counter
from typing import Any

from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresDatastore, PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from psycopg.sql import SQL, Identifier

from bench.budgets import Line
from bench.bulk import authorise_everybody
from bench.contenders import BareSendAuthorised, StockApplication, StockEventsourcing
from bench.stand import Stand, register
from bench.timing import interleaved, medians, rate
from projections.campaign_view import CampaignView
from projections.change_feed import ChangeFeed
from projections.rebuild import REBUILDABLE, rebuild
from projections.worker import catch_up

STOCK_SCHEMA = "bench_stock_view"
STOCK_WAIT_SECONDS_MAX = 120.0


def measure(stand: Stand) -> list[Line]:
    """Each round, both sides take in events that wait for them: sends just authorised, and bare events just saved."""
    ledger, sizes = stand.ledger, stand.sizes
    authorise_everybody(stand)
    view, feed = CampaignView(), ChangeFeed()
    catch_up(ledger, [view])
    with closing(StockEventsourcing(stand, STOCK_SCHEMA)) as stock:

        def ours(_: int) -> float:
            campaign = register(ledger)
            stand.authorise(campaign, stand.recipients)
            stand.campaigns.append(campaign)
            return rate(sizes.people, lambda: catch_up(ledger, [view]))

        def theirs(_: int) -> float:
            stock.put(1, sizes.stock_projected)
            return _stock_rate(stock)

        rates = medians(interleaved({"ours": ours, "theirs": theirs}, sizes.projection_rounds))
    end = ledger.log.max_notification_id() or 0
    fed = rate(end, lambda: catch_up(ledger, [feed]))
    rebuilds = {name: rate(end, lambda name=name: _rebuild(stand, name)) for name in REBUILDABLE}  # type: ignore[misc]  # mypy cannot type a default in a lambda
    slowest = min(rebuilds, key=lambda name: rebuilds[name])
    ratio = rates["ours"] / rates["theirs"]
    what = "campaign view from the log : stock ProjectionRunner"
    return [
        Line("stock_runner", "stock ProjectionRunner, a counting projection", rates["theirs"], "events/s"),
        Line("campaign_view", what, rates["ours"], "events/s", "projections_vs_stock_runner", ratio),
        Line("change_feed", "change feed of suppressions, whole log", fed, "events/s"),
        *(
            Line(
                f"rebuild_{name}",
                f"rebuild of {name}, whole log",
                found,
                "events/s",
                "rebuild_events_per_second" if name == slowest else None,
            )
            for name, found in rebuilds.items()
        ),
    ]


class StockCounts(PostgresTrackingRecorder):
    """Stock's materialised view: one row per campaign, counted up in the transaction that moves the tracking."""

    def __init__(self, datastore: PostgresDatastore, **kwargs: Any) -> None:
        super().__init__(datastore, **kwargs)
        table = (Identifier(datastore.schema), Identifier("stock_counts"))
        create = "CREATE TABLE IF NOT EXISTS {0}.{1} (campaign text PRIMARY KEY, count bigint NOT NULL)"
        self.sql_create_statements.append(SQL(create).format(*table))
        upsert = "INSERT INTO {0}.{1} AS t VALUES (%s, 1) ON CONFLICT (campaign) DO UPDATE SET count = t.count + 1"
        self._upsert = SQL(upsert).format(*table)
        self.moments: list[float] = []

    def count(self, campaign: str, tracking: Tracking) -> None:
        """Count one event, and note when that was durable."""
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            cursor.execute(self._upsert, (campaign,), prepare=True)
        self.moments.append(perf_counter())


class StockCounting(Projection[StockCounts]):
    """Stock's projection."""

    name = "stock_counting"

    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        """Count a send."""
        assert isinstance(domain_event, BareSendAuthorised)
        self.view.count(domain_event.campaign, tracking)


def _stock_rate(stock: StockEventsourcing) -> float:
    """Events per second from the first to the last event that waited; starting the runner is not counted."""
    with ProjectionRunner(
        application_class=StockApplication,
        projection_class=StockCounting,
        view_class=StockCounts,
        env=stock.environment,
    ) as runner:
        runner.wait(stock.application.recorder.max_notification_id(), timeout=STOCK_WAIT_SECONDS_MAX)
        moments = runner.view.moments
    return (len(moments) - 1) / (moments[-1] - moments[0])


def _rebuild(stand: Stand, name: str) -> None:
    """Rebuild without waiting for readers of the old generation: there are none here."""
    rebuild(stand.ledger, stand.instance.rebuilder, name, grace_seconds=0.0)
