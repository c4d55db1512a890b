"""The controls that a policy pack may name: what in the program keeps a clause, and what that control reports.

A pack is data and cannot invent a control. Each one here says which kinds of keeping it can stand for and which live
figures tell of it (`clause_figures.FIGURES`). A control that is `built` is part of the program; one that is not is
named so that a pack can say what will keep its clause, and the report counts such clauses at its foot as "no control
yet".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["enforced", "recorded", "declared"]
KINDS: Final[tuple[Kind, ...]] = ("enforced", "recorded", "declared")

FigureGroup = Literal[
    "pack",
    "keys",
    "suppressions",
    "sends",
    "erasures",
    "holds",
    "horizon",
    "access",
    "accounts",
    "registers",
    "none",
]


@dataclass(frozen=True, slots=True)
class Control:
    """One control: its name in packs, what it does, the kinds it can stand for, and its figures.

    `built_for` are the kinds of keeping that are built, where that is not all of them.
    """

    name: str
    does: str
    kinds: frozenset[Kind]
    figures: FigureGroup
    built: bool = True
    built_for: frozenset[Kind] | None = None

    def keeps(self, kind: Kind) -> bool:
        """Whether the control is part of the program for this kind of keeping."""
        return self.built and (self.built_for is None or kind in self.built_for)


CONTROLS: dict[str, Control] = {}


def _controls(
    kinds: Iterable[Kind],
    *rows: tuple[str, FigureGroup, str],
    built: bool = True,
    built_for: frozenset[Kind] | None = None,
) -> None:
    for name, figures, does in rows:
        CONTROLS[name] = Control(name, does, frozenset(kinds), figures, built, built_for)


_controls(
    ("declared",),
    ("declaration", "pack", "The pack carries the statement into this report, with who answers for it."),
    ("observed-classes", "keys", "What the pack declares stands beside the classes that the ledger really holds."),
)
_controls(
    ("enforced",),
    ("tenancy", "accounts", "Each account sees its own data only; API keys act within their scopes."),
    ("permission-rules", "sends", "No send is authorised without a basis for its purpose, and none after a no."),
    ("tracking-disclosure", "sends", "Openings and clicks are taken only where a campaign disclosed its tracking."),
    ("age-rule", "sends", "Nobody younger than the pack or the law asks for is mailed."),
    ("key-destruction", "keys", "Keys are destroyed by plan when the time of their class is over."),
    ("minimum-retention", "keys", "Keys of the class cannot be destroyed before the minimum has run, by any path."),
    ("aggregates-first", "keys", "Figures by month, in groups of at least ten, are kept before the month's key goes."),
    ("account-closure", "accounts", "What a closed account held is destroyed when its days have run."),
    ("erasure", "erasures", "Forgetting a person destroys their keys; nothing of theirs opens from the intent on."),
    ("suppression-list", "suppressions", "Addresses that must not be mailed outlive their person, as fingerprints."),
    ("legal-hold", "holds", "What a hold covers is kept back from every plan until the hold is released."),
    ("backup-horizon", "horizon", "Epoch keys are destroyed, so that no enumerated backup opens what was destroyed."),
    ("restore-gate", "horizon", "A restored ledger serves only after its tombstones are replayed."),
    ("sealing", "keys", "Personal data is sealed with AES-256-GCM under keys of its person and its period."),
    ("api-scopes", "accounts", "API keys have scopes, are kept as hashes, and stop when they are revoked."),
    ("input-limits", "none", "Every input is checked and bounded; a key's requests are limited by the minute."),
    ("pack-notice", "pack", "A pack that weakens a promise takes effect only after a notice has run its days."),
)
_controls(
    ("recorded",),
    ("consent-records", "sends", "What was asked, answered and taken back is recorded with its evidence."),
    ("pack-adoption", "pack", "Which version of the pack an account lived under, and since when, is in its log."),
)
_controls(
    ("enforced", "recorded"),
    ("access-trail", "access", "Every view of personal data and every refused request is an event."),
)
_controls(
    KINDS,
    ("processing-register", "registers", "The record of processing: what was declared beside what was observed."),
    ("recipient-register", "registers", "Recipients by category and country, beside where data really went."),
    ("transfer-register", "registers", "The safeguard of each transfer, its document and where to get it."),
)
_controls(
    KINDS,
    ("sub-processor-register", "registers", "Sub-processors: engaged, amended, retired, with what binds them."),
    built_for=frozenset({"recorded"}),
)
_controls(
    KINDS,
    ("rights-desk", "none", "Requests of persons with their clocks, verification and answers."),
    ("notice-register", "none", "Notices: versions, days, and who was told."),
    ("breach-register", "none", "Breaches with their clocks, required fields and sends."),
    ("assessment-register", "none", "Impact assessments, and the consultation that a high risk needs."),
    ("instruction-register", "none", "Instructions of controllers to the processor."),
    ("security-register", "none", "Security measures that people and other systems take: tests, training, reviews."),
    ("staff-sign-in", "none", "Sign-in of staff with a second factor, sessions, and reviews of roles."),
    ("transport-security", "none", "TLS at its lowest accepted version, and HSTS, where Lethe ends it."),
    built=False,
)
