"""The record of processing of one account (GDPR Art. 30): what was declared beside what was observed, as of any day.

`recorded` tells what the ledger had learnt by the end of the day, `occurred` what is true of that day by all that is
known today. Making a record opens the words of the registers, which are the account's own, and nothing of a person's.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final

from audit.asof.moments import Meaning, Moment
from audit.records.declared import Declared, declared
from audit.records.findings import Compared, declared_by, find
from audit.records.model import AsOf, Observed, OldestKey, RecordsOfProcessing
from audit.records.observing import categories, counted, end_of, living, oldest_keys, recipients, retained
from audit.records.terms import Surroundings
from domain import account as accounts
from domain.account import AccountOpened
from domain.facts import opened
from domain.register import fold
from ledger.application import Ledger
from projections.log import first_position_at

NOT_OBSERVED: Final = Observed(counted_to=0, categories=(), recipients=(), enforced=(), oldest_keys=None)


class RecordRefused(Exception):
    """A record that cannot be made. `reason` is a stable code; the text says what to do."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def records_of_processing(
    ledger: Ledger,
    surroundings: Surroundings,
    *,
    as_of: date | None = None,
    meaning: Meaning = "recorded",
    observing: bool = True,
) -> RecordsOfProcessing:
    """The record of an account as of the end of a day (UTC), of today without one. Raises `RecordRefused`.

    Without `observing` it holds what was declared only: nothing is counted and nothing is found.
    """
    made_at = ledger.clock()
    today = made_at.date()
    on = as_of or today
    if on > today:
        raise RecordRefused("in_the_future", f"A record is as of today, {today}, or of an earlier day.")
    moment = Moment(end_of(on), meaning)
    position = _position(ledger, on, meaning)  # First: whatever is read after it has all that lies before it.
    account, name = _account(ledger, moment)
    terms = surroundings.policy_of(account)
    now = on == today and observing
    # In the order in which they were said, for either meaning: a later word about the past corrects an earlier one.
    stated = (fact for fact in ledger.registers.facts() if moment.covers(fact))
    said = declared(
        fold(stated),
        terms,
        on,
        account.country,
        surroundings.contradicted if now else lambda _: None,
    )
    known = living(ledger) if now else None
    keys = None if known is None else oldest_keys(known, terms, account, today)
    observed = _observed(ledger, moment, said, keys) if observing else NOT_OBSERVED
    return RecordsOfProcessing(
        tenant=ledger.tenant,
        account_name=name,
        operator=account.operator,
        as_of=AsOf(on, meaning),
        made_at=made_at,
        position=position,
        pack=terms.pack,
        pack_version=terms.version,
        pack_title=terms.title,
        parties=said.parties,
        activities=said.activities,
        retired=said.retired,
        recipients=said.recipients,
        observed=observed,
        findings=find(Compared(said, observed, known, position)) if observing else (),
        safeguards=said.safeguards,
    )


def _observed(ledger: Ledger, moment: Moment, said: Declared, keys: tuple[OldestKey, ...] | None) -> Observed:
    seen = counted(ledger, moment.at.date(), moment.meaning)
    done = retained(ledger, moment)
    return Observed(
        counted_to=seen.position,
        categories=categories(seen.seen, declared_by(said.activities)),
        recipients=recipients(seen.seen, said.seen_as),
        enforced=done.enforced,
        oldest_keys=keys,
        last_plan_on=done.last_plan_on,
        erasures=done.erasures,
        last_erasure_on=done.last_erasure_on,
    )


def _account(ledger: Ledger, moment: Moment) -> tuple[accounts.Account, str | None]:
    """The account as of a moment, and its name. Raises `RecordRefused` for a moment before its opening."""
    facts = moment.told([ledger.sealing.open(event) for event in ledger.log.select_streams([ledger.tenant])])
    account = accounts.fold(None, facts)
    if account is None:
        ledger.accounts.state()  # Raises for an account that is not there at all.
        raise RecordRefused("before_the_account", "The account was not open on that day. Ask for a later one.")
    name = next((opened(fact.name) for fact in facts if isinstance(fact, AccountOpened)), None)
    return account, name


def _position(ledger: Ledger, on: date, meaning: Meaning) -> int:
    """The last event that the record surely takes in: all that is known, or what was known by then."""
    with ledger.services.writer.transaction() as connection:
        if meaning == "recorded":
            return first_position_at(connection, ledger.tenant, end_of(on) + timedelta(microseconds=1)) - 1
        return ledger.appender.read_head(connection).position
