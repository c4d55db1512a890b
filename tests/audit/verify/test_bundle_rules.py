"""The rules of a receipt: which words of the law an account had adopted before it decided by them."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from hashlib import sha256
from typing import Any

import pytest

from audit.verify.errors import BundleRefused, ClaimRefused
from audit.verify.rules import LAW_NOT_PROVEN, RULES_NOT_PROVEN
from domain.law import rules_on
from ledger.entry import canonical
from tests.bundles import OTHER, RULES, RULES_DIGEST, Receipt, moment, receipt, verified

Row = dict[str, Any]
OTHER_DIGEST = sha256(b"other words").hexdigest()


def told(adopt: Callable[[Receipt], object] = lambda story: story.adopts()) -> Receipt:
    """A send whose rules were adopted like this before it was authorised; its rows can be changed."""
    story = Receipt().begin()
    adopt(story)
    story.grant().send()
    story.claim["rules"] = deepcopy(RULES)
    return story


def refusal(story: Receipt) -> str:
    """Why this receipt is refused, signed for by the house as it is."""
    with pytest.raises(ClaimRefused) as refused:
        verified(story.draft().zipped())
    return str(refused.value)


def test_rules_that_were_adopted_before_are_proven_to_the_letter() -> None:
    """Given an adoption before the send, then rows, days, sources and notes are proven, and only the law is not."""
    story = told()
    found = verified(story.draft().zipped())
    (sentence,) = (sentence for sentence in found.proven if "had adopted" in sentence)
    assert f"Event {story.claim['adopted']} had adopted {RULES['version']}" in sentence
    assert LAW_NOT_PROVEN in found.not_proven
    assert RULES_NOT_PROVEN not in found.not_proven


def test_a_receipt_from_before_adoptions_says_what_it_always_said() -> None:
    """Given a send that was decided before accounts adopted rules, then its receipt verifies and claims no more."""
    found = verified(receipt().draft().zipped())
    assert RULES_NOT_PROVEN in found.not_proven
    assert LAW_NOT_PROVEN not in found.not_proven
    assert not any("adopted" in sentence for sentence in found.proven)


def test_an_adoption_of_other_rules_is_no_ones_business() -> None:
    """Given an adoption of another version in the bundle, then the one of this version counts all the same."""
    story = told(lambda story: story.adopts(version="law-2001-01-01-00000000", digest=OTHER_DIGEST).adopts())
    assert any("had adopted" in sentence for sentence in verified(story.draft().zipped()).proven)


@pytest.mark.parametrize(
    "change",
    [
        lambda row: row.update(note="Nobody has to be asked."),
        lambda row: row.update(source="ePrivacy Directive Art. 14"),
        lambda row: row.update(effective_from="2004-07-07"),
        lambda row: row.update(effective_to="2030-01-01"),
        lambda row: row.pop("note"),
        lambda row: row.update(more=""),
    ],
    ids=["note", "source", "first_day", "last_day", "field_gone", "field_added"],
)
def test_a_row_in_other_words_is_refused(change: Callable[[Row], object]) -> None:
    """Given an adoption, when a day, a source or a note of a row is changed, then the receipt is refused; and without
    an adoption the same change goes through, which is why it is said there that nothing ties them."""
    story = told()
    change(story.claim["rules"]["rows"][0])
    assert "not, to the letter, those that were adopted" in refusal(story)
    before = told(lambda story: story)
    change(before.claim["rules"]["rows"][0])
    assert RULES_NOT_PROVEN in verified(before.draft().zipped()).not_proven


def test_an_adoption_that_is_left_out_is_refused() -> None:
    """Given a claim whose adoption is not in the bundle, or an adoption that is not claimed, then each is refused."""
    missing, unclaimed = told(), told()
    missing.positions.remove(missing.claim["adopted"])
    assert "is not in the bundle" in refusal(missing)
    del unclaimed.claim["adopted"]
    assert "the receipt does not claim it" in refusal(unclaimed)


def test_an_adoption_after_the_decision_is_refused() -> None:
    """Given a house that adopts the rules once it has decided, then that proves nothing of the decision."""
    story = told(lambda story: story).adopts()
    assert "adopted after the send had been authorised" in refusal(story)


@pytest.mark.parametrize(
    ("adopt", "reason"),
    [
        (lambda story: story.adopts(stream=OTHER), "in the account's own stream"),
        (lambda story: story.adopts(version="law-2004-07-09-00000000"), "and the send was decided under law-"),
        (lambda story: story.adopts(digest=OTHER_DIGEST), "not, to the letter"),
        (lambda story: story.adopts(digest=RULES_DIGEST.upper()), "not, to the letter"),
        (lambda story: story.adopts(digest=OTHER_DIGEST).adopts(), "in other words than event 4"),
        (lambda story: story.adopts().adopts(digest=OTHER_DIGEST), "in other words than event 4"),
    ],
    ids=["stream", "version", "digest", "spelling", "two_wordings", "two_wordings_turned"],
)
def test_another_adoption_is_refused(adopt: Callable[[Receipt], object], reason: str) -> None:
    """Given an adoption of another stream, version or wording, or two wordings of one version, then it is refused."""
    assert reason in refusal(told(adopt))


def test_an_adoption_of_another_account_is_refused() -> None:
    """Given the adoption of another account, put into this one's log by its house, then the event is refused."""
    stranger = bytes.fromhex("0190a0000009700080000000000000ee")
    story = Receipt().begin()
    plain = {"rules_version": RULES["version"], "digest": RULES_DIGEST}
    adopted = story.story.add(stranger, "account.rules_adopted.v1", plain, tenant=stranger.hex())
    story.grant().send()
    story.positions.append(adopted)
    story.claim["adopted"] = adopted
    with pytest.raises(BundleRefused, match="another tenant"):
        verified(story.draft().zipped())


