"""Bodies as attackers and clumsy clients send them (FAULTS 22): a clear problem, nothing done, nothing repeated."""

from __future__ import annotations

import json
import socket
import time
from urllib.parse import urlsplit

import pytest

from api.http import limits
from api.http.strict_json import DEPTH_MAX, MalformedJson, parse_json
from tests.api.conftest import Api

CONTACT = b'{"contacts":[{"email":"anna@example.com"}]}'
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "breaks off"),
        (b"{", "breaks off"),
        (b'{"a":1,"a":2}', "twice"),
        (b'{"a":{"b":1,"b":1}}', "twice"),
        (b'{"a":NaN}', "NaN"),
        (b"[-Infinity]", "Infinity"),
        (b"[1e999]", "larger"),
        (b"[" + b"9" * 5000 + b"]", "too long"),
        (b"[" * 100_000, "too deeply"),
        (b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1), "levels"),
        ('{"a":"ä"}'.encode("latin-1"), "UTF-8"),
        ('{"a":1}'.encode("utf-16"), "UTF-8"),
        (b'{"a":"\\ud800"}', "half a character"),
        (b'{"a":"\x01"}', "control character"),
        (b"{'a':1}", "breaks off"),
        (b"{} {}", "extra data"),
    ],
)
def test_strict_json_refuses(raw: bytes, said: str) -> None:
    """Whatever two readers could understand differently, or that cannot be stored, is refused."""
    with pytest.raises(MalformedJson, match=said):
        parse_json(raw)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'\xef\xbb\xbf{"a":1}', {"a": 1}),
        ('{"a":"\u00e4\U0001f600"}'.encode(), {"a": "\u00e4\U0001f600"}),
        (b'{"a":"\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        (b"[" * DEPTH_MAX + b"]" * DEPTH_MAX, None),
        (b"1.5", 1.5),
    ],
)
def test_strict_json_accepts(raw: bytes, value: object) -> None:
    """What every reader understands alike is taken, a byte order mark and escaped pairs included."""
    parsed = parse_json(raw)
    assert value is None or parsed == value


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b'{"contacts":[],"contacts":[]}', JSON, 400),
        (b"not json anna@example.com", JSON, 400),
        ('{"contacts":[{"email":"änna@example.com"}]}'.encode("latin-1"), JSON, 400),
        (CONTACT, {"Content-Type": "application/json; charset=latin-1"}, 400),
        (CONTACT, {"Content-Type": "text/plain"}, 415),
        (CONTACT, {}, 415),
        (CONTACT, {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        (CONTACT, JSON | {"Content-Encoding": "gzip"}, 415),
        (b'["anna@example.com"]', JSON, 422),
        (b'{"contacts":[]}', JSON, 422),
        (b'{"contacts":{}}', JSON, 422),
        (b'{"kontakte":[]}', JSON, 422),
        (CONTACT, JSON | {"Idempotency-Key": ""}, 400),
        (CONTACT, JSON | {"Idempotency-Key": "x" * 256}, 400),
    ],
)
def test_refuses_a_body_and_repeats_nothing(api: Api, content: bytes, headers: dict[str, str], status: int) -> None:
    """Status, media type and a detail that says what to do; never a piece of the body."""
    end = api.end_of_log()
    answer = api.call("POST", "/v1/contacts", content=content, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["type"].startswith("/docs#problem-")
    assert "anna@" not in answer.text
    assert "kontakte" not in json.dumps(problem.get("errors", []))
    assert api.end_of_log() == end


def test_charset_utf_8_is_fine(api: Api) -> None:
    """Saying that JSON is in UTF-8 is needless and harmless."""
    headers = {"Content-Type": 'Application/JSON; charset="UTF-8"'}
    assert api.call("POST", "/v1/contacts", content=CONTACT, headers=headers).json()["added"] == 1


def test_unknown_names_in_errors_are_masked(api: Api) -> None:
    """A client may write an address where a name belongs; the problem does not repeat it."""
    body = {"email": "a@example.com", "set": {"anna@example.com": "x", "custom": {"bert@example.com": 7}}}
    answer = api.call("PATCH", "/v1/contacts", body)
    assert answer.status_code == 422
    assert "example.com" not in answer.text
    assert {error["location"] for error in answer.json()["errors"]} == {"/set/…", "/set/custom/…"}


def raw_request(api: Api, head: list[str], *pieces: bytes, pause_seconds: float = 0.0) -> bytes:
    """What comes back for bytes sent by hand."""
    url = urlsplit(api.base_url)
    assert url.hostname is not None
    lines = [*head, "Host: lethe", f"Authorization: Bearer {api.key('admin')}", "Content-Type: application/json"]
    with socket.create_connection((url.hostname, url.port or 80), timeout=60) as connection:
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
        for piece in pieces:
            time.sleep(pause_seconds)
            connection.sendall(piece)
        connection.settimeout(60)
        received = connection.recv(65536)
        while b"\r\n\r\n" not in received or not received.endswith(b"}"):
            more = connection.recv(65536)
            if not more:
                break
            received += more
        return received


def test_refuses_a_body_that_says_it_is_too_large(api: Api) -> None:
    """By Content-Length, before a byte of it is read."""
    head = ["POST /v1/contacts HTTP/1.1", "Content-Length: 999999999999"]
    assert raw_request(api, head).startswith(b"HTTP/1.1 413")


def test_refuses_a_body_that_turns_out_too_large(api: Api) -> None:
    """In chunks, without a Content-Length, the bytes are counted as they come."""
    head = ["POST /v1/contacts HTTP/1.1", "Transfer-Encoding: chunked"]
    mebibyte = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    assert raw_request(api, head, *[mebibyte] * 17).startswith(b"HTTP/1.1 413")


def test_takes_a_body_in_small_pieces(api: Api) -> None:
    """A slow client is served, as long as it is not too slow."""
    head = ["POST /v1/contacts HTTP/1.1", f"Content-Length: {len(CONTACT)}"]
    pieces = [CONTACT[at : at + 10] for at in range(0, len(CONTACT), 10)]
    received = raw_request(api, head, *pieces, pause_seconds=0.01)
    assert received.startswith(b"HTTP/1.1 200")
    assert b'"added":1' in received


def test_gives_up_on_a_body_that_stalls(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that never comes is a 408, and nothing was done."""
    monkeypatch.setattr(limits, "BODY_SECONDS_MAX", 0.2)
    head = ["POST /v1/contacts HTTP/1.1", f"Content-Length: {len(CONTACT)}"]
    assert raw_request(api, head, CONTACT[:10]).startswith(b"HTTP/1.1 408")


def test_what_is_no_http_is_a_problem_too(api: Api) -> None:
    """The server's own refusal has the same form as all others."""
    url = urlsplit(api.base_url)
    assert url.hostname is not None
    with socket.create_connection((url.hostname, url.port or 80), timeout=60) as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        received = connection.recv(65536)
    assert received.startswith(b"HTTP/1.1 400")
    assert b"application/problem+json" in received


def test_a_line_that_is_too_long_costs_only_itself(api: Api) -> None:
    """Lines of an NDJSON body are bounded, however the pieces fall, and the next line is read again."""
    content = b'{"email":"a@example.com"}\n"' + b"x" * 200_000 + b'"\n{"email":"b@example.com"}\n"' + b"y" * 70_000
    answer = api.post("/v1/contacts", None, content=content, headers={"Content-Type": "application/x-ndjson"})
    assert answer["added"] == 2
    assert [(row["index"], "longer than" in row["reason"]) for row in answer["rejected"]] == [(1, True), (3, True)]
