"""Proofs of events over HTTP: C2SP tlog-proof texts, for auditors and officers of the account."""

from __future__ import annotations

import re
from typing import Final

from starlette.responses import Response

from api.http.operation import AUDITOR, OFFICER, Call, Parameter, operation
from api.http.problems import INVALID, NOT_FOUND, UNAVAILABLE, RequestRefused
from audit.log.errors import NotPublishedYet
from audit.log.proofs import TLOG_PROOF, prove
from audit.log.reading import reading

NOT_YET_SECONDS: Final = 1
"""When to ask again for what is not published yet: the sequencer publishes within a second."""

_NUMBER: Final = re.compile(r"[1-9][0-9]{0,17}")


@operation(
    "GET",
    "/v1/proofs/{position}",
    "proveEvent",
    summary="Prove that an event is in the log",
    tag="log",
    scopes=(AUDITOR, OFFICER),
    answer=None,
    media_types=(TLOG_PROOF.partition(";")[0],),
    parameters=(
        Parameter("position", "path", {"type": "integer", "minimum": 1}, "The event's position in the log."),
        Parameter(
            "size",
            "query",
            {"type": "integer", "minimum": 1},
            "Prove it under the checkpoint of this size; without it, under the newest that is served.",
        ),
    ),
)
async def prove_event(call: Call) -> Response:
    """A C2SP tlog-proof: the event's index in the log, the hashes that lead from its entry to the root, and the signed
    checkpoint with the cosignatures of witnesses. It can be checked offline, with other software than ours, by whoever
    has the entry and the log's verifier key. An event that is not published yet is answered with 503 and Retry-After.
    """
    position = _number(call.request.path_params["position"])
    if position is None:
        raise RequestRefused(NOT_FOUND, "A position is a number from 1 on.")
    asked = call.request.query_params.get("size")
    size = None if asked is None else _number(asked)
    if asked is not None and size is None:
        raise RequestRefused(INVALID, "A size is a number from 1 on.")
    try:
        content = await call.run(_proof, call, position, size)
    except NotPublishedYet as not_yet:
        raise RequestRefused(UNAVAILABLE, str(not_yet), headers={"Retry-After": str(NOT_YET_SECONDS)}) from None
    return Response(content, headers={"Content-Type": TLOG_PROOF})


def _proof(call: Call, position: int, size: int | None) -> bytes:
    instance, tenant = call.desk.instance, call.caller.tenant
    with reading(instance.services.reader, tenant) as connection:
        return prove(connection, tenant, position, policy=instance.witnesses, size=size).format()


def _number(text: str) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) else None


OPERATIONS = (prove_event,)
