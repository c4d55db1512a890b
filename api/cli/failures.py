"""Exit codes, and the table that maps every known error to one of them and to a stable name.

An error becomes one line on standard error that says what to do, and with `--json` also one object on standard
output. Nobody sees a traceback: an error that is not in the table is a fault of the program, and of it only the type
and the place are shown, because nobody can tell what its text would say.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from enum import IntEnum
from typing import Any, Final, NamedTuple

import psycopg
import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from api.cli.output import Output
from api.imports.errors import ImportFileError
from api.logs import places
from audit.asof.moments import MomentRefused
from audit.bundles.model import CannotBundle, LogBehind, NothingToBundle, PeriodBackwards
from audit.consents.acts import NothingSaid, TooManyActs
from audit.log.errors import (
    FolderRefused,
    LogContradiction,
    LogKeyRefused,
    NoSuchPosition,
    NothingPublished,
    NotPublishedYet,
)
from audit.records.record import RecordRefused
from domain.account import AccountRefused
from domain.address import InvalidAddress
from domain.adoption import AdoptionRefused
from domain.campaign import CampaignNotOpen
from domain.facts import UnknownTopic
from domain.hold import HoldRefused
from domain.law import LawError
from domain.register import RegisterRefused
from domain.scope import InvalidScope
from domain.subject_commands import CommandRefused
from ledger import errors as ledger
from ledger.certificate_format import CertificateRefused
from ledger.embedded import EmbeddedPostgresError
from ledger.signing import SignatureRefused
from projections.errors import ProjectionError
from projections.history import EventUnreadable
from retention.certificates.store import UnknownCertificate
from retention.erasure.erasing import ErasureIncomplete
from retention.horizon.horizon import RollRunning
from retention.plans.apply import PlanBusy, PlanIncomplete
from retention.plans.file import PlanInvalid, PlanRefused
from retention.policy.pack import PackInvalid, UnknownPack

AS_JSON: Final = "lethe.json"
"""Under this name a command's `--json` is noted in click's context, so that its failure is told in JSON too."""


class ExitCode(IntEnum):
    """What `lethe` ends with. The documentation's table is checked against this class."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    IN_PART = 3
    UNAVAILABLE = 4
    NOT_FOUND = 5
    INCIDENT = 6
    SETTINGS = 7
    TOO_LATE = 8
    FAULT = 70
    INTERRUPTED = 130


MEANINGS: Final[dict[ExitCode, str]] = {
    ExitCode.DONE: "done",
    ExitCode.REFUSED: "refused or failed; nothing was done that is not said",
    ExitCode.USAGE: "the command was not understood",
    ExitCode.IN_PART: "done in part: some rows were rejected, and are named",
    ExitCode.UNAVAILABLE: "a database does not answer; try again",
    ExitCode.NOT_FOUND: "no such account, campaign, contact or file",
    ExitCode.INCIDENT: "a key is missing or something was changed: look into it",
    ExitCode.SETTINGS: "a setting is missing or would break a promise",
    ExitCode.TOO_LATE: "a hold comes too late, for all or for a part that is named: the destruction was recorded first",
    ExitCode.FAULT: "a fault of the program",
    ExitCode.INTERRUPTED: "interrupted",
}


class Failure(NamedTuple):
    """How an error is told: its exit code, its stable name, and a text where the error's own must not be shown."""

    code: ExitCode
    name: str
    text: str | None = None


class CommandFailed(Exception):
    """A command has failed in a way of its own. The text says what to do."""

    def __init__(self, code: ExitCode, name: str, text: str) -> None:
        super().__init__(text)
        self.failure = Failure(code, name)


