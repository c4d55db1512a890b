"""What changed between two records of one account: what was declared, amended or retired, and what was observed since.

Pure, over two records. Words that are gone in one of them (their keys were destroyed) are no change: only what can be
compared is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from audit.records.findings import TOLD_OF_TODAY
from audit.records.model import (
    Activity,
    Change,
    Coded,
    Difference,
    Finding,
    Measure,
    Observed,
    Party,
    Recipient,
    RecordsOfProcessing,
    Safeguard,
    TimeLimit,
    Transfer,
    What,
)

Parts = Mapping[str, str | None]
"""What can be compared of one entry, in words, by part."""

E = TypeVar("E", Party, Safeguard, Recipient, Activity)


def difference(earlier: RecordsOfProcessing, later: RecordsOfProcessing) -> Difference:
    """What changed from one record to the other. Raises `ValueError` for records of different accounts."""
    if earlier.tenant != later.tenant:
        raise ValueError("Only records of one account can be compared.")
    changes = [*_policy(earlier, later), *_declared(earlier, later), *_observed(earlier.observed, later.observed)]
    changes += _findings(earlier, later)
    return Difference(later.tenant, earlier.as_of, later.as_of, tuple(changes))


def _policy(earlier: RecordsOfProcessing, later: RecordsOfProcessing) -> Iterator[Change]:
    one, other = (f"{record.pack} {record.pack_version}" for record in (earlier, later))
    if one != other:
        yield Change("policy", "amended", later.pack, before=one, after=other)


def _declared(earlier: RecordsOfProcessing, later: RecordsOfProcessing) -> Iterator[Change]:
    yield from _entries("party", _by_key(earlier.parties, _of_party), _by_key(later.parties, _of_party))
    yield from _entries(
        "safeguard", _by_key(earlier.safeguards, _of_safeguard), _by_key(later.safeguards, _of_safeguard)
    )
    yield from _entries(
        "recipient", _by_key(earlier.recipients, _of_recipient), _by_key(later.recipients, _of_recipient)
    )
    yield from _entries("activity", _by_key(earlier.activities, _of_activity), _by_key(later.activities, _of_activity))


def _entries(register: str, before: Mapping[str, Parts], after: Mapping[str, Parts]) -> Iterator[Change]:
    for key in sorted(before.keys() | after.keys()):
        if key not in before:
            yield Change(register, "declared", key, after=after[key].get("name"))
        elif key not in after:
            yield Change(register, "retired", key, before=before[key].get("name"))
        else:
            yield from _amended(register, key, before[key], after[key])


def _amended(register: str, key: str, before: Parts, after: Parts) -> Iterator[Change]:
    for part in before:
        one, other = before[part], after[part]
        if one != other and "" not in (one, other):
            yield Change(register, "amended", key, part, one, other)


def _observed(before: Observed, after: Observed) -> Iterator[Change]:
    yield from _grown(
        "category",
        {found.category.code: found.events for found in before.categories},
        {found.category.code: found.events for found in after.categories},
        "events",
    )
    yield from _grown(
        "recipient_seen",
        {found.code: found.events for found in before.recipients},
        {found.code: found.events for found in after.recipients},
        "events",
    )
    yield from _grown(
        "enforced",
        {f"{done.category} {done.clause}": done.keys for done in before.enforced},
        {f"{done.category} {done.clause}": done.keys for done in after.enforced},
        "keys destroyed",
    )
    if before.erasures != after.erasures:
        yield Change("enforced", "grew", "erasures", "persons", f"{before.erasures:,}", f"{after.erasures:,}")


def _grown(register: str, before: Mapping[str, int], after: Mapping[str, int], part: str) -> Iterator[Change]:
    for key in sorted(before.keys() | after.keys()):
        one, other = before.get(key), after.get(key)
        if one == other:
            continue
        what: What = "appeared" if one is None else "gone" if other is None else "grew"
        yield Change(register, what, key, part, _number(one), _number(other))


def _findings(before: RecordsOfProcessing, after: RecordsOfProcessing) -> Iterator[Change]:
    alike = (before.observed.oldest_keys is None) == (after.observed.oldest_keys is None)
    earlier, later = (
        {(found.code, found.about): found for found in record.findings if _comparable(found, before, alike=alike)}
        for record in (before, after)
    )
    for place in sorted(later.keys() - earlier.keys()):
        yield Change("finding", "appeared", place[1], place[0], after=later[place].words)
    for place in sorted(earlier.keys() - later.keys()):
        yield Change("finding", "gone", place[1], place[0], before=earlier[place].words)


def _comparable(found: Finding, before: RecordsOfProcessing, *, alike: bool) -> bool:
    """Whether a finding is one that both records could have had. What only today can be told of may be older."""
    if found.severity != "finding":
        return False
    return alike or found.code not in TOLD_OF_TODAY or (found.since is not None and found.since > before.as_of.on)


# Entries in words -----------------------------------------------------------------------------------------------------
# '' stands for words whose keys are destroyed.


def _by_key(entries: Iterable[E], parts_of: Callable[[E], Parts]) -> dict[str, Parts]:
    return {entry.key: parts_of(entry) for entry in entries}


def _of_party(party: Party) -> Parts:
    texts = {"name": party.name, "person": party.person, "address": party.address, "email": party.email}
    texts |= {"phone": party.phone, "website": party.website, "note": party.note}
    return _sealed(texts, party.erased) | {"role": party.role, "country": party.country}


def _of_safeguard(safeguard: Safeguard) -> Parts:
    texts = {"name": safeguard.title, "where": safeguard.where, "note": safeguard.note}
    return _sealed(texts, safeguard.erased) | {
        "mechanism": safeguard.mechanism.code,
        "countries": _joined(safeguard.countries),
        "document": safeguard.document_sha256,
    }


def _of_recipient(recipient: Recipient) -> Parts:
    texts = {"name": recipient.name, "category": recipient.category, "contact": recipient.contact}
    return _sealed(texts | {"note": recipient.note}, recipient.erased) | {
        "kind": recipient.kind.code,
        "countries": _joined(recipient.countries),
        "agreement": recipient.agreement_sha256,
        "safeguards": _joined(recipient.safeguards),
        "seen as": _joined(recipient.seen_as),
    }


def _of_activity(activity: Activity) -> Parts:
    sealed = {"name": activity.name, "purposes": _joined(activity.purposes, "; "), "note": activity.note}
    sealed["measures in words"] = _joined((m.words or "" for m in activity.measures if m.code is None), "; ")
    sealed["other categories"] = _joined((c.words for c in activity.categories if not c.code), "; ")
    return _sealed(sealed, activity.erased) | {
        "role": activity.role,
        "lawful bases": _codes(activity.lawful_bases),
        "subjects": _codes(activity.subjects),
        "categories": _codes(activity.categories),
        "recipients": _joined(recipient.key for recipient in activity.recipients),
        "transfers": _joined(map(_transfer, activity.transfers), "; "),
        "time limits": _joined(map(_limit, activity.time_limits), "; "),
        "measures": _joined(_measures(activity.measures)),
    }


def _sealed(texts: Mapping[str, str | None], erased: bool) -> dict[str, str | None]:
    return dict.fromkeys(texts, "") if erased else {part: words or None for part, words in texts.items()}


def _transfer(transfer: Transfer) -> str:
    return f"{transfer.recipient} {transfer.country} {transfer.safeguard or 'without a safeguard'}"


def _limit(limit: TimeLimit) -> str:
    return f"{limit.category} {limit.words}" + (f" ({limit.clause})" if limit.clause else "")


def _measures(measures: Iterable[Measure]) -> Iterator[str]:
    return (measure.code for measure in measures if measure.code is not None)


def _codes(coded: Iterable[Coded]) -> str | None:
    return _joined(one.code for one in coded if one.code)


def _joined(words: Iterable[str], between: str = ", ") -> str | None:
    return between.join(words) or None


def _number(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"
