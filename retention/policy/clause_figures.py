"""Live figures of a clause, group by group: what its controls count, and what is late.

Pure, over what `policy_figures.read_figures` has read. Each group says its figures by name for machines and as lines
for people; a control that has nothing to count says so, rather than showing an empty place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Final

from domain.category import ACCOUNT_HOLDER
from domain.personal import Identity
from ledger.keys.horizon import HORIZON_DAYS_MAX
from projections.campaign_view import AUTHORISED, CLICKED, OPENED, REFUSED
from retention.policy.clocks import due_on, first_day_of
from retention.policy.controls import FigureGroup
from retention.policy.figures import SUB_PROCESSOR, WITHOUT_DOCUMENT, AccountFigures, ClassFigures, LiveFigures
from retention.policy.pack import PACK_CLASSES, Clause, Pack

ERASURE_OPEN_HOURS_MAX: Final = 24  # who needs it: an officer; keys go within moments, unless nothing works on it


@dataclass(slots=True)
class Figures:
    """Figures of a clause, by name for machines and as lines for people, and what is late."""

    values: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)

    def add(self, name: str, value: Any, line: str) -> None:
        """One figure and how it is said."""
        self.values[name] = value
        if line not in self.lines:
            self.lines.append(line)

    def say_late(self, late: Iterable[str]) -> None:
        """What is late, each thing once."""
        self.late.extend(said for said in late if said not in self.late)


@dataclass(frozen=True, slots=True)
class View:
    """One clause of a pack, and the figures that it is told with."""

    pack: Pack
    clause: Clause
    figures: LiveFigures


def next_due(pack: Pack, name: str, figures: LiveFigures, clause: str | None = None) -> date | None:
    """When the oldest living keys of a class are due, by its own rule or by the account's closure; None if never.

    With a clause's number: by what this clause sets only.
    """
    days = [
        day for account in figures.each for number, day in _due_days(pack, name, account) if clause in (None, number)
    ]
    return min(days, default=None)


def _due_days(pack: Pack, name: str, account: AccountFigures) -> Iterator[tuple[str, date]]:
    """Each day on which keys of a class are due, with the number of the clause that sets it."""
    known, rule, closing = account.of_class(name), pack.rules.get(name), pack.closure.get(name)
    if rule is not None and rule.keep is not None:
        if rule.clock == "calendar" and known.oldest_period is not None:
            yield rule.clause, due_on(rule, first_day_of(known.oldest_period))
        elif rule.clock.startswith("last_") and known.oldest_last_on is not None:
            yield rule.clause, due_on(rule, known.oldest_last_on)
    if closing is not None and account.terminated_on is not None and known.living:
        yield closing.clause, due_on(closing, account.terminated_on)
    of_holders = pack.closure_of(name, ACCOUNT_HOLDER)
    if name == Identity.name and of_holders is not None and account.holders_ended:
        yield of_holders.clause, due_on(of_holders, min(account.holders_ended))


def _pack(view: View, found: Figures) -> None:
    pack, figures = view.pack, view.figures
    if _controls_of(view.clause) & {"pack-notice", "pack-adoption"}:
        found.add("version", pack.version, f"version {pack.version}, in force from {pack.effective_from} on")
    if "pack-notice" in _controls_of(view.clause):
        found.add("notice_days", pack.notice_days, f"{_days(pack.notice_days)} of notice owed")
        waiting = [day for *_, day in figures.announced if day > figures.today]
        said = f"{_counted(len(waiting), 'announced change')} waiting" + (
            f", next on {min(waiting)}" if waiting else ""
        )
        found.add("announced_changes_waiting", len(waiting), said)
    if "pack-adoption" in _controls_of(view.clause):
        found.add("accounts", len(figures.each), f"{_counted(len(figures.each), 'account')} under it")
    if "declaration" in _controls_of(view.clause) and view.clause.answers is not None:
        found.add("answers", view.clause.answers, f"answered for by {view.clause.answers}")


def _keys(view: View, found: Figures) -> None:
    """Keys by class; for clauses that name none, over all classes together."""
    classes = view.clause.classes
    if not classes:
        _all_keys(view.figures, found)
        return
    if "observed-classes" in _controls_of(view.clause):
        held = [name for name in classes if view.figures.of_class(name).living]
        said = f"the ledger holds {', '.join(held)}" if held else "the ledger holds nothing of it"
        found.add("held", held, said)
        return
    by_class: dict[str, Any] = {}
    for name in classes:
        by_class[name] = class_values(view.figures.of_class(name), next_due(view.pack, name, view.figures))
        found.lines.append(f"{name}: {class_line(view.figures.of_class(name), by_class[name]['next_due'])}")
    found.values["classes"] = by_class
    found.say_late(_late(view))


def _all_keys(figures: LiveFigures, found: Figures) -> None:
    known = [figures.of_class(name) for name in PACK_CLASSES]
    living = sum(k.living for k in known)
    destroyed = sum(k.destroyed.total() for k in known)
    found.add("living_keys", living, f"{_counted(living, 'living key')}")
    found.add("destroyed_keys", destroyed, f"{destroyed:,} destroyed")


def class_values(known: ClassFigures, due: date | None) -> dict[str, Any]:
    """The figures of a class for machines."""
    return {
        "period_keys": known.period_keys,
        "oldest_period": known.oldest_period,
        "person_keys": known.person_keys,
        "oldest_last_on": known.oldest_last_on,
        "escrowed_keys": known.escrowed_keys,
        "destroyed": dict(sorted(known.destroyed.items())),
        "last_destroyed_at": known.last_destroyed_at,
        "next_due": due,
    }


def class_line(known: ClassFigures, due: date | None) -> str:
    """The figures of a class in one line."""
    parts = []
    if known.period_keys:
        parts.append(f"{_counted(known.period_keys, 'period key')}, oldest {known.oldest_period}")
    if known.person_keys:
        parts.append(f"{_counted(known.person_keys, 'person key')}, oldest of {known.oldest_last_on}")
    if known.escrowed_keys:
        parts.append(f"{known.escrowed_keys:,} in escrow")
    if known.destroyed or not parts:
        parts.append(f"{known.destroyed.total():,} destroyed" if known.destroyed else "nothing held or destroyed")
    if due is not None:
        parts.append(f"next due {due}")
    return "; ".join(parts)


def _late(view: View) -> Iterator[str]:
    """What is alive after the day that this clause sets."""
    for name in view.clause.classes:
        due = next_due(view.pack, name, view.figures, view.clause.number)
        if due is not None and due < view.figures.today:
            active = view.figures.holds
            kept_back = f"; {_counted(active, 'active hold')} may keep it back" if active else ""
            yield f"{name} is due since {due}{kept_back}"


def _suppressions(view: View, found: Figures) -> None:
    figures = view.figures
    total = figures.suppressions.total()
    since = f", the oldest since {figures.oldest_suppression}" if figures.oldest_suppression else ""
    found.add("suppressions_held", total, f"{_counted(total, 'suppression')} held{since}")
    found.values["suppressions_by_cause"] = dict(sorted(figures.suppressions.items()))


def _sends(view: View, found: Figures) -> None:
    """What the controls about sends decided; each names what it answers for."""
    controls, sends = _controls_of(view.clause), view.figures.sends
    if "permission-rules" in controls:
        authorised = _of_kind(sends, AUTHORISED)
        refused = {rule: n for (kind, rule), n in sorted(sends.items()) if kind == REFUSED}
        found.add("authorised", authorised, f"{authorised:,} sends authorised")
        total = sum(refused.values())
        found.add("refused", total, f"{total:,} refused")
        found.values["refused_by_rule"] = refused
    if "age-rule" in controls:
        young = sends[REFUSED, "underage"]
        found.add(
            "refused_underage", young, f"{young:,} refused for age; {view.pack.minimum_age or 'no'} years asked for"
        )
    if "tracking-disclosure" in controls:
        opened, clicked = _of_kind(sends, OPENED), _of_kind(sends, CLICKED)
        found.add("opened", opened, f"{opened:,} openings taken in")
        found.add("clicked", clicked, f"{clicked:,} clicks taken in")
    if "consent-records" in controls:
        known = view.figures.of_class("consent")
        found.add("persons_with_evidence", known.person_keys, f"evidence of {_counted(known.person_keys, 'person')}")


def _of_kind(sends: Counter[tuple[str, str]], kind: str) -> int:
    return sum(count for (of, _), count in sends.items() if of == kind)


def _erasures(view: View, found: Figures) -> None:
    figures = view.figures
    total = figures.erasures.total()
    found.add("erasures", total, _counted(total, "erasure"))
    found.values["erasures_by_state"] = dict(sorted(figures.erasures.items()))
    since = figures.oldest_open_erasure
    if since is not None:
        found.add("oldest_open_erasure", since, f"one is under way since {since:%Y-%m-%d %H:%M}Z")
        if since < figures.now - timedelta(hours=ERASURE_OPEN_HOURS_MAX):
            found.late.append(f"an erasure is under way since {since:%Y-%m-%d}; is a worker running?")


def _holds_active(view: View, found: Figures) -> None:
    figures = view.figures
    since = f", the oldest since {figures.oldest_hold:%Y-%m-%d}" if figures.oldest_hold else ""
    found.add("holds_active", figures.holds, f"{_counted(figures.holds, 'hold')} active{since}")
    found.values["held"] = dict(sorted(figures.held.items()))
    if figures.next_review_on is not None:
        found.add("next_review_on", figures.next_review_on, f"next review on {figures.next_review_on}")
        if figures.next_review_on < figures.today:
            found.late.append(f"a hold was to be reviewed on {figures.next_review_on}")


def _horizon(view: View, found: Figures) -> None:
    figures, promised = view.figures, view.pack.horizon_days
    allowed = HORIZON_DAYS_MAX if promised is None else promised
    words = "" if promised is not None else ", the program's own limit"
    found.add("horizon_days_max", allowed, f"a horizon of at most {_days(allowed)}{words}")
    epochs = figures.epochs
    since = f", the oldest of {epochs.oldest_opened_at:%Y-%m-%d}" if epochs.oldest_opened_at else ""
    found.add("epoch_keys", epochs.living, f"{_counted(epochs.living, 'living epoch key')}{since}")
    found.add("epoch_key_copies", epochs.copies, f"{epochs.copies} copies of each")
    found.add("epoch_keys_destroyed", epochs.destroyed, f"{epochs.destroyed:,} destroyed")
    if epochs.next_destroy_on is not None:
        found.add("next_destroy_on", epochs.next_destroy_on, f"next one on {epochs.next_destroy_on}")
        if epochs.next_destroy_on < figures.today:
            found.say_late([f"an epoch key was to be destroyed on {epochs.next_destroy_on}"])


def _access(view: View, found: Figures) -> None:
    events = view.figures.events
    found.add("events", events, f"{_counted(events, 'event')} in the log, views and refusals among them")


def _accounts(view: View, found: Figures) -> None:
    figures, controls = view.figures, _controls_of(view.clause)
    if "tenancy" in controls:
        found.add("accounts", len(figures.each), _counted(len(figures.each), "account"))
    if "api-scopes" in controls:
        found.add("api_keys", figures.api_keys, _counted(figures.api_keys, "living API key"))
    if "account-closure" in controls:
        count = sum(account.terminated_on is not None for account in figures.each)
        found.add("accounts_terminated", count, f"{_counted(count, 'account')} terminated")
        _holders(view, found)
        found.say_late(_late(view))


def _holders(view: View, found: Figures) -> None:
    """The persons behind accounts, for the clause under which they go."""
    rule = view.pack.closure_of(Identity.name, ACCOUNT_HOLDER)
    if rule is None or rule.clause != view.clause.number:
        return
    figures = view.figures
    found.add("account_holders", figures.holders, _counted(figures.holders, "account holder"))
    ended = figures.holders_ended.total()
    if ended:
        due = due_on(rule, min(figures.holders_ended))
        found.add("account_holders_ended", ended, f"{ended:,} of them without a living account, next due {due}")


def _registers(view: View, found: Figures) -> None:
    """What stands in the registers that the clause is kept by."""
    controls, known = _controls_of(view.clause), view.figures.registers
    if "processing-register" in controls:
        said = f"{_counted(known['activity'], 'processing activity', 'processing activities')} declared"
        found.add("activities", known["activity"], said)
    if "recipient-register" in controls:
        found.add("recipients", known["recipient"], f"{_counted(known['recipient'], 'recipient')} declared")
    if "sub-processor-register" in controls:
        found.add("sub_processors", known[SUB_PROCESSOR], f"{_counted(known[SUB_PROCESSOR], 'sub-processor')} engaged")
    if "transfer-register" in controls:
        without = known[WITHOUT_DOCUMENT]
        found.add("safeguards", known["safeguard"], f"{_counted(known['safeguard'], 'safeguard')} declared")
        found.add("safeguards_without_document", without, f"{without:,} of them without their document")


def _none(_: View, found: Figures) -> None:
    """A control that has nothing to count says so, rather than showing an empty place."""
    found.lines.append("nothing to count")


FIGURES: Final[Mapping[FigureGroup, Callable[[View, Figures], None]]] = {
    "pack": _pack,
    "keys": _keys,
    "suppressions": _suppressions,
    "sends": _sends,
    "erasures": _erasures,
    "holds": _holds_active,
    "horizon": _horizon,
    "access": _access,
    "accounts": _accounts,
    "registers": _registers,
    "none": _none,
}


def _controls_of(clause: Clause) -> frozenset[str]:
    return frozenset(keeping.control for keeping in clause.keepings if keeping.control is not None)


def _counted(number: int, singular: str, plural: str | None = None) -> str:
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def _days(number: int) -> str:
    return _counted(number, "day")
