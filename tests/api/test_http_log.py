"""The log over HTTP, as a monitor reads it: checkpoints and tiles for everybody, entries for the account's auditors."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import psycopg
import pytest

from api.bootstrap import Instance
from audit.log.store import PublishedCheckpoint
from audit.log.witness_policy import WitnessPolicy
from audit.verify.checkpoint import open_checkpoint
from audit.verify.merkle import leaf_hash
from audit.verify.note import VerifierKey
from audit.verify.tiles import ENTRIES, ProvenTiles, TileName, Tiles, tiles_at, unpack_entries
from audit.verify.tlog_proof import TlogProof
from tests.api.conftest import Api
from tests.audit.publishing import grow, keys_of, publish
from tests.witness import Witness


@pytest.fixture
def checkpoint(api: Api, instance: Instance) -> PublishedCheckpoint:
    """A published log of some 270 events: a full tile, and partial ones."""
    grow(api.ledger, 265)
    return publish(instance, api.ledger)


@pytest.fixture
def keys(api: Api, instance: Instance, checkpoint: PublishedCheckpoint) -> list[VerifierKey]:
    """The log's verifier keys."""
    return keys_of(instance, api.ledger)


@pytest.fixture
def private(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    """LETHE_LOG_PUBLIC is false."""
    monkeypatch.setattr(instance.settings, "log_public", False)


def prefix(api: Api) -> str:
    """Where the log is."""
    return f"/log/{api.ledger.tenant.hex}"


def get(api: Api, path: str, *, scope: str = "") -> httpx.Response:
    """A file of the log."""
    return api.call("GET", f"{prefix(api)}/{path}", scope=scope)


def read(api: Api, level: int, number: int, width: int) -> bytes:
    """A tile as the verifier asks for it."""
    answer = get(api, TileName(level, number, width).path())
    assert answer.status_code == 200, answer.text
    return answer.content


def test_a_stranger_checks_the_whole_log(api: Api, checkpoint: PublishedCheckpoint, keys: list[VerifierKey]) -> None:
    """Given the prefix and the key alone, then checkpoint and tiles agree, for this size and every published one."""
    answer = get(api, "checkpoint")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    opened = open_checkpoint(answer.content, keys).checkpoint
    assert (opened.size, opened.root, opened.origin) == (checkpoint.size, checkpoint.root, checkpoint.origin)
    assert opened.origin.endswith(prefix(api))
    assert Tiles(lambda *name: read(api, *name)).root(opened.size) == opened.root


def test_every_tile_of_the_published_size_is_served_and_cached_if_full(
    api: Api, checkpoint: PublishedCheckpoint
) -> None:
    """Given a published size, then each of its tiles is served as octets, and only a full one may be kept by caches."""
    for name in tiles_at(checkpoint.size):
        answer = get(api, name.path())
        assert (answer.status_code, len(answer.content)) == (200, name.width * 32)
        assert answer.headers["content-type"] == "application/octet-stream"
        kept = answer.headers["cache-control"]
        assert kept == ("public, max-age=31536000" if name.width == 256 else "no-store")


@pytest.mark.parametrize("width", [1, 2, 9, 255])
def test_a_partial_tile_is_the_beginning_of_the_full_one(api: Api, checkpoint: PublishedCheckpoint, width: int) -> None:
    """Given a tile that is full now, then its partial forms are still served for whoever holds an older checkpoint."""
    assert get(api, f"tile/0/000.p/{width}").content == get(api, "tile/0/000").content[: width * 32]


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/0",
        "tile/0/0000",
        "tile/00/000",
        "tile/0/x000/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/-1",
        "tile/0/000.p/",
        "tile/0/000.p",
        "tile/0/000/",
        "tile/0/002",
        "tile/0/001",
        "tile/0/001.p/200",
        "tile/0/x001/x234/067",
        "tile/1/000",
        "tile/1/000.p/2",
        "tile/2/000.p/1",
        "tile/64/000",
        "tile/-1/000",
        "tile/ 0/000",
        "tile/0/٠٠٠",
        "tile/0/..%2f000",
        "tile/0/%2e%2e/0/000",
        "tile//0/000",
        "tile/0/000%00",
        "tile/0/000;x",
        "tile/ENTRIES/000",
        "tile/entries/x000/000",
        "tile/0/x9223372036854775/807",
        "tile/0/" + "x999/" * 7 + "999",
        "tile/0/" + "x999/" * 500 + "999",
        "tile/9/000.p/256",
        "32768/checkpoint",
        "2/tile/entries/000",
        "tile/entries/000.p/999",
        "checkpoint/",
        "1/checkpoint",
        "01/checkpoint",
        "2/checkpoint",
        "99999/checkpoint",
        "2/tile/0/000",
        "x/tile/0/000",
        "",
    ],
)
def test_what_is_no_tile_of_the_published_size_is_not_there(
    api: Api, checkpoint: PublishedCheckpoint, path: str
) -> None:
    """Given another spelling of a number, a width or level that the size does not reach, or a series, then 404."""
    answer = get(api, path, scope="auditor")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("tenant", ["0" * 32, "x" * 32, "", "a" * 31, "A" * 32, "0198a000-0000-7000-8000-000000000000"])
