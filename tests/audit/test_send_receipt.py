"""Send receipts: one message end to end, from the token in the mail, and what happens to them as time goes on."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4
from zipfile import ZipFile

import pytest

from api.bootstrap import Instance
from audit.bundles.model import BundleErased, CannotBundle, Collected, positions_of
from audit.bundles.send import collect_send
from audit.verify.errors import BundleRefused, ClaimRefused
from audit.verify.rules import RULES_NOT_PROVEN
from domain.account import RulesAdopted
from domain.ids import month_of
from domain.law import law_with
from domain.law.rules import packaged_texts
from domain.message import SendAuthorised
from domain.subject_commands import SayNo
from ledger.accounts import AccountDesk
from ledger.application import Ledger
from ledger.errors import InvalidToken
from ledger.keys.keyring import LINK
from ledger.keys.names import TENANT_HOLDER, KeyName
from ledger.links import TokenSealer
from ledger.subjects import Act
from tests.acts import add, ask, emails, register, report, say, willing
from tests.audit.bundling import make, verified
from tests.support import SettableClock

pytestmark = pytest.mark.store

PEOPLE = emails(4)
ANNA, BERT = PEOPLE[:2]


def claims_of(path: Path) -> dict[str, object]:
    """What a receipt says its events mean."""
    claims = json.loads(ZipFile(path).read("claims.json"))["send"]
    assert isinstance(claims, dict)
    return claims


def test_a_receipt_shows_the_words_that_it_rests_on(instance: Instance, ledger: Ledger, tmp_path: Path) -> None:
    """Given a consent, a send and a later withdrawal, when the send is proven, then each stands where it stood."""
    willing(ledger, PEOPLE)
    token = ask(ledger, register(ledger), PEOPLE).allowed[ANNA]
    report(ledger, [(token, "dispatched")])
    say(ledger, [ANNA], "withdraw")
    path, _ = make(instance, ledger, collect_send(ledger, token), tmp_path, opened=True)
    proven = " ".join(verified(instance, ledger, path).proven)
    assert "the person's newest word on that purpose" in proven
    assert "behind the decision" in proven
    assert "The token leads to this message" in proven
    evidence = claims_of(path)["evidence"]
    said = [json.loads(line) for line in ZipFile(path).read("disclosed.ndjson").splitlines()]
    assert {"evidence": {"ip": "192.0.2.1", "method": "double_opt_in"}} in [
        part["opened"] for part in said if part["position"] == evidence
    ]


def test_the_rules_of_the_day_are_in_it_with_their_sources(instance: Instance, ledger: Ledger, tmp_path: Path) -> None:
    """Given a decision, when it is proven, then every row of the law that it rested on is there, and cited."""
    willing(ledger, PEOPLE)
    path, _ = make(
        instance, ledger, collect_send(ledger, ask(ledger, register(ledger), PEOPLE).allowed[ANNA]), tmp_path
    )
    rules = claims_of(path)["rules"]
    assert isinstance(rules, dict)
    assert rules["version"] == ledger.services.rules(ledger.clock().date()).version
    assert len(rules["rows"]) > 40
    assert all(row["source"] for row in rules["rows"])
    verified(instance, ledger, path)


def test_the_adoption_of_the_rules_is_in_it_and_proven(instance: Instance, ledger: Ledger, tmp_path: Path) -> None:
    """Given a decision, when it is proven, then so is that the account had adopted every word of its rules before."""
    willing(ledger, PEOPLE)
    ask(ledger, register(ledger), [BERT])
    path, _ = make(
        instance, ledger, collect_send(ledger, ask(ledger, register(ledger), PEOPLE).allowed[ANNA]), tmp_path
    )
    adopted, authorised = (claims_of(path)[name] for name in ("adopted", "authorised"))
    assert isinstance(adopted, int)
    assert isinstance(authorised, int)
    assert ledger.log.select_log(adopted, 1)[0].topic == RulesAdopted.TOPIC
    assert adopted < authorised
    found = verified(instance, ledger, path)
    assert any(f"Event {adopted} had adopted" in sentence for sentence in found.proven)
    assert RULES_NOT_PROVEN not in found.not_proven
    assert "the adoption of the rules" in ZipFile(path).read("summary.html").decode()


def test_rows_that_the_house_words_anew_are_refused(instance: Instance, ledger: Ledger, tmp_path: Path) -> None:
    """Given a house that shows a row with another note than it had adopted, signed for, then that is refused."""
    willing(ledger, PEOPLE)
    collected = collect_send(ledger, ask(ledger, register(ledger), PEOPLE).allowed[ANNA])
    said = deepcopy(collected.claims)
    said["send"]["rules"]["rows"][0]["note"] += " Or not."
    path, _ = make(instance, ledger, replace(collected, claims=said), tmp_path)
    with pytest.raises(ClaimRefused, match="to the letter"):
        verified(instance, ledger, path)


def test_a_send_from_before_the_account_adopted_rules(
    instance: Instance, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a send of the time before accounts adopted rules, then its receipt says what it always said, also once the
    account has adopted the same rules for a later send, whose receipt says more."""
    willing(ledger, PEOPLE)
    with monkeypatch.context() as older:
        older.setattr(AccountDesk, "adopt_rules", lambda *_, **__: None)
        before = ask(Ledger(ledger.tenant, ledger.services), register(ledger), [ANNA]).allowed[ANNA]
    after = ask(ledger, register(ledger), [ANNA]).allowed[ANNA]
    path, made = make(instance, ledger, collect_send(ledger, before), tmp_path)
    assert "adopted" not in claims_of(path)
    assert RULES_NOT_PROVEN in verified(instance, ledger, path).not_proven
    assert made.manifest["kind"] == "send"
    path, _ = make(instance, ledger, collect_send(ledger, after), tmp_path)
    assert "adopted" in claims_of(path)
    assert RULES_NOT_PROVEN not in verified(instance, ledger, path).not_proven


