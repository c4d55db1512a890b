"""Must show 2: what was proven before an erasure stays proven, and what is shown afterwards says that it is erased.

And FAULTS 21: who has bundles in which nothing was opened, and a list of addresses, recognises nobody in them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import blake2b, sha256
from pathlib import Path
from uuid import UUID
from zipfile import ZipFile

import pytest

from api.bootstrap import Instance
from api.bundling import collected_by_id
from audit.attacks.dictionary import recognised
from audit.attacks.links import LinksAttack
from audit.bundles.model import BundleErased, Collected, NothingToBundle
from audit.bundles.period import collect_period
from audit.bundles.person import collect_person
from audit.bundles.send import collect_send
from audit.log.proofs import prove
from audit.log.store import require_checkpoint
from audit.verify.tlog_proof import TlogProof
from domain.facts import NIL
from domain.records import Record
from ledger.application import Ledger
from ledger.embedded import EmbeddedPostgres
from ledger.exports import export_stream_id
from ledger.keys.names import KeyName
from projections.worker import catch_up
from retention.certificates.store import certificate
from retention.daily import run_daily
from retention.erasure.erasing import finish_erasures
from tests.acts import ask, emails, person, register, report, say, willing
from tests.audit.bundling import ACTOR, make, verified
from tests.audit.publishing import keys_of, publish
from tests.support import SettableClock

pytestmark = pytest.mark.store

PEOPLE = emails(12)
ERASED, KEPT = PEOPLE[:6], PEOPLE[6:]
VICTIM, LIVING = ERASED[2], KEPT[2]
STRANGERS = emails(20, "somebody.else")


@dataclass
class Shown:
    """What was handed out before anybody was erased."""

    bundles: list[Path] = field(default_factory=list)
    closed: list[Path] = field(default_factory=list)
    proofs: list[tuple[bytes, bytes]] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict)
    campaign: UUID = NIL


@pytest.fixture
def shown(instance: Instance, ledger: Ledger, tmp_path: Path) -> Shown:
    """Some life, and bundles of every kind, opened and closed, with a proof of every event."""
    willing(ledger, PEOPLE)
    found = Shown(campaign=register(ledger))
    found.tokens = ask(ledger, found.campaign, PEOPLE).allowed
    report(ledger, [(found.tokens[p], "clicked") for p in PEOPLE], url="https://example.com/a", ip="192.0.2.44")
    for address in PEOPLE:
        ledger.records.take([Record("support", {"text": f"I am {address}"}, "ticket", address)], actor=ACTOR)
    say(ledger, [VICTIM], "withdraw")
    for opened in (False, True):
        for collected in every_kind(ledger, found):
            path, _ = make(instance, ledger, collected, tmp_path, opened=opened)
            found.bundles.append(path)
            if not opened:
                found.closed.append(path)
    found.proofs = proofs_of(instance, ledger)
    catch_up(ledger)
    return found


def every_kind(ledger: Ledger, shown: Shown) -> list[Collected]:
    """What is shown of a victim, of somebody who stays, and of everybody."""
    return [
        *(collect_person(ledger, p) for p in (VICTIM, LIVING)),
        *(collect_send(ledger, shown.tokens[p]) for p in (VICTIM, LIVING)),
        collected_by_id(ledger, "campaign", shown.campaign),
        collect_period(ledger),
    ]


def proofs_of(instance: Instance, ledger: Ledger) -> list[tuple[bytes, bytes]]:
    """Every event's entry with its proof under the newest checkpoint."""
    publish(instance, ledger)
    with instance.services.writer.transaction() as connection:
        size = require_checkpoint(connection, ledger.tenant).size
        proofs = [prove(connection, ledger.tenant, position).format() for position in range(1, size + 1)]
    return [(event.state, proof) for event, proof in zip(ledger.log.select_log(1, size), proofs, strict=True)]


def erase(ledger: Ledger, people: Sequence[str]) -> dict[str, UUID]:
    """Erase people one after the other; returns their certificates."""
    certificates = {}
    for address in people:
        ledger.erasures.intend([address], reason="subject_request", actor=ACTOR)
        (outcome,) = finish_erasures(ledger)
        certificates[address] = outcome.certificate_id
    catch_up(ledger)
    return certificates


def parts_of(path: Path) -> dict[tuple[int, str], dict[str, object]]:
    """What a bundle says of each sealed part."""
    lines = ZipFile(path).read("disclosed.ndjson").splitlines()
    return {(said["position"], said["part"]): said for said in map(json.loads, lines)}


def test_earlier_bundles_and_proofs_still_verify(
    instance: Instance, ledger: Ledger, shown: Shown, clock: SettableClock
) -> None:
    """Given bundles and proofs from before, when half of all persons are erased and days go by, then all verify."""
    before = [verified(instance, ledger, path).parts for path in shown.bundles]
    erase(ledger, ERASED)
    clock.advance(timedelta(days=3))
    run_daily(ledger)
    publish(instance, ledger)
    assert [verified(instance, ledger, path).parts for path in shown.bundles] == before
    assert sum(parts.opened for parts in before) > len(PEOPLE)
    keys = keys_of(instance, ledger)
    for entry, proof in shown.proofs:
        TlogProof.parse(proof).require_logged(entry, keys)


