"""Matching feedback: from an opaque token to the person and the message it is about.

A token names its person by handle. The message's stream is computed from the person's link key and the month's, the
one that the token says; nothing is looked up but the person's row. What becomes a "no" is about the person alone, so
its message is not looked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import Connection

from domain.campaign import Campaign
from domain.ids import micros, month_of
from ledger.append import Head
from ledger.entry import entry_time
from ledger.errors import InvalidToken
from ledger.feedback_events import (
    ENGAGEMENT_KINDS,
    ERASED_PERSON,
    MESSAGE_PAST_ITS_TIME,
    MONTH_PAST_ITS_TIME,
    TRACKING_NOT_DISCLOSED,
    UNKNOWN_CAMPAIGN,
    UNKNOWN_MONTH,
    FeedbackEvent,
)
from ledger.keys.keyring import LINK, Keyring
from ledger.keys.vault import TENANT_HOLDER, KeyName
from ledger.link_generations import PastLinks
from ledger.links import (
    NO_OCCURRENCE,
    MessageToken,
    TokenOpener,
    link_scope,
    message_id,
    parse_token,
    provider_event_tag,
    recorded_occurrence,
)
from ledger.ports import StandingBook
from ledger.standing_row import StandingRow

Unmatched = tuple[FeedbackEvent, str]
"""An event that nobody was found for, and why."""

CAMPAIGNS_READ_SINGLY = 16
"""A chunk about more campaigns than this reads all of the tenant's at once."""


class Moment(NamedTuple):
    """When something occurred: as a UTC time, as entries write it, its month and its day."""

    at: datetime
    text: bytes
    month: str
    day: date


class Moments(dict[datetime, Moment]):
    """The moments of one chunk by the time that a provider told; none is later than now.

    Providers count seconds, so that many events of a chunk share one.
    """

    def __init__(self, now: datetime) -> None:
        super().__init__()
        self._now = now

    def __missing__(self, told: datetime) -> Moment:
        at = min(told, self._now).astimezone(UTC)
        moment = self[told] = Moment(at, entry_time(at).encode(), month_of(at), at.date())
        return moment


class Matched:
    """A feedback event with the person and the message it is about, on its way to be sealed and laid out.

    `generation` is that of the link key which led to the message; `provider_event` 24 hexadecimal digits. `sealed`
    grows by one packed envelope per class, `digests` by what the entry says of it. `late` says why the event is
    refused at the door; `keyless` that the person's keys went while it was being sealed.
    """

    __slots__ = (
        *("campaign", "digests", "event", "event_id", "generation", "keyless", "kid", "late", "moment", "occurrence"),
        *("provider_event", "row", "sealed", "stream", "token"),
    )

    def __init__(
        self, event: FeedbackEvent, token: MessageToken, row: StandingRow, campaign: Campaign, moment: Moment
    ) -> None:
        self.event = event
        self.token = token
        self.row = row
        self.kid = row.kid
        self.campaign = campaign
        self.moment = moment
        self.generation = 0
        self.stream = b""
        self.occurrence = NO_OCCURRENCE
        self.provider_event = b""
        self.event_id = b""
        self.sealed = b""
        self.digests = b""
        self.late = ""
        self.keyless = False


@dataclass(slots=True)
class Matching:
    """What came of matching a chunk; `dropped` holds index and reason."""

    about_messages: list[Matched] = field(default_factory=list)
    noes: list[Matched] = field(default_factory=list)
    dropped: list[tuple[int, str]] = field(default_factory=list)
    unmatched: list[Unmatched] = field(default_factory=list)