def test_rules_whose_note_was_mended_since_are_not_said_to_be_adopted(
    instance: Instance, ledger: Ledger, tmp_path: Path
) -> None:
    """Given a send decided by a release with another note, when this one proves it, then the rows that it can show are
    not those that were adopted: it claims no adoption, and says so, and the receipt verifies."""
    mended = packaged_texts()["regimes.toml"].replace("No prior consent;", "No prior consent at all;")
    other = Ledger(ledger.tenant, replace(ledger.services, rules=law_with({"regimes.toml": mended}).on))
    willing(ledger, PEOPLE)
    token = ask(other, register(ledger), [ANNA]).allowed[ANNA]
    assert len(ledger.accounts.state().rules_adopted) == 1
    path, _ = make(instance, ledger, collect_send(ledger, token), tmp_path)
    assert "adopted" not in claims_of(path)
    assert RULES_NOT_PROVEN in verified(instance, ledger, path).not_proven
    assert "is not shown" in ZipFile(path).read("summary.html").decode()


def test_each_occurrence_has_a_receipt_of_its_own(instance: Instance, ledger: Ledger, tmp_path: Path) -> None:
    """Given an ongoing campaign that wrote twice to one person, then each token proves its own authorisation."""
    willing(ledger, PEOPLE)
    ongoing = register(ledger, kind="ongoing")
    tokens = [ask(ledger, ongoing, [(ANNA, order)]).allowed[ANNA] for order in ("order 1", "order 2")]
    authorised = []
    for token in tokens:
        path, _ = make(instance, ledger, collect_send(ledger, token), tmp_path)
        verified(instance, ledger, path)
        authorised.append(claims_of(path)["authorised"])
    assert authorised == sorted(set(authorised))  # type: ignore[type-var]


def test_a_service_message_rests_on_no_word(instance: Instance, ledger: Ledger, tmp_path: Path) -> None:
    """Given a service message to somebody who never agreed to anything, then its receipt names no evidence."""
    add(ledger, [ANNA], first_name="Anna", country="DE")
    token = ask(ledger, register(ledger, purpose="transactional"), [ANNA]).allowed[ANNA]
    path, _ = make(instance, ledger, collect_send(ledger, token), tmp_path)
    assert "evidence" not in claims_of(path)
    assert "basis 'contract'" in " ".join(verified(instance, ledger, path).proven)


def test_without_the_link_it_is_not_shown_which_mail_it_was(instance: Instance, ledger: Ledger, tmp_path: Path) -> None:
    """Given a receipt without its link, then neither token nor link key is in it, and the verifier says so."""
    willing(ledger, PEOPLE)
    token = ask(ledger, register(ledger), PEOPLE).allowed[ANNA]
    path, _ = make(instance, ledger, collect_send(ledger, token, link=False), tmp_path)
    found = verified(instance, ledger, path)
    assert any("Which mail this message is" in sentence for sentence in found.not_proven)
    assert token.encode() not in path.read_bytes()
    assert {"link", "token"}.isdisjoint(claims_of(path))


# Lies ---------------------------------------------------------------------------------------------------------------


