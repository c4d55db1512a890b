"""A simulated life: three accounts, a handful of persons, and what happens to them on which day.

One account goes on, another ends, and the operator's own knows who is behind them. What happens is chosen so that each
clause with a clock has something to act on, and so that days are awkward: the end of February, a leap day, clocks that
are moved by a later act. For each datum the life knows how to try to reach it, the way somebody would who remembers
whose it was.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Final
from uuid import UUID, uuid4

from domain.category import ACCOUNT_HOLDER
from domain.facts import personal_fields
from domain.ids import month_of
from domain.personal import ConsentEvidence, Content, Identity, Personal, SuppressionData
from domain.records import Record
from domain.subject_commands import AddContact, RecordConsent
from ledger.application import Ledger
from ledger.authorise_layout import Recipient
from ledger.feedback import FeedbackEvent
from ledger.holds import HoldOn
from ledger.keys.keyring import LINK
from ledger.keys.names import TENANT_HOLDER, KeyName
from ledger.link_generations import PastLinks
from ledger.mapper import NO_HOLDER, Holder
from ledger.subjects import Act
from retention.policy.adopting import open_under
from retention.policy.clocks import due_on, first_day_of
from retention.policy.pack import Pack
from retention.simulation.data import Clock, Datum, Tick

ACTOR: Final = "simulation"
PURPOSE: Final = "newsletter"
BEGINS: Final = date(2027, 1, 20)
"""A day late in a month, after which a leap year and the ends of short months come."""

ENDS: Final = date(2028, 1, 15)
"""The day on which the one account is terminated."""

YEARS_MAX: Final = 30
DAYS_BETWEEN_LOOKS: Final = 30
MIDNIGHT_PASSED: Final = timedelta(minutes=10)


class Scene:
    """The accounts, what happens in them on which day, and what came of it."""

    def __init__(self, pack: Pack, clock: Clock, ledger_of: Callable[[UUID], Ledger], tick: Tick) -> None:
        self.pack = pack
        self.clock = clock
        self.ledger_of = ledger_of
        self.tick = tick
        self.data: list[Datum] = []
        self.days: set[date] = set()
        self._plot: dict[date, list[Callable[[], None]]] = {}
        self._tokens: dict[UUID, str] = {}
        self._today: date | None = None
        self.clock.set(_at(BEGINS))
        self.operator = self._opened("The platform", operator=True)
        self.going = self._opened("An account that goes on")
        self.ending = self._opened("An account that ends")
        self._write_plot()
        self.days |= set(self._plot)
        self.days |= {BEGINS + timedelta(days=DAYS_BETWEEN_LOOKS * n) for n in range(1, YEARS_MAX * 13)}

    # What happens --------------------------------------------------------------------------------------------------

    def _write_plot(self) -> None:
        self._on(BEGINS, self._contacts, self._campaign, self._logs, self._holders)
        self._on(date(2027, 2, 28), lambda: self._support("letters"), lambda: self._about_nobody("support"))
        self._on(date(2027, 3, 10), lambda: self._invoice("buyer@example.com"))
        self._on(date(2027, 4, 1), lambda: self._click("again"))
        self._on(date(2027, 5, 5), self._erase, self._delete)
        self._on(date(2027, 6, 15), lambda: self._support("letters", last=True), self._hold)
        self._on(ENDS, self._terminate)
        self._on(date(2028, 2, 29), lambda: self._invoice("buyer@example.com", last=True))
        self._on(date(2028, 2, 29), lambda: self._about_nobody("billing"))
        self._on(date(2031, 5, 5), self._release)

    def _on(self, day: date, *acts: Callable[[], None]) -> None:
        self._plot.setdefault(day, []).extend(acts)

    def _opened(self, name: str, *, operator: bool = False) -> Ledger:
        ledger = self.ledger_of(uuid4())
        open_under(ledger, self.pack, name=name, country="DE", minimum_age=None, actor=ACTOR, operator=operator)
        return ledger

    def _contacts(self) -> None:
        for ledger in (self.going, self.ending):
            for name in ("reader", "letters", "buyer", "erased", "deleted", "held", "unsubscribed"):
                self._add(ledger, f"{name}@example.com")
        self._say_no("unsubscribed@example.com")
        for retention_class, what in (
            (Identity.name, "a contact"),
            (ConsentEvidence.name, "the evidence of a consent"),
        ):
            self._ends_with_account(retention_class, f"{what} of an account that ended", "reader@example.com")
        self._watch_name()

    def _add(self, ledger: Ledger, address: str) -> None:
        evidence = {"method": "double_opt_in", "ip": "192.0.2.1"}
        act = Act(AddContact(address, {"first_name": "Pat"}), address=address, actor=ACTOR)
        grant = Act(
            RecordConsent(PURPOSE, "email", "grant", None, evidence),
            address=address,
            actor=ACTOR,
        )
        ledger.subjects.act([act])
        ledger.subjects.act([grant])

    def _say_no(self, address: str) -> None:
        no = Act(RecordConsent(PURPOSE, "email", "withdraw", None, {}), address=address, actor=ACTOR)
        self.going.subjects.act([no])
        rule = self.pack.rules[SuppressionData.name]
        what = "that an address must not be mailed"
        stands = partial(self._stands, address)
        self._watch(rule.clause, SuppressionData.name, what, "for ever", None, stands)

    def _campaign(self) -> None:
        """Two campaigns, so that each account has somebody who clicked."""
        self._tokens = {ledger.tenant: self._sent(ledger, "reader@example.com") for ledger in (self.going, self.ending)}
        self._click("once")
        ending = self._engaged(self.ending)
        for retention_class in ("engagement", "engagement_technical"):
            what = f"{retention_class.replace('_', ' ')} in an account that ended"
            self._closing(retention_class, what, partial(self._opens, self.ending, *ending, retention_class))

    def _sent(self, ledger: Ledger, address: str) -> str:
        campaign = ledger.register_campaign(
            name="Simulated",
            purpose=PURPOSE,
            channel="email",
            kind="one-off",
            content_sha256=None,
            tracking_disclosed=True,
            actor=ACTOR,
        )
        answers = ledger.authorisations.authorise(
            campaign, [Recipient(0, address)], account=ledger.account(), actor=ACTOR
        )
        return next(token for answer in answers for _, token, _, _ in answer.allowed)

    def _engaged(self, ledger: Ledger) -> tuple[int, Holder]:
        """Somebody clicks; returns where that stands and whose it is."""
        event = FeedbackEvent(
            0,
            self._tokens[ledger.tenant],
            "clicked",
            self.clock(),
            event_id=str(uuid4()),
            ip="192.0.2.1",
            user_agent="Simulated/1",
            url="https://example.com/simulated",
        )
        for _ in ledger.feedback.take([event], actor=ACTOR):
            pass
        row = ledger.person("reader@example.com")
        assert row is not None
        links = PastLinks(ledger.services.vault, ledger.tenant)
        links.ask([row])
        _, generation = links.link_for(row, month_of(_at(BEGINS))) or (b"", 1)
        return self._end_of_log(ledger), Holder(row.person.kid, generation)

    def _click(self, when: str) -> None:
        position, holder = self._engaged(self.going)
        for retention_class in ("engagement", "engagement_technical"):
            rule = self.pack.rules[retention_class]
            if rule.clock == "last_engagement" and when == "once":
                continue  # The later click moves its end; that one is looked at.
            what = f"{'the link that was clicked' if retention_class == 'engagement' else 'the device that clicked'}"
            self._by_rule(retention_class, what, partial(self._opens, self.going, position, holder, retention_class))
        rule = self.pack.rules[LINK]
        if (when == "once" and rule.clock == "calendar") or (when == "again" and rule.clock == "last_engagement"):
            self._by_rule(
                LINK, "whom a message was for", lambda: self._links(holder), anchor=BEGINS if when == "once" else None
            )

    def _logs(self) -> None:
        names = {
            "usage": "a fact of usage",
            "access_log": "a line of an access log",
            "error_log": "a line of an error log",
        }
        for retention_class, what in names.items():
            record = Record(retention_class, {"line": "simulated"}, email="reader@example.com")
            position, holder = self._recorded(record)
            self._by_rule(
                retention_class,
                what,
                partial(self._opens, self.going, position, holder, retention_class),
            )

    def _support(self, who: str, *, last: bool = False) -> None:
        record = Record("support", {"text": "simulated"}, email=f"{who}@example.com")
        position, holder = self._recorded(record)
        if last:
            self._by_rule("support", "a support thread", lambda: self._opens(self.going, position, holder, "support"))

    def _about_nobody(self, retention_class: str) -> None:
        """A record that is about no person, of a class that has a person's clock."""
        answer = self.going.records.take([Record(retention_class, {"text": "simulated"})], actor=ACTOR)
        assert answer.recorded == 1, answer.rejected
        opens = partial(self._opens, self.going, answer.first, NO_HOLDER, retention_class)
        self._by_rule(retention_class, f"a record of {retention_class} about nobody", opens)

    def _holders(self) -> None:
        """The persons behind the accounts: one holds the account that ends, the other one both."""
        both = (self.ending, self.going)
        for address, accounts in (("holder@example.com", (self.ending,)), ("both@example.com", both)):
            for account in accounts:
                self.operator.act(self.operator.holders.assignment(account.tenant, address, actor=ACTOR))
        rule = self.pack.closure_of(Identity.name, ACCOUNT_HOLDER)
        assert rule is not None, "A pack says when an account's holder is due."
        promised, due = f"within {rule.keep} after the account's end", due_on(rule, ENDS)
        opens = self._opens_person("holder@example.com")
        self._watch(
            rule.clause, Identity.name, "the holder of an account that ended", promised, due, opens, anchor=ENDS
        )
        stays = self._opens_person("both@example.com")
        self._watch(rule.clause, Identity.name, "the holder of an account that goes on", "not yet", None, stays)

    def _opens_person(self, address: str) -> Callable[[], bool]:
        """How to see whether anything opens of a person whom the operator's account knows now."""
        row = self.operator.person(address)
        assert row is not None
        return partial(self._opens_stream, self.operator, UUID(bytes=row.person.subject))

    def _hold(self) -> None:
        """A hold on somebody whose support thread is due while it lasts."""
        record = Record("support", {"text": "simulated"}, email="held@example.com")
        position, holder = self._recorded(record)
        on = HoldOn("person", addresses=("held@example.com",))
        self._held = self.going.holds.place(
            on, matter="Simulated", reason="Simulated", owner="Simulated", review_on=date(2031, 1, 1), actor=ACTOR
        )
        clause = next((c.number for c in self.pack.clauses if c.control == "legal-hold"), "")
        self._watch(
            clause,
            "support",
            "a support thread under a legal hold",
            "until the hold is released",
            date(2031, 5, 5),
            lambda: self._opens(self.going, position, holder, "support"),
        )

    def _release(self) -> None:
        self.going.holds.release(self._held.hold_id, actor=ACTOR)

    def _invoice(self, address: str, *, last: bool = False) -> None:
        position, holder = self._recorded(Record("billing", {"amount": "1.00"}, email=address))
        if last:
            self._by_rule("billing", "a transaction", lambda: self._opens(self.going, position, holder, "billing"))

    def _erase(self) -> None:
        self._forget("erased@example.com", "subject_request", "an erased person")

    def _delete(self) -> None:
        self._forget("deleted@example.com", "deleted_by_controller", "a contact that the controller deleted")

    def _forget(self, address: str, reason: str, what: str) -> None:
        row = self.going.person(address)
        assert row is not None
        stream = UUID(bytes=row.person.subject)
        clause = next((c.number for c in self.pack.clauses if c.control == "erasure"), "")
        opens = partial(self._opens_stream, self.going, stream)
        self._watch(clause, Identity.name, what, "at once", self._day(), opens)
        self.going.erasures.intend([address], reason=reason, actor=ACTOR)

    def _terminate(self) -> None:
        """The other account ends; a transaction in it is kept for its own time."""
        position, holder = self._recorded(Record("billing", {"amount": "1.00"}, email="buyer@example.com"), self.ending)
        self._by_rule(
            "billing",
            "a transaction of an account that ended",
            lambda: self._opens(self.ending, position, holder, "billing"),
        )
        self.ending.accounts.terminate(actor=ACTOR)

    # What is looked at ----------------------------------------------------------------------------------------------

    def _watch_name(self) -> None:
        opens = partial(self._opens_stream, self.ending, self.ending.tenant)
        self._closing(Content.name, "the account itself", opens)

    def _ends_with_account(self, retention_class: str, what: str, address: str) -> None:
        row = self.ending.person(address)
        assert row is not None
        stream = UUID(bytes=row.person.subject)
        self._closing(retention_class, what, lambda: self._opens_stream(self.ending, stream, retention_class))

    def _closing(self, retention_class: str, what: str, reachable: Callable[[], bool]) -> None:
        rule = self.pack.closure[retention_class]
        promised = f"within {rule.keep} after the account's end"
        self._watch(rule.clause, retention_class, what, promised, due_on(rule, ENDS), reachable, anchor=ENDS)

    def _by_rule(
        self, retention_class: str, what: str, reachable: Callable[[], bool], *, anchor: date | None = None
    ) -> None:
        rule = self.pack.rules[retention_class]
        day = anchor or self._day()
        if rule.clock == "calendar":
            day = first_day_of(month_of(_at(day))) if rule.unit == "month" else day
        promised = f"{'at least ' if rule.minimum else ''}{rule.keep}, {rule.clock.replace('_', ' ')}"
        self._watch(rule.clause, retention_class, what, promised, due_on(rule, day), reachable, anchor=day)

    def _watch(
        self,
        clause: str,
        retention_class: str,
        what: str,
        promised: str,
        due: date | None,
        reachable: Callable[[], bool],
        *,
        anchor: date | None = None,
    ) -> None:
        self.data.append(Datum(clause, retention_class, what, promised, anchor or self._day(), due, reachable))
        if due is not None:
            self.days |= {due + timedelta(days=n) for n in (-1, 0, 1)}

    # Living ---------------------------------------------------------------------------------------------------------

    def next_day(self) -> date | None:
        """The next day that is looked at."""
        return min((day for day in self.days if self._today is None or day > self._today), default=None)

    def live(self, day: date) -> None:
        """One day: what happens, what a worker does, and what can be reached afterwards."""
        self._today = day
        self.clock.set(_at(day))
        for act in self._plot.get(day, ()):
            act()
        ledgers = (self.operator, self.going, self.ending)
        self.tick(ledgers)
        for ledger in ledgers:
            ledger.keyring.forget_all()
        for datum in self.data:
            if datum.gone_on is None and not datum.reachable():
                datum.gone_on = day

    def _recorded(self, record: Record, ledger: Ledger | None = None) -> tuple[int, Holder]:
        """Write a record; where it stands and whose it is."""
        ledger = ledger or self.going
        answer = ledger.records.take([record], actor=ACTOR)
        if answer.rejected:
            raise AssertionError(f"The simulation's own record was refused: {answer.rejected}")
        assert record.email is not None
        row = ledger.person(record.email)
        assert row is not None
        stored = ledger.log.select_log(answer.first, 1)[0]
        holders = ledger.records.streams.of(row.person.records_kid)
        assert isinstance(stored.originator_id, UUID)
        return answer.first, holders[stored.originator_id]

    def _opens(self, ledger: Ledger, position: int, holder: Holder, retention_class: str) -> bool:
        fact = ledger.sealing.open(ledger.log.select_log(position, 1)[0], holder)
        values = [getattr(fact, n) for n, c in personal_fields(type(fact)).items() if c == retention_class]
        return any(isinstance(value, Personal) for value in values)

    def _opens_stream(self, ledger: Ledger, stream: UUID, retention_class: str | None = None) -> bool:
        for stored in ledger.log.select_streams([stream]):
            fact = ledger.sealing.open(stored)
            for name, found in personal_fields(type(fact)).items():
                ours = found not in fact.SEALED_BY or found == Content.name
                if ours and retention_class in (None, found) and isinstance(getattr(fact, name), Personal):
                    return True
        return False

    def _stands(self, address: str) -> bool:
        return any(looked.entries for looked in self.going.suppressions.look_up([address]))

    def _links(self, holder: Holder) -> bool:
        """Whether both halves of the link of the first campaign's month are still there."""
        names = [
            KeyName(holder.kid, LINK, "", holder.link_generation),
            KeyName(TENANT_HOLDER, LINK, month_of(_at(BEGINS))),
        ]
        found = self.going.keyring.find(names)
        assert set(found.keys) | set(found.tombstones) == set(names), "A key is missing without a tombstone."
        return not found.tombstones

    def _end_of_log(self, ledger: Ledger) -> int:
        with ledger.services.writer.transaction() as connection:
            return ledger.appender.read_head(connection).position

    def _day(self) -> date:
        return self.clock().date()


def _at(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + MIDNIGHT_PASSED
