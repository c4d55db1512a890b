"""Opening the gate of a restored ledger: what was destroyed since the backup is destroyed again before it serves.

    look       which database was restored, which logs end before their kept head; whether the journal of tombstones is
               there, without which nothing tells what is to be destroyed again
    replay     every noted tombstone that the vault does not know: its keys go, and the tombstone stands again; what
               legal holds keep of it is set aside first
    match      every log against its kept head and against the last checkpoint that was signed of it, whose root is
               computed again from the events; events and keys that are missing must be accepted by somebody, with a
               reason, before anything is written
    say        the log of each account says that it was restored, what it lost and why; its head is kept from there
    write off  keys that are lost get tombstones, so that none is made under their names
    forget     persons whom an older ledger still has, and whose keys were destroyed since: an intent is recorded for
               each, as at their erasure, so that no address leads to them and theirs stays unmailable
    finish     what a replay leaves to do (`retention/restoring/replayed.py`)
    open       the gate's rows go last

Every step can be repeated, so a process killed at any of them is run again (FAULTS 3, 4, 7). The log says its loss
before anything else happens to it: an account that was killed after that says so itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import orjson
from psycopg import sql

from domain.ids import month_of, unix_ms, uuid7
from domain.personal import Content, Personal, SuppressionData
from domain.restore import LedgerRestored
from ledger.application import Ledger, tenants
from ledger.backup.gate import OPEN, GateState, LogBehind, heads_of, look, replay
from ledger.backup.restoring import SHUT
from ledger.connections import Pool
from ledger.custody.journal import Custody
from ledger.custody.journal_check import (
    keep_published,
    lost_behind_gate,
    require_current,
    require_journal,
    write_journal,
)
from ledger.errors import JournalLost, KeyMissing, LedgerError, TamperError
from ledger.keys.keyring import LINK
from ledger.keys.names import FOR_EVER, TENANT_HOLDER, KeyName
from ledger.keys.vault import Vault
from ledger.streams import next_version
from projections.log import end_of_log, read_events
from projections.standing import InlineStanding
from retention.holds.setting_aside import SettingAside
from retention.link_generations import close_generations
from retention.restoring.listing_again import list_again
from retention.restoring.losses import ROWS_PER_PAGE, AccountOpening, Losses, to_write_off
from retention.restoring.replayed import finish_replay

BY_HAND: Final = "unknown"
"""In place of a backup's id, for databases that were put back without a word."""


class LossNotAccepted(LedgerError):
    """Something that was recorded is missing from the restored databases, and nobody has accepted that."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What opening the gate means: how it stands, tombstones to be replayed, and each account.

    `journal_lost` says why the list of tombstones cannot be all of it.
    """

    state: GateState
    tombstones: int
    accounts: tuple[AccountOpening, ...]
    journal_lost: str | None = None

    @property
    def loses(self) -> bool:
        """Whether something that was recorded is missing."""
        missing = bool(self.state.behind) or any(account.keys_missing for account in self.accounts)
        return missing or self.journal_lost is not None


