"""The documentation page: the OpenAPI document as one page of HTML that needs no script and loads nothing.

FastAPI's own pages pull scripts from elsewhere. This one works offline and under the strictest content policy: its
only style is inside it, allowed by its hash. Problem types point into it (`/docs#problem-…`).
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator, Sequence
from hashlib import sha256
from html import escape
from importlib import resources
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from api.http.openapi import TAGS
from api.http.problems import PROBLEM_TYPES
from domain.permission import RULES

STYLE: Final = (resources.files("api.http") / "static" / "docs.css").read_text()
POLICY: Final = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}'"
)
HEADERS: Final = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"

SAMPLES: Final[dict[str, Any]] = {
    "email": "anna@example.com",
    "emails": ["anna@example.com"],
    "recipients": ["anna@example.com"],
    "first_name": "Anna",
    "country": "DE",
    "purpose": "newsletter",
    "name": "Spring sale",
    "reason": "withdrew_consent",
    "set": {"last_name": "Berg"},
    "scope": "marketing",
    "message_id": "the message_id of an authorisation",
    "occurred_at": "2026-11-21T20:15:00Z",
    "evidence": {"method": "double_opt_in", "form": "sign-up page", "ip": "192.0.2.7"},
    "action": "grant",
    "kind": "delivered",
    "kinds": ["consent"],
    "event_id": "evt-1",
    "tracking_disclosed": True,
    "target": "person",
    "matter": "Example v. Acme",
    "owner": "Legal department",
    "review_on": "2027-02-20",
}
"""What the examples hold, by field; fields that are neither required nor here are left out."""

LEFT_OUT: Final = {
    "CampaignBody": {"kind"},
    "ConsentRow": {"occurred_at"},
    "HoldBody": {"campaigns", "periods"},
    "WidenBody": {"campaigns", "periods"},
}

Document = dict[str, Any]


def docs_endpoint(document: Callable[[], Document]) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint that serves the page; it is made once."""
    made: list[bytes] = []

    async def docs(_: Request) -> Response:
        if not made:
            made.append(page(document()).encode())
        return Response(made[0], media_type="text/html", headers=HEADERS)

    return docs


def page(document: Document) -> str:
    """The whole page."""
    operations = list(_operations(document))
    contents = _contents(operations)
    body = "".join(
        (
            _introduction(document),
            *(_section(document, tag, operations) for tag in TAGS),
            _schemas(document),
            _problems(),
            _rules(),
        )
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Lethe API</title><style>{STYLE}</style></head><body>"
        '<a class="skip" href="#main">Skip to content</a>'
        f'<div class="page"><nav aria-label="Contents"><details class="narrow"><summary>Contents</summary>{contents}'
        f'</details><div class="broad">{contents}</div></nav>'
        f'<main id="main">{body}</main></div></body></html>'
    )


def _operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def _contents(operations: list[tuple[str, str, Document]]) -> str:
    parts = ["<h2>Start</h2><ul><li><a href='#main'>Calling the API</a></li></ul>"]
    for tag in TAGS:
        links = "".join(
            f'<li><a href="#{operation["operationId"]}">{escape(operation["summary"])}</a></li>'
            for _, _, operation in operations
            if tag in operation["tags"]
        )
        parts.append(f"<h2>{escape(tag)}</h2><ul>{links}</ul>")
    parts.append(
        "<h2>Reference</h2><ul><li><a href='#shapes'>Shapes</a></li><li><a href='#problems'>Problems</a></li>"
        "<li><a href='#rules'>Rules</a></li><li><a href='/openapi.json'>OpenAPI 3.1 document</a></li></ul>"
    )
    return "".join(parts)


def _introduction(document: Document) -> str:
    return (
        f"<h1>{escape(document['info']['title'])} API</h1><p>{escape(document['info']['description'])}</p>"
        "<h4>Calling it</h4><p>Every call carries an API key of its account, made by <code>lethe apikey create</code>. "
        "Its scopes (campaign, officer, auditor, admin) say what it may do; a revoked key stops within five seconds. "
        "Bodies are JSON in UTF-8; where it says so, NDJSON takes any number of rows, one a line.</p>"
        "<pre tabindex='0'>curl https://lethe.example/v1/permissions/check \\\n"
        "  -H 'Authorization: Bearer lethe_…' -H 'Content-Type: application/json' \\\n"
        '  -d \'{"email": "anna@example.com", "purpose": "newsletter", "channel": "email"}\'</pre>'
        "<p>Errors are <a href='#problems'>problems</a> (RFC 9457). A POST or PATCH that carries an "
        "<code>Idempotency-Key</code> can be sent again after a lost connection: what was done is not done twice.</p>"
        "<p><code>GET /healthz</code>, <code>GET /readyz</code> and <code>GET /metrics</code> are for whoever runs "
        "the server and take no key.</p>"
    )


def _section(document: Document, tag: str, operations: list[tuple[str, str, Document]]) -> str:
    own = "".join(_operation(document, m, p, o) for m, p, o in operations if tag in o["tags"])
    return f'<h2 id="tag-{tag}">{escape(tag.capitalize())}</h2><p>{escape(TAGS[tag])}</p>{own}'