def test_a_log_that_is_not_there(api: Api, tenant: str) -> None:
    """Given an account that does not exist, or an id in another spelling, then 404, and nothing is made."""
    for path in ("checkpoint", "tile/0/000.p/1", "tile/entries/000.p/1"):
        assert api.call("GET", f"/log/{tenant}/{path}", scope="auditor").status_code == 404


def test_the_usual_form_of_an_accounts_id_is_told_the_right_one(api: Api) -> None:
    """Given the account's id with hyphens, as everything else shows it, then 404 says how the log is named."""
    answer = api.call("GET", f"/log/{api.ledger.tenant}/checkpoint", scope="")
    assert answer.status_code == 404
    assert "without hyphens" in answer.json()["detail"]


def test_nothing_published_is_not_there(api: Api) -> None:
    """Given an account of which nothing was published, then 404."""
    assert get(api, "checkpoint").status_code == 404
    assert get(api, "tile/0/000.p/1").status_code == 404


def test_nothing_beyond_the_published_size_is_served(
    api: Api, instance: Instance, checkpoint: PublishedCheckpoint
) -> None:
    """Given events after the last checkpoint, then neither their hashes nor their entries are served."""
    grow(api.ledger, 2)
    width = checkpoint.size % 256
    for form in ("tile/0/001.p/{}", "tile/entries/001.p/{}"):
        assert get(api, form.format(width), scope="auditor").status_code == 200
        assert get(api, form.format(width + 1), scope="auditor").status_code == 404


def test_entries_are_for_auditors_of_the_account(api: Api, other: Api, checkpoint: PublishedCheckpoint) -> None:
    """Given an entry bundle, then it needs a key of this account with the scope; another account's finds nothing."""
    path = f"{prefix(api)}/tile/entries/000"
    assert api.call("GET", path, scope="").status_code == 401
    for scope in ("campaign", "officer"):
        assert api.call("GET", path, scope=scope).status_code == 403
    assert other.call("GET", path, scope="auditor").status_code == 404
    assert other.call("GET", path, scope="admin").status_code == 404
    answer = api.call("GET", path, scope="auditor")
    assert answer.status_code == 200
    assert answer.headers["cache-control"].startswith("private, ")


def test_entries_hash_to_the_tiles(api: Api, checkpoint: PublishedCheckpoint) -> None:
    """Given every bundle, then its entries are the leaves of the tree, up to the published size and no further."""
    proven = ProvenTiles(lambda *name: read(api, *name), checkpoint.size, checkpoint.root)
    index = 0
    for name in tiles_at(checkpoint.size):
        if name.level:
            continue
        content = get(api, TileName(ENTRIES, name.number, name.width).path(), scope="auditor").content
        for entry in unpack_entries(content, name.width):
            proven.require_leaf(index, leaf_hash(entry))
            index += 1
    assert index == checkpoint.size


def test_a_log_that_is_not_public_is_for_auditors(
    api: Api, other: Api, checkpoint: PublishedCheckpoint, private: None
) -> None:
    """Given LETHE_LOG_PUBLIC=false, then hashes and checkpoints need the auditor's key of the account as well."""
    for path in ("checkpoint", "tile/0/000", "tile/1/000.p/1"):
        assert get(api, path).status_code == 401
        assert get(api, path, scope="campaign").status_code == 403
        assert other.call("GET", f"{prefix(api)}/{path}", scope="auditor").status_code == 404
        assert get(api, path, scope="auditor").status_code == 200
    assert get(api, "tile/0/000", scope="auditor").headers["cache-control"].startswith("private, ")


