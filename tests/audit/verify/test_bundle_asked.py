"""What was asked for, by a house that signs everything itself: nothing else may be handed out under its name."""

from __future__ import annotations

from typing import Any

import pytest

from audit.verify.asked import STREAMS_PART
from audit.verify.errors import BundleRefused, VerificationRefused
from ledger.entry import entry_time
from tests.bundles import CAMPAIGN, HOUSE, OTHER, SUBJECT, Draft, Receipt, Story, draft, moment, receipt, verified

Plain = dict[str, Any]

ELSEWHERE = bytes.fromhex("0190a0000004700080000000000000ee")
MESSAGE = bytes.fromhex("0190a0000005700080000000000000ff")
REGISTERED: Plain = {"purpose": "newsletter", "channel": "email", "kind": "one-off"}


def _refusal(made: Draft) -> BundleRefused:
    with pytest.raises(VerificationRefused) as refused:
        verified(made.zipped(), log_keys=[HOUSE.verifier])
    assert isinstance(refused.value, BundleRefused), refused.value
    return refused.value


# Campaigns ------------------------------------------------------------------------------------------------------------


def _campaign(*others: tuple[bytes, str, Plain]) -> Draft:
    """A campaign with one message, and events besides."""
    story = Story()
    story.add(CAMPAIGN, "campaign.registered.v1", REGISTERED)
    story.add(MESSAGE, "send.authorised.v1", {"campaign": CAMPAIGN.hex()})
    for stream, topic, plain in others:
        story.add(stream, topic, plain)
    claims = {"kind": "campaign", "complete": {"streams": {CAMPAIGN.hex(): 1}, "message_streams": True}}
    made = draft(story, range(1, len(story.events) + 1), claims)
    made.asked = {"campaign": CAMPAIGN.hex()}
    return made


@pytest.mark.parametrize(
    ("stream", "topic", "plain"),
    [
        (OTHER, "send.authorised.v1", {"campaign": ELSEWHERE.hex()}),
        (OTHER, "message.delivered.v1", {}),
        (SUBJECT, "contact.complained.v1", {"campaign": ELSEWHERE.hex()}),
        (SUBJECT, "contact.added.v1", {"category": "contact"}),
        (MESSAGE, "message.delivered.v1", {"campaign": [CAMPAIGN.hex()]}),
    ],
    ids=["another's", "nobody's", "a no of another", "a person", "a list of names"],
)
def test_what_is_of_another_campaign_is_not_counted_in(stream: bytes, topic: str, plain: Plain) -> None:
    """Given a message or a no of another campaign in a campaign's bundle, then its event is named."""
    refusal = _refusal(_campaign((stream, topic, plain)))
    assert "neither of the campaign that was asked for, nor does it name it" in str(refusal)
    assert refusal.position == 3


def test_what_names_the_campaign_belongs_to_it() -> None:
    """Given a no that came through the campaign, in a person's stream, then the bundle is verified."""
    made = _campaign((SUBJECT, "contact.complained.v1", {"campaign": CAMPAIGN.hex(), "scope": "all"}))
    assert "Messages whose streams are without a gap, as far as they go: 1." in verified(made.zipped()).proven


@pytest.mark.parametrize(("kind", "topic"), [("campaign", "contact.added.v1"), ("person", "campaign.registered.v1")])
def test_a_stream_of_another_kind_is_refused(kind: str, topic: str) -> None:
    """Given a person's stream that is called a campaign, or the reverse, then its first event gives it away."""
    story = Story()
    story.add(SUBJECT, topic, REGISTERED)
    messages = {"message_streams": True} if kind == "campaign" else {}
    made = draft(story, [1], {"kind": kind, "complete": {"streams": {SUBJECT.hex(): 1}, **messages}})
    refusal = _refusal(made)
    assert f"no stream of a {kind} begins with {topic}" in str(refusal)
    assert refusal.position == 1


# Periods --------------------------------------------------------------------------------------------------------------


def _period(**times: Any) -> Draft:
    """Events 2 to 4 of a log, of minutes 2 to 4."""
    story = Story()
    story.fill(6)
    made = draft(story, [2, 3, 4], {"kind": "period", "complete": {"positions": [2, 4]}})
    made.asked = {"first": 2, "last": 4, **times}
    return made


