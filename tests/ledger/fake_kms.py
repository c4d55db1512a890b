"""AWS KMS as its documentation describes it, in memory: what moto does not act out.

States are kept (a replica is `Creating` at first; a primary with replicas waits for them; a key that waits for its
deletion, or is disabled, answers nothing), and any call can be made to fail with any code.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from threading import RLock
from typing import Any
from uuid import uuid4

from botocore.exceptions import ClientError

from ledger.custody.kms_calls import KmsClient

ENABLED, DISABLED, CREATING = "Enabled", "Disabled", "Creating"
PENDING, PENDING_REPLICA = "PendingDeletion", "PendingReplicaDeletion"


@dataclass
class FakeKey:
    """One copy of a key: `family` is shared by all copies, and maps each region to its copy."""

    key_id: str
    material: bytes
    description: str
    family: dict[str, FakeKey]
    primary: list[str]
    state: str = ENABLED
    asked_while_creating: int = 0


@dataclass
class FakeKms:
    """All regions. `failing` maps (region, operation) to the code of the error that the next calls get."""

    keys: dict[str, dict[str, FakeKey]] = field(default_factory=dict)
    aliases: dict[str, dict[str, str]] = field(default_factory=dict)
    failing: dict[tuple[str, str], str] = field(default_factory=dict)
    calls: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    before: Callable[[str, str], None] = lambda region, operation: None
    questions_until_ready: int = 2
    lock: RLock = field(default_factory=RLock)

    def client(self, region: str) -> KmsClient:
        """A client for one region, as boto3 gives it."""
        self.keys.setdefault(region, {})
        self.aliases.setdefault(region, {})
        return FakeClient(self, region)

    def copy(self, region: str, alias: str) -> FakeKey:
        """The copy that an alias leads to."""
        return self.keys[region][self.aliases[region][alias]]

    def let_the_wait_end(self) -> None:
        """All waiting periods pass: replicas go first, then primaries, with all aliases."""
        for _ in range(2):
            for region, keys in self.keys.items():
                for key in [key for key in keys.values() if key.state == PENDING]:
                    del keys[key.key_id], key.family[region]
                    self.aliases[region] = {a: k for a, k in self.aliases[region].items() if k != key.key_id}
            for keys in self.keys.values():
                for key in keys.values():
                    if key.state == PENDING_REPLICA and len(key.family) == 1:
                        key.state = PENDING


def refused(code: str, operation: str) -> ClientError:
    """An error as botocore raises it."""
    return ClientError({"Error": {"Code": code, "Message": "said by the fake"}}, operation)


class FakeClient:
    """One region's client."""

    def __init__(self, kms: FakeKms, region: str) -> None:
        self._kms, self._region = kms, region

    def __getattr__(self, operation: str) -> Callable[..., dict[str, Any]]:
        act: Callable[..., dict[str, Any]] = getattr(_Acts(self._kms, self._region), operation)

        def call(**request: Any) -> dict[str, Any]:
            self._kms.before(self._region, operation)
            with self._kms.lock:
                self._kms.calls.append((self._region, operation, request))
                code = self._kms.failing.get((self._region, operation)) or self._kms.failing.get((self._region, "*"))
                if code:
                    raise refused(code, operation)
                return act(**request)

        return call

    create_key: Any
    replicate_key: Any
    describe_key: Any
    create_alias: Any
    delete_alias: Any
    list_aliases: Any
    generate_mac: Any
    schedule_key_deletion: Any


