"""The sequencer: extends each tenant's tree by what was committed since, signs it and publishes it (DESIGN section 9).

One transaction for a few tenants at a time:

    hold       the row of the newest series; who does not get it passes by, so that one sequencer works on a log
    see        where the head stands, and that the stored edge gives the root that was signed last; over a
               contradiction nothing is signed
    extend     hash the leaves since (in the database), and the tiles above them
    sign       by every living key
    keep       the size and root outside PostgreSQL, durably, before anything of them can be seen
    commit     tiles, checkpoint and the new size together

A root is a function of entries that are committed, so a process killed anywhere leaves either nothing or everything,
and whoever goes on signs the same root for the same size (FAULTS 7, 19). What was kept and not committed is compared
on the next attempt. What is behind by more than `LEAVES_PER_CHECKPOINT` gets there in steps, each with a checkpoint of
its own: then memory is flat, and a crash loses one step.
"""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any, Final
from uuid import UUID

import psycopg
import structlog
from psycopg import Connection

from audit.log.errors import LogContradiction
from audit.log.keys import living, open_series, origin_of, sign
from audit.log.store import PublishedCheckpoint, log_keys
from domain.growing_tree import TILE_WIDTH, GrowingTree, Tile
from domain.merkle import HASH_BYTES
from ledger.application import Ledger
from ledger.connections import Pool
from ledger.custody.journal import Custody
from ledger.custody.journal_check import is_behind
from ledger.custody.kept_checkpoints import KeptCheckpoint
from ledger.errors import GateShut, LedgerError, Unavailable
from ledger.log_tree import LEAVES_PER_READ, leaf_hashes, sections, tile_reader

LEAVES_PER_CHECKPOINT: Final = LEAVES_PER_READ
"""Leaves between two checkpoints at most, and in one transaction over all its tenants together."""

TENANTS_PER_TRANSACTION: Final = 64
"""Tenants that share a transaction and a write to custody: with one write each, a thousand would take seconds."""

TRANSACTIONS_PER_TURN: Final = 100
"""A turn ends after so many, whatever is left: the gate is looked at in between."""

PUBLISH_EVERY_SECONDS: Final = 0.3
"""How often heads are looked at: what is committed is published within a second, under load too."""

IDLE_SECONDS_MAX: Final = 0.6
"""How seldom heads are looked at while nothing is written."""

BACK_OFF_SECONDS_MAX: Final = 30.0

FAILED_PAUSE_SECONDS: Final = 10.0
"""How long a log that failed is left alone, so that its error does not fill the program's own log."""

_SERIES_OF_HEAD = """
FROM lethe.head h LEFT JOIN LATERAL (
    SELECT series, size FROM lethe.log_series WHERE tenant_id = h.tenant_id ORDER BY series DESC LIMIT 1
) AS s ON true WHERE h.position > COALESCE(s.size, 0)
"""
SELECT_BEHIND = f"""
SELECT h.tenant_id, s.series {_SERIES_OF_HEAD} AND h.tenant_id > %s AND h.tenant_id <= %s AND h.tenant_id <> ALL(%s)
ORDER BY h.tenant_id LIMIT %s
"""
SELECT_ONE_BEHIND = f"SELECT s.series {_SERIES_OF_HEAD} AND h.tenant_id = %s"
# A statement of its own: what is read after it is what the last sequencer committed.
HOLD_SERIES = """
SELECT s.tenant_id, s.series FROM lethe.log_series s
WHERE s.tenant_id = ANY(%s)
    AND s.series = (SELECT max(n.series) FROM lethe.log_series n WHERE n.tenant_id = s.tenant_id)
ORDER BY s.tenant_id FOR UPDATE SKIP LOCKED
"""
SELECT_STATE = """
SELECT s.tenant_id, s.series, s.origin, s.size, h.position, c.root, EXISTS (SELECT 1 FROM lethe.restore_gate)
FROM unnest(%s::uuid[]) AS n(tenant_id), LATERAL (
    SELECT * FROM lethe.log_series WHERE tenant_id = n.tenant_id ORDER BY series DESC LIMIT 1
) AS s JOIN lethe.head h ON h.tenant_id = s.tenant_id
LEFT JOIN lethe.log_checkpoint c ON c.tenant_id = s.tenant_id AND c.series = s.series AND c.size = s.size
ORDER BY s.tenant_id
"""
# A tile that is there is only ever made longer.
GROW_TILES = """
INSERT INTO lethe.log_tile (tenant_id, series, level, number, hashes)
SELECT %s, %s, n.level, n.number, n.hashes FROM unnest(%s::smallint[], %s::bigint[], %s::bytea[])
    AS n(level, number, hashes)
ON CONFLICT (tenant_id, series, level, number) DO UPDATE SET hashes = EXCLUDED.hashes
WHERE substring(EXCLUDED.hashes FROM 1 FOR octet_length(log_tile.hashes)) = log_tile.hashes
"""
INSERT_CHECKPOINT = """
INSERT INTO lethe.log_checkpoint (tenant_id, series, size, root, note, published_at) VALUES (%s, %s, %s, %s, %s, %s)
"""
MOVE_SERIES = "UPDATE lethe.log_series SET size = %s WHERE tenant_id = %s AND series = %s"