def test_two_wordings_are_refused_behind_the_decision_as_well() -> None:
    """Given a second wording of the version after the send, shown in the same receipt, then it is refused."""
    story = told()
    first = story.claim["adopted"]
    story.adopts(digest=OTHER_DIGEST)
    story.claim["adopted"] = first
    assert f"in other words than event {first}" in refusal(story)


@pytest.mark.parametrize("adopted", [True, "4", -1, 3], ids=["bool", "text", "negative", "other_event"])
def test_an_adoption_that_is_none_is_refused(adopted: object) -> None:
    """Given a claim that names no adoption, then it is refused."""
    story = told()
    story.claim["adopted"] = adopted
    assert "position or a stream that is none" in refusal(story) or "adopts no rules" in refusal(story)


@pytest.mark.parametrize(
    ("days", "reason"),
    [
        ({"effective_from": "2026-11-22"}, "in force from 2026-11-22 to further notice, not on 2026-11-21"),
        ({"effective_to": "2026-11-20"}, "in force from 2004-07-08 to 2026-11-20, not on 2026-11-21"),
        ({"effective_from": None}, "does not say from which day"),
        ({"effective_to": "for ever"}, "does not say from which day"),
    ],
)
def test_rules_that_were_not_in_force_are_refused(days: Row, reason: str) -> None:
    """Given rows that the account adopted and that were not in force on the day of the decision, by their own days,
    then the receipt is refused."""
    assert moment(0).date().isoformat() == "2026-11-21"
    row = {**RULES["rows"][0], **days}
    story = told(lambda story: story.adopts(digest=sha256(canonical(row)).hexdigest()))
    story.claim["rules"]["rows"] = [row]
    assert reason in refusal(story)


def test_a_row_is_in_force_on_its_first_and_on_its_last_day() -> None:
    """Given a row of this one day, then a decision of the day is by a row in force."""
    row = {**RULES["rows"][0], "effective_from": "2026-11-21", "effective_to": "2026-11-21"}
    story = told(lambda story: story.adopts(digest=sha256(canonical(row)).hexdigest()))
    story.claim["rules"]["rows"] = [row]
    assert LAW_NOT_PROVEN in verified(story.draft().zipped()).not_proven


def test_the_verifier_and_the_law_make_the_same_digest() -> None:
    """Given the law of a day, its rows in any order, then the verifier finds the digest that the program adopts."""
    rules = rules_on(moment(0).date())
    rows = [row.written() for row in reversed(rules.rows)]
    story = Receipt(rules={"version": rules.version, "rows": rows}).begin()
    story.adopts(version=rules.version, digest=rules.digest).grant().send()
    assert LAW_NOT_PROVEN in verified(story.draft().zipped()).not_proven
