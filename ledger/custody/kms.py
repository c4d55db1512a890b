"""Epoch keys in AWS KMS, an extra (`pip install 'lethe[aws]'`).

Each epoch has one multi-Region HMAC key with a copy in every region of LETHE_KMS_REGIONS. Its material never leaves
KMS. The epoch key is what KMS answers for a fixed message, the same in every region:

    E_t = GenerateMac(alias/PREFIX-epoch-000001, HMAC_SHA_256, "lethe.epoch.1")     32 bytes

Two aliases say how an epoch stands: `PREFIX-epoch-000001` while it lives, `PREFIX-destroyed-000001` from its
destruction on, for as long as KMS keeps anything of it. A key whose deletion somebody cancelled is refused by the
second. KMS deletes a primary key only when its replicas are gone, and each wait may last a day longer than asked for:
so the delay is twice the waiting period and two days (ADR 0014).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from threading import Lock
from typing import Any, NamedTuple, NoReturn

from ledger.custody.kms_calls import ALREADY_EXISTS, KmsCalls, KmsClient, KmsRefused
from ledger.custody.provider import COPIES_MIN, CopyDestroyed, CopyReturned, Destruction
from ledger.errors import EpochInUse, KeyDestroyed, KeyMissing, SettingsRefused, TamperError, Unavailable
from ledger.sealing import KEY_BYTES

LIST_SECONDS = 10.0
STALE_SECONDS_MAX = 60.0
"""How long what was listed last is believed while no region answers: as long as a lease on a key."""
PENDING_DAYS_MIN, PENDING_DAYS_MAX = 7, 30
READY_TRIES_MAX = 60
READY_PAUSE_SECONDS = 1.0
PENDING = frozenset({"PendingDeletion", "PendingReplicaDeletion"})
METHOD = "deletion scheduled in KMS, which refuses every use from then on; KMS deletes it after its waiting period"
LIVING, DESTROYED = "epoch", "destroyed"


class _Seen(NamedTuple):
    """What the aliases tell: living epochs, and destroyed ones that KMS still knows."""

    living: tuple[int, ...]
    destroyed: tuple[int, ...]

    @property
    def newest(self) -> int:
        return max((*self.living, *self.destroyed), default=0)


class _Copies(NamedTuple):
    """The copies of one epoch's key: its id, the primary's region, every region that KMS lists, those where the alias
    of a living epoch was seen and of a destroyed one, and the state of each copy that was asked for it.
    """

    key_id: str
    primary: str
    regions: frozenset[str]
    named: frozenset[str]
    marked: frozenset[str]
    states: Mapping[str, str]


class KmsKeyProvider:
    """The provider of epoch keys in AWS KMS."""

    notice_seconds = LIST_SECONDS

    def __init__(
        self,
        regions: Sequence[str],
        alias_prefix: str,
        pending_days: int,
        *,
        client: Callable[[str], KmsClient] | None = None,
    ) -> None:
        if len(set(regions)) < COPIES_MIN or len(set(regions)) < len(regions):
            raise SettingsRefused("Epoch keys in KMS need at least two different regions (LETHE_KMS_REGIONS).")
        if not PENDING_DAYS_MIN <= pending_days <= PENDING_DAYS_MAX:
            raise SettingsRefused("LETHE_KMS_PENDING_DAYS must be from 7 to 30: KMS knows no other waiting periods.")
        self._regions = tuple(regions)
        self._prefix = alias_prefix
        self._pending_days = pending_days
        self._kms = KmsCalls(regions, client)
        self._keys: dict[int, bytes] = {}
        self._seen = _Seen((), ())
        self._looked_at = float("-inf")
        self._lock = Lock()

    @property
    def delay_days(self) -> int:
        """The replicas' waiting period, then the primary's; each may last up to a day longer."""
        return 2 * (self._pending_days + 1)

    def current(self) -> int:
        """The newest epoch that has an alias in any region."""
        seen = self._look()
        if not seen.living:
            raise self._none_left(seen)
        return seen.living[-1]

    def living(self) -> tuple[int, ...]:
        """The epochs with an alias in any region and none that says destroyed; asked again every ten seconds."""
        return self._look().living

    def destroyed(self) -> tuple[int, ...]:
        """Every number below the newest that does not live: numbers run from 1 without a gap."""
        seen = self._look(afresh=True)
        return tuple(epoch for epoch in range(1, seen.newest + 1) if epoch not in seen.living)

    def key(self, epoch: int) -> bytes:
        """The epoch key, asked for once per process, of every region that answers."""
        if epoch not in self._look().living and epoch not in self._look(afresh=True).living:
            raise self._missing(epoch)
        found = self._keys.get(epoch)
        if found is None:
            found = self._keys[epoch] = self._complete(epoch, everywhere=False)
        return found

    def copies(self) -> tuple[str, ...]:
        """The regions, with the prefix of the aliases there."""
        return tuple(f"aws-kms:{region}:alias/{self._prefix}-{LIVING}-…" for region in self._regions)

    def returned(self) -> tuple[CopyReturned, ...]:
        """Copies of destroyed epochs that are not going to be deleted: somebody has cancelled that."""
        found: list[CopyReturned] = []
        for epoch in self._look(afresh=True).destroyed:
            copies = self._copies(epoch, everywhere=True)
            states = copies.states if copies else {}
            back = [region for region, state in states.items() if state not in PENDING]
            found += [CopyReturned(epoch, self._place(region, epoch)) for region in back]
        return tuple(found)

    def create(self, epoch: int) -> None:
        """Make the next epoch's key in the first region, and replicate it to the others.

        The alias in the first region decides between two who do this at once; the other's key is deleted again.
        """
        seen = self._look(afresh=True)
        if epoch not in seen.living:
            if 1 <= epoch <= seen.newest:
                raise KeyDestroyed(f"Epoch {epoch} was destroyed; its number is never used again.")
            if epoch != seen.newest + 1:
                raise ValueError(f"The next epoch is {seen.newest + 1}, not {epoch}.")
            self._create_primary(epoch)
        self._complete(epoch, everywhere=True)
        self._look(afresh=True)

    def destroy(self, epoch: int) -> Destruction:
        """Mark the epoch as destroyed in every region, then schedule the deletion of each copy, the primary last."""
        if epoch == max(self._look(afresh=True).living, default=0):
            raise EpochInUse(f"Epoch {epoch} is the current one. Open the next epoch and renew every wrap first.")
        copies = self._copies(epoch, everywhere=True)
        if copies is None:
            raise KeyMissing(
                f"KMS knows no key of epoch {epoch}. Either it was deleted after its waiting period, or somebody took "
                f"its alias away: look for a key described as '{self._description(epoch)}'."
            )
        regions = sorted(copies.states, key=lambda region: (region == copies.primary, region))
        unmarked = [region for region in regions if region not in copies.marked]
        for region in unmarked:
            if copies.states[region] in PENDING:
                raise SettingsRefused(
                    f"Somebody else has scheduled the deletion of {self._place(region, epoch)}, for a day that Lethe "
                    "does not know. Cancel that, then destroy the epoch again."
                )
        for region in unmarked:
            self._name(region, self._alias(DESTROYED, epoch), copies.key_id)
        for region in regions:
            self._drop_name(region, self._alias(LIVING, epoch))
        for region in regions:
            self._schedule(region, copies.key_id)
        self._look(afresh=True)
        return Destruction(epoch, tuple(self._destroyed_copy(region, epoch, copies) for region in regions))

    def forget_cached(self) -> None:
        """Forget every key held here, and ask KMS again at the next call."""
        self._keys.clear()
        self._looked_at = float("-inf")
        self._seen = _Seen((), ())

    # What KMS knows --------------------------------------------------------------------------------------------------

    def _look(self, *, afresh: bool = False) -> _Seen:
        """What the aliases told at most ten seconds ago; keys of epochs that went are forgotten."""
        if not afresh and time.monotonic() - self._looked_at < LIST_SECONDS:
            return self._seen
        # While one thread asks, the others go on with what was known.
        if not self._lock.acquire(blocking=afresh or not self._seen.living):
            return self._seen
        try:
            return self._ask(afresh=afresh)
        finally:
            self._lock.release()

    def _ask(self, *, afresh: bool) -> _Seen:
        now = time.monotonic()
        if not afresh and now - self._looked_at < LIST_SECONDS:
            return self._seen
        try:
            seen = self._listed()
        except Unavailable:
            if afresh or now - self._looked_at > STALE_SECONDS_MAX:
                raise
            return self._seen
        for epoch in set(self._keys) - set(seen.living):
            self._keys.pop(epoch, None)
        self._seen, self._looked_at = seen, now
        return seen

    def _listed(self) -> _Seen:
        """The epochs by alias, over all regions that answer; one is enough, since each has every alias."""
        named = re.compile(re.escape(f"alias/{self._prefix}-") + rf"({LIVING}|{DESTROYED})-(\d{{6,9}})")
        found: dict[str, set[int]] = {LIVING: set(), DESTROYED: set()}
        failures = []
        for region in self._regions:
            try:
                for alias in self._kms.aliases(region):
                    if match := named.fullmatch(alias):
                        found[match[1]].add(int(match[2]))
            except Unavailable as error:
                failures.append(error)
        if len(failures) == len(self._regions):
            raise failures[0]
        return _Seen(tuple(sorted(found[LIVING] - found[DESTROYED])), tuple(sorted(found[DESTROYED])))

    def _copies(self, epoch: int, *, everywhere: bool) -> _Copies | None:
        """Every copy that KMS itself lists; None if no region knows the epoch.

        Raises `TamperError` if the regions' aliases lead to different keys, `SettingsRefused` for a copy in a region
        that the settings do not name, and `Unavailable` if no region answers, or, with `everywhere`, if one does not.
        """
        aliases = [self._alias(kind, epoch) for kind in (LIVING, DESTROYED)]
        asked = self._asked([(region, alias) for region in self._regions for alias in aliases], everywhere=everywhere)
        found = [known for known in asked.values() if known]
        if not found:
            return None
        if len({known["KeyId"] for known in found}) != 1:
            raise TamperError(f"The aliases of epoch {epoch} lead to different keys. Point them at the first one made.")
        key_id, (primary, regions) = found[0]["KeyId"], _family(found)
        unlisted = regions - set(self._regions)
        if unlisted:
            raise SettingsRefused(
                f"KMS holds a copy of epoch {epoch} in {', '.join(sorted(unlisted))}, which LETHE_KMS_REGIONS does not "
                "name. Name the region, or delete that copy."
            )
        states = self._asked([(region, key_id) for region in sorted(regions)], everywhere=everywhere)
        named, marked = (frozenset(r for (r, seen), known in asked.items() if known and seen == a) for a in aliases)
        by_region = {region: known["KeyState"] for (region, _), known in states.items() if known}
        return _Copies(key_id, primary, frozenset(regions), named, marked, by_region)

    def _asked(
        self, questions: Sequence[tuple[str, str]], *, everywhere: bool
    ) -> dict[tuple[str, str], dict[str, Any] | None]:
        """What the regions say of keys, by region and key; silent regions are left out unless all must answer."""
        answers: dict[tuple[str, str], dict[str, Any] | None] = {}
        failures = []
        for region, key in questions:
            try:
                answers[region, key] = self._kms.described(region, key)
            except Unavailable as error:
                failures.append(error)
        if failures and (everywhere or not answers):
            raise failures[0]
        return answers

    # Making and reading ----------------------------------------------------------------------------------------------

    def _create_primary(self, epoch: int) -> None:
        region = self._regions[0]
        answer = self._kms.call(
            region,
            "create_key",
            Description=self._description(epoch),
            KeyUsage="GENERATE_VERIFY_MAC",
            KeySpec="HMAC_256",
            MultiRegion=True,
        )
        made = answer["KeyMetadata"]["KeyId"]
        if not self._named(region, self._alias(LIVING, epoch), made):
            self._schedule(region, made)

    def _complete(self, epoch: int, *, everywhere: bool) -> bytes:
        """The epoch key, once every region that answers has an enabled copy with its alias; all must answer alike."""
        copies = self._copies(epoch, everywhere=everywhere)
        if copies is None:
            raise self._missing(epoch)
        answers, failures = set(), []
        for region in self._regions:
            try:
                answers.add(self._complete_in(region, copies, epoch))
            except Unavailable as error:
                failures.append(error)
        if failures and (everywhere or not answers):
            raise failures[0]
        if len(answers) != 1:
            raise TamperError(f"The copies of epoch key {epoch} answer differently in {', '.join(self._regions)}.")
        return answers.pop()

    def _complete_in(self, region: str, copies: _Copies, epoch: int) -> bytes:
        if region not in copies.regions:
            self._replicate(copies, region, epoch)
        self._await_enabled(region, copies.key_id, epoch)
        if region not in copies.named:
            self._name(region, self._alias(LIVING, epoch), copies.key_id)
        try:
            message = f"lethe.epoch.{epoch}".encode()
            answer = self._kms.call(
                region, "generate_mac", KeyId=copies.key_id, MacAlgorithm="HMAC_SHA_256", Message=message
            )
        except KmsRefused as error:
            self._not_usable(region, error.code, epoch)
        mac = bytes(answer["Mac"])
        if len(mac) != KEY_BYTES:
            raise TamperError(f"{self._place(region, epoch)} answered with {len(mac)} bytes, not {KEY_BYTES}.")
        return mac

    def _replicate(self, copies: _Copies, region: str, epoch: int) -> None:
        try:
            self._kms.call(
                copies.primary,
                "replicate_key",
                KeyId=copies.key_id,
                ReplicaRegion=region,
                Description=self._description(epoch),
            )
        except KmsRefused as error:
            if error.code != ALREADY_EXISTS:
                self._not_usable(copies.primary, error.code, epoch)

    def _await_enabled(self, region: str, key_id: str, epoch: int) -> None:
        for _ in range(READY_TRIES_MAX):
            known = self._kms.described(region, key_id)
            state = known["KeyState"] if known else "Creating"
            if state == "Enabled":
                return
            if state not in {"Creating", "Updating"}:
                self._not_usable(region, state, epoch)
            time.sleep(READY_PAUSE_SECONDS)
        raise Unavailable(f"KMS in {region} has not finished its copy of epoch {epoch}. Try again in a minute.")

    def _not_usable(self, region: str, state: str, epoch: int) -> NoReturn:
        place = self._place(region, epoch)
        if state in PENDING:
            raise KeyMissing(
                f"{place} waits for its deletion, and Lethe has not destroyed this epoch. This is an incident: cancel "
                "the deletion and enable the key, before KMS deletes it for good."
            )
        raise SettingsRefused(f"{place} cannot be used ({state}). Enable the key again.")

    # Destroying ------------------------------------------------------------------------------------------------------

    def _schedule(self, region: str, key_id: str) -> None:
        """Schedule the deletion of one copy. Raises `Unavailable` unless KMS says afterwards that it waits for it."""
        with suppress(KmsRefused):  # It waits already, or is gone: the question below tells.
            self._kms.call(region, "schedule_key_deletion", KeyId=key_id, PendingWindowInDays=self._pending_days)
        known = self._kms.described(region, key_id)
        if known is not None and known["KeyState"] not in PENDING:
            raise Unavailable(f"KMS in {region} still has {key_id} as {known['KeyState']}. Destroy the epoch again.")

    def _destroyed_copy(self, region: str, epoch: int, copies: _Copies) -> CopyDestroyed:
        days = self.delay_days if region == copies.primary else self._pending_days + 1
        return CopyDestroyed(self._place(region, epoch), METHOD, days)

    # Aliases ---------------------------------------------------------------------------------------------------------

    def _named(self, region: str, alias: str, key_id: str) -> bool:
        """Give a key an alias; False if another key has it."""
        try:
            self._kms.call(region, "create_alias", AliasName=alias, TargetKeyId=key_id)
        except KmsRefused as error:
            known = self._kms.described(region, alias) if error.code == ALREADY_EXISTS else None
            if known is None:  # It was made a moment ago and cannot be seen yet, or the key is changing its state.
                raise Unavailable(f"KMS in {region} does not settle {alias} ({error.code}). Try again.") from None
            return bool(known["KeyId"] == key_id)
        return True

    def _name(self, region: str, alias: str, key_id: str) -> None:
        if not self._named(region, alias, key_id):
            raise TamperError(f"{alias} in {region} leads to another key than in the other regions.")

    def _drop_name(self, region: str, alias: str) -> None:
        with suppress(KmsRefused):  # It is gone.
            self._kms.call(region, "delete_alias", AliasName=alias)

    def _alias(self, kind: str, epoch: int) -> str:
        return f"alias/{self._prefix}-{kind}-{epoch:06d}"

    def _place(self, region: str, epoch: int) -> str:
        return f"aws-kms:{region}:{self._alias(LIVING, epoch)}"

    def _description(self, epoch: int) -> str:
        return f"Lethe {self._prefix} epoch {epoch}"

    def _none_left(self, seen: _Seen) -> KeyMissing:
        if not seen.destroyed:
            return KeyMissing(f"KMS knows no epoch key of {self._prefix} in {', '.join(self._regions)}.")
        return KeyMissing(
            f"KMS knows no living epoch key of {self._prefix}, though epoch {seen.newest} was destroyed under this "
            "prefix. This is an incident: look for the newest key and give it its alias back."
        )

    def _missing(self, epoch: int) -> KeyMissing:
        if 1 <= epoch <= self._seen.newest:
            return KeyMissing(f"Epoch key {epoch} was destroyed; it is not asked for any more.")
        return KeyMissing(f"KMS knows no epoch key {epoch} under {self._alias(LIVING, epoch)}.")


def _family(found: Sequence[dict[str, Any]]) -> tuple[str, set[str]]:
    """The primary's region, and every region with a copy, as KMS lists them."""
    primary, regions = "", set()
    for known in found:
        if not known.get("MultiRegion"):
            raise TamperError(f"The key {known['KeyId']} has no copies in other regions: it was not made by Lethe.")
        family = known["MultiRegionConfiguration"]
        primary = family["PrimaryKey"]["Region"]
        regions |= {primary, *(replica["Region"] for replica in family["ReplicaKeys"])}
    return primary, regions
