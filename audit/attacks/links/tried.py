"""What is tried with an address: every hash that somebody could have made of it, and what kept tokens give."""

from __future__ import annotations

import hashlib
import hmac
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import combinations
from typing import Any

import orjson

from audit.attacks.links.graph import Value
from audit.attacks.links.values import BYTES_MIN, ID_BYTES
from domain.address import canonical_address
from ledger.errors import InvalidToken
from ledger.links import parse_token
from ledger.sealing import NONCE_BYTES


def start_of(
    address: str, fingerprints: Iterable[bytes], known: Iterable[Value], secrets: Sequence[bytes]
) -> dict[Value, str]:
    """Values to start from, each with how it was made. `known` are those that anything shows."""
    canonical = canonical_address(address)
    start: dict[Value, str] = {("text", text): "the address itself" for text in (address, address.strip(), canonical)}
    for fingerprint in fingerprints:
        start["bytes", fingerprint] = "its fingerprint"
    for guess, how in hashes_of(address, canonical, known, secrets):
        start.setdefault(guess, how)
    return start


def fingerprints_of(address: str, peppers: Iterable[bytes]) -> list[bytes]:
    """The fingerprints of an address under each pepper."""
    canonical = canonical_address(address).encode()
    return [hashlib.blake2b(canonical, key=pepper, digest_size=16).digest() for pepper in peppers]


def hashes_of(
    address: str, canonical: str, known: Iterable[Value], secrets: Sequence[bytes]
) -> Iterator[tuple[Value, str]]:
    """Values of the graph that are some hash, plain or keyed, of the address or of a request that holds it."""
    heads, tails = defaultdict(list), defaultdict(list)
    for kind, held in known:
        if kind == "bytes":
            heads[held[:BYTES_MIN]].append(held)
            if len(held) == ID_BYTES:
                tails[held[-7:]].append(held)
    for digest, how in digests_of(address, canonical, secrets):
        for held in heads.get(digest[:BYTES_MIN], ()):
            if held == digest[: len(held)]:
                yield ("bytes", held), how
        # In a UUID the version and variant bits, and perhaps the time, took the place of some of the hash.
        for held in (*tails.get(digest[9:16], ()), *tails.get(digest[3:10], ())):
            yield ("bytes", held), f"{how}, as an id"


def digests_of(address: str, canonical: str, secrets: Sequence[bytes]) -> Iterator[tuple[bytes, str]]:
    """Every hash, plain or keyed with one of these secrets, that somebody could have made of an address."""
    spellings = list(dict.fromkeys([address, address.lower(), canonical]))
    inputs = [text.encode() for text in spellings]
    for text in spellings:
        shapes: tuple[Any, ...] = ([[text, None]], [text], {"email": text}, {"emails": [text]}, {"recipients": [text]})
        inputs += [orjson.dumps(shape) for shape in shapes]
    for data in inputs:
        for algorithm in ("sha256", "sha1", "md5", "sha512", "sha3_256", "blake2s"):
            yield hashlib.new(algorithm, data, usedforsecurity=False).digest(), f"{algorithm} of the address"
        for size in (10, 12, 16, 20, 32, 64):
            yield hashlib.blake2b(data, digest_size=size).digest(), "BLAKE2b of the address"
            for secret in secrets:
                yield hashlib.blake2b(data, key=secret, digest_size=size).digest(), "keyed BLAKE2b of the address"
        for secret in secrets:
            yield hmac.digest(secret, data, "sha256"), "HMAC of the address"
        for body in (b"", *inputs):  # A part of a request is hashed under the hash of the whole of it.
            whole = hashlib.blake2b(body, digest_size=32).digest()
            request = hashlib.blake2b(data, key=whole, digest_size=32).digest()
            for digest in (
                request,
                *(_kept_request(whole, s) for s in secrets),
                *(_kept_request(request, s) for s in secrets),
            ):
                yield digest, "the hash of a request with the address"
    for text in spellings:
        for space in (uuid.NAMESPACE_DNS, uuid.NAMESPACE_URL, uuid.NAMESPACE_OID, uuid.NAMESPACE_X500):
            yield uuid.uuid5(space, text).bytes, "UUIDv5 of the address"
            yield uuid.uuid3(space, text).bytes, "UUIDv3 of the address"


def pairs_of_nonces(tokens: Sequence[str]) -> Iterator[Value]:
    """What two tokens of one message stream give without any key: the sum of their nonces."""
    nonces = []
    for token in tokens:
        with suppress(InvalidToken):
            nonces.append(parse_token(token)[1][3 : 3 + NONCE_BYTES])
    for one, other in combinations(nonces, 2):
        total = bytes(a ^ b for a, b in zip(one, other, strict=True))
        yield from (("bytes", total[:size]) for size in range(BYTES_MIN, NONCE_BYTES + 1))


def _kept_request(request: bytes, secret: bytes) -> bytes:
    """What `ledger/idempotency.py` keeps of a request, if this is the tenant's key for it."""
    return hashlib.blake2b(request, key=secret[:64], digest_size=32, person=b"lethe.idr.v1").digest()
