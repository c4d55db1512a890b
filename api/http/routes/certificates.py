"""Certificates of destruction, as JSON (what is signed) or as PDF (with the JSON inside)."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from pydantic import Field
from starlette.responses import Response

from api.http.bodies import Answer
from api.http.operation import AUDITOR, OFFICER, Call, Parameter, json_answer, operation
from api.http.problems import NOT_FOUND, RequestRefused
from ledger.application import Ledger
from retention.certificates.pdf import certificate_pdf
from retention.certificates.store import certificate, exported

PDF: Final = "application/pdf"


class SignedCertificate(Answer):
    """A certificate, its signature, and the list of keys that it names. It holds no personal data."""

    certificate: dict[str, Any] = Field(description="What is said. Its canonical bytes (RFC 8785) are signed.")
    signature: str = Field(description="Ed25519, hex.")
    public_key: str = Field(description="Compare it with the key that you know of this account.")
    destroyed_keys: dict[str, Any] | None = Field(
        description="The keys of this certificate's list by commitment, each with its path to the published root. "
        "Null until the day of the destruction is over."
    )


CERTIFICATE_ID = Parameter("id", "path", {"type": "string", "format": "uuid"}, "The certificate, or its erasure.")
OF_ERASURE = Parameter("id", "path", {"type": "string", "format": "uuid"}, "The erasure.")


@operation(
    "GET",
    "/v1/erasures/{id}/certificate",
    "getErasureCertificate",
    summary="Get the certificate of an erasure",
    tag="certificates",
    scopes=(OFFICER, AUDITOR),
    parameters=(OF_ERASURE,),
    answer=SignedCertificate,
    media_types=(PDF,),
)
async def get_erasure_certificate(call: Call) -> Response:
    """The certificate of an erasure, as soon as its keys are destroyed: stage 1 says that the data is unreachable,
    stage 2 that it is unrecoverable from the enumerated copies. Ask for `application/pdf` to get it on paper."""
    erasure_id = call.path_id("id")
    statuses = await call.run(call.ledger.erasures.status, erasure_id)
    if all(status.erasure_id != erasure_id for status in statuses):
        raise RequestRefused(NOT_FOUND, "There is no erasure with this id in this account.")
    return await _answer(call, erasure_id)


@operation(
    "GET",
    "/v1/certificates/{id}",
    "getCertificate",
    summary="Get a certificate of destruction",
    tag="certificates",
    scopes=(OFFICER, AUDITOR),
    parameters=(CERTIFICATE_ID,),
    answer=SignedCertificate,
    media_types=(PDF,),
)
async def get_certificate(call: Call) -> Response:
    """The certificate of an erasure or of a retention plan, in its newest revision. Ask for `application/pdf` to get it
    on paper."""
    return await _answer(call, call.path_id("id"))


async def _answer(call: Call, wanted: UUID) -> Response:
    held = await call.run(_held, call.ledger, wanted)
    if not _wants_pdf(call.request.headers.get("accept", "")):
        return json_answer(held)
    content = await call.run(certificate_pdf, held)
    name = f"certificate-{held['certificate']['id']}.pdf"
    return Response(content, 200, {"Content-Disposition": f'attachment; filename="{name}"'}, PDF)


def _held(ledger: Ledger, wanted: UUID) -> dict[str, Any]:
    return exported(ledger, certificate(ledger, wanted))


def _wants_pdf(accept: str) -> bool:
    """Whether PDF is named before JSON; who names neither gets JSON."""
    named = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    return next((one for one in named if one in (PDF, "application/json")), None) == PDF


OPERATIONS = (get_erasure_certificate, get_certificate)
