"""An RFC 3161 timestamp authority for tests: keys and certificates of its own, and answers made by `openssl ts`.

`TimestampAuthority(folder)` makes both; `answer(query)` is what the authority would reply, and `serving()` replies on
127.0.0.1 the way authorities do (POST of `application/timestamp-query`). What a reader must refuse can be asked for:
a certificate of another purpose, one that is over, an answer with the whole chain, or that says not how exact it is.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

QUERY_TYPE = "application/timestamp-query"
REPLY_TYPE = "application/timestamp-reply"

CONFIG = """
[authority]
serial = {folder}/serial
default_policy = 1.3.6.1.4.1.13762.3
digests = sha256, sha512
signer_digest = sha256
ess_cert_id_alg = sha256
{accuracy}
"""


@dataclass
class TimestampAuthority:
    """A root, the authority's certificate under it, and how many answers were asked for over HTTP."""

    folder: Path
    name: str = "Test timestamps"
    accuracy: str = "secs:1, millisecs:500"
    chain: bool = False
    valid: tuple[timedelta, timedelta] = (timedelta(days=-1), timedelta(days=365))
    asked: list[bytes] = field(default_factory=list)
    down: bool = False
    """Answer nothing but 503, as an authority does that is not there for a while."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._one_at_a_time = threading.Lock()
        self._root_key, self._key = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())
        self._serial_number = x509.random_serial_number()
        start, root_name = datetime.now(UTC) - timedelta(days=30), _named(f"{self.name}, root")
        root = (
            _certificate(root_name, root_name, self._root_key, start, start + timedelta(days=3650))
            .serial_number(x509.random_serial_number())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .sign(self._root_key, SHA256())
        )
        accuracy = f"accuracy = {self.accuracy}" if self.accuracy else ""
        self._write("root.pem", root.public_bytes(Encoding.PEM))
        self._write("authority.pem", self.certificate().public_bytes(Encoding.PEM))
        self._write("authority.key", self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self._write("openssl.cnf", CONFIG.format(folder=self.folder, accuracy=accuracy).encode())
        self._write("serial", b"01\n")

    def certificate(self, purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.TIME_STAMPING) -> x509.Certificate:
        """The authority's certificate, or one like it that is for another purpose."""
        now = datetime.now(UTC)
        start, end = now + self.valid[0], now + self.valid[1]
        return (
            _certificate(_named(self.name), _named(f"{self.name}, root"), self._key, start, end)
            .serial_number(self._serial_number)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=True)
            .sign(self._root_key, SHA256())
        )

    @property
    def roots_pem(self) -> bytes:
        """What a reader who trusts this authority holds."""
        return (self.folder / "root.pem").read_bytes()

    def answer(self, query: bytes) -> bytes:
        """The authority's answer to a request, granted or not."""
        with self._one_at_a_time:
            self._write("query.tsq", query)
            command = ["openssl", "ts", "-reply", "-config", "openssl.cnf", "-section", "authority"]
            command += ["-queryfile", "query.tsq", "-signer", "authority.pem", "-inkey", "authority.key"]
            command += ["-out", "reply.tsr", *(["-chain", "root.pem"] if self.chain else [])]
            done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            return (self.folder / "reply.tsr").read_bytes()

    @contextmanager
    def serving(self) -> Iterator[str]:
        """The authority on 127.0.0.1; gives its URL."""
        authority = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                query = self.rfile.read(int(self.headers["Content-Length"]))
                authority.asked.append(query)
                reply = b"" if authority.down else authority.answer(query)
                right = self.headers["Content-Type"] == QUERY_TYPE
                self.send_response(503 if authority.down else 200 if right else 415)
                self.send_header("Content-Type", REPLY_TYPE)
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *_: object) -> None:
                """Tests need no access log."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def _write(self, name: str, content: bytes) -> None:
        (self.folder / name).write_bytes(content)


def _named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    return builder.not_valid_before(start).not_valid_after(end)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