FAILURES: Final[tuple[tuple[type[BaseException], Failure], ...]] = (
    (ledger.Unavailable, Failure(ExitCode.UNAVAILABLE, "unavailable")),
    (
        psycopg.OperationalError,
        Failure(
            ExitCode.UNAVAILABLE,
            "unavailable",
            "The database does not answer, or refuses the sign-in. Check its URL, then: lethe doctor.",
        ),
    ),
    (EmbeddedPostgresError, Failure(ExitCode.UNAVAILABLE, "embedded_postgres")),
    (ledger.UnknownAccount, Failure(ExitCode.NOT_FOUND, "unknown_account")),
    (ledger.UnknownCampaign, Failure(ExitCode.NOT_FOUND, "unknown_campaign")),
    (ledger.UnknownSubject, Failure(ExitCode.NOT_FOUND, "unknown_contact")),
    (ledger.UnknownHold, Failure(ExitCode.NOT_FOUND, "unknown_hold")),
    (UnknownCertificate, Failure(ExitCode.NOT_FOUND, "unknown_certificate")),
    (NothingSaid, Failure(ExitCode.NOT_FOUND, "nothing_said")),
    (TooManyActs, Failure(ExitCode.REFUSED, "too_many_acts")),
    (CertificateRefused, Failure(ExitCode.REFUSED, "certificate_refused")),
    (SignatureRefused, Failure(ExitCode.REFUSED, "signature_refused")),
    (ledger.HoldTooLate, Failure(ExitCode.TOO_LATE, "hold_too_late")),
    (ledger.GateShut, Failure(ExitCode.INCIDENT, "gate_shut")),
    (ledger.KeyMissing, Failure(ExitCode.INCIDENT, "key_missing")),
    (ledger.JournalLost, Failure(ExitCode.INCIDENT, "journal_lost")),
    (LogContradiction, Failure(ExitCode.INCIDENT, "log_contradiction")),
    (LogKeyRefused, Failure(ExitCode.REFUSED, "log_key_refused")),
    (NothingPublished, Failure(ExitCode.REFUSED, "nothing_published")),
    (NotPublishedYet, Failure(ExitCode.UNAVAILABLE, "not_published_yet")),
    (NoSuchPosition, Failure(ExitCode.NOT_FOUND, "no_such_position")),
    (FolderRefused, Failure(ExitCode.REFUSED, "folder_refused")),
    (ledger.TamperError, Failure(ExitCode.INCIDENT, "tampered")),
    (ledger.RollIncomplete, Failure(ExitCode.INCIDENT, "roll_incomplete")),
    (ErasureIncomplete, Failure(ExitCode.INCIDENT, "erasure_incomplete")),
    (PlanIncomplete, Failure(ExitCode.INCIDENT, "plan_incomplete")),
    (PlanInvalid, Failure(ExitCode.REFUSED, "plan_invalid")),
    (PlanBusy, Failure(ExitCode.REFUSED, "plan_busy")),
    (EventUnreadable, Failure(ExitCode.INCIDENT, "unreadable_event")),
    (UnknownTopic, Failure(ExitCode.INCIDENT, "unknown_topic")),
    (ledger.SettingsRefused, Failure(ExitCode.SETTINGS, "settings_refused")),
    (ledger.EpochInUse, Failure(ExitCode.REFUSED, "epoch_in_use")),
    (ledger.EpochNotDue, Failure(ExitCode.REFUSED, "epoch_not_due")),
    (ledger.ClocksApart, Failure(ExitCode.REFUSED, "clocks_apart")),
    (ledger.UnknownEpoch, Failure(ExitCode.NOT_FOUND, "unknown_epoch")),
    (RollRunning, Failure(ExitCode.REFUSED, "roll_running")),
    (NothingToBundle, Failure(ExitCode.NOT_FOUND, "nothing_found")),
    (LogBehind, Failure(ExitCode.UNAVAILABLE, "log_behind")),
    (ledger.LedgerError, Failure(ExitCode.REFUSED, "refused")),
    (ProjectionError, Failure(ExitCode.REFUSED, "refused")),
    (CommandRefused, Failure(ExitCode.REFUSED, "refused")),
    (CampaignNotOpen, Failure(ExitCode.REFUSED, "campaign_not_open")),
    (AdoptionRefused, Failure(ExitCode.REFUSED, "adoption_refused")),
    (UnknownPack, Failure(ExitCode.NOT_FOUND, "unknown_policy")),
    (PackInvalid, Failure(ExitCode.REFUSED, "policy_invalid")),
    (InvalidAddress, Failure(ExitCode.REFUSED, "invalid_address")),
    (InvalidScope, Failure(ExitCode.REFUSED, "invalid_scope")),
    (MomentRefused, Failure(ExitCode.USAGE, "invalid_time")),
    (LawError, Failure(ExitCode.REFUSED, "law_refused")),
    (ImportFileError, Failure(ExitCode.REFUSED, "unreadable_file")),
    (
        psycopg.errors.InsufficientPrivilege,
        Failure(ExitCode.SETTINGS, "insufficient_privilege", "The database role may not do this. Run: lethe doctor."),
    ),
    (
        psycopg.errors.UndefinedTable,
        Failure(ExitCode.SETTINGS, "not_migrated", "The database is not up to date. Run: lethe migrate."),
    ),
    (KeyboardInterrupt, Failure(ExitCode.INTERRUPTED, "interrupted", "Interrupted. What was confirmed stays done.")),
)


