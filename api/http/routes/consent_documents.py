"""Consent records and receipts over HTTP (ISO/IEC TS 27560:2023). The address stands in the body, never in a URL."""

from __future__ import annotations

from pydantic import Field
from starlette.responses import Response

from api.consent_documents import LD_JSON, Kind, consent_document
from api.http.bodies import Body, Email, Purpose
from api.http.operation import AUDITOR, OFFICER, Call, operation
from api.http.routes.events import OPENERS


class ConsentDocumentBody(Body):
    """Whose words on consent, and on which purpose; on all without one."""

    email: Email
    purpose: Purpose | None = Field(default=None, description="One purpose only.")


@operation(
    "POST",
    "/v1/consents/records",
    "makeConsentRecords",
    summary="Make the consent records of a person",
    tag="consents",
    scopes=(OFFICER, AUDITOR),
    body=ConsentDocumentBody,
    answer=None,
    media_types=(LD_JSON,),
)
async def make_records(call: Call) -> Response:
    """What one person said on consent, one record for each purpose and channel, as JSON-LD in the Data Privacy
    Vocabulary: requests, grants, refusals and withdrawals with their times, their methods and their positions in the
    log. Officers see what was shown to the person; auditors see that it is there. Each look is recorded."""
    return await _answer(call, "record", opened=call.caller.may(OPENERS))


@operation(
    "POST",
    "/v1/consents/receipts",
    "makeConsentReceipt",
    summary="Make a consent receipt",
    tag="consents",
    scopes=(OFFICER,),
    body=ConsentDocumentBody,
    answer=None,
    media_types=(LD_JSON,),
)
async def make_receipt(call: Call) -> Response:
    """The same for the person themselves: a receipt under a random id, whose digest the log keeps."""
    return await _answer(call, "receipt", opened=True)


async def _answer(call: Call, kind: Kind, *, opened: bool) -> Response:
    body, _ = await call.body()
    made = await call.run(
        consent_document,
        call.desk.instance,
        call.ledger,
        kind,
        body.email,
        purpose=body.purpose,
        opened=opened,
        actor=call.actor,
    )
    headers = {"Content-Disposition": f'attachment; filename="consent-{kind}.jsonld"'}
    return Response(made.content, 200, headers, LD_JSON)


OPERATIONS = (make_records, make_receipt)
