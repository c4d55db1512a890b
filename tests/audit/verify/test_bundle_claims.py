"""Claims: what a bundle says its events mean is believed as far as it follows from them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest

from audit.verify.errors import BundleRefused, ClaimRefused, VerificationRefused
from audit.verify.merkle import leaf_hash, node_hash
from audit.verify.send import VERSIONS_NOT_PROVEN
from audit.verify.tiles import GrowingTiles
from ledger.entry import canonical
from tests.bundles import (
    CAMPAIGN,
    EVIDENCE,
    OTHER,
    RULES,
    SIGNER,
    SUBJECT,
    Draft,
    Receipt,
    Story,
    draft,
    exported_certificate,
    receipt,
    verified,
)

Claim = dict[str, Any]


def _refusal(made: Draft) -> BundleRefused:
    with pytest.raises(VerificationRefused) as refused:
        verified(made.zipped())
    assert isinstance(refused.value, BundleRefused), refused.value
    return refused.value


def _sent(*before: tuple[str, dict[str, Any]], rule: str = "consent", basis: str = "consent") -> Receipt:
    """A send after these words of the person; the last of them is claimed as evidence, where it is one."""
    told = Receipt().begin()
    for topic, plain in before:
        position = told.says(topic, **plain)
        if topic in ("consent.granted.v1", "permission.declared.v1"):
            told.claim["evidence"] = position
    return told.send(rule, basis)


GRANT = ("consent.granted.v1", EVIDENCE)
WITHDRAWAL = ("consent.withdrawn.v1", {"purpose": "newsletter", "channel": "email", "evidenced": True})


def test_a_receipt_says_what_is_proven_and_what_is_not() -> None:
    """Given an honest receipt, then it says what it shows, and that the house's word binds message and person."""
    found = verified(receipt().draft().zipped())
    said, unsaid = " ".join(found.proven), " ".join(found.not_proven)
    for words in ("Event 6 authorised", "event 3 registered", "rests on event 4", "is event 7, behind", "token leads"):
        assert words in said
    assert "word of the house" in unsaid
    assert "suppression list" in unsaid
    assert VERSIONS_NOT_PROVEN in found.not_proven


def test_a_receipt_without_a_later_event_says_so() -> None:
    """Given a person's stream that ends before the send, then it is not claimed that nothing later was hidden."""
    found = verified(_sent(GRANT).draft().zipped())
    assert any("no later event of the person had been recorded" in sentence for sentence in found.not_proven)


def test_a_receipt_without_the_link_says_so() -> None:
    """Given a receipt that keeps the link key back, then it says that no mail leads to the message."""
    told = receipt()
    del told.claim["link"], told.claim["token"]
    found = verified(told.draft().zipped())
    assert not any("token" in sentence for sentence in found.proven)
    assert any("Which mail this message is" in sentence for sentence in found.not_proven)


