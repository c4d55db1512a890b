"""Records of processing (GDPR Art. 30): what an account states, beside what was observed, as of any day."""

from __future__ import annotations

import re
from datetime import date
from typing import Final, cast

from starlette.responses import Response

from api.http.bodies import JSON, Answer
from api.http.forms import form_of
from api.http.operation import AUDITOR, OFFICER, Call, Parameter, json_answer, operation
from api.http.problems import INVALID, RequestRefused
from api.processing import difference_of, record_of
from api.record_forms import FORMS, RecordForm, file_name
from api.records_page import CONTENT_POLICY
from audit.asof.moments import MEANINGS, Meaning
from audit.records.model import Change, RecordsOfProcessing

MEANING: Final = Parameter(
    "meaning",
    "query",
    {"type": "string", "enum": list(MEANINGS)},
    "recorded (the default): as the ledger knew it by then. occurred: as it was true by then.",
)

_is_day = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII).fullmatch

OFFERED: Final = (("json", JSON), *((name, form.media_type) for name, form in FORMS.items()))


class ProcessingRecordAnswer(Answer):
    """A record of processing: what was declared, what was observed, and the findings."""

    record: RecordsOfProcessing


class ProcessingDifferenceAnswer(Answer):
    """What changed in a record of processing between two days."""

    earlier: date
    later: date
    meaning: str
    changes: list[Change]


@operation(
    "GET",
    "/v1/processing-records",
    "getProcessingRecord",
    summary="Show the record of processing",
    tag="registers",
    scopes=(OFFICER, AUDITOR),
    answer=ProcessingRecordAnswer,
    parameters=(
        Parameter("as_of", "query", {"type": "string", "format": "date"}, "The day (to its end, UTC); today without."),
        MEANING,
        Parameter("format", "query", {"type": "string", "enum": ["json", *FORMS]}, "Instead of an Accept header."),
    ),
    media_types=tuple(form.media_type.partition(";")[0] for form in FORMS.values()),
)
async def show_record(call: Call) -> Response:
    """The record of processing activities (GDPR Art. 30) as of any day: what was declared beside what the ledger
    observed, with findings where they differ. `counted_to` says how far the log was counted. It can be had as a page,
    as CSV files in a zip, as a workbook, as PDF and as JSON-LD (DPV): by the Accept header, or by `format`."""
    form = form_of(call.request, OFFERED, usual="json")
    made = await call.run(_record, call, _day(call, "as_of"), _meaning(call))
    if form == "json":
        return json_answer({"record": made})
    chosen = FORMS[cast(RecordForm, form)]
    headers = {"Vary": "Accept", "Cache-Control": "no-store"}
    if form == "html":
        headers["Content-Security-Policy"] = CONTENT_POLICY
    else:
        headers["Content-Disposition"] = f'attachment; filename="{file_name(made, cast(RecordForm, form))}"'
    return Response(await call.run(chosen.render, made), 200, headers, chosen.media_type)


@operation(
    "GET",
    "/v1/processing-records/difference",
    "compareProcessingRecords",
    summary="Compare the record of processing of two days",
    tag="registers",
    scopes=(OFFICER, AUDITOR),
    answer=ProcessingDifferenceAnswer,
    parameters=(
        Parameter("earlier", "query", {"type": "string", "format": "date"}, "A day. Needed."),
        Parameter("later", "query", {"type": "string", "format": "date"}, "A later day; today without."),
        MEANING,
    ),
)
async def compare_records(call: Call) -> Response:
    """What was declared, amended and retired between two days, and what was observed in the meantime."""
    earlier = _day(call, "earlier")
    if earlier is None:
        raise RequestRefused(INVALID, "Say from which day: earlier=YYYY-MM-DD.")
    meaning, later = _meaning(call), _day(call, "later")
    found = await call.run(
        difference_of, call.desk.instance, call.ledger, earlier, later, meaning=meaning, actor=call.actor
    )
    answer = {"earlier": found.earlier.on, "later": found.later.on, "meaning": meaning, "changes": found.changes}
    return json_answer(answer)


def _record(call: Call, on: date | None, meaning: Meaning) -> RecordsOfProcessing:
    return record_of(call.desk.instance, call.ledger, as_of=on, meaning=meaning, actor=call.actor)


def _day(call: Call, name: str) -> date | None:
    text = call.request.query_params.get(name)
    if text is None:
        return None
    try:
        if _is_day(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise RequestRefused(INVALID, f"{name}: write a day as YYYY-MM-DD.")


def _meaning(call: Call) -> Meaning:
    text = call.request.query_params.get("meaning", "recorded")
    if text not in MEANINGS:
        raise RequestRefused(INVALID, f"meaning is one of {', '.join(MEANINGS)}.")
    return text


OPERATIONS = (show_record, compare_records)
