"""The demo's story: two shops, twenty thousand people, three campaigns, and one person who asks to be forgotten.

Everything goes through the same ledger as over HTTP, on a database of the demo's own. Nothing in the summary at the
end is written down beforehand: each figure is counted from what the ledger answered, or read from it.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from api.bootstrap import Instance
from api.demo.audience import (
    ACTOR,
    ACTS_AT_ONCE,
    CHANNEL,
    NEWSLETTER,
    OFFERS,
    Controller,
    ask_about_offers,
    ask_to_confirm,
    import_export,
    open_controller,
)
from api.demo.canary import control, look
from api.demo.mailing import STRANGERS, Mailing, authorise, counted, everybody, take_reports
from api.demo.people import Person, canary_person
from api.demo.telling import Teller
from audit.fsck import LogLies, require_whole_log
from audit.sends.after_no import Finding, check_no_send_after_no
from domain.facts import personal_fields
from domain.permission import RULES
from domain.personal import Erased, Personal
from domain.subject_commands import RecordConsent, SayNo
from ledger.application import Ledger
from ledger.authorise_layout import Recipient
from ledger.subjects import Act
from projections.worker import catch_up
from retention.erasure.erasing import finish_erasures

SHARE_OF_BOOKS: Final = 0.75  # of the contacts; the rest are the other account's
SEED: Final = 20
CHANGED_MINDS: Final = 3
NEWS, OFFER, NOTICE = "Spring letter", "Spring offer", "Change of our terms"
NOTICE_PURPOSE: Final = "transactional:terms"
KINDS_TOLD: Final = ("dispatched", "delivered", "hard_bounced", "first_opened", "complained", "unsubscribed")


@dataclass(slots=True)
class Summary:
    """What was measured on the way."""

    started: float = field(default_factory=time.monotonic)
    contacts: int = 0
    rejected_rows: int = 0
    authorised: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    feedback: Counter[str] = field(default_factory=Counter)
    campaigns: Counter[str] = field(default_factory=Counter)
    erased: int = 0
    send_after_erasure: str = "not tried"
    suppressed_after_reimport: bool = False
    clear_text_found: int = -1
    control_found: bool = False
    log_findings: int = -1


class Story:
    """The demo from beginning to end. `files` is where the shops' own files lie, outside the databases."""

    def __init__(self, instance: Instance, files: Path, contacts: int, teller: Teller) -> None:
        self._instance = instance
        self._files = files
        self._contacts = contacts
        self._teller = teller
        self._token = secrets.token_hex(10)
        self._canary: Person = canary_person(self._token)
        self._controllers: list[Controller] = []
        self._mailings: list[Mailing] = []
        self.summary = Summary()

    @property
    def controllers(self) -> list[Controller]:
        """The demo's two accounts."""
        return self._controllers

    def tell(self) -> dict[str, Any]:
        """Play the whole story; returns the summary."""
        self._open_accounts()
        self._import()
        self._record_consents()
        self._send()
        self._take_feedback()
        self._change_minds()
        self._erase()
        self._mail_again()
        self._look_for_the_canary()
        self._check_the_log()
        return self._summed_up()

    # 1 to 3: accounts, people, consents ------------------------------------------------------------------------------

    def _open_accounts(self) -> None:
        teller, of_books = self._teller, round(self._contacts * SHARE_OF_BOOKS)
        teller.chapter("Two shops open an account")
        shared: dict[str, Any] = {"instance": self._instance}
        with teller.progress("Making people up"):
            self._controllers = [
                open_controller(
                    name="Kadriorg Books OÜ",
                    policy="mailkai",
                    country="EE",
                    folder=self._files / "books",
                    count=of_books,
                    seed=SEED,
                    canary=self._canary,
                    **shared,
                ),
                open_controller(
                    name="Harbor Outdoor Inc.",
                    policy="mailenium",
                    country="US",
                    folder=self._files / "outdoor",
                    count=self._contacts - of_books,
                    seed=SEED + 1,
                    as_zip=True,
                    **shared,
                ),
            ]
        for held in self._controllers:
            teller.say(
                f"{held.name} ({held.country}) lives under the {held.policy} policy; "
                f"its Mailchimp export names {len(held.emails):,} people."
            )
        teller.say(
            "The people are made up, their addresses reserved for examples. One of them is our canary: "
            "a name that stands nowhere else in the world, so that it can be searched for later."
        )

    def _import(self) -> None:
        teller = self._teller
        teller.chapter("The exports are imported as they come")
        added = consents = suppressions = rejected = repeated = 0
        began = time.monotonic()
        with teller.progress("Importing", sum(held.lines for held in self._controllers)) as bar:
            for held in self._controllers:
                report = import_export(held, self._files / "rejected", bar.advance)
                added += report.contacts_added
                consents += report.consents_recorded
                suppressions += report.suppressions_added
                rejected += report.rejected
                repeated += report.contacts_known
        self.summary.contacts = added + suppressions
        self.summary.rejected_rows = rejected
        teller.figures(
            [
                ("contacts added", added, ""),
                ("consents recorded", consents, "opt-in and confirmation are two facts, each with its time and IP"),
                ("suppressed", suppressions, "who had unsubscribed, or whose mailbox was gone"),
                ("rows repeated", repeated, "the same person in another spelling"),
                ("rows rejected", rejected, "named in a file, to be mended and imported again"),
            ]
        )
        teller.say(
            f"That took {time.monotonic() - began:.1f} seconds. What says who a person is was sealed on the way."
        )

    def _record_consents(self) -> None:
        teller, (books, outdoor) = self._teller, self._controllers
        teller.chapter("Those who never opted in are asked")
        now = books.ledger.clock()
        with teller.progress("Asking") as bar:
            letter = ask_to_confirm(books, now, SEED, bar.advance)
            offers = ask_about_offers(outdoor, now, SEED, bar.advance)

        teller.figures(
            [
                (
                    "asked by mail to confirm",
                    letter["request"],
                    "what was asked is recorded, word for word",
                ),
                ("confirmed", letter["grant"], "a double opt-in, from which on the letter may be sent"),
                ("ticked the box for offers", offers["grant"], ""),
                ("said no to offers", offers["refuse"], "a refusal is evidence too"),
            ]
        )

    # 4 and 5: campaigns and feedback ---------------------------------------------------------------------------------

    def _send(self) -> None:
        teller, (books, outdoor) = self._teller, self._controllers
        teller.chapter("Three campaigns ask: may I send this?")
        plans = (
            (NEWS, books, NEWSLETTER, True),
            (OFFER, outdoor, OFFERS, False),
            (NOTICE, books, NOTICE_PURPOSE, False),
        )
        for name, held, purpose, tracked in plans:
            self._send_one(name, held, purpose, tracked)
        teller.say("Every answer is recorded with the rule that gave it, before anybody acts on it.")

    def _send_one(self, name: str, held: Controller, purpose: str, tracked: bool) -> None:
        teller = self._teller
        with teller.progress(name, len(held.emails) + STRANGERS) as bar:
            mailing = authorise(
                held, name, purpose, everybody(held), tracked=tracked, canary=self._canary.email, seen=bar.advance
            )
        rate = mailing.asked / max(mailing.seconds, 1e-9)
        teller.say(f"{name} ({purpose}): {mailing.asked:,} recipients, {rate:,.0f} answers a second.")
        refused = mailing.refused.most_common()
        teller.figures(
            [
                ("allowed", len(mailing.sent), ""),
                *((f"refused as {rule}", count, RULES.get(rule, "")) for rule, count in refused),
            ]
        )
        self.summary.authorised += len(mailing.sent)
        self.summary.refused.update(mailing.refused)
        self._mailings.append(mailing)

    def _take_feedback(self) -> None:
        teller, feedback = self._teller, self.summary.feedback
        teller.chapter("The mail goes out, and the provider reports")
        with teller.progress("Recording reports") as bar:
            for number, mailing in enumerate(self._mailings):
                feedback.update(take_reports(mailing, seed=SEED + number, mark=self._token, seen=bar.advance))
        teller.figures(
            [
                ("reports recorded", feedback["recorded"], ""),
                ("repeated", feedback["duplicates"], "providers tell things twice; counted once"),
                ("dropped", feedback["dropped"], "openings of a campaign that never said it tracks them"),
                ("parked", feedback["parked"], "about messages nobody here knows; sealed and shown, never guessed"),
            ]
        )
        with teller.progress("Counting campaigns"):
            for held in self._controllers:
                catch_up(held.ledger)
        for mailing in self._mailings:
            counts = counted(mailing)
            self.summary.campaigns.update(counts)
            said = ", ".join(f"{counts[kind]:,} {kind.replace('_', ' ')}" for kind in KINDS_TOLD if counts[kind])
            teller.say(f"{mailing.name}: {said}.")
        findings = self.summary.campaigns["finding"]
        if findings:
            teller.say(
                f"{findings:,} messages left after their authorisation was taken back, because "
                "an earlier mail to the same mailbox had bounced meanwhile: recorded, and shown as a finding."
            )

    # 6 to 8: no means no ---------------------------------------------------------------------------------------------

    def _change_minds(self) -> None:
        teller, books = self._teller, self._controllers[0]
        teller.chapter("People change their minds")
        ledger = books.ledger
        mailable = self._mailable(books, CHANGED_MINDS)
        for email in mailable:
            ledger.act(
                Act(RecordConsent(NEWSLETTER, CHANNEL, "withdraw", evidence={"method": "form"}), email, actor=ACTOR)
            )
        ledger.act(Act(SayNo("objection", "marketing"), self._mailable(books, 1)[0], actor=ACTOR))
        rules = Counter(found.rule for found in ledger.check([(email, NEWSLETTER, CHANNEL) for email in mailable]))
        refused = sum(count for rule, count in rules.items() if rule == "withdrawn")
        teller.verdict(
            refused == len(mailable),
            f"{len(mailable)} withdraw their consent, and a fourth objects to all advertising. From that commit on no "
            "send to them is authorised, and what was authorised and not yet sent is taken back.",
        )

    def _mailable(self, held: Controller, count: int) -> list[str]:
        """Some who may get the letter now, but not the canary."""
        found: list[str] = []
        for start in range(0, len(held.emails), ACTS_AT_ONCE):
            chunk = [email for email in held.emails[start : start + ACTS_AT_ONCE] if email != self._canary.email]
            decisions = held.ledger.check([(email, NEWSLETTER, CHANNEL) for email in chunk])
            found += [email for email, decision in zip(chunk, decisions, strict=True) if decision.allowed]
            if len(found) >= count:
                break
        return found[:count]

    def _erase(self) -> None:
        teller, ledger, email = self._teller, self._controllers[0].ledger, self._canary.email
        teller.chapter("One person asks to be forgotten")
        row = ledger.person(email)
        assert row is not None, "the canary was imported"
        stream = UUID(bytes=row.person.subject)
        before, _ = _parts(ledger, stream)
        began = time.monotonic()
        ledger.erasures.intend([email], reason="subject_request", actor=ACTOR)
        outcomes = finish_erasures(ledger)
        took_ms = (time.monotonic() - began) * 1000
        self.summary.erased = len(outcomes)
        readable, erased = _parts(ledger, stream)
        keys = sum(outcome.keys for outcome in outcomes)
        teller.say(f"{before} sealed parts of theirs could be opened. {keys} keys are destroyed, in {took_ms:.0f} ms.")
        teller.verdict(
            readable == 0 and erased > 0,
            f"Now {readable} open. The events are all there; where a part was they say: erased, when and why.",
        )
        teller.verdict(ledger.person(email) is None, "No address, handle or message id leads to them any more.")

    def _mail_again(self) -> None:
        teller, books, email = self._teller, self._controllers[0], self._canary.email
        teller.chapter("Somebody tries to mail them all the same")
        self.summary.send_after_erasure, rule = self._try_to_send(books, "Summer letter")
        refused = self.summary.send_after_erasure == "refused"
        teller.verdict(refused, f"A new campaign asks for their address: {self.summary.send_after_erasure} ({rule}).")
        with teller.progress("Importing the old export again", books.lines) as bar:
            report = import_export(books, self._files / "rejected", bar.advance)
        teller.say(
            f"The old export is imported again: {report.contacts_known:,} contacts and {report.consents_known:,} "
            f"consents are known already, {report.contacts_added:,} contact is new: the canary, as a stranger."
        )
        answer, rule = self._try_to_send(books, "Autumn letter")
        looked = books.ledger.suppressions.look_up([email])[0]
        self.summary.suppressed_after_reimport = answer == "refused" and bool(looked.entries)
        if answer != "refused":
            self.summary.send_after_erasure = answer
        teller.verdict(
            self.summary.suppressed_after_reimport,
            f"Asked once more: {answer} ({rule}). An import lifts no suppression.",
        )

    def _try_to_send(self, held: Controller, name: str) -> tuple[str, str]:
        """Ask for the canary alone: what was answered, and by which rule."""
        mailing = authorise(held, name, NEWSLETTER, [Recipient(0, self._canary.email)])
        if mailing.sent or not mailing.refused:
            return "allowed", "none"
        return "refused", next(iter(mailing.refused))

    # 9 and 10: proof -------------------------------------------------------------------------------------------------

    def _look_for_the_canary(self) -> None:
        teller, server = self._teller, self._instance.server
        teller.chapter("We look for them in every file of the databases")
        assert server is not None, "the demo has a server of its own"
        folder = self._instance.settings.data_dir
        with teller.progress("Searching"):
            found = look(server, folder, [self._token, self._canary.email])
            trial = control(server, folder, self._token)
        self.summary.clear_text_found = len(found.hits)
        self.summary.control_found = trial.works
        teller.say(
            f"{found.files:,} files, {found.size_bytes / 2**20:,.0f} MiB: tables, write-ahead log, server log, keys. "
            "As text, UTF-16, hex and base64."
        )
        teller.verdict(not found.hits, f"Found in the clear: {len(found.hits)}.")
        teller.verdict(
            trial.works,
            "The same search finds the name when we plant it in a table and in a file, and no more when that is gone.",
        )

    def _check_the_log(self) -> None:
        teller = self._teller
        teller.chapter("And is the log whole?")
        published = [self._instance.sequencer.publish_tenant(held.ledger) for held in self._controllers]
        with teller.progress("Checking every event"):
            findings = [
                finding
                for held in self._controllers
                for finding in (
                    *_first_lie(self._instance, held.ledger.tenant),
                    *check_no_send_after_no(held.ledger),
                )
            ]
        self.summary.log_findings = len(findings)
        teller.verdict(
            not findings,
            f"{self._events():,} events: no gap, no time running backwards, every digest fits, and no send was "
            "authorised after a no.",
        )
        for finding in findings[:5]:
            teller.say(f"  {finding.rule} at {finding.position}: {finding.text}")
        for one in filter(None, published):
            teller.say(f"Published as {one.origin}: {one.size:,} events under the signed root {one.root.hex()[:16]}….")

    def _events(self) -> int:
        return sum(held.ledger.log.max_notification_id() or 0 for held in self._controllers)

    def _suppressed(self) -> int:
        """The addresses against which something stands, as the ledger answers for each of them."""
        return sum(
            bool(looked.entries)
            for held in self._controllers
            for start in range(0, len(held.emails), ACTS_AT_ONCE)
            for looked in held.ledger.suppressions.look_up(held.emails[start : start + ACTS_AT_ONCE])
        )

    def _summed_up(self) -> dict[str, Any]:
        summary = self.summary
        return {
            "accounts": len(self._controllers),
            "contacts": summary.contacts,
            "rejected_rows": summary.rejected_rows,
            "events": self._events(),
            "authorised": summary.authorised,
            "refused": dict(sorted(summary.refused.items())),
            "feedback": dict(sorted(summary.feedback.items())),
            "campaigns": dict(sorted(summary.campaigns.items())),
            "suppressed": self._suppressed(),
            "erased": summary.erased,
            "send_after_erasure": summary.send_after_erasure,
            "suppressed_after_reimport": summary.suppressed_after_reimport,
            "clear_text_found": summary.clear_text_found,
            "control_found": summary.control_found,
            "log_findings": summary.log_findings,
            "seconds": round(time.monotonic() - summary.started, 1),
        }


def _first_lie(instance: Instance, tenant: UUID) -> list[Finding]:
    """What `lethe fsck` says against a log, empty if it is whole."""
    try:
        require_whole_log(instance.urls.writer, tenant)
    except LogLies as lies:
        return [Finding(lies.lie.position, lies.lie.rule, lies.lie.text)]
    return []


def went_well(summary: dict[str, Any]) -> bool:
    """Whether every promise that the story puts to the test held."""
    return bool(
        summary["erased"] > 0
        and summary["send_after_erasure"] == "refused"
        and summary["suppressed_after_reimport"]
        and summary["clear_text_found"] == 0
        and summary["control_found"]
        and summary["log_findings"] == 0
    )


def _parts(ledger: Ledger, stream: UUID) -> tuple[int, int]:
    """How many sealed parts of a person's own stream open, and how many are erased; address lists aside."""
    readable = erased = 0
    for stored in ledger.log.select_streams([stream]):
        fact = ledger.sealing.open(stored)
        for name, retention_class in personal_fields(type(fact)).items():
            if retention_class not in fact.SEALED_BY:
                value = getattr(fact, name)
                readable += isinstance(value, Personal)
                erased += isinstance(value, Erased)
    return readable, erased