def test_an_occurrence_is_bound_by_its_tag() -> None:
    """Given a repeated message of an ongoing campaign, then its token leads to it, and that of another does not."""
    told, other = receipt(occurrence="order 17"), receipt(occurrence="order 18")
    assert any("token leads" in sentence for sentence in verified(told.draft().zipped()).proven)
    told.claim["token"], told.claim["link"] = other.claim["token"], other.claim["link"]
    assert "another occurrence" in str(_refusal(told.draft()))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda claim: claim["link"].update(key="00" * 32), "does not lead from the campaign to this message"),
        (lambda claim: claim["link"].update(key="00"), "is none"),
        (lambda claim: claim["link"].update(month="2026-10"), "another month"),
        (lambda claim: claim["link"].update(month="2026-13"), "is none"),
        (lambda claim: claim["link"].update(occurrence="11" * 8), "not that of this message"),
        (lambda claim: claim["link"].update(more="x"), "is none"),
        (lambda claim: claim.update(token=claim["token"][:10] + "AAAA" + claim["token"][14:]), "not that of this"),
        (lambda claim: claim.update(token=claim["token"] + "!"), "is none"),
        (lambda claim: claim.update(token=claim["token"][:-1]), "is none"),
        (lambda claim: claim.update(link=7), "is none"),
        (lambda claim: claim.pop("token"), "too many, or too few"),
        (lambda claim: claim.pop("link"), "too many, or too few"),
        (lambda claim: claim.pop("rules"), "too many, or too few"),
        (lambda claim: claim.update(more=1), "too many, or too few"),
        (lambda claim: claim.update(authorised=1), "is not in the bundle"),
        (lambda claim: claim.update(authorised=True), "a position or a stream that is none"),
        (lambda claim: claim.update(authorised=7), "is claimed as 'authorised', and is a consent.withdrawn.v1"),
        (lambda claim: claim.update(campaign=2), "is claimed as 'campaign', and is a contact.added.v1"),
        (lambda claim: claim.update(evidence=2), "is another event, or there is none"),
        (lambda claim: claim.pop("evidence"), "is another event, or there is none"),
        (lambda claim: claim.update(before=1), "2 versions stand before the send, not 1"),
        (lambda claim: claim.update(before=3), "2 versions stand before the send, not 3"),
        (lambda claim: claim.update(next=6), "not the one that follows there"),
        (lambda claim: claim.pop("next"), "not the one that follows there"),
        (lambda claim: claim.update(rules={**RULES, "rows": []}), "not those that law-"),
        (lambda claim: claim.update(rules={**RULES, "version": "law-2020-01-01-00000000"}), "was decided under law-"),
        (lambda claim: claim.update(rules=7), "not shown as a version and rows"),
        (lambda claim: claim.update(subject="00" * 16), "claim the person's stream whole"),
        (lambda claim: claim.update(subject="x"), "a position or a stream that is none"),
    ],
)
def test_a_claim_that_does_not_follow_is_refused(change: Callable[[Claim], object], reason: str) -> None:
    """Given a receipt whose claim is changed in one point, signed for by the house, then it is refused for that."""
    told = receipt()
    told.claim = {**told.claim, "link": dict(told.claim["link"])}
    change(told.claim)
    refusal = _refusal(told.draft())
    assert reason in str(refusal)
    assert isinstance(refusal, ClaimRefused)


@pytest.mark.parametrize(
    ("words", "no"),
    [
        ((GRANT, WITHDRAWAL), "consent withdrawn"),
        ((GRANT, ("consent.refused.v1", WITHDRAWAL[1])), "consent refused"),
        ((GRANT, ("objection.raised.v1", {"scope": "marketing"})), "objection.raised.v1"),
        ((GRANT, ("contact.complained.v1", {"scope": "purpose:newsletter"})), "contact.complained.v1"),
        ((GRANT, ("contact.unsubscribed.v1", {"scope": "all"})), "contact.unsubscribed.v1"),
        ((GRANT, ("contact.hard_bounced.v1", {"scope": "all"})), "contact.hard_bounced.v1"),
        ((GRANT, ("contact.suppressed.v1", {"scope": "all", "legal": False})), "contact.suppressed.v1"),
        ((GRANT, ("processing.restricted.v1", {})), "processing.restricted.v1"),
        ((GRANT, ("erasure.intended.v1", {"reason": "other"})), "erasure.intended.v1"),
        ((("contact.suppressed.v1", {"scope": "all", "legal": True}), GRANT), "contact.suppressed.v1"),
        ((("objection.raised.v1", {"scope": "all"}), (GRANT[0], {**EVIDENCE, "evidenced": False})), "objection.raised"),
        ((("objection.raised.v1", {"scope": "all"}), (GRANT[0], {**EVIDENCE, "imported": True})), "objection.raised"),
        ((("contact.hard_bounced.v1", {"scope": "all"}), GRANT), "contact.hard_bounced.v1"),
    ],
)
def test_a_no_that_nothing_lifted_is_found(words: tuple[tuple[str, dict[str, Any]], ...], no: str) -> None:
    """Given a send after a no that stood, signed for by the house, then the event of that no is named."""
    told = _sent(*words)
    refusal = _refusal(told.draft())
    assert f"This {no}" in str(refusal)
    assert "is a no that covers 'newsletter'" in str(refusal)
    first_no = next(number for number, word in enumerate(words) if word[0] != GRANT[0])
    assert refusal.position == told.positions[2 + first_no]