def test_no_get_changes_anything(api: Api, instance: Instance, checkpoint: PublishedCheckpoint) -> None:
    """Given every GET of the log and a proof, then the log is as long as before (FAULTS 25)."""
    end = api.end_of_log()
    for path in ("checkpoint", "tile/0/000", "tile/entries/000"):
        get(api, path, scope="auditor")
    api.call("GET", "/v1/proofs/1", scope="auditor")
    assert api.end_of_log() == end


def test_a_changed_row_is_an_incident_and_no_bundle(
    api: Api, instance: Instance, checkpoint: PublishedCheckpoint
) -> None:
    """Given a row that a superuser changed, then its bundle and its proof are refused as an incident, others served."""
    with psycopg.connect(str(instance.settings.ledger_owner_url), autocommit=True) as owner:
        owner.execute(
            "UPDATE lethe.event "
            "SET entry = convert_to(replace(convert_from(entry, 'UTF8'), 'no_key', 'no_kex'), 'UTF8') "
            "WHERE tenant_id = %s AND position = 20",
            (api.ledger.tenant,),
        )
    for path in (f"{prefix(api)}/tile/entries/000", "/v1/proofs/20"):
        answer = api.call("GET", path, scope="auditor")
        assert (answer.status_code, answer.json()["type"]) == (500, "/docs#problem-incident")
    assert api.call("GET", "/v1/proofs/21", scope="auditor").status_code == 200


def test_a_tile_that_went_away_is_an_incident(api: Api, instance: Instance, checkpoint: PublishedCheckpoint) -> None:
    """Given a tile that a superuser deleted, then it is no 404, and no proof is made over it."""
    with psycopg.connect(str(instance.settings.ledger_owner_url), autocommit=True) as owner:
        owner.execute(
            "DELETE FROM lethe.log_tile WHERE tenant_id = %s AND level = 0 AND number = 0", (api.ledger.tenant,)
        )
    for path in (f"{prefix(api)}/tile/0/000", "/v1/proofs/20"):
        answer = api.call("GET", path, scope="auditor")
        assert (answer.status_code, answer.json()["type"]) == (500, "/docs#problem-incident")


@pytest.mark.parametrize(
    ("level", "path"),
    [(0, "tile/0/000"), (0, "tile/0/000.p/3"), (1, "tile/0/000"), (0, "tile/entries/000")],
    ids=["the tile", "its beginning", "the tile above", "row and tile"],
)
def test_a_tile_that_was_changed_is_an_incident_and_comes_into_no_cache(
    api: Api, instance: Instance, checkpoint: PublishedCheckpoint, level: int, path: str
) -> None:
    """Given a tile that does not lead to the signed root, then it is not served: a cache would keep it for a year,
    long after it was mended; with the row changed as well, there is no bundle either."""
    values = (api.ledger.tenant,)
    with psycopg.connect(str(instance.settings.ledger_owner_url), autocommit=True) as owner:
        if "entries" in path:
            owner.execute("UPDATE lethe.event SET entry = 'x' WHERE tenant_id = %s AND position = 1", values)
        owner.execute(
            "UPDATE lethe.log_tile SET hashes = sha256('\\x0078') || substring(hashes FROM 33) "
            f"WHERE tenant_id = %s AND level = {level} AND number = 0",
            values,
        )
    answer = api.call("GET", f"{prefix(api)}/{path}", scope="auditor")
    assert (answer.status_code, answer.json()["type"]) == (500, "/docs#problem-incident")
    assert "max-age" not in answer.headers.get("cache-control", "")


