"""What the answer would have been: one send to one person, decided as of a moment of the past.

The account's terms, the person's standing and the suppression list are those of the moment, and so are the rules of
the law. In the meaning `recorded` that is the answer the program gave, or would have given, on that day.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from audit.asof.moments import Moment
from audit.asof.standing import PastStanding, address_in, fold_in_order, read_person
from audit.asof.suppressions import read_suppressions
from domain import account as accounts
from domain.account import Account
from domain.facts import Fact, opened
from domain.ids import micros
from domain.law import RuleSet
from domain.permission import TERMINATED, Decision, SendTerms, decide
from domain.standing import Suppression
from ledger.application import Ledger

RulesOn = Callable[[date], RuleSet]


@dataclass(frozen=True, slots=True)
class PastView:
    """A person and the list at a moment, and the account they were asked under (None before it was opened)."""

    moment: Moment
    person: PastStanding
    against: Sequence[Suppression]
    account: Account | None

    def decide(self, purpose: str, channel: str, rules_on: RulesOn) -> tuple[Decision, str]:
        """The answer to one question at that moment, and the version of the rules that gave it.

        Raises `InvalidScope` for a purpose that cannot be, `LawError` for a day before the first row of the law.
        """
        rules = rules_on(self.moment.at.date())
        account = self.account
        terms = SendTerms.of(purpose, channel, account.country if account else None, minimum_age(account))
        if account is not None and account.terminated_at is not None:
            return TERMINATED, rules.version
        return decide(self.person.standing, self.against, terms, rules, micros(self.moment.at)), rules.version


def minimum_age(account: Account | None) -> int:
    """The youngest age that the account's policy lets it mail, in years."""
    return account.minimum_age if account is not None else 0


def account_facts(ledger: Ledger) -> list[Fact]:
    """The facts of the account's own stream."""
    return [ledger.sealing.open(event, personal=False) for event in ledger.log.select_streams([ledger.tenant])]


def _now(ledger: Ledger) -> datetime:
    """As `Ledger.check` has it: the log's time never runs backwards, whatever the clock does."""
    with ledger.services.writer.connection() as connection:
        return max(ledger.clock(), ledger.appender.read_head(connection).recorded_at)


def view_at(ledger: Ledger, subject: UUID, fingerprints: Sequence[bytes], moment: Moment) -> PastView:
    """Everything that decides whether a person may be mailed, as of a moment.

    The list is asked for the address that the person had then; `fingerprints` are those of their present one, for a
    moment before any was known. Opens what is known of the person: the caller records it (I8). What is left of today is
    answered as of now. Raises `MomentRefused` for a later day.
    """
    moment = moment.known_by(_now(ledger))
    told, parts_opened = read_person(ledger, subject, moment)
    address = opened(address_in(told))
    probes = fingerprints if address is None else ledger.fingerprint.every(str(address))
    against = read_suppressions(ledger, probes).at(probes, moment, known=bool(told))
    account = accounts.fold(None, moment.told(account_facts(ledger)))
    person = PastStanding(fold_in_order(told, moment, against), told, parts_opened)
    return PastView(moment, person, against, account)