@pytest.mark.parametrize(
    "words",
    [
        (GRANT,),
        (("objection.raised.v1", {"scope": "all"}), GRANT),
        (("contact.hard_bounced.v1", {"scope": "all"}), (GRANT[0], {**EVIDENCE, "method": "double_opt_in"})),
        (GRANT, ("objection.raised.v1", {"scope": "purpose:offers"})),
        (
            ("contact.suppressed.v1", {"scope": "all", "legal": False}),
            ("contact.suppression_lifted.v1", {"scope": "all"}),
            GRANT,
        ),
        (("processing.restricted.v1", {}), ("processing.restriction_lifted.v1", {}), GRANT),
        (WITHDRAWAL, GRANT),
        (("consent.requested.v1", {"purpose": "newsletter", "channel": "email"}), GRANT),
    ],
)
def test_a_no_that_was_lifted_or_speaks_of_something_else_is_none(
    words: tuple[tuple[str, dict[str, Any]], ...],
) -> None:
    """Given a send after a no that a later act lifted, or that covers another purpose, then the receipt is verified."""
    assert verified(_sent(*words).draft().zipped()).events


@pytest.mark.parametrize(
    ("rule", "basis", "purpose", "declared"),
    [
        ("soft_opt_in", "soft-opt-in", "newsletter", True),
        ("contract", "contract", "transactional:receipt", False),
        ("opt_out_regime", "opt-out-regime", "newsletter", False),
    ],
)
def test_sends_on_other_bases_are_verified(rule: str, basis: str, purpose: str, declared: bool) -> None:
    """Given a send on a declared permission, a contract or no permission at all, then its receipt is verified."""
    told = Receipt(purpose=purpose).begin()
    if declared:
        said = {"purpose": purpose, "channel": "email", "basis": basis}
        told.claim["evidence"] = told.says("permission.declared.v1", **said)
    assert verified(told.send(rule, basis).draft().zipped()).events


@pytest.mark.parametrize(
    ("basis", "purpose"), [("contract", "newsletter"), ("opt-out-regime", "transactional"), ("x", "a")]
)
def test_a_basis_that_does_not_fit_its_purpose_is_refused(basis: str, purpose: str) -> None:
    """Given a newsletter sent on a contract, or a basis that there is not, then the receipt is refused."""
    told = Receipt(purpose=purpose).begin().send("consent", basis)
    assert f"The basis {basis!r}" in str(_refusal(told.draft()))


def test_a_topic_that_is_not_known_refuses() -> None:
    """Given an event of a newer program in the person's stream before the send, then it is refused: it may be a no."""
    assert "does not know preference.stated.v1" in str(_refusal(_sent(GRANT, ("preference.stated.v1", {})).draft()))


def test_a_version_that_was_left_out_is_found() -> None:
    """Given a withdrawal that the house leaves out of the receipt, then the gap in the person's stream is named."""
    told = _sent(GRANT, WITHDRAWAL)
    told.then("contact.corrected.v1")
    told.claim |= {"before": 2, "evidence": 4}
    del told.positions[3]
    refusal = _refusal(told.draft())
    assert "this is its version 4 behind 2" in str(refusal)
    assert refusal.position == told.claim["next"]


def test_an_event_that_lacks_its_fields_is_refused_and_not_stumbled_over() -> None:
    """Given an event of the stream that is not written as it has to be, then the receipt is refused."""
    told = Receipt().begin().grant()
    told.says("objection.raised.v1")
    assert "not written as it has to be (KeyError)" in str(_refusal(told.send().draft()))


def test_a_send_after_its_campaign_was_closed_is_refused() -> None:
    """Given a campaign that was closed before the send, then the event that closed it is named."""
    told = Receipt().begin().grant()
    told.positions.append(told.story.add(CAMPAIGN, "campaign.closed.v1"))
    refusal = _refusal(told.send().draft())
    assert "was closed before" in str(refusal)
    assert refusal.position == told.positions[-2]


