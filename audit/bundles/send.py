"""A send receipt: one message end to end, from the token that stands in the mail.

    the message     its whole stream: the authorisation, and what became of it
    the campaign    its registration: purpose, channel, digest of the content
    the person      every version of their stream up to the decision, and the next one, so that none stood between
    the rules       those in force on the day, row by row with their sources, and where the account adopted them

The token is tied to the message by K_link, the person's link key of that month, which the receipt discloses: the
message's id and the nonce in the token are two parts of one hash under it. K_link shows which other messages of the
same month are the same person's, also once they are erased, and lets guesses of their order numbers and of a provider's
event ids be tried; it opens nothing that is sealed. That the message's person is this subject is said by the house: on
purpose nothing in the log ties the two (docs/adr/0033).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import orjson

from audit.bundles.model import BundleErased, CannotBundle, Collected, positions_of
from audit.bundles.reading import end_of, events_at, places_of
from domain.account import RulesAdopted
from domain.campaign import CampaignRegistered
from domain.law import LawError, RuleSet, rules_named
from domain.message import SendAuthorised
from domain.permission import CONTRACT, OPT_OUT_REGIME
from domain.standing import permission_key
from domain.subject import fold
from ledger.application import Ledger
from ledger.errors import InvalidToken, UnknownCampaign
from ledger.keys.keyring import LINK
from ledger.keys.names import TENANT_HOLDER, KeyName
from ledger.link_generations import PastLinks
from ledger.links import (
    NO_OCCURRENCE,
    MessageToken,
    TokenOpener,
    link_scope,
    message_id,
    parse_token,
    recorded_occurrence,
)
from ledger.mapper import Holder, LedgerEvent
from ledger.standing_row import StandingRow

WITHOUT_EVIDENCE: Final = frozenset({CONTRACT, OPT_OUT_REGIME})
"""Bases that rest on no word of the person: service messages, and countries where nobody has to ask."""

GONE: Final = (
    "Receipts that were made before still verify; a new one cannot be made, because nothing leads from the message to "
    "the person any more."
)

NOT_ADOPTED: Final = (
    "That the account had adopted these rules word for word is not shown: it decided before accounts did so, or a day, "
    "a source or a note was mended since. In that case the version of the program that decided can show it."
)


@dataclass(frozen=True, slots=True)
class _Message:
    """A message found by its token: whose, in which stream, and under which key it was found."""

    row: StandingRow
    token: MessageToken
    stream: UUID
    link: bytes
    holder: Holder


def collect_send(ledger: Ledger, token: str, *, link: bool = True) -> Collected:
    """Everything that one sent message rests on. Without `link` it is not shown which mail it was.

    Raises `BundleErased` where the person was erased or the time of the link is over, `InvalidToken`, and
    `CannotBundle` for a message that was never authorised.
    """
    message, end = _found(ledger, token), end_of(ledger)
    campaign, subject = UUID(bytes=message.token.campaign), UUID(bytes=message.row.person.subject)
    own = places_of(ledger, [message.stream], end)
    authorised = _authorised(ledger, own.positions, message)
    assert authorised.position is not None
    persons = _versions_around(ledger, subject, authorised.position, end)
    registered = _registered(ledger, campaign, end)
    said = orjson.loads(authorised.state)
    rules = _rules(said["rules"])
    claims: dict[str, Any] = {
        "campaign": registered.position,
        "authorised": authorised.position,
        "subject": subject.hex,
        "before": sum(event.position < authorised.position for event in persons if event.position is not None),
        "rules": {"version": rules.version, "rows": [row.written() for row in rules.rows]},
    }
    adopted = _adopted(ledger, rules, authorised.position)
    if adopted is not None:
        claims["adopted"] = adopted
    if link:
        claims |= {"token": token, "link": _link(message)}
    last = persons[-1]
    if last.position is not None and last.position > authorised.position:
        claims["next"] = last.position
    evidence = _evidence(ledger, persons, authorised.position, said, orjson.loads(registered.state))
    if evidence is not None:
        claims["evidence"] = evidence
    streams = own.claimed() | {subject.hex: last.originator_version}
    every = [*own.positions, *(e.position for e in persons if e.position is not None), registered.position, adopted]
    return Collected(
        kind="send",
        asked={"message": message.stream.hex, "campaign": campaign.hex},
        positions=positions_of(position for position in every if position is not None),
        claims={"kind": "send", "complete": {"streams": dict(sorted(streams.items()))}, "send": claims},
        title="One message, and what it rests on",
        words=_words(claims, said),
        holders={message.stream: message.holder},
        person=message.row,
        marks=_marks(claims),
    )


def _found(ledger: Ledger, text: str) -> _Message:
    month, raw = parse_token(text)
    name = KeyName(TENANT_HOLDER, LINK, month)
    known = ledger.keyring.find([name])
    if name not in known.keys:
        if name in known.tombstones:
            raise BundleErased(f"The time of the messages of {month} is over, and their links were destroyed. {GONE}")
        raise InvalidToken("This message_id was not given out by this account.")
    token = TokenOpener(month, known.keys[name]).open(raw)
    with ledger.services.writer.transaction() as connection:
        generation = ledger.appender.read_head(connection).generation
        row = ledger.services.book.read_handles(connection, ledger.tenant, generation, [token.handle])
    person = row.get(token.handle)
    if person is None:
        raise BundleErased(f"The person this message was for was erased. {GONE}")
    link = PastLinks(ledger.services.vault, ledger.tenant).link_for(person, month)
    if link is None:
        raise BundleErased(f"The time of this message is over, and its link to the person was destroyed. {GONE}")
    scope = link_scope(link[0], known.keys[name])
    stream = UUID(bytes=message_id(scope, token.campaign))
    return _Message(person, token, stream, scope, Holder(person.person.kid, link[1]))


def _authorised(ledger: Ledger, positions: Sequence[int], message: _Message) -> LedgerEvent:
    """The newest authorisation of this message, of this occurrence of it. Raises `CannotBundle`."""
    tag = message.token.occurrence
    occurrence = recorded_occurrence(message.link, tag).hex() if tag != NO_OCCURRENCE else None
    found = None
    for page in events_at(ledger, sorted(positions)):
        for event in page:
            if event.topic == SendAuthorised.TOPIC:
                plain = orjson.loads(event.state)["plain"]
                found = event if plain.get("occurrence") == occurrence else found
    if found is None:
        raise CannotBundle("not_authorised", "This message was never authorised, so there is nothing to prove of it.")
    return found


def _versions_around(ledger: Ledger, subject: UUID, authorised: int, end: int) -> list[LedgerEvent]:
    """The person's stream from its first version to the first one after the decision, if there is one by now."""
    found = []
    for page in events_at(ledger, sorted(places_of(ledger, [subject], end).positions)):
        for event in page:
            found.append(event)
            if event.position is not None and event.position > authorised:
                return found
    return found