_Behind = tuple[UUID, int | None]
"""A tenant, and its newest series."""

_FIRST, _LAST = UUID(int=0), UUID(int=2**128 - 1)

_ONE_LOGS_OWN: Final = (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable)
"""Of what makes a database unavailable, what may be due to one log alone: its rows are locked, or too slow to read."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Published:
    """What a turn did: the checkpoints that were published, and how many tenants failed."""

    checkpoints: tuple[PublishedCheckpoint, ...] = ()
    failed: int = 0


@dataclass(frozen=True, slots=True)
class _State:
    """One log whose series this transaction holds. `root` is that of its last checkpoint, None before the first."""

    tenant: UUID
    series: int
    origin: str
    size: int
    head: int
    root: bytes | None
    gate_shut: bool


@dataclass(frozen=True, slots=True)
class _Step:
    """What is about to be published of one log."""

    checkpoint: PublishedCheckpoint
    tiles: list[Tile]
    before: int


class Sequencer:
    """Publishes every tenant's log. Any number of sequencers may run; `house` is the setting LETHE_LOG_ORIGIN."""

    def __init__(self, writer: Pool, custody: Custody, ledger_of: Callable[[UUID], Ledger], house: str) -> None:
        self._writer = writer
        self._custody = custody
        self._ledger_of = ledger_of
        self._house = house
        self._left_alone: dict[UUID, float] = {}
        self._after = _FIRST

    def run(self, stop: Event, *, gate: Callable[[], None]) -> None:
        """Publish until `stop` is set. `gate` is called before each turn and may raise: then nothing is published."""
        pause = PUBLISH_EVERY_SECONDS
        while not stop.wait(pause):
            try:
                gate()
                done = self.publish()
                pause = PUBLISH_EVERY_SECONDS if done.checkpoints else min(pause * 2, IDLE_SECONDS_MAX)
            except Unavailable:
                pause = min(pause * 2, BACK_OFF_SECONDS_MAX)
                _log.warning("log not published: database does not answer", next_try_seconds=round(pause, 1))
            except Exception as error:  # noqa: BLE001  The edge of a thread: it tries again, and says so.
                pause = min(pause * 2, BACK_OFF_SECONDS_MAX)
                _log_failure(error, None)

    def publish(self) -> Published:
        """Publish what every tenant's log holds now. Raises `Unavailable`; what else fails for one is logged."""
        done: list[PublishedCheckpoint] = []
        failed = 0
        for _ in range(TRANSACTIONS_PER_TURN):
            behind = self._behind()
            if not behind:
                break
            published, wrong = self._publish_together(behind)
            # The next transaction begins behind the last log that came to its turn: a backlog is not one turn.
            self._after = published[-1].tenant if published else behind[-1][0]
            done += published
            failed += len(wrong)
            for tenant in wrong:
                self._left_alone[tenant] = time.monotonic() + FAILED_PAUSE_SECONDS
            if not published and not wrong:
                break  # Another sequencer holds all of them.
        return Published(tuple(done), failed)

    def publish_tenant(self, ledger: Ledger) -> PublishedCheckpoint | None:
        """Publish all that one log holds now; returns its last checkpoint, None if there was nothing to do.

        Raises what stands in the way.
        """
        last = None
        while True:
            with self._writer.connection() as connection:
                row = connection.execute(SELECT_ONE_BEHIND, (ledger.tenant,)).fetchone()
            if row is None:
                return last
            wrong: dict[UUID, LedgerError] = {}
            published = self._transaction([(ledger.tenant, row[0])], wrong)
            if wrong:
                raise wrong[ledger.tenant]
            if not published:
                return last
            last = published[-1]

    def _behind(self) -> list[_Behind]:
        """The next tenants whose log is behind its head, round and round, but those that failed just now."""
        now = time.monotonic()
        self._left_alone = {tenant: until for tenant, until in self._left_alone.items() if until > now}
        behind: list[_Behind] = []
        with self._writer.connection() as connection:
            for first, last in ((self._after, _LAST), (_FIRST, self._after)):
                values = (first, last, list(self._left_alone), TENANTS_PER_TRANSACTION - len(behind))
                behind += connection.execute(SELECT_BEHIND, values).fetchall()
        return behind

    def _publish_together(self, behind: Sequence[_Behind]) -> tuple[list[PublishedCheckpoint], set[UUID]]:
        """One transaction for all of them; where that fails, one for each, so that none stops the others."""
        wrong: dict[UUID, LedgerError] = {}
        try:
            published = self._transaction(behind, wrong)
        except Exception as error:  # Whatever a log's tables hold: it is that log's error, and not the others'.
            if isinstance(error, Unavailable) and not isinstance(error.__cause__, _ONE_LOGS_OWN):
                raise
            if len(behind) == 1:
                _log_failure(error, behind[0][0])
                return [], {behind[0][0]}
            results = [self._publish_together([one]) for one in behind]
            return [c for done, _ in results for c in done], {tenant for _, failed in results for tenant in failed}
        for tenant, refused in wrong.items():
            _log_failure(refused, tenant)
        return published, set(wrong)

    def _transaction(self, behind: Sequence[_Behind], wrong: dict[UUID, LedgerError]) -> list[PublishedCheckpoint]:
        """Publish the next step of each log that nobody else holds. What refuses a log goes into `wrong`."""
        self._open_missing(behind, self._custody.kept_checkpoints(), wrong)
        with self._writer.transaction() as connection:
            held = connection.execute(
                HOLD_SERIES, ([tenant for tenant, _ in behind if tenant not in wrong],)
            ).fetchall()
            kept = self._custody.kept_checkpoints()  # Read again: one that died may have kept more since.
            steps: list[_Step] = []
            leaves = 0
            for state in _states(connection, held, [tenant for tenant, _ in behind]):
                try:
                    step = self._step(connection, state, kept.get(state.tenant), LEAVES_PER_CHECKPOINT - leaves)
                except Unavailable:
                    raise
                except LedgerError as error:
                    wrong[state.tenant] = error
                    continue
                if step is not None:
                    steps.append(step)
                    leaves += step.checkpoint.size - step.before
                if leaves >= LEAVES_PER_CHECKPOINT:
                    break
            for step in steps:
                _write(connection, step)
            # The last act before the commit: from here on no other root can be signed for these sizes.
            self._custody.keep_checkpoints(
                {step.checkpoint.tenant: _kept(step.checkpoint) for step in steps}, after=kept
            )
        return [step.checkpoint for step in steps]

    def _open_missing(
        self, behind: Sequence[_Behind], kept: Mapping[UUID, KeptCheckpoint], wrong: dict[UUID, LedgerError]
    ) -> None:
        """Open the series of logs that have none, and of those whose last one was given up."""
        for tenant, series in behind:
            last = kept.get(tenant)
            over = last is not None and last.abandoned and (series is None or series <= last.series)
            if not over and series is not None:
                continue
            try:
                if last is not None and not over:
                    raise LogContradiction(
                        f"The log of {tenant} was signed at {last.size} events, and no series of it is there any more. "
                        f"{_LOOK}"
                    )
                open_series(self._ledger_of(tenant), self._house, last if over else None)
            except Unavailable:
                raise
            except LedgerError as error:
                wrong[tenant] = error

    def _step(
        self, connection: Connection[Any], state: _State, kept: KeptCheckpoint | None, leaves_max: int
    ) -> _Step | None:
        """What is published next of one log, None if there is nothing. Raises over any contradiction."""
        if state.gate_shut:
            raise GateShut("This database was restored from a backup. Nothing is published until: lethe reopen.")
        if kept is not None:
            _require_not_behind(state, kept)
        if state.head <= state.size:
            return None
        _require_own_origin(state)
        tree = _stored_tree(connection, state)
        target = min(state.head, state.size + leaves_max)
        changed: dict[tuple[int, int], Tile] = {}
        if kept is not None and kept.series == state.series and kept.size >= state.size:
            target = max(target, kept.size)
            _extend(connection, state, tree, kept.size, changed)
            if tree.root() != kept.root:
                raise LogContradiction(
                    f"The log {state.origin} was signed at {kept.size} events, and its first {kept.size} events give "
                    f"another root now: it was rewritten. {_LOOK}"
                )
        _extend(connection, state, tree, target, changed)
        ledger, root = self._ledger_of(state.tenant), tree.root()
        keys = living(log_keys(connection, state.tenant), state.series)
        note = sign(ledger, state.origin, keys, checkpoint_text(state.origin, target, root))
        checkpoint = PublishedCheckpoint(
            state.tenant, state.series, state.origin, target, root, note, ledger.services.clock()
        )
        return _Step(checkpoint, list(changed.values()), state.size)