def test_with_a_policy_what_is_cosigned_is_served(
    api: Api,
    instance: Instance,
    checkpoint: PublishedCheckpoint,
    keys: list[VerifierKey],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Given a needed witness, then checkpoint, tiles and proofs are those of what it cosigned, and nothing before."""
    witness = Witness("witness.example/1", b"1" * 32, now=lambda: 1)
    monkeypatch.setattr(instance, "witnesses", WitnessPolicy.parse([f"{witness.key} http://127.0.0.1:9"], 1))
    assert get(api, "checkpoint").status_code == 404
    assert get(api, "tile/0/000").status_code == 404
    assert api.call("GET", "/v1/proofs/3", scope="auditor").status_code == 503
    assert api.call("GET", f"/v1/proofs/3?size={checkpoint.size}", scope="auditor").status_code == 503
    text = checkpoint.note.encode().partition(b"\n\n")[0] + b"\n"
    line = witness.cosigned(open_checkpoint(checkpoint.note.encode(), keys).checkpoint).decode().rstrip("\n")
    with instance.services.writer.connection() as connection:
        connection.execute(
            "INSERT INTO log_cosignature VALUES (%s, 1, %s, %s, %s, now())",
            (api.ledger.tenant, checkpoint.size, str(witness.key), line),
        )
    grow(api.ledger)
    newest = publish(instance, api.ledger)
    for content in (get(api, "checkpoint").content, TlogProof.parse(proof(api, 3)).checkpoint):
        assert content.startswith(text)
        open_checkpoint(content, keys, witnesses=[witness.key], witnesses_needed=1)
    assert get(api, f"tile/0/001.p/{newest.size % 256}").status_code == 404
    assert api.call("GET", f"/v1/proofs/{newest.size}", scope="auditor").status_code == 503
    assert api.call("GET", f"/v1/proofs/3?size={newest.size}", scope="auditor").status_code == 503
    proof(api, 3, f"?size={checkpoint.size}")


# Proofs -------------------------------------------------------------------------------------------------------------


def proof(api: Api, position: int, query: str = "") -> bytes:
    """A proof that must be had."""
    answer = api.call("GET", f"/v1/proofs/{position}{query}", scope="auditor")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    return answer.content


def entries(api: Api) -> Iterator[bytes]:
    """The entries of the log, from its rows."""
    yield from (event.state for event in api.ledger.log.select_log(1, 10_000))


def test_a_proof_verifies_for_its_entry_and_for_no_other(
    api: Api, checkpoint: PublishedCheckpoint, keys: list[VerifierKey]
) -> None:
    """Given proofs of several positions, then each proves its own entry, and refuses every other one."""
    held = list(entries(api))
    for position in (1, 2, 255, 256, 257, checkpoint.size):
        parsed = TlogProof.parse(proof(api, position))
        assert parsed.index == position - 1
        parsed.require_logged(held[position - 1], keys, origin=checkpoint.origin)
        with pytest.raises(Exception, match="does not lead"):
            parsed.require_logged(held[position % 7], keys)


def test_a_proof_under_an_older_checkpoint(
    api: Api, instance: Instance, checkpoint: PublishedCheckpoint, keys: list[VerifierKey]
) -> None:
    """Given an older size, then the proof is under its checkpoint; a size never published, or too small, is 404."""
    grow(api.ledger, 3)
    newest = publish(instance, api.ledger)
    old = TlogProof.parse(proof(api, 5, f"?size={checkpoint.size}"))
    assert old.checkpoint.decode() == checkpoint.note
    assert TlogProof.parse(proof(api, 5)).checkpoint.decode() == newest.note
    for position, size in ((5, newest.size - 1), (newest.size, checkpoint.size)):
        assert api.call("GET", f"/v1/proofs/{position}?size={size}", scope="auditor").status_code == 404
    for wrong in ("0", "x", "-1", "007", "1.5", ""):
        assert api.call("GET", f"/v1/proofs/5?size={wrong}", scope="auditor").status_code == 422


def test_what_is_not_published_yet_is_asked_for_again(
    api: Api, instance: Instance, checkpoint: PublishedCheckpoint
) -> None:
    """Given an event after the last checkpoint, then 503 says to ask again in a second; once published it is proven."""
    grow(api.ledger)
    end = api.end_of_log()
    answer = api.call("GET", f"/v1/proofs/{end}", scope="auditor")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    publish(instance, api.ledger)
    proof(api, end)


@pytest.mark.parametrize("position", ["0", "-1", "01", "1.0", "x", "9" * 18, "9" * 40, "847d087d" * 4])
def test_a_position_beyond_the_log_is_not_there(api: Api, checkpoint: PublishedCheckpoint, position: str) -> None:
    """Given what is no position of the log, then 404."""
    assert api.call("GET", f"/v1/proofs/{position}", scope="auditor").status_code == 404


def test_a_foreign_key_proves_nothing_of_this_account(
    api: Api, other: Api, instance: Instance, checkpoint: PublishedCheckpoint
) -> None:
    """Given another account's key, then its proof is of its own log (I10)."""
    theirs = publish(instance, other.ledger)
    assert TlogProof.parse(proof(other, 1)).checkpoint.decode() == theirs.note
    assert other.call("GET", f"/v1/proofs/{checkpoint.size}", scope="auditor").status_code == 404