def test_a_no_that_is_left_out_is_caught(instance: Instance, ledger: Ledger, tmp_path: Path) -> None:
    """Given a house that authorised after an objection and leaves the objection out, then the gap is refused; and put
    back, it is refused as a no that stands between."""
    willing(ledger, PEOPLE)
    first = ask(ledger, register(ledger), [ANNA]).allowed[ANNA]
    ledger.act(Act(SayNo("objection", "marketing"), address=ANNA))
    say(ledger, [ANNA], "grant", purpose="offers")
    honest = collect_send(ledger, first)
    lying = with_later_decision(ledger, honest)
    path, _ = make(instance, ledger, lying, tmp_path)
    with pytest.raises(ClaimRefused, match="objection"):
        verified(instance, ledger, path)
    (objection,) = (p for p in lying.positions if ledger.log.select_log(p, 1)[0].topic == "objection.raised.v1")
    silent = replace(lying, positions=positions_of(set(lying.positions) - {objection}))
    path, _ = make(instance, ledger, silent, tmp_path)
    with pytest.raises(ClaimRefused, match="version"):
        verified(instance, ledger, path)


def test_the_receipt_of_another_persons_message_is_refused(instance: Instance, ledger: Ledger, tmp_path: Path) -> None:
    """Given a receipt whose token is swapped for another person's, then the token does not lead to the message."""
    willing(ledger, PEOPLE)
    tokens = ask(ledger, register(ledger), PEOPLE).allowed
    collected = collect_send(ledger, tokens[ANNA])
    said = {**collected.claims["send"], "token": tokens[BERT]}
    path, _ = make(instance, ledger, replace(collected, claims={**collected.claims, "send": said}), tmp_path)
    with pytest.raises(BundleRefused):
        verified(instance, ledger, path)


def with_later_decision(ledger: Ledger, honest: Collected) -> Collected:
    """The same receipt, said to be of a decision that came after everything that the person said.

    The house wrote that decision into its log without asking any rule.
    """
    campaign = register(ledger)
    with ledger.appender.locked() as locked:
        fact = SendAuthorised(
            campaign=campaign.hex,
            expires_at=locked.now + timedelta(days=1),
            rule="consent",
            basis="consent",
            originator_id=UUID(bytes=campaign.bytes[:6] + bytes.fromhex("70008000000000000001")),
            originator_version=1,
            event_id=uuid4(),
            occurred_at=locked.now,
            rules=ledger.services.rules(locked.now.date()).version,
        )
        (authorised,) = locked.record([(ledger.sealing.draft(fact), 1)], restricts=False)
    subject = honest.claims["send"]["subject"]
    own = ledger.log.select_streams([UUID(hex=subject)])
    kept = {name: value for name, value in honest.claims["send"].items() if name not in ("next", "link", "token")}
    said = kept | {"authorised": authorised, "before": len(own), "campaign": authorised - 1}
    streams = {subject: len(own), fact.originator_id.hex: 1}
    claims = {"kind": "send", "complete": {"streams": dict(sorted(streams.items()))}, "send": said}
    positions = [*(e.position for e in own), authorised, authorised - 1]
    return replace(honest, claims=claims, positions=positions_of(p for p in positions if p is not None))


# The end of the way -------------------------------------------------------------------------------------------------


def test_a_message_whose_time_is_over_has_no_new_receipt(
    instance: Instance, ledger: Ledger, clock: SettableClock, tmp_path: Path
) -> None:
    """Given a month whose link key was destroyed, then no receipt can be made of its messages, and the answer says
    that those made before still verify; which they do."""
    willing(ledger, PEOPLE)
    token = ask(ledger, register(ledger), PEOPLE).allowed[ANNA]
    path, _ = make(instance, ledger, collect_send(ledger, token), tmp_path)
    month = month_of(ledger.clock())
    name = KeyName(TENANT_HOLDER, LINK, month)
    ledger.services.vault.destroy_keys(
        ledger.tenant, [name], when=ledger.clock() + timedelta(days=800), cause="retention", certificate="plan"
    )
    ledger.keyring.forget_all()
    with pytest.raises(BundleErased, match=r"time of the messages of .* is over"):
        collect_send(ledger, token)
    verified(instance, ledger, path)


def test_tokens_of_nobody_are_refused(ledger: Ledger) -> None:
    """Given a token that was changed, one of another account's key, and one of a message that never was, then each is
    refused by its reason."""
    willing(ledger, PEOPLE)
    campaign = register(ledger)
    token = ask(ledger, campaign, [ANNA]).allowed[ANNA]
    with pytest.raises(InvalidToken):
        collect_send(ledger, token[:-3] + ("AAA" if token[-3:] != "AAA" else "BBB"))
    with pytest.raises(InvalidToken):
        collect_send(
            ledger, TokenSealer(month_of(ledger.clock()), bytes(32)).seal(bytes(16), campaign.bytes, bytes(12))
        )
    row = ledger.person(BERT)
    assert row is not None
    key = ledger.keyring.period_key(LINK, month_of(ledger.clock()))
    never = TokenSealer(month_of(ledger.clock()), key).seal(row.person.handle, campaign.bytes, bytes(12))
    with pytest.raises(CannotBundle, match="never authorised"):
        collect_send(ledger, never)
