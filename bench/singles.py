"""Single durable commands of many clients, in turns with single-row commits of one connection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from threading import Barrier, Thread
from time import perf_counter

from bench.budgets import Line
from bench.contenders import RawPostgres, StockEventsourcing
from bench.stand import ACTOR, CHANNEL, Stand
from bench.timing import interleaved, medians, rate
from domain.subject_commands import RecordConsent
from ledger.subjects import Act

PURPOSE = "product-news"
"""A purpose of its own, so that nobody's permission for the campaigns changes."""


def measure(stand: Stand) -> list[Line]:
    """Every client withdraws or grants again for one person after the other, and waits until it is durable."""
    ledger, sizes = stand.ledger, stand.sizes
    share = min(sizes.acts_per_client, len(stand.emails) // sizes.clients)
    with closing(RawPostgres(stand)) as raw, closing(StockEventsourcing(stand)) as stock:

        def commands(number: int) -> float:
            acts = [_act(email, withdraws=number % 2 == 0) for email in stand.emails[: share * sizes.clients]]
            return by_clients([acts[k * share : (k + 1) * share] for k in range(sizes.clients)], ledger.act)

        def single_saves(_: int) -> float:
            events = stock.construct(sizes.stock_single_saves)

            def save_each() -> None:
                for event in events:
                    stock.application.events.put([event])

            return rate(len(events), save_each)

        found = interleaved(
            {
                "commands": commands,
                "commits": lambda _: raw.commits(ledger.tenant, sizes.raw_commits),
                "saves": single_saves,
            },
            sizes.rounds,
        )
    rates = medians(found)
    raw_rate, our_rate = rates["commits"], rates["commands"]
    what = f"single commands, {sizes.clients} clients : raw commits"
    budget = "single_commands_vs_raw_commits"
    rounds = {name: tuple(values) for name, values in found.items()}
    return [
        Line("raw_commits", "raw commits of 1 row, 1 connection", raw_rate, "commits/s", rounds=rounds["commits"]),
        Line(
            "stock_single_save", "stock eventsourcing, single saves", rates["saves"], "events/s", rounds=rounds["saves"]
        ),
        Line("single_commands", what, our_rate, "commands/s", budget, our_rate / raw_rate, rounds["commands"]),
    ]


def by_clients(shares: Sequence[Sequence[Act]], carry_out: Callable[[Act], object]) -> float:
    """Commands per second of one thread per share, from the moment all of them are ready."""
    ready = Barrier(len(shares) + 1)
    failures: list[BaseException] = []

    def client(acts: Sequence[Act]) -> None:
        ready.wait()
        try:
            for act in acts:
                carry_out(act)
        except BaseException as error:  # noqa: BLE001  A thread's error is raised again where the bench waits for it.
            failures.append(error)

    threads = [Thread(target=client, args=(acts,)) for acts in shares]
    for thread in threads:
        thread.start()
    ready.wait()
    start = perf_counter()
    for thread in threads:
        thread.join()
    elapsed = perf_counter() - start
    if failures:
        raise failures[0]
    return sum(map(len, shares)) / elapsed


def _act(email: str, *, withdraws: bool) -> Act:
    if withdraws:
        return Act(RecordConsent(PURPOSE, CHANNEL, "withdraw"), address=email, actor=ACTOR)
    evidence = {"ip": "192.0.2.17", "method": "double_opt_in"}
    return Act(RecordConsent(PURPOSE, CHANNEL, "grant", evidence=evidence), address=email, actor=ACTOR)
