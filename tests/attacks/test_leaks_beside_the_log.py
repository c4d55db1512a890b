"""Attacks on what proves things: the log's tables, exports as facts, custody's files, exported logs, bundles.

After an erasure and its days nothing of it leads from the address or the certificate to the person's events (I11), and
nothing stands in the clear (I4). Each way that must not be there is put there by hand once, and the attack finds it.
"""

from __future__ import annotations

import tempfile
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import orjson
import psycopg
import pytest

from api.bootstrap import Instance
from api.bundling import proof_source
from api.consent_documents import consent_document
from audit.attacks.clear_text import search_clear_text
from audit.attacks.links import LinksAttack
from audit.attacks.links.files import FileTooLarge
from audit.bundles.making import prepared_bundle
from audit.bundles.period import collect_period
from audit.bundles.person import collect_person
from audit.log.export import export_log
from audit.trail.export import TrailExport
from audit.trail.section import section_of
from domain.access import rounded_up
from domain.merkle import leaf_hash
from ledger.application import Ledger
from ledger.embedded import EmbeddedPostgres
from projections.worker import catch_up
from retention.daily import run_daily
from retention.erasure.erasing import finish_erasures
from tests.acts import ask, emails, person, register, say, willing
from tests.audit.bundling import make
from tests.audit.publishing import publish
from tests.support import SettableClock

pytestmark = pytest.mark.store

PEOPLE = emails(8)
VICTIM, OTHERS = PEOPLE[3], PEOPLE[4:]


@dataclass
class Scene:
    """A person who was erased among others, and what is known of them."""

    server: EmbeddedPostgres
    ledger: Ledger
    attack: LinksAttack
    subject: UUID
    erasure: UUID
    certificate: UUID
    leaf: bytes
    position: int
    folder: Path

    def reached(self) -> set[UUID]:
        """The streams that the address and the receipts lead to."""
        receipts = [self.erasure, self.certificate]
        return {lead.stream for lead in self.attack.leads(VICTIM, receipts=receipts)}


def attacker(server: EmbeddedPostgres, instance: Instance, ledger: Ledger, *folders: Path) -> LinksAttack:
    """An attacker who has the databases, the keys and these folders."""
    return LinksAttack(
        ledger_url=server.url("lethe_ledger"),
        vault_url=server.url("lethe_vault"),
        provider=instance.services.vault.provider,
        tenant=ledger.tenant,
        folders=folders,
    )


@pytest.fixture
def scene(instance: Instance, server: EmbeddedPostgres, ledger: Ledger, clock: SettableClock, tmp_path: Path) -> Scene:
    """Everything that leaves the house is made of a person, published and kept; then they are erased with others."""
    willing(ledger, PEOPLE)
    say(ledger, [VICTIM], "withdraw")
    ask(ledger, register(ledger), PEOPLE)
    for opened in (False, True):
        make(instance, ledger, collect_person(ledger, VICTIM), tmp_path, opened=opened)
        make(instance, ledger, collect_period(ledger), tmp_path, opened=opened)
        consent_document(instance, ledger, "record", VICTIM, opened=opened, actor="cli")
        b"".join(TrailExport(ledger, section_of(ledger), "ndjson", opened=opened, actor="cli").blocks())
    subject = UUID(bytes=person(ledger, VICTIM).person.subject)
    kept = tmp_path / "kept"
    attack = attacker(server, instance, ledger, *instance.settings.folders_for_custody(), kept)
    assert subject in {lead.stream for lead in attack.leads(VICTIM)}, "While they live the attack finds them."
    erased = {}
    for address in (VICTIM, *OTHERS):
        clock.advance(timedelta(seconds=17))
        (status,) = ledger.erasures.intend([address], reason="subject_request", actor="cli")
        (outcome,) = finish_erasures(ledger)
        erased[address] = (status.erasure_id, outcome.certificate_id)
    for days in (1, 9):
        publish(instance, ledger)
        clock.advance(timedelta(days=days))
        run_daily(ledger)
    catch_up(ledger)
    publish(instance, ledger)
    export_log(kept, instance.services.writer.connection, ledger.tenant, entries=True)
    intents = ledger.log.select_log(1, 10_000, topics=["erasure.intended.v1"])
    (intent,) = (event for event in intents if event.originator_id == subject)
    assert intent.position is not None
    return Scene(server, ledger, attack, subject, *erased[VICTIM], leaf_hash(intent.state), intent.position, kept)