def _registered(ledger: Ledger, campaign: UUID, end: int) -> LedgerEvent:
    for page in events_at(ledger, sorted(places_of(ledger, [campaign], end).positions)[:1]):
        for event in page:
            if event.topic == CampaignRegistered.TOPIC:
                return event
    raise UnknownCampaign("The campaign of this message is not in the log.")


def _evidence(
    ledger: Ledger,
    persons: Sequence[LedgerEvent],
    authorised: int,
    said: Mapping[str, Any],
    registered: Mapping[str, Any],
) -> int | None:
    """Where the word stands that the authorisation rests on; None for a basis that needs none."""
    if said["plain"]["basis"] in WITHOUT_EVIDENCE:
        return None
    before = [event for event in persons if event.position is not None and event.position < authorised]
    standing = fold(None, (ledger.sealing.open(event) for event in before))
    key = permission_key(registered["plain"]["purpose"], registered["plain"]["channel"])
    word = standing.permissions.get(key) if standing is not None else None
    return word.position if word is not None else None


def _link(message: _Message) -> dict[str, str]:
    link = {"key": message.link.hex(), "month": message.token.month}
    if message.token.occurrence != NO_OCCURRENCE:
        link["occurrence"] = message.token.occurrence.hex()
    return link


def _rules(version: str) -> RuleSet:
    """The rules that decided. Raises `CannotBundle`."""
    try:
        return rules_named(version)
    except LawError as error:
        raise CannotBundle("rules_unknown", str(error)) from None


def _adopted(ledger: Ledger, rules: RuleSet, authorised: int) -> int | None:
    """Where the account adopted these very rows before the decision.

    None where it decided before accounts adopted rules, or where a day, source or note of a row was mended since.
    """
    words = {"rules_version": rules.version, "digest": rules.digest}
    for page in events_at(ledger, sorted(places_of(ledger, [ledger.tenant], authorised).positions)):
        for event in page:
            if event.topic == RulesAdopted.TOPIC and orjson.loads(event.state)["plain"] == words:
                return event.position
    return None


def _marks(claims: Mapping[str, Any]) -> dict[int, str]:
    """What the events are to the question, by position."""
    named = {
        "campaign": "the campaign",
        "adopted": "the adoption of the rules",
        "evidence": "what it rests on",
        "authorised": "the authorisation",
        "next": "the person's next event",
    }
    return {claims[name]: words for name, words in named.items() if name in claims}


def _words(claims: Mapping[str, Any], said: Mapping[str, Any]) -> tuple[str, ...]:
    plain = said["plain"]
    rests = (
        f"It rests on the event at position {claims['evidence']}."
        if "evidence" in claims
        else "This basis rests on no word of the person."
    )
    follows = (
        f"Their next event stands at position {claims['next']}, after it: nothing stood in between."
        if "next" in claims
        else "No later event of theirs was recorded; that nothing is missing at the end, only the whole log shows."
    )
    return (
        (
            f"Position {claims['authorised']} allowed this message under rule {plain['rule']} (basis "
            f"{plain['basis']}), by the rules {said['rules']}, until {plain['expires_at']}."
        ),
        f"The account had adopted these rules, word for word, at position {claims['adopted']}."
        if "adopted" in claims
        else NOT_ADOPTED,
        rests,
        (
            f"The first {claims['before']} events of the person's own stream are here, up to the last one before the "
            f"decision. {follows}"
        ),
        "The token that stands in the mail and the key that is disclosed here give the id of the message in the log. "
        "Whoever has this key and the log finds the person's other messages of that month too, also after the person "
        "was erased."
        if "link" in claims
        else "Which mail this was is not shown here: its token and the link key were left out.",
    )