def require_edge(connection: Connection[Any], tenant: UUID) -> None:
    """Raise `LogContradiction` or `TamperError` unless the stored edge of a log gives what was signed last. Cheap."""
    row = connection.execute(SELECT_STATE, ([tenant],), binary=True).fetchone()
    if row is not None:
        _stored_tree(connection, _State(*row))


def checkpoint_text(origin: str, size: int, root: bytes) -> str:
    """The text of a checkpoint (C2SP tlog-checkpoint): origin, size and root, one to a line."""
    return f"{origin}\n{size}\n{b64encode(root).decode()}\n"


def _states(connection: Connection[Any], held: Sequence[tuple[UUID, int]], order: Sequence[UUID]) -> Iterator[_State]:
    """Where the logs stand whose newest series this transaction holds, in this order; read after they are held."""
    rows = connection.execute(SELECT_STATE, ([tenant for tenant, _ in held],), binary=True)
    states = [_State(*row) for row in rows]
    turns = {tenant: turn for turn, tenant in enumerate(order)}
    for state in sorted(states, key=lambda state: turns[state.tenant]):
        if (state.tenant, state.series) in held:
            yield state


def _stored_tree(connection: Connection[Any], state: _State) -> GrowingTree:
    """The tree as the tiles tell it, if they and the last event agree with what was signed. Cheap: only the edge."""
    if state.size < 0:
        raise LogContradiction(f"The log {state.origin} is said to have {state.size} leaves. {_LOOK}")
    tree = GrowingTree(state.size, tile_reader(connection, state.tenant, state.series))
    if not state.size:
        return tree
    if state.root is None or tree.root() != state.root:
        raise LogContradiction(
            f"The tiles of the log {state.origin} do not give the root that was signed at {state.size} events. {_LOOK}"
        )
    last = leaf_hashes(connection, state.tenant, state.size - 1, state.size)
    number, width = divmod(state.size - 1, TILE_WIDTH)
    if tile_reader(connection, state.tenant, state.series)(0, number, width + 1)[-HASH_BYTES:] != last:
        raise LogContradiction(
            f"Event {state.size} is not the one that was signed in the log {state.origin}: it was rewritten. {_LOOK}"
        )
    return tree


