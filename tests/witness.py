"""A small witness, as C2SP tlog-witness describes it, on 127.0.0.1: it cosigns what continues what it cosigned before.

It keeps its own state and checks everything with the verifier's own code; tests tell it which logs it knows, and may
let it misbehave. It is up for the length of a `with` block, and its thread ends with it.
"""

from __future__ import annotations

import re
import threading
from base64 import b64decode
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from nacl.bindings import crypto_sign, crypto_sign_BYTES, crypto_sign_seed_keypair

from audit.verify.checkpoint import Checkpoint
from audit.verify.cosignature import cosigned_message
from audit.verify.errors import ProofRefused, VerificationRefused
from audit.verify.merkle import require_consistent
from audit.verify.note import COSIGNATURE, Signature, VerifierKey, open_note

BODY_BYTES_MAX = 64 * 1024
_OLD = re.compile(r"old (0|[1-9][0-9]*)")


@dataclass
class Reply:
    """What the witness answers."""

    status: int
    body: bytes = b""
    media_type: str = "text/plain"
    headers: dict[str, str] = field(default_factory=dict)


class Witness:
    """One witness: its key, the logs it knows, and the last checkpoint that it cosigned of each."""

    def __init__(self, name: str, seed: bytes, *, now: Callable[[], float]) -> None:
        public, self._secret = crypto_sign_seed_keypair(seed)
        self.key = VerifierKey(name, COSIGNATURE, public)
        self.logs: dict[str, list[VerifierKey]] = {}
        self.held: dict[str, Checkpoint] = {}
        self.asked: list[bytes] = []
        self.misbehave: Callable[[bytes], Reply | None] = lambda _: None
        self._now = now
        self._lock = threading.Lock()

    def trust(self, origin: str, keys: Iterable[str]) -> None:
        """Know a log by its origin and its keys."""
        self.logs[origin] = [VerifierKey.parse(key) for key in keys]

    def add_checkpoint(self, body: bytes) -> Reply:
        """What the specification says to a request, in its order."""
        with self._lock:
            self.asked.append(body)
            return self.misbehave(body) or self._answer(body)

    def cosigned(self, checkpoint: Checkpoint) -> bytes:
        """The line of a cosignature, now."""
        time = int(self._now()).to_bytes(8, "big")
        signature = crypto_sign(cosigned_message(checkpoint.body(), time), self._secret)[:crypto_sign_BYTES]
        return Signature(self.key.name, self.key.key_id, time + signature).line()

    def _answer(self, body: bytes) -> Reply:
        head, gap, signed = body.partition(b"\n\n")
        lines = head.decode().split("\n")
        found = _OLD.fullmatch(lines[0])
        if not gap or found is None:
            return Reply(400)
        old_size, proof = int(found[1]), [b64decode(line, validate=True) for line in lines[1:]]
        origin = signed.decode().split("\n")[0]
        if origin not in self.logs:
            return Reply(404)
        try:
            checkpoint = Checkpoint.parse(open_note(signed, self.logs[origin]).text)
        except VerificationRefused:
            return Reply(403)
        if old_size > checkpoint.size:
            return Reply(400)
        return self._continued(checkpoint, old_size, proof)

    def _continued(self, checkpoint: Checkpoint, old_size: int, proof: list[bytes]) -> Reply:
        held = self.held.get(checkpoint.origin)
        size = 0 if held is None else held.size
        if old_size != size:
            return Reply(409, f"{size}\n".encode(), "text/x.tlog.size")
        if held is not None and checkpoint.size == held.size and checkpoint.root != held.root:
            return Reply(409, f"{size}\n".encode(), "text/x.tlog.size")
        if held is not None:
            try:
                require_consistent(held.size, held.root, checkpoint.size, checkpoint.root, proof)
            except ProofRefused:
                return Reply(422)
        elif proof:
            return Reply(422)
        self.held[checkpoint.origin] = checkpoint
        return Reply(200, self.cosigned(checkpoint))


class running_witness:  # noqa: N801  Used as a function.
    """A witness that listens for the length of a block; `url` is where."""

    def __init__(self, witness: Witness) -> None:
        self.witness = witness
        self._server: ThreadingHTTPServer | None = None

    @property
    def line(self) -> str:
        """What LETHE_WITNESSES takes."""
        return f"{self.witness.key} {self.url}"

    @property
    def url(self) -> str:
        """Its submission prefix."""
        assert self._server is not None
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self.witness))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()


def _handler(witness: Witness) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Takes `add-checkpoint` and nothing else."""

        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            """Answer one request."""
            length = int(self.headers.get("Content-Length", "0"))
            body = self.rfile.read(min(length, BODY_BYTES_MAX))
            reply = witness.add_checkpoint(body) if self.path == "/add-checkpoint" else Reply(404)
            self.send_response(reply.status)
            for name, value in {"Content-Type": reply.media_type, **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  The name of the base class.
            """Say nothing."""

    return Handler
