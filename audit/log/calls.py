"""The one way out of this house: a POST to an address that the settings name, with every side of it bounded.

Witnesses and timestamp authorities are called here and nowhere else (urllib3). What they say is believed only where
its signature is good, so their addresses may be plain HTTP. A redirect is not followed: an answer cannot lead this
program to a place that nobody configured. Proxies from the environment are not used.

A silence is bounded by the socket's timeout, and the whole call by a watch that closes the socket: whoever drips
headers, a body or trailers would otherwise hold the one thread that asks for every account.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util import Timeout

from audit.log.errors import NoAnswer
from ledger.errors import SettingsRefused

CONNECT_SECONDS_MAX: Final = 5.0
SILENCE_SECONDS_MAX: Final = 10.0
"""The longest silence of whoever is called."""

ANSWER_SECONDS_MAX: Final = 20.0
"""Who needs it: an authority that signs by hand of a slow device; whoever drips bytes for longer is given up."""

URL_CHARACTERS_MAX: Final = 2_000
PIECE_BYTES: Final = 16_384


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered: the status, the media type without its parameters, in lower case, and the body."""

    status: int
    media_type: str
    body: bytes


Post = Callable[[str, str, bytes, int], Answer]
"""URL, media type, body, and how many bytes are read at most. Raises `NoAnswer`."""


def checked_url(url: str, setting: str) -> str:
    """An address that may be called. Raises `SettingsRefused` for any that is no plain HTTP address of a host."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # Raises for a port that is none.
    except ValueError:
        raise SettingsRefused(f"{setting} holds an address that cannot be read.") from None
    sound = parts.scheme in ("http", "https") and parts.hostname and len(url) <= URL_CHARACTERS_MAX
    if not sound or not url.isascii() or any(c.isspace() for c in url):
        raise SettingsRefused(f"{setting} holds an address that is not http:// or https:// and a host.")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise SettingsRefused(f"{setting}: an address may hold no user name, password, query or fragment.")
    return url.rstrip("/")


class Caller:
    """Makes calls; keeps a connection to each host between them."""

    def __init__(self) -> None:
        timeout = Timeout(connect=CONNECT_SECONDS_MAX, read=SILENCE_SECONDS_MAX)
        self._pool = urllib3.PoolManager(timeout=timeout, headers={"User-Agent": "lethe"})
        self._pool.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}

    def __call__(self, url: str, media_type: str, body: bytes, bytes_max: int) -> Answer:
        """POST. Raises `NoAnswer` where nothing came, or too much, or too slowly."""
        late = NoAnswer(f"The answer did not end within {ANSWER_SECONDS_MAX:.0f} seconds.")
        with _Watch() as watch:
            try:
                answer = self._asked(url, media_type, body, bytes_max)
            except NoAnswer as failed:
                raise (late if watch.late else failed) from None
        if watch.late:  # A body that says no length ends rightly where its socket was closed.
            raise late
        return answer

    def _asked(self, url: str, media_type: str, body: bytes, bytes_max: int) -> Answer:
        try:
            response = self._pool.request(
                "POST",
                url,
                body=body,
                headers={"Content-Type": media_type, "User-Agent": "lethe"},
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise NoAnswer(f"No answer: {type(error).__name__}.") from None
        try:
            held = _bounded(response, bytes_max)
        except urllib3.exceptions.HTTPError as error:
            raise NoAnswer(f"The answer broke off: {type(error).__name__}.") from None
        finally:
            response.close()
        said = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return Answer(response.status, said, held)


def _bounded(response: urllib3.BaseHTTPResponse, bytes_max: int) -> bytes:
    held = bytearray()
    while piece := response.read1(PIECE_BYTES):
        held += piece
        if len(held) > bytes_max:
            raise NoAnswer(f"The answer is longer than {bytes_max:,} bytes.")
    return bytes(held)


_CALLING: Final = threading.local()
"""The watch over the call that this thread makes."""


@dataclass(slots=True)
class _Watch:
    """Closes the socket of a call that lasts too long; `late` says that it did."""

    late: bool = False
    _socket: socket.socket | None = None
    _timer: threading.Timer = field(init=False)

    def __enter__(self) -> Self:
        _CALLING.watch = self
        self._timer = threading.Timer(ANSWER_SECONDS_MAX, self._give_up)
        self._timer.daemon = True
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        _CALLING.watch = None

    def over(self, connected: socket.socket | None) -> None:
        """Watch over this socket."""
        self._socket = connected
        if self.late:
            self._close()

    def _give_up(self) -> None:
        self.late = True
        self._close()

    def _close(self) -> None:
        if self._socket is not None:
            with suppress(
                OSError
            ):  # It may be gone already. The method of plain sockets leaves the state of TLS alone.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class _Connection(HTTPConnection):
    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]  # As urllib3 has it itself.
        _CALLING.watch.over(self.sock)
        return super().getresponse()


class _SecureConnection(HTTPSConnection):
    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]  # As urllib3 has it itself.
        _CALLING.watch.over(self.sock)
        return super().getresponse()


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection
