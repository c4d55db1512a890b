"""Time until a person, or a month of a class, is unreachable: the same for few events and for many.

The clock runs from the command until an event that could be opened a moment before comes back as `Erased`. What
follows in the background (seeing that nothing of the person opens, purging, certificates) is shown beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from uuid import UUID

from bench.budgets import Line
from bench.bulk import authorise_everybody, engagement, engagement_month, round_month, take
from bench.stand import ACTOR, CHANNEL, Campaign, Stand, add_people, register
from bench.timing import seconds
from domain.facts import Fact
from domain.ids import month_of
from domain.message import MessageClicked, MessageOpened
from domain.personal import Engagement, EngagementTechnical, Erased, Personal
from domain.subject_commands import RecordConsent
from ledger.authorise_layout import Recipient
from ledger.keys.keyring import LINK
from ledger.links import link_scope, message_id
from ledger.mapper import Holder, LedgerEvent
from ledger.subjects import Act
from retention.erasure.erasing import finish_erasures

CAMPAIGNS_OF_A_HEAVY_READER = 50
CONSENTS_OF_A_HEAVY_READER = 2000
MONTH_SAMPLES = 4
MONTH_SMALL_PERSONS = 100
YEARS_AGO_MONTHS = 24
"""The months of the small samples lie this far back, where no other part of the bench writes."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed event of the log with what opens it: for parts of message streams, their person."""

    stored: LedgerEvent
    holder: Holder | None
    part: str


def measure_persons(stand: Stand) -> list[Line]:
    """Erase persons of few and of many events by turns."""
    sizes = stand.sizes
    light = [f"light{number}@example.com" for number in range(sizes.erasures_small + 1)]
    heavy = [f"heavy{number}@example.com" for number in range(sizes.erasures_large)]
    _live(stand, light, sizes.small_events)
    _live(stand, heavy, sizes.large_events)
    _erase(stand, light.pop())  # The first erasure of the day makes the day's keys.
    small, large, whole = [], [], []
    for turn in range(max(len(light), len(heavy))):
        if turn < len(light):
            small.append(_erase(stand, light[turn])[0])
        if turn < len(heavy):
            unreachable, finished = _erase(stand, heavy[turn])
            large.append(unreachable)
            whole.append(finished)
    few, many = median(small) * 1000, median(large) * 1000
    what = f"a person of {sizes.large_events:,} events : of {sizes.small_events}, until unreachable"
    return [
        Line("erase_small_ms", f"a person of {sizes.small_events} events, until unreachable", few, "ms"),
        Line("erase_large_ms", what, many, "ms", "erase_person_large_vs_small", many / few),
        Line("erase_large_finished_ms", "the same, until every event was tried", median(whole) * 1000, "ms"),
    ]


def measure_months(stand: Stand) -> list[Line]:
    """Destroy months of two classes that hold few events, and months that hold many, by turns."""
    sizes = stand.sizes
    campaign = authorise_everybody(stand)
    many = _large_months(stand, campaign)
    few = []
    for back in range(YEARS_AGO_MONTHS, YEARS_AGO_MONTHS + MONTH_SAMPLES // 2 + 1):
        when = engagement_month(stand, back)
        take(stand, engagement(campaign.tokens[:MONTH_SMALL_PERSONS], when))
        few.append(when)
    _destroy_month(stand, campaign, few.pop(), MessageOpened, EngagementTechnical.name)
    small, large = [], []
    for fact_class, retention_class in ((MessageOpened, EngagementTechnical.name), (MessageClicked, Engagement.name)):
        for little, much in zip(few, many, strict=False):
            small.append(_destroy_month(stand, campaign, little, fact_class, retention_class))
            large.append(_destroy_month(stand, campaign, much, fact_class, retention_class))
    low, high = median(small) * 1000, median(large) * 1000
    persons = min(sizes.large_events, sizes.people)
    what = f"a month of {persons:,} persons : of {MONTH_SMALL_PERSONS}, until unreachable"
    return [
        Line("month_small_ms", f"a month of {MONTH_SMALL_PERSONS} persons, until unreachable", low, "ms"),
        Line("month_large_ms", what, high, "ms", "destroy_month_large_vs_small", high / low),
    ]


def _live(stand: Stand, emails: Sequence[str], events: int) -> None:
    """Give each of these persons `events` events: some consents, and much reading of many campaigns."""
    ledger = stand.ledger
    add_people(ledger, emails)
    consents = min(CONSENTS_OF_A_HEAVY_READER, events // 5)
    for email in emails:
        ledger.subjects.act([_consent(email, number) for number in range(consents)])
    campaigns = min(CAMPAIGNS_OF_A_HEAVY_READER, max(1, events // 100))
    readings = events - 2 - consents - campaigns
    for number in range(campaigns):
        campaign = register(ledger)
        stand.authorise(campaign, [Recipient(index, email) for index, email in enumerate(emails)])
        share = readings // campaigns + (1 if number < readings % campaigns else 0)
        take(stand, engagement(campaign.tokens * share, ledger.clock()))


def _consent(email: str, number: int) -> Act:
    action = RecordConsent("product-news", CHANNEL, "grant", evidence={"method": "double_opt_in"})
    return Act(action if number % 2 == 0 else RecordConsent("product-news", CHANNEL, "withdraw"), email, None, ACTOR)


def _erase(stand: Stand, email: str) -> tuple[float, float]:
    """Seconds from the command until the person's first event is unreachable, and until the erasure is finished."""
    ledger = stand.ledger
    row = ledger.person(email)
    assert row is not None
    first = ledger.log.select_events(UUID(bytes=row.person.subject), lte=1)[0]
    assert isinstance(first, LedgerEvent)
    sealed = Sealed(first, None, "email")
    _require_open(stand, sealed)

    def until_unreachable() -> None:
        ledger.erasures.intend([email], reason="asked", actor=ACTOR)
        for unfinished in ledger.erasures.unfinished(1):
            cause = unfinished.cause
            ledger.services.vault.destroy_holder(
                ledger.tenant, unfinished.kid, when=ledger.clock(), cause=cause, certificate=None
            )
            ledger.keyring.forget(unfinished.kid)
        _require_erased(stand, sealed)

    unreachable = seconds(until_unreachable)
    return unreachable, unreachable + seconds(lambda: finish_erasures(ledger))


def _destroy_month(
    stand: Stand, campaign: Campaign, when: datetime, fact_class: type[Fact], retention_class: str
) -> float:
    ledger = stand.ledger
    field = "url" if fact_class is MessageClicked else "ip"
    sealed = _sealed_message(stand, when, fact_class, field)
    _require_open(stand, sealed)

    def until_unreachable() -> None:
        ledger.services.vault.destroy_period(
            ledger.tenant, retention_class, month_of(when), when=ledger.clock(), cause="bench"
        )
        ledger.keyring.forget_period(retention_class, month_of(when))
        _require_erased(stand, sealed)

    return seconds(until_unreachable)


def _sealed_message(stand: Stand, when: datetime, fact_class: type[Fact], part: str) -> Sealed:
    """An event of this class and month of one of the first people's messages."""
    ledger = stand.ledger
    for email in stand.emails[:2]:
        row = ledger.person(email)
        assert row is not None
        link_key = ledger.keyring.period_key(LINK, month_of(ledger.clock()))
        scope = link_scope(row.person.link_key, link_key)
        ids = [UUID(bytes=message_id(scope, c.campaign_id.bytes)) for c in stand.campaigns]
        for stored in ledger.log.select_streams(ids):
            if stored.topic == fact_class.TOPIC:
                fact = ledger.sealing.open(stored, personal=False)
                if month_of(fact.occurred_at) == month_of(when):
                    return Sealed(stored, Holder(row.person.kid, row.person.link_generation), part)
    raise AssertionError(f"No {fact_class.TOPIC} event of that month to try.")


def _large_months(stand: Stand, campaign: Campaign) -> list[datetime]:
    """Months full of engagement: those that the bulk part has left, or new ones."""
    full = min(MONTH_SAMPLES // 2, max(1, stand.sizes.rounds // 2))
    months = [engagement_month(stand, round_month(2 * number)) for number in range(full)]
    if len(stand.campaigns) == 1:  # The bulk part did not run.
        for when in months:
            for half in range(2):
                take(stand, engagement(campaign.tokens, when, start=half * len(campaign.tokens)))
    return months


def _require_open(stand: Stand, sealed: Sealed) -> None:
    value = getattr(stand.ledger.sealing.open(sealed.stored, sealed.holder), sealed.part)
    assert isinstance(value, Personal), "The event that the bench watches does not open to begin with."


def _require_erased(stand: Stand, sealed: Sealed) -> None:
    value = getattr(stand.ledger.sealing.open(sealed.stored, sealed.holder), sealed.part)
    assert isinstance(value, Erased), "A key is destroyed, and yet the event that the bench watches opens."
