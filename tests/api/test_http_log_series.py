"""The log over HTTP after a loss that was accepted: two series, each under the prefix that its origin names."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from fastapi import FastAPI

from api.bootstrap import Instance, running
from api.http.app import create_app
from api.settings import Settings
from audit.log.store import log_keys
from audit.verify.checkpoint import open_checkpoint
from audit.verify.merkle import leaf_hash
from audit.verify.note import VerifierKey
from audit.verify.tiles import ENTRIES, ProvenTiles, TileName, tiles_at, unpack_entries
from audit.verify.tlog_proof import TlogProof
from ledger.application import Ledger
from tests.acts import add, emails
from tests.api.conftest import Api, serving
from tests.audit.test_log_series import Drill, drill, open_gate, put_back, settings
from tests.support import SettableClock

__all__ = ["drill", "settings"]

Serve = Callable[[FastAPI, Instance], serving]


def checked(api: Api, prefix: str, keys: list[VerifierKey]) -> tuple[str, int]:
    """Origin and size of a series, after its tiles and entries were checked."""
    said = open_checkpoint(api.call("GET", f"{prefix}/checkpoint").content, keys).checkpoint

    def read(level: int, number: int, width: int) -> bytes:
        return api.call("GET", f"{prefix}/{TileName(level, number, width).path()}", scope="auditor").content

    proven = ProvenTiles(read, said.size, said.root)
    for name in tiles_at(said.size):
        if name.level == 0:
            for index, entry in enumerate(unpack_entries(read(ENTRIES, name.number, name.width), name.width)):
                proven.require_leaf(name.number * 256 + index, leaf_hash(entry))
    return said.origin, said.size


def test_each_series_is_served_under_its_origin(
    drill: Drill, settings: Settings, clock: SettableClock, serve: Serve, api_at: Callable[[str, Ledger], Api]
) -> None:
    """Given published events that were lost, when the log goes on as another series, then both are whole as served.

    The first stands where it always stood, up to what survived; the second has its number in its path; proofs are of
    the second.
    """
    add(drill.ledger, emails(10, "later"))
    drill.source.sequencer.publish()
    clock.advance(timedelta(hours=1))
    put_back(drill, settings, clock)
    with running(settings, clock=clock, gated=False) as target:
        open_gate(target, "The disks burnt.")
    with running(settings, clock=clock) as target, serve(create_app(target), target) as url:
        ledger = target.ledger(drill.ledger.tenant)
        add(ledger, emails(20, "new"))
        target.sequencer.publish()
        api = api_at(url, ledger)
        with target.services.writer.connection() as connection:
            keys = [VerifierKey.parse(key.verifier_key) for key in log_keys(connection, ledger.tenant)]
        first, second = (f"/log/{ledger.tenant.hex}{number}" for number in ("", "/2"))
        origin, size = checked(api, first, keys)
        newer, longer = checked(api, second, keys)
        assert (origin.endswith(first), newer.endswith(second)) == (True, True)
        assert (size, longer > 123) == (103, True)
        proof = TlogProof.parse(api.call("GET", "/v1/proofs/110").content)
        assert proof.require_logged(ledger.log.select_log(110, 1)[0].state, keys).checkpoint.origin == newer
        assert api.call("GET", f"/log/{ledger.tenant.hex}/3/checkpoint").status_code == 404