def _operation(document: Document, method: str, path: str, operation: Document) -> str:
    head = (
        f'<section class="operation" id="{operation["operationId"]}"><h3>{escape(operation["summary"])}</h3>'
        f'<p class="route"><span class="method {method}">{method}</span> <code>{escape(path)}</code></p>'
        f"<p>{escape(operation['description'])}</p>"
        f'<p class="facts">Scopes: {escape(", ".join(dict.fromkeys([*operation["x-scopes"], "admin"])))}'
        f"{' · takes Idempotency-Key' if _is_keyed(operation) else ''}</p>"
    )
    parts = [head]
    queries = [p for p in operation.get("parameters", ()) if p["in"] == "query"]
    if queries:
        rows = [(p["name"], _type(p["schema"]), escape(p["description"])) for p in queries]
        parts.append("<h4>Query</h4>" + _table(("Name", "Type", "Meaning"), rows))
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        what = "Body" if media_type == JSON else "or NDJSON, one a line"
        name = content["schema"]["$ref"].rpartition("/")[2]
        parts.append(f"<h4>{what}: {_link(name)}</h4>{_example(document, name, compact=media_type == NDJSON)}")
    for status, answer in operation["responses"].items():
        for media_type, content in answer["content"].items():
            if status == "default":
                continue
            if "$ref" not in content["schema"]:
                parts.append(f"<h4>or a file: {escape(media_type)}</h4>")
                continue
            what = f"Answer {status}" if media_type == JSON else "or NDJSON lines"
            parts.append(f"<h4>{what}: {_link(content['schema']['$ref'].rpartition('/')[2])}</h4>")
    parts.append("</section>")
    return "".join(parts)


def _is_keyed(operation: Document) -> bool:
    return any(p["name"] == "Idempotency-Key" for p in operation.get("parameters", ()))


def _schemas(document: Document) -> str:
    parts = ['<h2 id="shapes">Shapes</h2><p>Fields marked * are always there.</p>']
    for name, schema in sorted(document["components"]["schemas"].items()):
        required = schema.get("required", ())
        rows = [
            (field + (" *" if field in required else ""), _type(details), escape(details.get("description", "")))
            for field, details in sorted(schema.get("properties", {}).items(), key=lambda item: item[0] not in required)
        ]
        about = escape(" ".join(schema.get("description", "").split()))
        table = _table(("Field", "Type", "Meaning"), rows)
        parts.append(f'<section class="operation" id="shape-{name}"><h3>{name}</h3><p>{about}</p>{table}</section>')
    return "".join(parts)


def _problems() -> str:
    head = (
        '<h2 id="problems">Problems</h2><p>Every error is <code>application/problem+json</code> with type, title, '
        "status and detail; 422 names each place that is wrong under <code>errors</code>, and never what was sent.</p>"
    )
    parts = [head]
    for kind in PROBLEM_TYPES.values():
        parts.append(
            f'<section class="operation" id="problem-{kind.name}"><h3>{kind.status} {escape(kind.title)}</h3>'
            f"<p><code>{escape(kind.uri)}</code></p><p>{escape(kind.meaning)}</p></section>"
        )
    return "".join(parts)


def _rules() -> str:
    rows = [(name, escape(meaning)) for name, meaning in RULES.items()]
    about = "What a refusal or an allowance can name."
    return f'<h2 id="rules">Rules</h2><p>{about}</p>' + _table(("Rule", "Meaning"), rows)


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A table whose first column is code; the others are HTML already."""
    head = "".join(f"<th>{escape(h)}</th>" for h in heads)
    body = "".join(
        f"<tr><td><code>{escape(first)}</code></td>{''.join(f'<td>{cell}</td>' for cell in rest)}</tr>"
        for first, *rest in rows
    )
    return f'<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _link(name: str) -> str:
    return f'<a href="#shape-{name}">{name}</a>'


def _type(schema: Document) -> str:
    """A schema in a few words of HTML."""
    if "$ref" in schema:
        return _link(schema["$ref"].rpartition("/")[2])
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " or ".join(_type(option) for option in schema[union] if option.get("type") != "null")
    if "const" in schema:
        return f"<code>{escape(json.dumps(schema['const']))}</code>"
    if "enum" in schema:
        return " or ".join(f"<code>{escape(json.dumps(value))}</code>" for value in schema["enum"])
    kind = schema.get("type", "any value")
    if kind == "array":
        return "list of " + _type(schema.get("items", {}))
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return "object of " + _type(schema["additionalProperties"])
    return escape(str(schema.get("format", kind)))


def _example(document: Document, name: str, *, compact: bool) -> str:
    sample = _sample(document, name)
    text = json.dumps(sample, ensure_ascii=False, indent=None if compact else 2)
    return f'<pre tabindex="0">{escape(text)}</pre>'


def _sample(document: Document, name: str) -> Any:
    schema = document["components"]["schemas"][name]
    sample = {}
    required = schema.get("required", ())
    for field, details in sorted(schema.get("properties", {}).items(), key=lambda item: item[0] not in required):
        if field in LEFT_OUT.get(name, ()):
            continue
        if field in SAMPLES:
            sample[field] = SAMPLES[field]
        elif "$ref" in details.get("items", {}):
            sample[field] = [_sample(document, details["items"]["$ref"].rpartition("/")[2])]
        elif "const" in details:
            sample[field] = details["const"]
    return sample
