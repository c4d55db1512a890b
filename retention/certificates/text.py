"""What certificates say in words. Nothing here promises more than destroying keys can keep (LAW.md, last lines).

The words are the same for everybody whose keys went in one way, on purpose: what is particular to one person would
point at them. Days are UTC, and no time is finer than a day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Final

from projections.change_feed import DAYS_KEPT

Row = dict[str, str]

GROUNDS: Final[dict[str, str]] = {
    "subject_request": "the person asked for it (GDPR Art. 17(1))",
    "no_longer_needed": "the data were no longer needed (GDPR Art. 17(1)(a))",
    "consent_withdrawn": "the person took their consent back (GDPR Art. 17(1)(b))",
    "objection": "the person objected (GDPR Art. 17(1)(c))",
    "unlawful_processing": "the processing was unlawful (GDPR Art. 17(1)(d))",
    "legal_obligation": "a legal obligation asks for it (GDPR Art. 17(1)(e))",
    "child": "the data were collected from a child (GDPR Art. 17(1)(f))",
    "deleted_by_controller": "the controller deleted the contact (GDPR Art. 28(3)(a))",
    "account_closure": "the account that the person held had ended and its days had run (GDPR Art. 5(1)(e))",
    "other": "another reason",
}


def unreachable(day: date, what: str) -> str:
    """Stage 1 in one sentence."""
    return (
        f"Unreachable from {day}: {what} were destroyed in the vault of this installation. Nothing here opens what "
        "they sealed any more, and opening was tried and answered that it is erased."
    )


def until_horizon(horizon: date) -> str:
    """What stage 1 does not say yet."""
    return (
        f"Until {horizon} at the latest, backups, log segments and dead rows of the vault may still hold these keys, "
        "wrapped under an epoch key that is kept until then so that backups can be restored. Before a restored "
        "database serves, it destroys these keys again."
    )


def unrecoverable(day: date) -> str:
    """Stage 2 in one sentence."""
    return (
        f"Unrecoverable from the enumerated copies from {day}: every copy of the epoch keys that these keys were ever "
        "wrapped under is destroyed, so no backup, log segment or dead row named in the inventory opens them."
    )


DIGEST_TO_COME: Final = (
    "This certificate is signed. When the day is over it is issued again, with the list of keys, and its digest is "
    "written into the account's log."
)
DIGEST_IN_LOG: Final = (
    "This certificate is signed, and its digest stands in the account's log, which is tamper-evident back to the last "
    "checkpoint that somebody else holds."
)


EXPORTS_STAND_ALONE: Final = (
    "That something was exported in a month stands in the log without the name of whom it was about. Who has the file "
    "itself has what is in it."
)


EXPORTS_SHARED: Final = (
    "Exports about many persons are listed for everybody on the list of keys together, from the day on which the first "
    "of its keys was made: which of them held something of this person is not told."
)

EXPORTS: Final = "exports and bundles that left the house"
_OUT_OF_REACH: Final = "out of reach of this destruction"
_OWN_LISTED: Final = "those about this person alone are listed"


def exports_on_the_day(exported: bool) -> str:
    """What is said of exports before the day of an erasure is over."""
    own = [_OWN_LISTED] if exported else []
    later = "those about many persons in which parts were opened are added when the day is over"
    return "; ".join([_OUT_OF_REACH, *own, later])


def exports_listed_by_then(exported: bool, *, of_many: bool, whom: str = "this person") -> str:
    """What is said of exports with the list of keys: which of them are listed, and as what."""
    own = [_OWN_LISTED] if exported else []
    many = (
        f"those about many persons in which parts were opened are listed apart, as they may hold something of {whom}"
        if of_many
        else "no other in which parts were opened is on record from when the first of these keys was made"
    )
    return "; ".join([_OUT_OF_REACH, *own, many])


def exports_said(rows: Sequence[Mapping[str, str]]) -> str:
    """What an inventory says of exports."""
    return next((row["state"] for row in rows if row["artefact"] == EXPORTS), _OUT_OF_REACH)


def with_exports(rows: Sequence[Mapping[str, str]], state: str) -> list[Row]:
    """An inventory that says this of exports."""
    return [{**row, "state": state} if row["artefact"] == EXPORTS else {**row} for row in rows]


def inventory(horizon: date, exports: str, *, of_person: bool, suppressed: bool = True) -> list[Row]:
    """Every kind of artefact that held the keys or what they sealed, and what became of it.

    `exports` is what is said of those, `suppressed` whether the person's addresses must not be mailed from then on.
    """
    about = "the person's events" if of_person else "the events of the time"
    rows = [
        _row("event log", f"{about}, with their sealed parts", "stays; no key opens the sealed parts any more"),
        _row("vault", "the wrapped keys", "deleted; a tombstone forbids that they are ever made again"),
        _row("journal of tombstones", "random numbers of destroyed keys", "stays, to keep them destroyed"),
        _row("vault: log segments, dead rows, replicas", "wrapped keys", f"useless from {horizon} at the latest"),
        _row("vault: backups", "wrapped keys", f"useless from {horizon} at the latest"),
        _row(
            "ledger: backups",
            "sealed events and read models",
            f"those made until then are unreadable from {horizon} at the latest",
        ),
        _row(EXPORTS, "what was in them", exports),
        _row("the sender's own systems", "their own copies and logs", _OUT_OF_REACH),
        _row("mail that was delivered", "the messages themselves", _OUT_OF_REACH),
    ]
    if of_person:
        rows[1:1] = [
            _row("read models (contact, standing)", "who the person was", "deleted when the erasure was recorded"),
            _row(
                "suppression list",
                "a keyed fingerprint of each address",
                "kept, so that it is not mailed again" if suppressed else "kept only with what the person said no to",
            ),
            _row("change feed", "addresses to stop mailing", "emptied of this person; one last entry ends by itself"),
        ]
    return rows


def windows_of_erasure(day: date) -> list[Row]:
    """What still knew the person on the day of the erasure, and until when at the latest."""
    feed = day + timedelta(days=DAYS_KEPT + 1)
    return [
        _window("keys opened in running processes", day, "given up within 60 seconds of the destruction"),
        _window("the key of the day of the erasure", day + timedelta(days=1), "ties the suppression to the erasure"),
        _window("kept answers to repeated requests", day + timedelta(days=1), "open only with the caller's own key"),
        _window("the feed key of the day", feed, "opens the address that senders must still be told not to mail"),
        _window("feedback that fitted no message", feed, "sealed under the feed key of its day"),
    ]


def windows_of_plan(day: date) -> list[Row]:
    """What still opened it after the keys of a plan went, and until when at the latest."""
    return [_window("keys opened in running processes", day, "given up within 60 seconds of the destruction")]


def acknowledged_by_erasure(day: date) -> list[Row]:
    """Which parts of the program have answered that they do not know the person any more.

    When exactly, and how many rows that took, is told by the erasure until its day is over, and by no certificate:
    a count could be compared with the events that stay.
    """
    said = (
        ("contact and standing", "deleted with the intent, former addresses too"),
        ("vault", "the person's own keys are deleted, with a tombstone"),
        ("vault: records", "the keys to their records are deleted; what is kept has another holder"),
        ("opened keys", "forgotten here at once, in every other process within 60 seconds"),
        ("change feed", "addresses removed"),
        ("event log", "opened as a reader would: every sealed part answers that it is erased"),
    )
    return [{"where": where, "what": what, "on": day.isoformat()} for where, what in said]


def acknowledged_by_plan(day: date) -> list[Row]:
    """As `acknowledged_by_erasure`, of a plan."""
    said = (
        ("vault", "the keys are deleted, with tombstones"),
        ("opened keys", "forgotten here at once, in every other process within 60 seconds"),
        ("vault: asked again", "every key that was named answers that it is erased"),
    )
    return [{"where": where, "what": what, "on": day.isoformat()} for where, what in said]


def still_possible(erasures: int | None, *, exported: bool = False, of_many: bool = False) -> list[str]:
    """What statistics could still guess. It is named here because an erasure does not remove it."""
    crowd = (
        "the list of keys on this certificate is of one erasure"
        if erasures == 1
        else f"the list of keys on this certificate is of {erasures} erasures together"
        if erasures
        else "the list of keys is added when the day is over"
    )
    return [
        f"Who knows the day of an erasure can count the erasures of that day in the account's log; {crowd}.",
        "Events that stood alone in time may be told to belong together; none of them names a person.",
        (
            "Purposes, campaigns and times stay readable. Somebody who did what nobody else did may be recognised by "
            "whoever knows that they did it."
        ),
        *([EXPORTS_STAND_ALONE] if exported else []),
        *([EXPORTS_SHARED] if of_many else []),
        "What remains is pseudonymous data whose keys are gone. It is not called anything better.",
    ]


def still_possible_of_plan() -> list[str]:
    """As `still_possible`, for keys that went because their time was over."""
    return [
        "Counts, times and campaigns of the events stay readable, and so do the figures that were published before.",
        "Events that stood alone in time may be told to belong together; none of them names a person.",
        "What remains is pseudonymous data whose keys are gone. It is not called anything better.",
    ]


def copies_to_come(places: Sequence[str], horizon: date) -> list[Row]:
    """The custody copies of the epoch key, before it is destroyed."""
    return [{"place": place, "method": "to be destroyed with its epoch", "by": horizon.isoformat()} for place in places]


def _row(artefact: str, held: str, state: str) -> Row:
    return {"artefact": artefact, "held": held, "state": state}


def _window(what: str, until: date, why: str) -> Row:
    return {"what": what, "until": until.isoformat(), "why": why}