class _Acts:
    """What each operation does."""

    def __init__(self, kms: FakeKms, region: str) -> None:
        self._kms, self._region = kms, region
        self._keys, self._aliases = kms.keys[region], kms.aliases[region]

    def create_key(self, *, Description: str, KeyUsage: str, KeySpec: str, MultiRegion: bool) -> dict[str, Any]:  # noqa: N803
        assert (KeyUsage, KeySpec, MultiRegion) == ("GENERATE_VERIFY_MAC", "HMAC_256", True)
        key = FakeKey(f"mrk-{uuid4().hex}", os.urandom(32), Description, {}, [self._region])
        key.family[self._region] = self._keys[key.key_id] = key
        return self._metadata(key)

    def replicate_key(self, *, KeyId: str, ReplicaRegion: str, Description: str) -> dict[str, Any]:  # noqa: N803
        key = self._found(KeyId)
        if key.primary[0] != self._region:
            raise refused("UnsupportedOperationException", "ReplicateKey")
        if key.state != ENABLED:
            raise refused("KMSInvalidStateException", "ReplicateKey")
        if ReplicaRegion in key.family:
            raise refused("AlreadyExistsException", "ReplicateKey")
        replica = FakeKey(key.key_id, key.material, Description, key.family, key.primary, CREATING)
        key.family[ReplicaRegion] = self._kms.keys[ReplicaRegion][key.key_id] = replica
        return {}

    def describe_key(self, *, KeyId: str) -> dict[str, Any]:  # noqa: N803
        key = self._found(KeyId)
        described = self._metadata(key)
        if key.state == CREATING:
            key.asked_while_creating += 1
            if key.asked_while_creating >= self._kms.questions_until_ready:
                key.state = ENABLED
        return described

    def create_alias(self, *, AliasName: str, TargetKeyId: str) -> dict[str, Any]:  # noqa: N803
        if AliasName in self._aliases:
            raise refused("AlreadyExistsException", "CreateAlias")
        key = self._found(TargetKeyId)
        if key.state in {PENDING, PENDING_REPLICA}:
            raise refused("KMSInvalidStateException", "CreateAlias")
        self._aliases[AliasName] = key.key_id
        return {}

    def delete_alias(self, *, AliasName: str) -> dict[str, Any]:  # noqa: N803
        if self._aliases.pop(AliasName, None) is None:
            raise refused("NotFoundException", "DeleteAlias")
        return {}

    def list_aliases(self, *, Limit: int, Marker: str = "") -> dict[str, Any]:  # noqa: N803
        """Two a page, so that every listing has several."""
        assert Limit == 100
        names = sorted(name for name in self._aliases if name > Marker)
        page = {"Aliases": [{"AliasName": name, "TargetKeyId": self._aliases[name]} for name in names[:2]]}
        return page | ({"Truncated": True, "NextMarker": names[1]} if len(names) > 2 else {"Truncated": False})

    def generate_mac(self, *, KeyId: str, MacAlgorithm: str, Message: bytes) -> dict[str, Any]:  # noqa: N803
        assert MacAlgorithm == "HMAC_SHA_256"
        key = self._found(KeyId)
        if key.state == DISABLED:
            raise refused("DisabledException", "GenerateMac")
        if key.state != ENABLED:
            raise refused("KMSInvalidStateException", "GenerateMac")
        return {"Mac": hmac.digest(key.material, Message, sha256)}

    def schedule_key_deletion(self, *, KeyId: str, PendingWindowInDays: int) -> dict[str, Any]:  # noqa: N803
        assert 7 <= PendingWindowInDays <= 30
        key = self._found(KeyId)
        if key.state in {PENDING, PENDING_REPLICA}:
            raise refused("KMSInvalidStateException", "ScheduleKeyDeletion")
        is_primary = key.primary[0] == self._region
        key.state = PENDING_REPLICA if is_primary and len(key.family) > 1 else PENDING
        return {}

    def _found(self, key: str) -> FakeKey:
        key_id = self._aliases.get(key, key)
        if key_id not in self._keys:
            raise refused("NotFoundException", "DescribeKey")
        return self._keys[key_id]

    def _metadata(self, key: FakeKey) -> dict[str, Any]:
        family = {
            "PrimaryKey": {"Region": key.primary[0]},
            "ReplicaKeys": [{"Region": region} for region in key.family if region != key.primary[0]],
        }
        described = {"KeyId": key.key_id, "KeyState": key.state, "MultiRegion": True}
        return {"KeyMetadata": described | {"MultiRegionConfiguration": family}}
