"""A published log with some of everything, and a superuser's connection to it, for what is to find damage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import Connection

from api.bootstrap import Instance
from audit.fsck import Brought, Lie, LogLies, Outside, Trust, Whole, require_whole_log
from audit.log.keys import retire, rotate
from audit.log.store import PublishedCheckpoint
from audit.verify.checkpoint import Checkpoint
from audit.verify.note import VerifierKey
from audit.verify.timestamp import open_timestamp, timestamp_request
from ledger.application import Ledger
from ledger.custody.journal import KeptHead
from ledger.embedded import EmbeddedPostgres
from tests.acts import ask, emails, register, report, say, willing
from tests.audit.publishing import grow, keys_of, publish
from tests.timestamp_authority import TimestampAuthority
from tests.witness import Witness

TAIL = 6
"""Acts at the end that are not published yet."""

POSITION = 300
"""An event in the middle, in a full tile."""

ONE = "WHERE tenant_id = %(t)s AND position = %(p)s"


@dataclass(repr=False)
class PublishedLog:
    """A published log, a superuser's connection to it, and what others hold of it."""

    ledger: Ledger
    superuser: Connection[Any]
    published: list[PublishedCheckpoint]
    keys: tuple[VerifierKey, ...]
    outside: Outside
    events: int

    @property
    def tenant(self) -> UUID:
        """Whose log it is."""
        return self.ledger.tenant

    @property
    def end(self) -> int:
        """The size of the last checkpoint."""
        return self.published[-1].size

    def check(self, outside: Outside | None = None) -> Whole:
        """Check it, by default with all that is held outside."""
        return require_whole_log(self.superuser, self.tenant, outside or self.outside)

    def lie(self, outside: Outside | None = None) -> Lie:
        """The first lie."""
        with pytest.raises(LogLies) as raised:
            self.check(outside)
        assert str(raised.value) == raised.value.lie.said()
        return raised.value.lie

    def do(self, statement: str, **more: Any) -> None:
        """Change something; it has to be there."""
        done = self.superuser.execute(statement, {"t": self.tenant, "end": self.end, **more})
        assert done.rowcount >= 1

    def value(self, statement: str) -> Any:
        """One value of this log."""
        row = self.superuser.execute(statement, {"t": self.tenant, "end": self.end}).fetchone()
        assert row is not None
        return row[0]


Damage = Callable[[PublishedLog], object]


def name_another_actor(entry: dict[str, Any]) -> None:
    """A small change of what an entry says."""
    entry["actor"] = "somebody"


@contextmanager
def published_log(instance: Instance, server: EmbeddedPostgres, folder: Path) -> Iterator[PublishedLog]:
    """A log of some hundred events of many kinds, published six times under two keys, cosigned and stamped."""
    ledger = instance.ledger(uuid4())
    ledger.open_account(name="Acme GmbH", pack="mailkai", country="DE", minimum_age=16, actor="cli")
    people = emails(120)
    willing(ledger, people)
    published = [publish(instance, ledger)]
    campaign = register(ledger)
    tokens = ask(ledger, campaign, people).allowed
    published.append(publish(instance, ledger))
    report(ledger, [(tokens[p], "delivered") for p in people[:40]])
    report(ledger, [(tokens[people[3]], "complained"), (tokens[people[4]], "unsubscribed")])
    say(ledger, people[6:9], "withdraw")
    rotate(ledger, actor="cli")
    keys = tuple(keys_of(instance, ledger))
    published.append(publish(instance, ledger))
    ledger.erasures.intend([people[5]], reason="asked", actor="cli")
    retire(ledger, keys[0].key_id.hex(), actor="cli")
    published.append(publish(instance, ledger))
    ask(ledger, register(ledger), people)
    published.append(publish(instance, ledger))
    grow(ledger, 30)
    published.append(publish(instance, ledger))
    for number in range(TAIL):
        say(ledger, people[9:10], "withdraw" if number % 2 else "grant")
    assert published[-1].size > 2 * 256
    witness = Witness("witness.example/1", b"1" * 32, now=lambda: 1_764_000_000)
    authority = TimestampAuthority(folder)
    with psycopg.connect(server.url("lethe_ledger"), autocommit=True) as superuser:
        for one in published:
            _attest(superuser, one, witness, authority)
        brought = Brought(published[1].note.encode(), keys[:1])
        outside = Outside(
            _kept_head(superuser, ledger.tenant, published[2].size),
            instance.custody.kept_checkpoints()[ledger.tenant],
            (brought,),
            Trust((witness.key,), authority.roots_pem),
        )
        events = ledger.log.max_notification_id() or 0
        yield PublishedLog(ledger, superuser, published, keys, outside, events)


def _kept_head(superuser: Connection[Any], tenant: UUID, position: int) -> KeptHead:
    statement = "SELECT sha256(entry), recorded_at FROM lethe.event WHERE tenant_id = %s AND position = %s"
    row = superuser.execute(statement, (tenant, position)).fetchone()
    assert row is not None
    return KeptHead(position, *row)


def _attest(
    superuser: Connection[Any], one: PublishedCheckpoint, witness: Witness, authority: TimestampAuthority
) -> None:
    said = Checkpoint(one.origin, one.size, one.root)
    line = witness.cosigned(said).decode().removesuffix("\n")
    values = (one.tenant, one.series, one.size, str(witness.key), line, datetime.fromtimestamp(1_764_000_000, UTC))
    superuser.execute("INSERT INTO lethe.log_cosignature VALUES (%s, %s, %s, %s, %s, %s)", values)
    token = authority.answer(timestamp_request(said.body()).content)
    at = open_timestamp(token, said.body(), authority.roots_pem).at
    stamp = (one.tenant, one.series, one.size, "https://stamps.example", token, at)
    superuser.execute("INSERT INTO lethe.log_timestamp VALUES (%s, %s, %s, %s, %s, %s)", stamp)