def test_newer_bundles_say_erased(instance: Instance, ledger: Ledger, shown: Shown, tmp_path: Path) -> None:
    """Given erased persons, when the same period is shown opened again, then each part of theirs says since when, why
    and under what, and everybody else's opens as before."""
    last = len(shown.proofs)
    subjects = {person(ledger, p).person.subject.hex() for p in ERASED}
    erase(ledger, ERASED)
    path, made = make(instance, ledger, collect_period(ledger, last=last), tmp_path, opened=True)
    found = verified(instance, ledger, path)
    said = parts_of(path)
    entries = dict(line.split("\t", 1) for line in ZipFile(path).read("entries.tsv").decode().splitlines())
    erased = {key for key, part in said.items() if "erased" in part}
    theirs = {key for key in said if json.loads(entries[str(key[0])])["stream"] in subjects}
    assert erased == theirs
    assert found.parts.erased == made.counts.erased == len(theirs) == 13
    today = f"{ledger.clock():%Y-%m-%d}"
    for key in erased:
        told = said[key]["erased"]
        assert isinstance(told, dict)
        assert told["certificate"] == f"erasures of {today}"
        assert str(told["when"]).startswith(today)
    assert found.parts.opened >= 2 * len(KEPT)
    assert all(p not in ZipFile(path).read("summary.html").decode() for p in ERASED)
    assert all(p in ZipFile(path).read("summary.html").decode() for p in KEPT)


def test_nothing_new_can_be_shown_of_who_was_erased(ledger: Ledger, shown: Shown, clock: SettableClock) -> None:
    """Given an erased person, then neither address nor token leads to a bundle, and the answer says why."""
    erase(ledger, ERASED)
    with pytest.raises(NothingToBundle, match="nothing leads from the address"):
        collect_person(ledger, VICTIM)
    with pytest.raises(BundleErased, match=r"was erased\. Receipts that were made before still verify"):
        collect_send(ledger, shown.tokens[VICTIM])
    assert collect_send(ledger, shown.tokens[LIVING]).positions


def test_the_certificate_lists_what_had_left_the_house(instance: Instance, ledger: Ledger, shown: Shown) -> None:
    """Given exports about one person, when they are erased, then their certificate lists them, by month and kind."""
    month = f"{ledger.clock():%Y-%m}"
    certificates = erase(ledger, ERASED)
    listed = certificate(ledger, certificates[VICTIM]).document["exports"]
    assert listed == [
        {"about": "person", "kind": kind, "month": month, "opened": opened, "count": 1}
        for kind in ("bundle.person", "bundle.send")
        for opened in (False, True)
    ]
    assert certificate(ledger, certificates[ERASED[0]]).document["exports"] == []
    inventory = {
        row["artefact"]: row["state"] for row in certificate(ledger, certificates[VICTIM]).document["inventory"]
    }
    assert "listed" in inventory["exports and bundles that left the house"]


def test_exports_lead_nowhere_once_the_day_is_over(
    instance: Instance, server: EmbeddedPostgres, ledger: Ledger, shown: Shown, clock: SettableClock
) -> None:
    """Given a certificate that lists exports, when somebody has it beside the address, the whole database and every
    living secret, then it leads to no event; before the erasure the same program finds the export."""
    attack = LinksAttack(
        ledger_url=server.url("lethe_ledger"),
        vault_url=server.url("lethe_vault"),
        provider=ledger.services.vault.provider,
        tenant=ledger.tenant,
    )
    row = person(ledger, VICTIM)
    name = KeyName(row.person.kid, "identity")
    key = ledger.keyring.find([name]).keys[name]
    export = UUID(bytes=export_stream_id(key, f"{ledger.clock():%Y-%m}"))
    subject = UUID(bytes=row.person.subject)
    assert {export, subject} <= {lead.stream for lead in attack.leads(VICTIM)}
    certificates = erase(ledger, ERASED)
    clock.advance(timedelta(days=2))
    run_daily(ledger)
    clock.advance(timedelta(days=8))
    run_daily(ledger)
    catch_up(ledger)
    assert attack.leads(VICTIM, receipts=[certificates[VICTIM]]) == []
    assert attack.leads_from(export) == [lead for lead in attack.leads_from(export) if lead.stream == export]


def test_a_dictionary_recognises_nobody(ledger: Ledger, shown: Shown) -> None:
    """Given bundles in which nothing was opened, when every address of the account is tried, then none is found."""
    assert len(shown.closed) == 6
    for path in shown.closed:
        assert recognised(path, [*PEOPLE, *STRANGERS]) == []


def test_the_dictionary_finds_what_is_there(instance: Instance, ledger: Ledger, shown: Shown, tmp_path: Path) -> None:
    """Given an address in the clear, hashed, cut off, keyed with the account's id or made into an id, then it is found:
    the control of the test before."""
    opened = next(path for path in shown.bundles if "person" in path.name and path not in shown.closed)
    assert {guess.address for guess in recognised(opened, [*PEOPLE, *STRANGERS])} == {VICTIM}
    hashed = {
        "plain": sha256(KEPT[0].encode()).hexdigest(),
        "cut off": sha256(KEPT[1].encode()).hexdigest()[:20],
        "keyed": blake2b(KEPT[2].encode(), key=ledger.tenant.bytes, digest_size=16).hexdigest(),
    }
    for number, digest in enumerate(hashed.values()):
        ledger.register_campaign(
            name="Spring",
            purpose="newsletter",
            channel="email",
            kind="one-off",
            content_sha256=digest,
            tracking_disclosed=False,
            actor=ACTOR,
        )
        path, _ = make(instance, ledger, collect_period(ledger), tmp_path)
        assert {g.address for g in recognised(path, [*PEOPLE, *STRANGERS])} == set(KEPT[: number + 1])