@pytest.mark.parametrize(
    ("times", "position"),
    [
        ({"from": entry_time(moment(3))}, 2),
        ({"from": "2027-01-01T00:00:00+00:00", "to": "2028-01-01T00:00:00+00:00"}, 2),
        ({"to": moment(4).isoformat()}, 4),
        ({"to": "2026-11-21T08:02:59+00:00"}, 3),
    ],
)
def test_events_recorded_outside_of_the_time_asked_for_are_refused(times: Plain, position: int) -> None:
    """Given a bundle of some months that holds events of others, signed for by the house, then the first is named."""
    refusal = _refusal(_period(**times))
    assert "was not recorded in the time that was asked for" in str(refusal)
    assert refusal.position == position


@pytest.mark.parametrize(
    "times",
    [
        {"from": moment(2).isoformat(), "to": "2026-11-21T08:04:00.000001+00:00"},
        {"from": "2026-11-21T09:02:00+01:00", "to": "2026-11-21T10:05:00+02:00"},
        {"from": "2026-11-21T08:02:00Z"},
    ],
)
def test_events_recorded_in_the_time_asked_for_are_verified(times: Plain) -> None:
    """Given times in whatever zone they were asked in, then events from the first up to the second are of them."""
    assert verified(_period(**times).zipped()).events == 3


@pytest.mark.parametrize(
    "lie",
    [
        {"from": "last year"},
        {"to": "2026-11-21T08:05:00"},
        {"to": "9999-99-99T99:99:99.999999Z"},
        {"first": True},
        {"last": 4.0},
        {"first": "2"},
    ],
)
def test_a_period_is_asked_for_in_numbers_and_times(lie: Plain) -> None:
    """Given a time without a zone, a story, or a truth value for a number, then the bundle is refused."""
    made = _period()
    made.asked = {"first": 2, "last": 4, **lie}
    assert _refusal(made).file in ("manifest.json", "claims.json")


# Requests -------------------------------------------------------------------------------------------------------------


def _waiting(positions: list[int]) -> Draft:
    """An erasure that waits: the later part of a person's stream, of which some is left out."""
    story = Story()
    for topic in ("contact.added.v1", "consent.granted.v1", "erasure.postponed.v1", "contact.corrected.v1"):
        story.add(SUBJECT, topic)
    made = draft(story, positions, {"kind": "request", "complete": {"streams": {}}})
    made.asked = {"subject": SUBJECT.hex()}
    return made


def test_what_waits_is_shown_without_a_gap() -> None:
    """Given an erasure that waits, then no event may be left out of the middle, and its ends are said to be open."""
    found = verified(_waiting([2, 3, 4]).zipped())
    assert "Versions 2 to 4 of the person's stream are here, without a gap." in found.proven
    assert STREAMS_PART in found.not_proven
    refusal = _refusal(_waiting([2, 4]))
    assert "this is its version 4 behind 2" in str(refusal)
    assert refusal.position == 4


# Receipts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begins", "before", "reason"),
    [
        ("contact.added.v1", False, "was added behind the send only"),
        ("keys.destroyed.v1", True, "no stream of a person begins with keys.destroyed.v1"),
    ],
    ids=["later", "otherwise"],
)
def test_a_receipt_shows_somebody_who_was_known(begins: str, before: bool, reason: str) -> None:
    """Given a receipt with a stream that begins behind the send, or as no person's does, in place of one that said no,
    then it is refused."""
    told = Receipt(purpose="transactional").begin()
    told.says("objection.raised.v1", scope="all")
    if before:
        told.positions.append(told.story.add(OTHER, begins))
    told.send("contract", "contract")
    told.claim |= {"subject": OTHER.hex(), "before": int(before)}
    if not before:
        told.claim["next"] = told.story.add(OTHER, begins)
        told.positions.append(told.claim["next"])
    claims = {"kind": "send", "complete": {"streams": {OTHER.hex(): 1}}, "send": told.claim}
    refusal = _refusal(draft(told.story, told.positions, claims))
    assert reason in str(refusal)
    assert refusal.file == "manifest.json"


# Certificates ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["destruction", "send"])
def test_a_certificate_of_something_else_is_refused(kind: str) -> None:
    """Given a certificate that was not asked for, in a bundle of a destruction or beside a receipt, then refused."""
    story = Story()
    story.add(OTHER, "certificate.issued.v1", {"digest": "00" * 32})
    claims: Plain = {"kind": "destruction", "complete": {"streams": {OTHER.hex(): 1}}}
    made = draft(story, [1], claims) if kind == "destruction" else receipt().draft()
    made.files[f"certificates/{ELSEWHERE.hex()}.json"] = b"{}"
    refusal = _refusal(made)
    assert "is of another certificate than the one that was asked for" in str(refusal)
    assert refusal.file == f"certificates/{ELSEWHERE.hex()}.json"
