"""The parts of the HTTP room by themselves: buckets, the spool, the check desk, cursors, the door's memory."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, cast
from uuid import uuid4

import pytest
from anyio import CapacityLimiter
from starlette.requests import Request

from api.bootstrap import Instance
from api.http import auth
from api.http.auth import Door
from api.http.checks import BATCH_MAX, CheckDesk
from api.http.cursors import cursor_of, position_of
from api.http.limits import TokenBuckets
from api.http.problems import RequestRefused
from api.http.spool import Spool, SpoolAbandoned
from domain.address import InvalidAddress
from domain.permission import Decision
from ledger.application import Ledger, parse_api_key


class Hands:
    """A monotonic clock that is turned by hand; seconds."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """The time it is."""
        return self.now


def test_a_bucket_empties_and_refills() -> None:
    """As many at once as a minute allows, then one for each share of the minute that passes."""
    clock = Hands()
    buckets = TokenBuckets(6, clock=clock)
    assert [buckets.take("a") for _ in range(6)] == [0.0] * 6
    assert buckets.take("a") == pytest.approx(10.0)
    clock.now += 10.0
    assert buckets.take("a") == 0.0
    assert buckets.take("a") > 0
    assert buckets.take("b") == 0.0


def test_a_full_table_of_buckets_fails_closed() -> None:
    """A new key is refused while every other is in use, and let in once one of them has refilled."""
    clock = Hands()
    buckets = TokenBuckets(60, buckets_max=2, clock=clock)
    assert buckets.take("a") == buckets.take("b") == 0.0
    assert buckets.take("c") > 0
    clock.now += 2.0
    assert buckets.take("c") == 0.0


@pytest.mark.parametrize("position", [0, 1, 2**40, 2**63 - 1])
def test_a_cursor_comes_back_as_it_was(position: int) -> None:
    """Any position of a log."""
    assert position_of(cursor_of(position)) == position


@pytest.mark.parametrize(
    "cursor", ["", "A", cursor_of(1)[:-1], cursor_of(1) + "=", "!" + cursor_of(1), "AgAAAAAAAAAB", "Af________8", "ä"]
)
def test_a_cursor_that_is_none_is_refused(cursor: str) -> None:
    """Cut, lengthened, decorated, of another version, negative, not even ASCII."""
    with pytest.raises(RequestRefused):
        position_of(cursor)


def test_the_spool_keeps_the_order_through_memory_and_file() -> None:
    """A client that reads late gets every block in order, although few fit into memory."""

    async def run() -> list[bytes]:
        spool = Spool(memory_bytes_max=1000)
        blocks = [bytes([number]) * 300 for number in range(100)]

        def fill() -> None:
            for block in blocks:
                spool.put(block)
            spool.end()

        writer = threading.Thread(target=fill)
        writer.start()
        await asyncio.to_thread(writer.join)
        taken = []
        while (block := await spool.take()) is not None:
            taken.append(block)
        spool.close()
        assert taken == blocks
        return taken

    assert len(asyncio.run(run())) == 100


def test_the_spool_file_holds_no_clear_text() -> None:
    """What waits on disk is sealed; the control is what comes out again."""

    async def run() -> None:
        spool = Spool(memory_bytes_max=1)
        spool.put(b"first")
        spool.put(b"anna@example.com" * 100)
        file = spool._file
        assert file is not None
        file.seek(0)
        assert b"anna@" not in file.read()
        assert await spool.take() == b"first"
        assert await spool.take() == b"anna@example.com" * 100
        spool.close()

    asyncio.run(run())


def test_a_full_spool_waits_and_an_abandoned_one_ends() -> None:
    """The thread behind it stops when the disk share is used up, and ends when nobody takes the answer any more."""

    async def run() -> None:
        spool = Spool(memory_bytes_max=1, file_bytes_max=10)
        spool.put(b"a")
        spool.put(b"b" * 100)
        ended: list[BaseException] = []

        def fill() -> None:
            try:
                spool.put(b"c")
            except SpoolAbandoned as error:
                ended.append(error)

        writer = threading.Thread(target=fill)
        writer.start()
        await asyncio.sleep(0.05)
        assert writer.is_alive()
        spool.close()
        await asyncio.to_thread(writer.join)
        assert len(ended) == 1

    asyncio.run(run())


class Counting:
    """A ledger that answers checks and counts its batches."""

    def __init__(self) -> None:
        self.tenant = uuid4()
        self.batches: list[int] = []
        self.failing = False

    def check(self, asked: list[tuple[str, str, str]]) -> list[Decision]:
        """Allow those who are called anna."""
        self.batches.append(len(asked))
        if self.failing:
            raise RuntimeError("gone")
        return [Decision(email.startswith("anna"), "consent") for email, _, _ in asked]


def test_checks_at_the_same_time_share_batches() -> None:
    """Every caller gets the answer to their own question, in far fewer batches than questions."""

    async def run() -> None:
        desk, ledger = CheckDesk(), Counting()
        counted = cast(Ledger, ledger)
        names = ["anna" if number % 3 else "bert" for number in range(600)]
        answers = await asyncio.gather(
            *(desk.check(counted, f"{name}@example.com", "newsletter", "email") for name in names)
        )
        assert [answer.allowed for answer in answers] == [name == "anna" for name in names]
        assert sum(ledger.batches) == 600
        assert len(ledger.batches) <= 5
        assert max(ledger.batches) <= BATCH_MAX
        with pytest.raises(InvalidAddress):
            await desk.check(counted, "nobody", "newsletter", "email")
        ledger.failing = True
        failed = await asyncio.gather(
            *(desk.check(counted, "anna@example.com", "newsletter", "email") for _ in range(3)), return_exceptions=True
        )
        assert [type(error) for error in failed] == [RuntimeError] * 3
        ledger.failing = False
        assert (await desk.check(counted, "anna@example.com", "newsletter", "email")).allowed
        desk.close()

    asyncio.run(run())


def request_with(key: str) -> Request:
    """A request that presents a key."""
    return Request({"type": "http", "headers": [(b"authorization", f"Bearer {key}".encode())]})


def test_a_key_revoked_elsewhere_is_believed_for_five_seconds_at_most(instance: Instance, ledger: Ledger) -> None:
    """Another process revokes it: this one believes it until its memory is over, and not a moment longer."""
    clock = Hands()
    key = ledger.issue_api_key(["campaign"], actor="cli")
    parsed = parse_api_key(key)
    assert parsed is not None

    async def run() -> None:
        door = Door(instance, CapacityLimiter(1), clock=clock)
        scopes = frozenset({"campaign"})
        assert (await door.admit(request_with(key), scopes, "/x")).tenant == ledger.tenant
        ledger.revoke_api_key(parsed[1], actor="cli")
        clock.now += auth.KEY_BELIEVED_SECONDS - 0.1
        await door.admit(request_with(key), scopes, "/x")
        clock.now += 0.2
        with pytest.raises(RequestRefused):
            await door.admit(request_with(key), scopes, "/x")

    asyncio.run(run())


def test_the_door_remembers_a_bounded_number_of_keys(
    instance: Instance, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest is forgotten and asked for again."""
    monkeypatch.setattr(auth, "KEYS_HELD_MAX", 2)
    keys = [ledger.issue_api_key(["campaign"], actor="cli") for _ in range(3)]

    async def run() -> Any:
        door = Door(instance, CapacityLimiter(1))
        for key in [*keys, *keys]:
            await door.admit(request_with(key), frozenset({"campaign"}), "/x")
        return len(door._callers)

    assert asyncio.run(run()) == 2