class Matcher:
    """Matches the feedback of one tenant."""

    def __init__(self, tenant: UUID, keyring: Keyring, book: StandingBook) -> None:
        self._tenant = tenant
        self._keyring = keyring
        self._book = book

    def match(self, chunk: Sequence[FeedbackEvent], connection: Connection[Any], head: Head, now: datetime) -> Matching:
        """Who and what these events are about. The head must have been read before anything else is."""
        found = Matching()
        opened = self._open_tokens(chunk, found)
        handles = list({token.handle for _, token, _ in opened})
        rows = self._book.read_handles(connection, self._tenant, head.generation, handles)
        campaigns = self._campaigns(connection, head.generation, {token.campaign for _, token, _ in opened})
        links, moments = PastLinks(self._keyring.vault, self._tenant), Moments(now)
        for event, token, opener in opened:
            row, campaign = rows.get(token.handle), campaigns.get(token.campaign)
            if row is None:
                found.unmatched.append((event, ERASED_PERSON))
            elif campaign is None:
                found.unmatched.append((event, UNKNOWN_CAMPAIGN))
            elif event.kind in ENGAGEMENT_KINDS and not campaign.tracking_disclosed:
                found.dropped.append((event.index, TRACKING_NOT_DISCLOSED))
            else:
                item = Matched(event, token, row, campaign, moments[event.occurred_at])
                if event.becomes_a_no:
                    found.noes.append(item)
                elif _find_message(item, opener, links):
                    found.about_messages.append(item)
                else:
                    found.dropped.append((event.index, MESSAGE_PAST_ITS_TIME))
        return found

    def _campaigns(self, connection: Connection[Any], generation: int, ids: set[bytes]) -> Mapping[bytes, Campaign]:
        """Those of these campaigns that are the tenant's."""
        if len(ids) > CAMPAIGNS_READ_SINGLY:
            every = self._book.campaigns(connection, self._tenant, generation)
            return {campaign_id.bytes: campaign for campaign_id, campaign in every.items()}
        found = {i: self._book.campaign(connection, self._tenant, generation, UUID(bytes=i)) for i in ids}
        return {campaign_id: campaign for campaign_id, campaign in found.items() if campaign is not None}

    def _open_tokens(
        self, chunk: Sequence[FeedbackEvent], found: Matching
    ) -> list[tuple[FeedbackEvent, MessageToken, TokenOpener]]:
        openers: dict[str, TokenOpener | str] = {}
        opened = []
        for event in chunk:
            try:
                month, raw = parse_token(event.message_id)
                opener = openers.get(month)
                if opener is None:
                    opener = openers[month] = self._opener(month)
                if isinstance(opener, TokenOpener):
                    opened.append((event, opener.open(raw), opener))
                elif opener == MONTH_PAST_ITS_TIME and not event.becomes_a_no:
                    found.dropped.append((event.index, opener))
                else:
                    found.unmatched.append((event, opener))
            except InvalidToken as error:
                found.unmatched.append((event, str(error)))
        return opened

    def _opener(self, month: str) -> TokenOpener | str:
        """What opens the tokens of a month, or why nothing does. Makes no key."""
        name = KeyName(TENANT_HOLDER, LINK, month)
        found = self._keyring.find([name])
        if name in found.keys:
            return TokenOpener(month, found.keys[name])
        return MONTH_PAST_ITS_TIME if name in found.tombstones else UNKNOWN_MONTH


def _find_message(item: Matched, opener: TokenOpener, links: PastLinks) -> bool:
    """Compute which message this is about; False where the person's link key of its time was destroyed."""
    found = item.row.link_for(opener.month_number) or links.link_for(item.row, opener.month)
    if found is None:
        return False
    link_key, item.generation = found
    event, token = item.event, item.token
    scope = link_scope(link_key, opener.link_period_key)
    item.provider_event = provider_event_tag(scope, event.event_id or _without_event_id(event)).encode()
    item.stream = message_id(scope, token.campaign)
    if token.occurrence != NO_OCCURRENCE:
        item.occurrence = recorded_occurrence(scope, token.occurrence)
    return True


def _without_event_id(event: FeedbackEvent) -> str:
    return f"{event.kind}|{micros(event.occurred_at)}|{event.url or ''}"
