"""The demo's people: two accounts with an export file each, and what their people agree to later on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Final
from uuid import uuid4

from api.bootstrap import Instance
from api.demo.mailchimp_export import ExportFiles, write_mailchimp_export
from api.demo.people import Person, make_people
from api.imports.into_ledger import ImportReport, LedgerImport
from api.imports.mailchimp import read_mailchimp
from api.imports.rejects import RejectsWriter
from domain.subject import Action, ConsentGranted
from domain.subject_commands import RecordConsent
from ledger.application import Ledger
from ledger.subjects import Act
from retention.policy.adopting import newest_in_force, open_under

ACTOR: Final = "demo"
CHANNEL: Final = "email"
NEWSLETTER: Final = "newsletter"
OFFERS: Final = "offers"
ACTS_AT_ONCE: Final = 1000

CONFIRMED_SHARE: Final = 0.6  # of those who are asked by mail to confirm
OFFERS_SHARE: Final = 0.25
OFFERS_REFUSED_SHARE: Final = 0.05

ASKED: Final = {
    "form": "https://books.example/stay-in-touch",
    "wording": "Yes, send me the monthly letter. I can leave at any time.",
    "notice_version": "2026-10",
    "method": "double_opt_in",
}
TICKED: Final = {
    "form": "https://shop.example/checkout",
    "wording": "Tell me about offers by e-mail.",
    "notice_version": "2026-10",
    "method": "form",
}


@dataclass(frozen=True, slots=True)
class Controller:
    """One of the demo's accounts: who it is, its ledger, its people's addresses and its export."""

    name: str
    policy: str
    country: str
    ledger: Ledger
    emails: list[str]
    export: ExportFiles

    @property
    def lines(self) -> int:
        """How many lines of people the export has."""
        return self.export.people + self.export.repeated + self.export.rejected

    def sources(self) -> Path | list[Path]:
        """The export as an importer takes it."""
        return self.export.paths if len(self.export.paths) > 1 else self.export.paths[0]


def open_controller(
    instance: Instance,
    name: str,
    *,
    policy: str,
    country: str,
    folder: Path,
    count: int,
    seed: int,
    canary: Person | None = None,
    as_zip: bool = False,
) -> Controller:
    """Open an account, make its people up and write them as Mailchimp writes them."""
    ledger = instance.ledger(uuid4())
    pack = newest_in_force(policy, ledger.clock().date())
    open_under(ledger, pack, name=name, country=country, minimum_age=None, actor=ACTOR)
    folder.mkdir()
    emails: list[str] = []

    def people() -> Iterator[Person]:
        for person in make_people(count, seed, canary=canary):
            emails.append(person.email)
            yield person

    export = write_mailchimp_export(people(), folder, seed, as_zip=as_zip)
    return Controller(name, policy, country, ledger, emails, export)


def import_export(controller: Controller, rejects: Path, seen: Callable[[int], None]) -> ImportReport:
    """Import a controller's export as `lethe contacts import` does."""
    rejects.mkdir(parents=True, exist_ok=True)
    with RejectsWriter(rejects) as writer:
        rows = read_mailchimp(controller.sources(), purpose=NEWSLETTER)
        return LedgerImport(controller.ledger, writer, actor=ACTOR, seen=seen).take(rows)


def ask_to_confirm(controller: Controller, now: datetime, seed: int, seen: Callable[[int], None]) -> Counter[str]:
    """Ask everybody who never opted in, by mail; some confirm. Both acts are recorded with their evidence."""
    random = Random(seed)  # noqa: S311  a repeatable draw is what is wanted here
    never_asked = list(_without_consent(controller))
    acts: list[Act] = []
    for email in never_asked:
        asked_at = now - timedelta(days=2, minutes=random.randrange(600))
        acts.append(_consent(email, NEWSLETTER, "request", asked_at, ASKED, random))
        if random.random() < CONFIRMED_SHARE:
            acts.append(_consent(email, NEWSLETTER, "grant", asked_at + timedelta(hours=3), ASKED, random))
    return _record(controller.ledger, acts, seen)


def ask_about_offers(
    controller: Controller, now: datetime, seed: int, seen: Callable[[int], None], *, always: str | None = None
) -> Counter[str]:
    """Some tick the box for offers at the checkout, some say no there, most are never asked."""
    random = Random(seed)  # noqa: S311  a repeatable draw is what is wanted here
    acts = []
    for email in controller.emails:
        draw = 0.0 if email == always else random.random()
        at = now - timedelta(days=1, minutes=random.randrange(600))
        if draw < OFFERS_SHARE:
            acts.append(_consent(email, OFFERS, "grant", at, TICKED, random))
        elif draw < OFFERS_SHARE + OFFERS_REFUSED_SHARE:
            acts.append(_consent(email, OFFERS, "refuse", at, TICKED, random))
    return _record(controller.ledger, acts, seen)


def _without_consent(controller: Controller) -> Iterator[str]:
    """Contacts of whom the ledger holds no consent to the newsletter."""
    for start in range(0, len(controller.emails), ACTS_AT_ONCE):
        chunk = controller.emails[start : start + ACTS_AT_ONCE]
        decisions = controller.ledger.check([(email, NEWSLETTER, CHANNEL) for email in chunk])
        yield from (email for email, found in zip(chunk, decisions, strict=True) if found.rule == "no_consent")


def _consent(email: str, purpose: str, action: Action, at: datetime, evidence: dict[str, str], random: Random) -> Act:
    shown = evidence | {"ip": f"192.0.2.{random.randrange(1, 255)}"}
    return Act(RecordConsent(purpose, CHANNEL, action, at, shown), address=email, actor=ACTOR)


def _record(ledger: Ledger, acts: Sequence[Act], seen: Callable[[int], None]) -> Counter[str]:
    """Carry acts out in chunks; counts what came of them. Who is only on the suppression list is no contact."""
    counts: Counter[str] = Counter()
    for start in range(0, len(acts), ACTS_AT_ONCE):
        chunk = acts[start : start + ACTS_AT_ONCE]
        outcomes, _ = ledger.subjects.act(chunk)
        for act, outcome in zip(chunk, outcomes, strict=True):
            if outcome.refused is not None:
                counts["not_a_contact"] += 1
                continue
            assert isinstance(act.command, RecordConsent)
            counts[act.command.action] += 1
            granted = outcome.facts[0]
            if isinstance(granted, ConsentGranted) and not granted.effective:
                counts["without_effect"] += 1
        seen(len(chunk))
    return counts