def test_nothing_of_the_log_and_its_files_leads_back(scene: Scene) -> None:
    """Given an erased person of whom everything was exported, when the days are over, then nothing of it leads back."""
    assert scene.reached() == set()


# What must not stand in a table ---------------------------------------------------------------------------------------

Planting = tuple[str, str]
"""A table, and the values of a row of it that ties the certificate to the person; 99 is the series or generation."""

BY_ID: dict[str, Planting] = {
    "an attempt": ("log_attempt", "%(tenant)s, 99, 'witness', 'planted', %(text)s, 1, now()"),
    "a cosignature": ("log_cosignature", "%(tenant)s, 99, 1, 'planted', %(base64)s, now()"),
    "a token at an odd place": ("log_timestamp", "%(tenant)s, 99, 1, 'planted', %(odd)s, now()"),
    "a note": ("log_checkpoint", "%(tenant)s, 99, 1, sha256('planted'), %(note)s, now()"),
    "a checkpoint of that size": ("log_checkpoint", "%(tenant)s, 99, %(position)s, sha256('x'), %(receipt)s, now()"),
    "a count by code": ("observed_count", "%(tenant)s, 99, 'a.v1', '', %(text)s, '2026-01-01', '2026-01-01', 1"),
    "an origin": ("log_series", "%(tenant)s, 99, %(text)s, now(), 0"),
    "a leaf": ("log_cosignature", "%(tenant)s, 99, 1, 'planted', %(leaf)s, now()"),
}
GENERATIONS = ("observed_count",)


@pytest.mark.parametrize("way", list(BY_ID))
def test_a_row_that_ties_a_receipt_to_the_person_is_found(scene: Scene, way: str) -> None:
    """Given the log's tables and what is observed, when a row names a receipt beside the person, then it is found."""
    table, row = BY_ID[way]
    ids = scene.certificate.bytes + scene.subject.bytes
    values = {
        "tenant": scene.ledger.tenant,
        "position": scene.position,
        "text": f"shown for {scene.certificate} of {scene.subject.hex}",
        "note": f"{scene.certificate}\n{scene.subject}\n".encode(),
        "base64": f"{b64encode(scene.certificate.bytes).decode()} {b64encode(scene.subject.bytes).decode()}",
        "odd": b"\x30\x82\x01" + ids + b"\x00\xff",
        "receipt": scene.certificate.bytes,
        "leaf": f"{scene.certificate} {scene.leaf.hex()}",
    }
    column = "generation" if table in GENERATIONS else "series"
    with psycopg.connect(scene.server.url("lethe_ledger"), autocommit=True) as superuser:
        names = [c.name for c in superuser.execute(f"SELECT * FROM lethe.{table} LIMIT 0".encode()).description or ()]
        count = row.count(",") + 1
        insert = f"INSERT INTO lethe.{table} ({', '.join(names[:count])}) VALUES ({row})"
        superuser.execute(insert.encode(), values)
        try:
            assert scene.subject in scene.reached()
        finally:
            delete = f"DELETE FROM lethe.{table} WHERE tenant_id = %(tenant)s AND {column} = 99"
            superuser.execute(delete.encode(), values)
    assert scene.reached() == set()


# What must not stand in a file ----------------------------------------------------------------------------------------

FILES: dict[str, Callable[[Scene], tuple[str, bytes]]] = {
    "a line of a kept checkpoint": lambda s: ("checkpoint", f"{s.certificate} {s.leaf.hex()}\n".encode()),
    "one account's item": lambda s: ("kept.json", orjson.dumps({"a": [s.certificate.hex, s.subject.hex], "b": []})),
    "a line of JSON": lambda s: ("journal", orjson.dumps({"certificate": str(s.certificate), "position": s.position})),
    "a file's name": lambda s: (f"{s.subject}.zip", str(s.certificate).encode()),
    "the address": lambda s: ("who.txt", f"{VICTIM}: {s.subject}".encode()),
}