@dataclass(frozen=True, slots=True)
class Gatekeeper:
    """Opens the gate of one instance. `ledger_of` gives the ledger of an account."""

    writer: Pool
    vault: Vault
    custody: Custody
    book: InlineStanding
    ledger_of: Callable[[UUID], Ledger]

    def open(self, *, reason: str | None, actor: str, journal_lost: bool = False) -> Opening:
        """Replay, match, say, forget and open. Raises `TamperError` for a rewritten log and `LossNotAccepted`.

        Raises `JournalLost` where the journal is, and nobody accepts that as well (`journal_lost`): what was destroyed
        since the backup would come back, and nobody would know. The tombstones are replayed even where the gate then
        stays shut: that is never wrong. Nothing is written to a log before its loss was accepted, because what was lost
        could then not be told from what is new.
        """
        state = look(self.writer, self.vault.pool, self.custody, thoroughly=True)
        without = self._journal_lost(state)
        if without is not None and not (journal_lost and state.shut):
            raise JournalLost(f"{without} {_ACCEPT_JOURNAL}" if state.shut else without)
        told = self._replay(reason)
        if not state.shut:
            if told:
                self._finish_all()
            return Opening(state, told, ())
        for log in state.behind:
            self._require_not_rewritten(log)
        accounts = tuple(self._losses.of(tenant, state) for tenant in tenants(self.writer))
        opening = Opening(state, told, accounts, without)
        if opening.loses and reason is None:
            raise LossNotAccepted(_loss_said(opening))
        self._keep_shut(state)
        for account in accounts:
            self._conclude(account, opening, reason, actor)
        lost = {log.tenant for log in state.behind} - {account.tenant for account in accounts}
        self.custody.replace_heads({}, gone=lost)
        self.custody.abandon_checkpoints(lost)
        if without is not None:
            write_journal(self.vault.pool, self.custody)  # What is known of it, or no process starts.
            keep_published(self.writer, self.custody)
        for pool in (self.writer, self.vault.pool):
            with pool.transaction() as connection:
                connection.execute(OPEN)
        return opening

    def look(self) -> Opening:
        """What opening would do, without doing any of it."""
        state = look(self.writer, self.vault.pool, self.custody)
        notes = replay(self.vault, self.custody, self._set_aside(None), dry_run=True)
        found = tuple(self._losses.of(tenant, state) for tenant in tenants(self.writer)) if state.shut else ()
        return Opening(state, notes, found, self._journal_lost(state))

    @property
    def _losses(self) -> Losses:
        return Losses(self.writer, self.book, self.ledger_of)

    def _journal_lost(self, state: GateState) -> str | None:
        """What says that the journal was lost; behind an open gate only what every process asks."""
        if state.shut:
            holds_events = bool(tenants(self.writer))
            return lost_behind_gate(self.writer, self.vault.pool, self.custody, holds_events=holds_events)
        require_journal(self.vault.pool, self.custody)
        require_current(self.writer, self.custody)
        return None

    def _set_aside(self, reason: str | None) -> SettingAside:
        return SettingAside(self.writer, self.ledger_of, loss_accepted=reason is not None)

    def _replay(self, reason: str | None) -> int:
        try:
            return replay(self.vault, self.custody, self._set_aside(reason))
        except KeyMissing as error:
            raise LossNotAccepted(
                "The key of a legal hold is not in the vault, so nothing tells whom it protects from what is to be "
                f"destroyed again. {_ACCEPT}"
            ) from error

    def _finish_all(self) -> None:
        for tenant in tenants(self.writer):
            finish_replay(self.ledger_of(tenant))

    def _keep_shut(self, state: GateState) -> None:
        """Databases that were put back by hand are shut by their heads only, and these are about to be replaced."""
        if not state.restored:
            now = max(log.kept.recorded_at for log in state.behind)
            with self.writer.transaction() as connection:
                connection.execute(SHUT.format(sql.Identifier("lethe", "restore_gate")), (now, BY_HAND, now))

    def _require_not_rewritten(self, log: LogBehind) -> None:
        """Raise `TamperError`, unless the log says itself that these positions were lost: then a run was cut off."""
        if log.rewritten and not self._says_so_itself(log):
            raise TamperError(f"{log.said()} This gate is not opened: restore a backup of the real log.")

    def _says_so_itself(self, log: LogBehind) -> bool:
        with self.writer.transaction() as connection:
            end = end_of_log(connection, log.tenant)
            events = read_events(connection, log.tenant, [LedgerRestored.TOPIC], 0, end)
        for event in events:
            said = orjson.loads(event.state)["plain"]
            first, last = said.get("lost_from"), said.get("lost_to")
            if first is not None and event.position == first and first <= log.kept.position <= last:
                return True
        return False

    def _conclude(self, account: AccountOpening, opening: Opening, reason: str | None, actor: str) -> None:
        self._say(account, opening, reason, actor)
        self._keep_head(account.tenant)
        if account.behind is not None and account.behind.unreached:
            # What was signed cannot be signed again: the log goes on as another series (audit/log/sequencer.py).
            self.custody.abandon_checkpoints([account.tenant])
        self._write_off(account, opening.state.vault_taken_at)
        self._forget(account)
        finish_replay(self.ledger_of(account.tenant))
        self._keep_head(account.tenant)

    def _say(self, account: AccountOpening, opening: Opening, reason: str | None, actor: str) -> None:
        """Write to the account's log that it was restored, and what that means."""
        ledger = self.ledger_of(account.tenant)
        lost = account.behind.lost if account.behind else None
        with ledger.appender.locked() as locked:
            sealed = reason is not None and self._takes_words(ledger, account, locked.now)
            fact = LedgerRestored(
                backups=tuple(sorted({restored.backup_id for restored in opening.state.restored})),
                lost_from=lost[0] if lost else None,
                lost_to=lost[1] if lost else None,
                tombstones_replayed=opening.tombstones,
                persons_forgotten=len(account.to_forget),
                keys_missing=account.keys_missing,
                journal_lost=opening.journal_lost is not None,
                reason=Personal(reason) if sealed and reason is not None else None,
                originator_id=account.tenant,
                originator_version=next_version(locked.connection, account.tenant, account.tenant),
                event_id=uuid7(unix_ms(locked.now), os.urandom(10)),
                occurred_at=locked.now,
                actor=actor,
                command=UUID(bytes=os.urandom(16), version=4),
            )
            locked.record([(ledger.sealing.draft(fact), fact.originator_version)], restricts=True)

    def _takes_words(self, ledger: Ledger, account: AccountOpening, now: datetime) -> bool:
        """Whether the account's own words can be sealed: not after its closure, nor where their key is lost."""
        names = {KeyName(TENANT_HOLDER, Content.name, period) for period in ("", month_of(now))}
        return names.isdisjoint(account.lost_keys | self.vault.find(ledger.tenant, sorted(names)).tombstones.keys())

    def _keep_head(self, tenant: UUID) -> None:
        with self.writer.transaction() as connection:
            self.custody.replace_heads(heads_of(connection, [tenant]))

    def _write_off(self, account: AccountOpening, taken_at: datetime | None) -> None:
        """Give keys that are lost their tombstones, because somebody accepted that.

        Without one a new key could be made under an old name, and what the lost one sealed would look tampered with.
        Addresses of erased persons whose day's key is among them are put on the suppression list again, so that a
        rebuild of it keeps them.
        """
        if not account.lost_keys:
            return
        ledger = self.ledger_of(account.tenant)
        lists = {name.period for name in account.lost_keys if name[:2] == (TENANT_HOLDER, SuppressionData.name)}
        if taken_at is not None and lists and FOR_EVER not in lists:
            list_again(ledger, month_of(taken_at))
        names = to_write_off(ledger, account)
        for start in range(0, len(names), ROWS_PER_PAGE):
            self.vault.write_off(account.tenant, names[start : start + ROWS_PER_PAGE], when=ledger.clock())
        ledger.keyring.forget_all()
        close_generations(ledger, [(n.holder, n.generation) for n in names if n.holder and n.retention_class == LINK])

    def _forget(self, account: AccountOpening) -> None:
        """Record the intents that an older ledger does not have, and detach these persons.

        Where the suppression list was destroyed with its account there is nobody to be mailed: the rows are swept.
        """
        if SuppressionData.name in account.destroyed:
            return
        ledger = self.ledger_of(account.tenant)
        for start in range(0, len(account.to_forget), ROWS_PER_PAGE):
            ledger.erasures.intend_again(account.to_forget[start : start + ROWS_PER_PAGE])


def _loss_said(opening: Opening) -> str:
    said = [log.said() for log in opening.state.behind]
    if opening.journal_lost is not None:
        said.append("The journal of tombstones was lost: what was destroyed since the backup comes back.")
    missing = sum(account.keys_missing for account in opening.accounts)
    if missing:
        said.append(f"{missing} keys that the ledger needs are not in the vault: it is older than the ledger.")
    return " ".join((*said, _ACCEPT))


_ACCEPT_JOURNAL = (
    "Without it what was destroyed since the backup comes back, and nothing tells what that is. If there is no other: "
    "lethe reopen --journal-lost --accept-loss REASON. Then erase again, by your own papers, whom you had erased."
)
_ACCEPT = "Restore a newer backup, or accept the loss with a reason: lethe reopen --accept-loss REASON."
