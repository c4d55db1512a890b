"""A record of processing with something of everything in it, awkward texts too, for the tests of its renderings."""

from __future__ import annotations

import dataclasses
from datetime import UTC, date, datetime
from uuid import UUID

from audit.records.model import (
    Activity,
    AsOf,
    Coded,
    Enforced,
    Finding,
    Measure,
    Observed,
    ObservedCategory,
    ObservedRecipient,
    ObservedTopic,
    OldestKey,
    Party,
    Recipient,
    RecordsOfProcessing,
    Safeguard,
    TimeLimit,
    Transfer,
)

FORMULA = '=HYPERLINK("http://x.example","pay")'
AWKWARD = 'Łódź & Søn <b>, "quoted"; 中文\nsecond line'

MAILER = Recipient("mailer", Coded("processor", "a processor"), "Postbote AG", "mail delivery", ("DE", "US"), ("US",))
GONE = Recipient("old", Coded("partner", "another recipient"), None, None, ("FR",), (), erased=True)

NEWSLETTER = Activity(
    key="newsletter",
    role="controller",
    name="Newsletter to customers",
    purposes=("To tell customers what is new", FORMULA),
    lawful_bases=(Coded("consent", "consent (GDPR Art. 6(1)(a))"),),
    subjects=(Coded("contact", "somebody whom a controller writes to"),),
    categories=(Coded("identity", "Who a person is"), Coded("engagement", "What a recipient clicked")),
    recipients=(MAILER, GONE),
    transfers=(
        Transfer(
            "mailer", "Postbote AG", "US", Coded("scc", "standard clauses"), "scc-1", "SCC 2021", "ab" * 32, "ask us"
        ),
        Transfer("mailer", "Postbote AG", "GB", None),
    ),
    time_limits=(TimeLimit("engagement", "24 months after the month", "7.1", "25 months after the month"),),
    measures=(Measure("Encrypted at rest", "sealing"), Measure("We shred paper", None, "no paper is known of")),
    declared_on=date(2026, 3, 1),
    changed_on=date(2026, 9, 2),
    source="mailkai 1",
    note="+41 is where it began",
)
HOSTING = Activity(
    key="hosting",
    role="processor",
    name=AWKWARD,
    purposes=("Storing contacts on instruction",),
    lawful_bases=(),
    subjects=(Coded("contact", "somebody whom a controller writes to"),),
    categories=(Coded("identity", "Who a person is"),),
    recipients=(MAILER,),
    transfers=(),
    time_limits=(),
    measures=(Measure("Encrypted at rest", "sealing"),),
    declared_on=date(2026, 3, 1),
    changed_on=date(2026, 3, 1),
)
ENDED = Activity(
    key="lottery",
    role="controller",
    name=None,
    purposes=(),
    lawful_bases=(),
    subjects=(),
    categories=(),
    recipients=(),
    transfers=(),
    time_limits=(),
    measures=(),
    declared_on=date(2025, 1, 1),
    changed_on=date(2025, 1, 1),
    retired_on=date(2025, 12, 31),
    erased=True,
)
RECORD = RecordsOfProcessing(
    tenant=UUID("0a1b2c3d-0000-7000-8000-000000000001"),
    account_name="@Acme GmbH",
    operator=False,
    as_of=AsOf(date(2026, 11, 21), "recorded"),
    made_at=datetime(2026, 11, 21, 20, 15, 7, tzinfo=UTC),
    position=123_456,
    pack="mailkai",
    pack_version=1,
    pack_title="Mailkai privacy policy",
    parties=(
        Party(
            "acme", "controller", "Acme GmbH", "Ada Beispiel", "Weg 1\n10115 Berlin", "privacy@acme.example", "-49 30 1"
        ),
        Party("dpo", "controller_dpo", "Kanzlei Ó Briain", "Bo", None, "dpo@acme.example", country="IE"),
        Party("lost", "joint_controller", None, erased=True),
        Party("lethe", "processor", "Platform Ltd", website="https://platform.example", country="CH"),
    ),
    activities=(NEWSLETTER, HOSTING),
    retired=(ENDED,),
    recipients=(MAILER, GONE),
    observed=Observed(
        counted_to=123_400,
        categories=(
            ObservedCategory(
                Coded("identity", "Who a person is"),
                50_000,
                date(2026, 3, 2),
                date(2026, 11, 20),
                (ObservedTopic("contact.added.v1", 50_000, date(2026, 3, 2), date(2026, 11, 20)),),
                ("newsletter", "hosting"),
            ),
            ObservedCategory(Coded("support", "What was said"), 3, date(2026, 11, 1), date(2026, 11, 3), (), ()),
        ),
        recipients=(ObservedRecipient("provider:ses", "Amazon SES", 40, date(2026, 4, 1), date(2026, 11, 1), ()),),
        enforced=(Enforced("engagement", "7.1", ("2024-08", "2024-09"), 2, 2, date(2026, 11, 1)),),
        oldest_keys=(OldestKey("identity", "person", 50_000, "2026-03-02", None, None, overdue=False),),
        last_plan_on=date(2026, 11, 20),
    ),
    findings=(
        Finding(
            "undeclared_category",
            "finding",
            "support",
            "Support is stored, and no activity says so.",
            "Declare it, or stop.",
            date(2026, 11, 1),
            "5.1",
        ),
        Finding("pack_differs", "note", "engagement", "The policy says 25 months.", "Look at it."),
    ),
    safeguards=(
        Safeguard("scc-1", Coded("scc", "standard clauses"), "SCC 2021", ("US", "IN"), "ab" * 32, "ask us"),
        Safeguard("lost", Coded("other", "another lawful means"), None, (), None, None, erased=True),
    ),
)
EMPTY = dataclasses.replace(
    RECORD,
    account_name=None,
    parties=(),
    activities=(),
    retired=(),
    recipients=(),
    safeguards=(),
    observed=dataclasses.replace(
        RECORD.observed, categories=(), recipients=(), enforced=(), oldest_keys=None, last_plan_on=None
    ),
    findings=(),
)