_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})
"""What a disk says, or an output, that takes no more. It happens to everybody and is no fault of the program."""


def failure_of(error: BaseException) -> tuple[Failure, str]:
    """How an error is told, and in which words."""
    if isinstance(error, CommandFailed):
        return error.failure, str(error)
    if isinstance(error, ValidationError) and error.title == "Settings":
        wrong = "; ".join(f"LETHE_{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors(include_input=False))
        return Failure(ExitCode.SETTINGS, "settings_refused"), f"A setting cannot be used. {wrong}."
    if isinstance(error, HoldRefused | CommandRefused | AccountRefused | PlanRefused | RegisterRefused | RecordRefused):
        return Failure(ExitCode.REFUSED, error.reason), str(error)
    if isinstance(error, CannotBundle) and not isinstance(error, NothingToBundle):
        code = ExitCode.USAGE if isinstance(error, PeriodBackwards) else ExitCode.REFUSED
        return Failure(code, error.reason), str(error)
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        text = f"Not everything could be written: {os.strerror(error.errno)}. Make room, or name another place."
        return Failure(ExitCode.REFUSED, "no_room"), text
    for kind, failure in FAILURES:
        if isinstance(error, kind):
            return failure, failure.text or str(error)
    where = (places(error.__traceback__) or ["nowhere"])[-1]
    text = f"This is a fault of the program: {type(error).__name__} at {where}. Please report it with this line."
    return Failure(ExitCode.FAULT, "fault"), text


ORDER: Final = (
    *("demo", "doctor", "account", "apikey", "contacts", "consents", "consent", "suppressions"),
    *("campaign", "authorise", "feedback", "subject", "records", "events", "trail", "erase", "hold"),
    *("register", "processing", "policy", "retention"),
    *("serve", "worker", "migrate", "rebuild", "vault"),
)


class FailingGroup(TyperGroup):
    """The root command: the edge of the process, where every error becomes a line and an exit code."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The commands in the order in which one comes to need them."""
        return [name for name in ORDER if name in self.commands] + [n for n in self.commands if n not in ORDER]

    def invoke(self, ctx: Any) -> Any:
        """Run the command named. Usage errors and `typer.Exit` carry an exit code of their own and pass."""
        try:
            return super().invoke(ctx)
        except (Exception, KeyboardInterrupt) as error:
            if isinstance(error, typer.Abort) or hasattr(error, "exit_code"):
                raise
            if isinstance(error, OSError) and error.errno == errno.EPIPE:  # Our reader has enough.
                sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  it lives until the process ends
                raise typer.Exit(ExitCode.DONE) from None
            raise typer.Exit(_told(ctx.meta, error)) from None


def _told(meta: Mapping[str, Any], error: BaseException) -> int:
    failure, text = failure_of(error)
    output = Output(bool(meta.get(AS_JSON)))
    output.note(f"lethe: {text}")
    if output.as_json:
        with suppress(OSError):  # Perhaps that it takes no more is the failure.
            output.line({"error": failure.name, "message": text, "exit_code": int(failure.code)})
    return int(failure.code)