def test_a_send_for_another_campaign_is_refused() -> None:
    """Given a receipt that shows another campaign than the one the send was authorised for, then it is refused."""
    told = Receipt().begin().grant()
    plain = {"purpose": "offers", "channel": "email", "kind": "one-off"}
    other = told.story.add(OTHER, "campaign.registered.v1", plain)
    told.positions.append(other)
    told.send()
    told.claim["campaign"] = other
    assert "for another campaign than the one claimed" in str(_refusal(told.draft()))


def _claimed(kind: str, complete: object, story: Story, positions: list[int]) -> Draft:
    made = draft(story, positions, {"kind": kind, "complete": complete})
    if kind == "campaign":
        made.asked = {"campaign": CAMPAIGN.hex()}
    return made


def _kind_of(complete: object) -> str:
    """The kind of bundle that claims such a thing."""
    named = complete if isinstance(complete, dict) else {}
    return "period" if "positions" in named else "campaign" if "message_streams" in named else "request"


def _three() -> Story:
    """Two events of one stream with one of another between them: a campaign and a message of it."""
    story, named = Story(), {"campaign": CAMPAIGN.hex()}
    story.add(CAMPAIGN, "campaign.registered.v1", {"purpose": "newsletter", "channel": "email"})
    story.add(OTHER, "send.authorised.v1", named)
    story.add(CAMPAIGN, "campaign.closed.v1")
    story.add(OTHER, "message.delivered.v1", named)
    return story


@pytest.mark.parametrize(
    ("complete", "positions"),
    [
        ({"positions": [2, 4]}, [2, 3, 4]),
        ({"positions": [3, 2]}, []),
        ({"streams": {CAMPAIGN.hex(): 2}}, [1, 2, 3]),
        ({"streams": {CAMPAIGN.hex(): 1}}, [1]),
        ({"streams": {CAMPAIGN.hex(): 2}, "message_streams": True}, [1, 2, 3, 4]),
        ({"streams": {CAMPAIGN.hex(): 1}, "message_streams": True}, [1, 2]),
    ],
)
def test_what_is_claimed_whole_and_is_whole_is_verified(complete: object, positions: list[int]) -> None:
    """Given a stretch of the log or streams that are claimed whole, and are, then the bundle is verified."""
    assert verified(_claimed(_kind_of(complete), complete, _three(), positions).zipped()).events == len(positions)


def test_a_stretch_tells_its_times_and_what_may_stand_beyond() -> None:
    """Given part of a log, then it is said when it was recorded and what is open at its ends; a whole one is whole."""
    part = verified(_claimed("period", {"positions": [2, 3]}, _three(), [2, 3]).zipped())
    assert "The house dates them from 2026-11-21T08:02:00.000000Z to 2026-11-21T08:03:00.000000Z." in part.proven
    assert any("no event before and behind these" in sentence for sentence in part.not_proven)
    whole = verified(_claimed("period", {"positions": [1, 4]}, _three(), [1, 2, 3, 4]).zipped())
    assert not any("these was recorded" in sentence for sentence in whole.not_proven)