@pytest.mark.parametrize("way", list(FILES))
def test_a_file_that_ties_a_receipt_to_the_person_is_found(scene: Scene, way: str) -> None:
    """Given the folders of custody and of an exported log, when a file of them names both, then the attack finds it."""
    name, content = FILES[way](scene)
    planted = scene.folder / name
    before = planted.read_bytes() if planted.exists() else None
    planted.write_bytes((before or b"") + content)
    assert scene.subject in scene.reached()
    if before is None:
        planted.unlink()
    else:
        planted.write_bytes(before)
    assert scene.reached() == set()


def test_a_file_that_is_too_large_is_no_file_without_leads(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a file that the attack does not read, then it says so and finds nobody innocent."""
    monkeypatch.setattr("audit.attacks.links.files.FILE_BYTES_MAX", 10)
    with pytest.raises(FileTooLarge):
        scene.reached()


# What is counted ------------------------------------------------------------------------------------------------------


def test_what_an_export_counts_singles_nobody_out(scene: Scene) -> None:
    """Given a certificate that lists exports, when the log's exports of that kind and month are compared with the
    streams that were erased that day, then none of them is of one stream alone."""
    guesses = scene.attack.guess_by_exports(scene.certificate)
    assert len(guesses) == 4
    assert all(scene.subject in guess and len(guess) > 1 for guess in guesses)


def test_an_export_that_counts_exactly_is_found(scene: Scene) -> None:
    """Given the counts that such facts had, then the person's longer stream is the only one of that day."""
    topics = [e.topic for e in scene.ledger.log.select_streams([scene.subject])]
    acts = sum(topic.startswith("consent.") for topic in topics)
    assert rounded_up(acts) != acts
    wanted = scene.ledger.log.select_log(1, 10_000, topics=["access.export_produced.v1"])
    export = next(event for event in wanted if b"consent.record" in event.state)
    exact = orjson.loads(export.state)
    exact["plain"]["entries"] = acts
    with psycopg.connect(scene.server.url("lethe_ledger"), autocommit=True) as superuser:
        superuser.execute("SET session_replication_role = replica")
        rewrite = b"UPDATE lethe.event SET entry = %s WHERE tenant_id = %s AND position = %s"
        superuser.execute(rewrite, (orjson.dumps(exact), scene.ledger.tenant, export.position))
    assert {scene.subject} in scene.attack.guess_by_exports(scene.certificate)


# In the clear ---------------------------------------------------------------------------------------------------------


def test_files_beside_the_log_hold_nothing_in_the_clear(
    scene: Scene, instance: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given custody's folders, an exported log and a bundle in the making with its parts opened, when every file is
    searched, then no address is found (I4); planted in each of them it is."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    living = PEOPLE[0]
    folders = [*instance.settings.folders_for_custody(), scene.folder, temporary]
    collected = collect_person(scene.ledger, living)
    with prepared_bundle(scene.ledger, collected, proof_source(instance), opened=True, actor="cli") as made:
        assert made.counts.opened
        members = open_files_of_this_process(temporary)
        assert members, "The members wait in a file that has no name."
        needles = [VICTIM, living]
        assert search_clear_text([*folders, *members], needles) == []
    for folder in folders:
        (folder / "planted").write_text(living)
        assert search_clear_text([folder], [living])
        (folder / "planted").unlink()
    with tempfile.TemporaryFile(dir=temporary) as control:
        control.write(living.encode())
        control.flush()
        assert search_clear_text(open_files_of_this_process(temporary), [living])


def open_files_of_this_process(folder: Path) -> list[Path]:
    """Files without a name that this process has open in a folder, as the system lets one read them."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # The one that lists them is gone by now.
            if str(link.readlink()).startswith(str(folder)):
                found.append(link)
    return found
