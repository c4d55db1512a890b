"""The OpenAPI 3.1 document, made of the operations. Names of operations and of schemas are stable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.http.bodies import JSON, NDJSON
from api.http.operation import Operation
from api.http.problems import CONTENT_TYPE
from api.http.routes.shapes import ProblemAnswer

VERSION: Final = "3.1.0"
REF_TEMPLATE: Final = "#/components/schemas/{model}"

IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A value of yours, such as a UUID. The same request with the same key is done once within 24 "
    "hours and answered again, with the header Idempotency-Replayed: true.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}

TAGS: Final = {
    "contacts": "Persons of an account: added, corrected, deleted.",
    "consents": "What persons said, with the evidence of it.",
    "campaigns": "What is to be sent, to whom it may be sent, and what became of it.",
    "permissions": "Advice about single addresses.",
    "feedback": "What mail providers report.",
    "suppressions": "Addresses that must not be mailed.",
    "records": "Support, billing, usage and logs, each kept as long as the account's policy says.",
    "rights": "Objection and restriction.",
    "erasures": "Forgetting persons.",
    "certificates": "Certificates of destruction.",
    "holds": "What must not be destroyed while a matter is open.",
    "events": "The audit trail.",
    "log": "The transparency log, by which others check the audit trail.",
    "registers": "What the account states about its processing, and records of processing (GDPR Art. 30).",
    "policy": "The policy that the account lives under, and how it is kept.",
    "account": "The end of an account, and taking it up again.",
}


def operation_details(operation: Operation) -> dict[str, Any]:
    """What FastAPI does not work out by itself, for `openapi_extra`."""
    details: dict[str, Any] = {
        "security": [{"apiKey": []}],
        "x-scopes": sorted(operation.scopes),
        "responses": {str(operation.status): _answer(operation), "default": _problem()},
    }
    parameters = [
        {
            "name": parameter.name,
            "in": parameter.place,
            "required": parameter.place == "path",
            "description": parameter.description,
            "schema": parameter.schema,
        }
        for parameter in operation.parameters
    ]
    if operation.keyed:
        parameters.append(dict(IDEMPOTENCY_KEY))
    if parameters:
        details["parameters"] = parameters
    if operation.body is not None:
        content = {JSON: {"schema": _ref(operation.body)}}
        if operation.ndjson is not None:
            content[NDJSON] = {"schema": _ref(operation.ndjson)}
        details["requestBody"] = {"required": True, "content": content}
    return details


def components(operations: Sequence[Operation]) -> dict[str, Any]:
    """The schemas of every body, row and answer, and how a key is sent."""
    bodies: dict[type[BaseModel], None] = {}
    answers: dict[type[BaseModel], None] = {ProblemAnswer: None}
    for operation in operations:
        bodies.update(dict.fromkeys(m for m in (operation.body, operation.ndjson, *operation.rows) if m))
        answers.update(dict.fromkeys(m for m in (operation.answer, operation.streamed) if m))
    _, schema = models_json_schema(
        [*((model, "validation") for model in bodies), *((model, "serialization") for model in answers)],
        ref_template=REF_TEMPLATE,
    )
    bearer = {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key of the account, made by `lethe apikey create`. Its scopes say what it may do.",
    }
    return {"schemas": schema["$defs"], "securitySchemes": {"apiKey": bearer}}


def _answer(operation: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {} if operation.answer is None else {JSON: {"schema": _ref(operation.answer)}}
    if operation.streamed is not None:
        content[NDJSON] = {"schema": _ref(operation.streamed)}
    for media_type in operation.media_types:
        content[media_type] = {"schema": {"type": "string", "format": "binary"}}
    told = operation.answer or operation.streamed
    said = (told.__doc__ if told else None) or operation.summary
    answer: dict[str, Any] = {"description": said.strip(), "content": content}
    if operation.keyed:
        answer["headers"] = {
            "Idempotency-Replayed": {
                "description": "`true` where an earlier request with this Idempotency-Key is answered again.",
                "schema": {"type": "string", "enum": ["true"]},
            }
        }
    return answer


def _problem() -> dict[str, Any]:
    return {"description": "A problem (RFC 9457).", "content": {CONTENT_TYPE: {"schema": _ref(ProblemAnswer)}}}


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REF_TEMPLATE.format(model=model.__name__)}