@pytest.mark.parametrize(
    ("complete", "positions", "reason"),
    [
        ({"positions": [2, 4]}, [2, 4], "Event 4: Events 2 to 4 are claimed, and event 3 should stand here"),
        ({"positions": [2, 4]}, [2, 3], "Events 4 to 4 are claimed, and are not here"),
        ({"positions": [2, 3]}, [2, 3, 4], "Event 4: Events 2 to 3 are claimed"),
        ({"positions": [2, 4]}, [1, 2, 3, 4], "Event 1: Events 2 to 4 are claimed"),
        ({"positions": [2, 4]}, [], "Events 2 to 4 are claimed, and are not here"),
        ({"positions": [0, 4]}, [], "no stretch of a log"),
        ({"positions": [4, 2]}, [], "no stretch of a log"),
        ({"positions": [True, 4]}, [], "no stretch of a log"),
        ({"streams": {CAMPAIGN.hex(): 2}}, [3], "Event 3: Its stream is claimed whole, and this is its version 2"),
        ({"streams": {CAMPAIGN.hex(): 2}}, [1], "it ends with 1"),
        ({"streams": {CAMPAIGN.hex(): 1}}, [1, 3], "Event 3: Its stream is claimed whole"),
        ({"streams": {CAMPAIGN.hex(): 0}}, [], "ends nowhere"),
        ({"streams": {"x": 1}}, [], "is none"),
        (
            {"streams": {CAMPAIGN.hex(): 1}, "message_streams": True},
            [1, 4],
            "Event 4: Its stream is claimed whole, and this is its version 2",
        ),
        ({"streams": []}, [], "not the object"),
        ({"all": True}, [1], "in no known way"),
        (None, [1], "not the object"),
    ],
)
def test_what_is_claimed_whole_and_is_not_is_refused(complete: object, positions: list[int], reason: str) -> None:
    """Given a stretch or a stream that is claimed whole and has a gap, or goes further, then the event is named."""
    assert reason in str(_refusal(_claimed(_kind_of(complete), complete, _three(), positions)))


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"kind": "person", "complete": {"streams": {}}}, "another kind of bundle"),
        ({"kind": "period", "complete": {"streams": {}}, "send": {}}, "does not know, or one is missing"),
        ({"kind": "period"}, "does not know, or one is missing"),
    ],
)
def test_claims_of_another_kind_are_refused(claims: Claim, reason: str) -> None:
    """Given claims that are not those of the manifest's kind, then the bundle is refused."""
    made = _claimed("period", {"streams": {}}, _three(), [1])
    made.claim(claims)
    assert reason in str(_refusal(made))


GONE: Claim = {"signer": SIGNER, "about": {"kind": "plan"}, "unreachable_from": "2026-11-21"}


def _certified(**changes: Any) -> tuple[Story, dict[str, Any]]:
    """A destruction of two keys of one day, and the certificate with its list, changed in one point."""
    commitments = [bytes(31) + b"\1", bytes(31) + b"\2", bytes(31) + b"\3"]
    growing = GrowingTiles()
    for commitment in commitments:
        growing.append(leaf_hash(commitment))
    story = Story()
    committed = {"day": "2026-11-20", "count": 3, "root": growing.root().hex()}
    day = {"count": 3, "root": committed["root"], "position": story.add(SUBJECT, "keys.committed.v1", committed)}
    first, second, third = map(leaf_hash, commitments)
    paths = {0: [second, third], 2: [node_hash(first, second)]}
    keys: dict[str, Any] = {
        "published": {"2026-11-20": day},
        "keys": [
            {"commitment": commitments[at].hex(), "index": at, "made_on": "2026-11-20", "path": [p.hex() for p in path]}
            for at, path in paths.items()
        ],
    }
    for name, change in changes.items():
        if name == "day":
            day |= change
        else:
            keys["keys"][0] |= {name: change}
    listed = {"digest": sha256(canonical(keys)).hexdigest(), "keys": 2}
    document = {"id": str(UUID(bytes=OTHER)), "stage": 1, "note": "zerstört", **GONE, "keys": {"list": listed}}
    digest = sha256(canonical(document)).hexdigest()
    story.add(OTHER, "certificate.issued.v1", {"stage": 1, "digest": digest})
    return story, exported_certificate(document, keys)


def _destruction(story: Story, certificate: dict[str, Any], positions: Sequence[int] = (1, 2)) -> Draft:
    made = _claimed("destruction", {"streams": {OTHER.hex(): 1}}, story, list(positions))
    made.files[f"certificates/{OTHER.hex()}.json"] = canonical(certificate)
    return made


