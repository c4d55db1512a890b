"""Records of processing, wired: what `audit/records` needs to know of the policy pack and of where the program runs.

The one way to a record for the command line, for HTTP and for every rendering.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, timedelta
from typing import Any, Final

from psycopg import Connection

from api.bootstrap import Instance
from audit.asof.moments import Meaning
from audit.records.difference import difference
from audit.records.model import Difference, RecordsOfProcessing
from audit.records.record import RecordRefused, records_of_processing
from audit.records.terms import Due, KeyKind, PolicyLimit, PolicyTerms, Surroundings
from domain.account import Account
from domain.facts import opened
from domain.personal import Feed
from domain.register import Entry, PartyStated
from domain.register_shape import CATEGORIES_OF_DATA
from ledger.application import Ledger
from ledger.keys.names import FOR_EVER
from projections.change_feed import DAYS_KEPT
from retention.policy.adopting import pack_of
from retention.policy.clocks import due_on, first_day_of
from retention.policy.controls import CONTROLS
from retention.policy.pack import Pack
from retention.policy.seeds import limits_of

WHAT: Final = "processing_record"
WHAT_OF_REGISTERS: Final = "register"
COPIES_MIN: Final = 2
SECOND_FACTOR_CONTROL: Final = "staff-sign-in"
TLS_AT_LEAST: Final = {"tls-1.2": ("TLSv1.2", "TLSv1.3"), "tls-1.3": ("TLSv1.3",)}

SELECT_TRANSPORT: Final = """
SELECT inet_server_addr() IS NULL, (SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl)
"""


def record_of(
    instance: Instance,
    ledger: Ledger,
    *,
    as_of: date | None = None,
    meaning: Meaning = "recorded",
    actor: str,
) -> RecordsOfProcessing:
    """The record of an account as of the end of a day; where it names a natural person, that is recorded (I8).

    Raises `RecordRefused`.
    """
    made = records_of_processing(ledger, surroundings(instance), as_of=as_of, meaning=meaning)
    persons = sum(party.person is not None for party in made.parties)
    if persons:
        ledger.record_view(WHAT, subject=None, parts_opened=persons, actor=actor)
    return made


def difference_of(
    instance: Instance, ledger: Ledger, earlier: date, later: date | None, *, meaning: Meaning, actor: str
) -> Difference:
    """What changed in an account's record from one day to a later one, today without it. Raises `RecordRefused`."""
    if later is not None and earlier > later:
        raise RecordRefused("wrong_order", "The second day lies before the first. Name the earlier day first.")
    one, other = (record_of(instance, ledger, as_of=day, meaning=meaning, actor=actor) for day in (earlier, later))
    return difference(one, other)


def record_entries_shown(ledger: Ledger, entries: Iterable[Entry], *, actor: str) -> None:
    """Note that entries are shown, before they are: where they name natural persons, that is a view (I8)."""
    persons = sum(
        isinstance(entry.stated, PartyStated) and opened(entry.stated.person) is not None for entry in entries
    )
    if persons:
        ledger.record_view(WHAT_OF_REGISTERS, subject=None, parts_opened=persons, actor=actor)


def surroundings(instance: Instance) -> Surroundings:
    """What a record needs to know from this instance."""
    return Surroundings(terms_of_account, lambda code: contradiction(instance, code))


def terms_of_account(account: Account) -> PolicyTerms:
    """The policy that an account lives under, as a record needs it. Raises `PackError`."""
    return terms_of_pack(pack_of(account), operator=account.operator)


def terms_of_pack(pack: Pack, *, operator: bool = False) -> PolicyTerms:
    """A pack's limits by category, and when keys are due under it."""
    limits = {
        category: tuple(
            PolicyLimit(limit.code, clause) for limit, clause in limits_of(pack, category, operator=operator)
        )
        for category in CATEGORIES_OF_DATA
    }
    return PolicyTerms(pack.name, pack.version, pack.title, limits, _due_under(pack))


def _due_under(pack: Pack) -> Callable[[str, KeyKind, str], Due | None]:
    def due(category: str, kind: KeyKind, oldest: str) -> Due | None:
        if oldest == FOR_EVER:
            return None
        if category == Feed.name and kind == "period":
            return Due(first_day_of(oldest) + timedelta(days=DAYS_KEPT + 1), None)
        if kind == "account":
            closing = pack.closure.get(category)
            return None if closing is None else Due(due_on(closing, date.fromisoformat(oldest)), closing.clause)
        rule = pack.rules.get(category)
        if rule is None or rule.keep is None:
            return None
        if kind == "period" and rule.clock == "calendar":
            return Due(due_on(rule, first_day_of(oldest)), rule.clause)
        if kind == "person" and rule.clock.startswith("last_"):
            return Due(due_on(rule, date.fromisoformat(oldest)), rule.clause)
        return None

    return due


def contradiction(instance: Instance, code: str) -> str | None:
    """Why a measure is known to be untrue where this program runs; None where it is true or cannot be known."""
    if code in TLS_AT_LEAST:
        return _in_the_clear(instance, TLS_AT_LEAST[code])
    if code == "second-factor" and not CONTROLS[SECOND_FACTOR_CONTROL].built:
        return "this version of the program signs nobody in with a second factor."
    if code == "key-copies" and len(instance.services.vault.provider.copies()) < COPIES_MIN:
        return f"the epoch keys are in {len(instance.services.vault.provider.copies())} place."
    return None


def _in_the_clear(instance: Instance, versions: tuple[str, ...]) -> str | None:
    """Whether a connection to a database leaves the machine without TLS, or with an older one than was declared."""
    for name, pool in (("ledger", instance.services.writer), ("vault", instance.vault_pool)):
        with pool.connection() as connection:
            said = transport_said(connection, versions)
        if said is not None:
            return f"the connection to the {name}'s database {said}."
    return None


def transport_said(connection: Connection[Any], versions: tuple[str, ...]) -> str | None:
    """What is wrong with how a connection is carried; None for a socket of this machine and for these versions."""
    row = connection.execute(SELECT_TRANSPORT).fetchone()
    assert row is not None
    is_local, version = row
    if is_local or version in versions:
        return None
    return "is not encrypted" if version is None else f"uses {version}"
