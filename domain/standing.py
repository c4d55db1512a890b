"""Standing: all that decides whether a subject may be mailed, as the fold of the subject's stream.

It is kept small, because it is read for every recipient of every campaign. Times are microseconds since 1970
(UTC), positions are those of the tenant's log. The stored form (`to_row`, `from_row`) is a plain JSON list
that carries its format version first.

The classes here are values: nobody changes one, `evolve` makes another. They are not declared frozen, because making
a frozen one takes three times as long, and a campaign makes as many as it has recipients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from domain.ids import from_micros
from domain.scope import ALL, purpose_scope

STANDING_FORMAT_VERSION = 2

GRANTED = "granted"
REFUSED = "refused"
WITHDRAWN = "withdrawn"
REQUESTED = "requested"

CONSENT = "consent"
SOFT_OPT_IN = "soft-opt-in"
IMPLIED_PURCHASE = "implied-purchase"
IMPLIED_INQUIRY = "implied-inquiry"
PERMISSION_BASES: frozenset[str] = frozenset({SOFT_OPT_IN, IMPLIED_PURCHASE, IMPLIED_INQUIRY})


@dataclass(slots=True)
class Permission:
    """The last effective word of a subject on one purpose and channel, and the position of its evidence.

    `status` is granted, refused, withdrawn or requested. `basis` is consent, or a permission that a controller
    declared without consent (soft-opt-in, implied-purchase, implied-inquiry). `evidenced` tells whether the
    record says how and when the subject acted; `imported` that it came with a list, which lifts nothing. `method`
    is how the subject acted (form, double_opt_in, …).
    """

    status: str
    basis: str
    occurred_at: int
    position: int
    evidenced: bool = False
    method: str | None = None
    imported: bool = False


@dataclass(slots=True)
class No:
    """One standing "no" of a subject: its cause, its scope, when it was said and where it is recorded."""

    cause: str
    scope: str
    occurred_at: int
    position: int
    campaign: str | None = None


@dataclass(slots=True)
class Suppression:
    """One entry of the suppression list for an address, by fingerprint.

    `since` is the end of the day it was imposed on, in microseconds since 1970: the list keeps no finer time.
    """

    scope: str
    cause: str
    since: int

    def since_text(self) -> str:
        """The day it stands since, as `2026-11-21`."""
        return from_micros(self.since).date().isoformat()


@dataclass(slots=True)
class Standing:
    """What the permission rules need to know of one subject.

    `permissions` is keyed by `purpose|channel`; `noes` by (cause, scope); `recalls` holds, per scope, the last
    position at which open authorisations were taken back, and when. `country` is ISO 3166 alpha-2, `birth_date`
    ISO 8601; `added_at` is when this incarnation of the person was added. `postponed` says that an erasure waits for
    the end of a legal hold. `accounts` are those of the platform that this person holds (hex ids), in the operator's
    own account.
    """

    version: int = 0
    category: str = "contact"
    country: str | None = None
    birth_date: str | None = None
    permissions: dict[str, Permission] = field(default_factory=dict)
    noes: tuple[No, ...] = ()
    restricted_position: int | None = None
    recalls: dict[str, Sequence[int]] = field(default_factory=dict)
    erasing: bool = False
    added_at: int = 0
    postponed: bool = False
    accounts: tuple[str, ...] = ()

    def copy(self) -> Standing:
        """A shallow copy, for `evolve` to change."""
        return Standing(
            self.version,
            self.category,
            self.country,
            self.birth_date,
            self.permissions,
            self.noes,
            self.restricted_position,
            self.recalls,
            self.erasing,
            self.added_at,
            self.postponed,
            self.accounts,
        )

    def noes_said(self) -> list[tuple[str, str, str]]:
        """Every standing "no" of the subject as scope, cause and day, withdrawals and restriction included."""
        said = [(n.scope, n.cause, _day(n.occurred_at)) for n in self.noes]
        for key, word in self.permissions.items():
            if word.status in (WITHDRAWN, REFUSED):
                said.append((purpose_scope(key.split("|")[0]), word.status, _day(word.occurred_at)))
        if self.restricted_position is not None:
            said.append((ALL, "restriction", ""))
        return said

    def to_row(self) -> list[Any]:
        """The stored form: a JSON list, format version first."""
        return [
            STANDING_FORMAT_VERSION,
            self.version,
            self.category,
            self.country,
            self.birth_date,
            {
                k: [p.status, p.basis, p.occurred_at, p.position, p.evidenced, p.method, p.imported]
                for k, p in self.permissions.items()
            },
            [[n.cause, n.scope, n.occurred_at, n.position, n.campaign] for n in self.noes],
            self.restricted_position,
            self.recalls,
            self.erasing,
            self.added_at,
            self.postponed,
            list(self.accounts),
        ]

    @staticmethod
    def from_row(row: list[Any]) -> Standing:
        """A standing from its stored form. Raises `ValueError` for a format this version does not know."""
        if row[0] != STANDING_FORMAT_VERSION:
            raise ValueError(f"Standing of format {row[0]} is unknown here; rebuild the standing projection.")
        return Standing(
            row[1],
            row[2],
            row[3],
            row[4],
            {k: Permission(*p) for k, p in row[5].items()},
            tuple([No(*n) for n in row[6]]) if row[6] else (),
            row[7],
            row[8],
            row[9],
            row[10],
            row[11],
            tuple(row[12]),
        )


def _day(moment_us: int) -> str:
    return from_micros(moment_us).date().isoformat()


def permission_key(purpose: str, channel: str) -> str:
    """How permissions are keyed inside a standing."""
    return f"{purpose}|{channel}"