def test_a_certificate_is_the_one_that_the_log_holds() -> None:
    """Given a certificate with its list of keys, then its digest, and each key's way to the log, are checked."""
    story, certificate = _certified()
    found = verified(_destruction(story, certificate).zipped())
    assert found.certificates == 1
    assert "Of its 2 keys, 2 were published in the log before it was issued." in found.proven
    certificate["certificate"]["stage"] = 2
    assert "not the one whose digest the log holds last" in str(_refusal(_destruction(story, certificate)))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"note": "Checked and found to be true."}, "too many"),
        ({"public_key": "11" * 32}, "another key than the one beside it"),
        ({"signature": "11" * 64}, "does not fit"),
        ({"signature": "11"}, "length of its type"),
        ({"signature": "no hex"}, "not written as it has to be"),
        ({"signature": 1}, "not written as it has to be"),
    ],
)
def test_nothing_stands_beside_a_certificate_that_is_not_checked(change: dict[str, Any], reason: str) -> None:
    """Given a certificate with free words beside it, or with another signature or key, then it is refused."""
    story, whole = _certified()
    assert reason in str(_refusal(_destruction(story, whole | change)))
    without = {name: value for name, value in whole.items() if name != next(iter(change))}
    if "note" not in change:
        assert "too few" in str(_refusal(_destruction(story, without)))


def test_a_certificate_with_another_id_is_refused() -> None:
    """Given a certificate whose digest the log holds, and that names another id than its file, then it is refused."""
    story, certificate = _certified()
    certificate["certificate"]["id"] = str(UUID(bytes=SUBJECT))
    digest = sha256(canonical(certificate["certificate"])).hexdigest()
    story.add(OTHER, "certificate.issued.v1", {"stage": 1, "digest": digest})
    made = _claimed("destruction", {"streams": {OTHER.hex(): 2}}, story, [1, 2, 3])
    made.files[f"certificates/{OTHER.hex()}.json"] = canonical(certificate)
    assert "not the one whose digest the log holds last" in str(_refusal(made))


def test_a_day_that_is_not_in_the_bundle_is_not_claimed_to_be_proven() -> None:
    """Given a certificate whose day of commitments is left out, then it is said what is not proven by that."""
    story, certificate = _certified()
    found = verified(_destruction(story, certificate, [2]).zipped())
    assert any("not every day's event is in the bundle" in sentence for sentence in found.not_proven)
    assert not any("were published" in sentence for sentence in found.proven)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"commitment": "00" * 32}, "was not published as it says"),
        ({"index": 1}, "was not published as it says"),
        ({"path": []}, "was not published as it says"),
        ({"made_on": "2026-11-19"}, "not written as it has to be"),
        ({"day": {"count": 4}}, "was not published as it says"),
        ({"day": {"root": "00" * 32}}, "was not published as it says"),
    ],
)
def test_a_key_that_was_never_published_is_refused(changes: dict[str, Any], reason: str) -> None:
    """Given a list with a key that leads to no published root, signed for by the house, then it is refused."""
    assert reason in str(_refusal(_destruction(*_certified(**changes))))


def test_a_list_that_leads_to_another_root_than_the_logs_is_refused() -> None:
    """Given a list that agrees with itself and not with the day's event, then that event is named."""
    story, certificate = _certified()
    forged = Story()
    forged.add(SUBJECT, "keys.committed.v1", {"day": "2026-11-20", "count": 3, "root": "00" * 32})
    forged.add(OTHER, "certificate.issued.v1", json.loads(story.events[1].entry)["plain"])
    refusal = _refusal(_destruction(forged, certificate))
    assert "gives a day another root than this event" in str(refusal)
    assert refusal.position == 1


def test_a_list_that_the_certificate_does_not_name_is_refused() -> None:
    """Given a list with a key taken out, or no list at all, then it is refused."""
    story, certificate = _certified()
    taken = certificate["destroyed_keys"]["keys"].pop()
    assert "not the one that the certificate names" in str(_refusal(_destruction(story, certificate)))
    certificate["destroyed_keys"]["keys"].append(taken)
    assert verified(_destruction(story, certificate).zipped()).certificates == 1
    certificate["destroyed_keys"] = None
    assert "do not belong together" in str(_refusal(_destruction(story, certificate)))