def _require_not_behind(state: _State, kept: KeptCheckpoint) -> None:
    """What was signed last is of this series, the log reaches it, and custody knows of it."""
    if kept.series > state.series or (kept.series == state.series and (kept.abandoned or kept.size > state.head)):
        raise LogContradiction(
            f"The log {state.origin} ends at {state.head} events, and {kept.size} were signed (series {kept.series}): "
            f"it was brought back to an older state. {_LOOK}"
        )
    if is_behind(kept, state.series, state.size):
        raise LogContradiction(
            f"Of the log {state.origin}, {state.size} events are published, and custody keeps {kept.size}: its folders "
            "were put back to an older state. Nothing is published until they are up to date. See: lethe doctor."
        )
    if kept.series < state.series and not kept.abandoned:
        raise LogContradiction(
            f"The log {state.origin} is series {state.series}, and nobody accepted that series {kept.series} was given "
            f"up, of which {kept.size} events were signed. {_LOOK}"
        )


def _require_own_origin(state: _State) -> None:
    """No two series share an origin: under one that was given up nothing is ever signed again (FAULTS 19)."""
    if not state.origin.endswith(origin_of("", state.tenant, state.series)):
        raise LogContradiction(
            f"Series {state.series} of the log of {state.tenant} is called {state.origin}, as no such series is. "
            f"{_LOOK}"
        )


def _extend(
    connection: Connection[Any], state: _State, tree: GrowingTree, target: int, changed: dict[tuple[int, int], Tile]
) -> None:
    """Put the leaves up to `target` behind the tree; `changed` holds the last state of each tile by its place."""
    for after, last in sections(tree.size, target):
        for tile in tree.extend(leaf_hashes(connection, state.tenant, after, last)):
            changed[tile.level, tile.number] = tile


def _write(connection: Connection[Any], step: _Step) -> None:
    """Tiles, checkpoint and size. A tile is only ever made longer, and a size only ever signed once."""
    made = step.checkpoint
    columns = [list(column) for column in zip(*step.tiles, strict=True)]
    if connection.execute(GROW_TILES, (made.tenant, made.series, *columns)).rowcount != len(step.tiles):
        raise LogContradiction(f"A tile of the log {made.origin} holds other hashes than its events give. {_LOOK}")
    values = (made.tenant, made.series, made.size, made.root, made.note.encode(), made.published_at)
    connection.execute(INSERT_CHECKPOINT, values)
    connection.execute(MOVE_SERIES, (made.size, made.tenant, made.series))


def _kept(made: PublishedCheckpoint) -> KeptCheckpoint:
    return KeptCheckpoint(made.series, made.size, made.root, made.published_at)


def _log_failure(error: Exception, tenant: UUID | None) -> None:
    """Our own errors carry no personal value and say what to do; of any other only the kind is logged."""
    text = str(error) if isinstance(error, LedgerError) else type(error).__name__
    _log.error("log not published", tenant=str(tenant) if tenant else None, error=text)


_LOOK = "Nothing is published. See: lethe doctor, lethe fsck."
