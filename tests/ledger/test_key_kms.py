"""Epoch keys in AWS KMS: what is refused, what is waited for, what comes back (FAULTS 2, 10)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError, ReadTimeoutError
from moto import mock_aws

from ledger.custody import kms as key_kms
from ledger.custody.kms import KmsKeyProvider
from ledger.custody.provider import CopyReturned
from ledger.errors import KeyDestroyed, KeyMissing, LedgerError, SettingsRefused, TamperError, Unavailable
from tests.ledger.fake_kms import DISABLED, ENABLED, PENDING, PENDING_REPLICA, FakeKms

HERE, THERE = "eu-central-1", "eu-west-1"
ALIAS = "alias/lethe-epoch-{:06d}"
DESTROYED = "alias/lethe-destroyed-{:06d}"


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch) -> FakeKms:
    """KMS with nothing in it, which need not be waited for."""
    monkeypatch.setattr(key_kms, "READY_PAUSE_SECONDS", 0.0)
    return FakeKms()


def started(kms: FakeKms, regions: tuple[str, ...] = (HERE, THERE), prefix: str = "lethe") -> KmsKeyProvider:
    """A process that starts now."""
    return KmsKeyProvider(regions, prefix, 7, client=kms.client)


def rolled(kms: FakeKms, epoch: int = 2) -> KmsKeyProvider:
    """A process that has made epochs up to this one."""
    provider = started(kms)
    for number in range(1, epoch + 1):
        provider.create(number)
    return provider


# Settings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("regions", [(), (HERE,), (HERE, HERE)])
def test_one_region_is_too_few(regions: tuple[str, ...]) -> None:
    """Given fewer than two regions, when the provider is made, then it is refused before any call."""
    with pytest.raises(SettingsRefused, match="LETHE_KMS_REGIONS"):
        KmsKeyProvider(regions, "lethe", 7, client=FakeKms().client)


@pytest.mark.parametrize("days", [6, 31])
def test_waiting_periods_that_kms_does_not_know_are_refused(days: int) -> None:
    """Given a waiting period that KMS would refuse at the first destruction, then it is refused now."""
    with pytest.raises(SettingsRefused, match="from 7 to 30"):
        KmsKeyProvider((HERE, THERE), "lethe", days, client=FakeKms().client)


@pytest.mark.parametrize("region", ["nowhere at all", ""])
def test_a_region_that_is_none_is_refused(region: str) -> None:
    """Given a word that names no region, when the provider is made, then the setting is named."""
    with pytest.raises(SettingsRefused, match="LETHE_KMS_REGIONS"):
        KmsKeyProvider((HERE, region), "lethe", 7)


def test_the_delay_counts_both_waits_and_their_grace() -> None:
    """Given a waiting period of 7 days, then a copy may be there for 16: the primary waits for its replicas."""
    assert KmsKeyProvider((HERE, THERE), "lethe", 7, client=FakeKms().client).delay_days == 16
    assert KmsKeyProvider((HERE, THERE), "lethe", 10, client=FakeKms().client).delay_days == 22


def test_installations_with_prefixes_of_their_own_do_not_meet(kms: FakeKms) -> None:
    """Given two prefixes, one the beginning of the other, in one AWS account, then each has epochs of its own."""
    first, second = started(kms, prefix="lethe"), started(kms, prefix="lethe-epoch")
    first.create(1)
    first.create(2)
    second.create(1)
    assert (second.current(), second.living(), first.living()) == (1, (1,), (1, 2))
    assert first.key(1) != second.key(1)


# Refusals ------------------------------------------------------------------------------------------------------------

OPERATIONS = ("list_aliases", "describe_key", "generate_mac", "create_key", "replicate_key", "create_alias")


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("AccessDeniedException", SettingsRefused),
        ("ExpiredTokenException", SettingsRefused),
        ("ThrottlingException", Unavailable),
        ("KMSInternalException", Unavailable),
        ("KeyUnavailableException", Unavailable),
        ("SomethingNewException", Unavailable),
    ],
)
def test_a_refusal_says_where_and_what(kms: FakeKms, operation: str, code: str, error: type[LedgerError]) -> None:
    """Given both regions refusing one operation, when an epoch is made and read, then the error names all three."""
    for region in (HERE, THERE):
        kms.failing[region, operation] = code
    provider = started(kms)

    def make_and_read() -> None:
        provider.create(1)
        provider.key(1)

    with pytest.raises(error) as raised:
        make_and_read()
    assert {word for word in (operation, code, "said by the fake") if word in str(raised.value)} == {operation, code}
    kms.failing.clear()
    make_and_read()
    assert started(kms).key(1) == provider.key(1)


@pytest.mark.parametrize("operation", ["create_alias", "delete_alias", "schedule_key_deletion", "describe_key"])
@pytest.mark.parametrize("region", [HERE, THERE])
def test_a_destruction_that_is_refused_claims_nothing(kms: FakeKms, operation: str, region: str) -> None:
    """Given a region that refuses one step, when an epoch is destroyed, then it raises; a repeat finishes the work."""
    provider = rolled(kms)
    kms.failing[region, operation] = "AccessDeniedException"
    with pytest.raises(SettingsRefused):
        provider.destroy(1)
    kms.failing.clear()
    provider.destroy(1)
    states = {region: kms.copy(region, DESTROYED.format(1)).state for region in (HERE, THERE)}
    assert states == {HERE: PENDING_REPLICA, THERE: PENDING}


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (EndpointConnectionError(endpoint_url="kms"), Unavailable),
        (ReadTimeoutError(endpoint_url="kms"), Unavailable),
        (NoCredentialsError(), SettingsRefused),
    ],
)
def test_a_network_or_credentials_that_are_missing(kms: FakeKms, raised: Exception, error: type[LedgerError]) -> None:
    """Given no network, or no credentials, when a key is asked for, then the error says which of the two."""

    def fail(region: str, operation: str) -> None:
        raise raised

    rolled(kms)
    kms.before = fail
    with pytest.raises(error):
        started(kms).current()


@pytest.mark.parametrize("away", [HERE, THERE])
def test_one_region_is_enough_to_open_but_not_to_make_or_destroy(kms: FakeKms, away: str) -> None:
    """Given a region that does not answer, then keys are had from the other, and no epoch is made or destroyed half."""
    key = rolled(kms).key(2)
    kms.failing[away, "*"] = "ThrottlingException"
    provider = started(kms)
    assert (provider.current(), provider.key(2)) == (2, key)
    with pytest.raises(Unavailable):
        provider.destroy(1)
    with pytest.raises(Unavailable):
        provider.create(3)
    kms.failing.clear()
    assert len(started(kms).key(1)) == 32


def test_what_is_known_serves_on_through_a_short_outage(kms: FakeKms, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a process with its keys, when no region answers, then it goes on for a minute, and not for longer."""
    provider = rolled(kms)
    key = provider.key(2)
    for region in (HERE, THERE):
        kms.failing[region, "*"] = "ThrottlingException"
    looked_at = provider._looked_at
    monkeypatch.setattr("ledger.custody.kms.time.monotonic", lambda: looked_at + 59.0)
    assert (provider.current(), provider.key(2)) == (2, key)
    monkeypatch.setattr("ledger.custody.kms.time.monotonic", lambda: looked_at + 61.0)
    with pytest.raises(Unavailable):
        provider.key(2)


# Copies --------------------------------------------------------------------------------------------------------------


def test_a_replica_is_waited_for(kms: FakeKms) -> None:
    """Given a replica that is still being made, when an epoch is created, then it returns when both can be used."""
    rolled(kms, 1)
    assert [kms.copy(region, ALIAS.format(1)).state for region in (HERE, THERE)] == [ENABLED, ENABLED]


def test_a_replica_that_never_comes_is_not_waited_for_without_end(kms: FakeKms) -> None:
    """Given a replica that stays in the making, when an epoch is created, then it says so after a bounded time."""
    kms.questions_until_ready = 1_000_000
    with pytest.raises(Unavailable, match="has not finished"):
        started(kms).create(1)


def test_an_epoch_made_half_is_completed_before_it_is_used(kms: FakeKms) -> None:
    """Given a creation that reached the first region only, when the key is asked for, then both regions have it."""
    kms.failing[HERE, "replicate_key"] = "ThrottlingException"
    with pytest.raises(Unavailable):
        started(kms).create(1)
    kms.failing.clear()
    started(kms).key(1)
    assert kms.copy(THERE, ALIAS.format(1)).key_id == kms.copy(HERE, ALIAS.format(1)).key_id


def test_the_one_who_comes_second_deletes_what_it_made(kms: FakeKms) -> None:
    """Given two that create one epoch, when the alias is taken under one's hands, then its own key is deleted."""
    first, second = started(kms), started(kms)

    def overtake(region: str, operation: str) -> None:
        if operation == "create_alias":
            kms.before = lambda region, operation: None
            first.create(1)

    kms.before = overtake
    second.create(1)
    assert second.key(1) == first.key(1) == started(kms).key(1)
    states = sorted(key.state for key in kms.keys[HERE].values())
    assert states == [ENABLED, PENDING]
    assert kms.copy(HERE, ALIAS.format(1)).state == ENABLED


def test_a_region_added_later_gets_copies(kms: FakeKms) -> None:
    """Given living epochs, when a third region is named, then each gets a copy there before it is used."""
    key = rolled(kms).key(2)
    wider = started(kms, (HERE, THERE, "eu-north-1"))
    assert wider.key(2) == key
    assert kms.copy("eu-north-1", ALIAS.format(2)).state == ENABLED


def test_a_copy_in_a_region_that_is_not_named_is_refused(kms: FakeKms) -> None:
    """Given a copy in a region that the settings do not name, then nothing is opened or destroyed: it would stay."""
    wider = started(kms, (HERE, THERE, "eu-north-1"))
    wider.create(1)
    wider.create(2)
    provider = started(kms)
    for act in (lambda: provider.key(1), lambda: provider.create(2), lambda: provider.destroy(1)):
        with pytest.raises(SettingsRefused, match="eu-north-1"):
            act()


def test_aliases_that_lead_to_different_keys_are_refused(kms: FakeKms) -> None:
    """Given an alias moved to another key in one region, when the epoch is opened or destroyed, then it is refused."""
    provider = rolled(kms, 3)
    kms.aliases[THERE][ALIAS.format(1)] = kms.aliases[THERE][ALIAS.format(2)]
    with pytest.raises(TamperError, match="different keys"):
        started(kms).key(1)
    with pytest.raises(TamperError, match="different keys"):
        provider.destroy(1)


def test_a_copy_that_answers_differently_is_refused(kms: FakeKms) -> None:
    """Given a copy that is not the same key, whatever it says of itself, when it is asked, then it is refused."""
    rolled(kms)
    kms.copy(THERE, ALIAS.format(2)).material = bytes(32)
    with pytest.raises(TamperError, match="answer differently"):
        started(kms).key(2)


@pytest.mark.parametrize("region", [HERE, THERE])
@pytest.mark.parametrize(
    ("state", "error", "said"),
    [
        (DISABLED, SettingsRefused, "Enable"),
        (PENDING, KeyMissing, "incident"),
        ("Unavailable", SettingsRefused, "cannot be used"),
    ],
)
def test_a_copy_that_somebody_shut_is_an_incident(
    kms: FakeKms, region: str, state: str, error: type[LedgerError], said: str
) -> None:
    """Given a living epoch's copy disabled, or about to be deleted, by hand, when it is opened, then it says so."""
    rolled(kms)
    kms.copy(region, ALIAS.format(2)).state = state
    with pytest.raises(error, match=said):
        started(kms).key(2)


def test_nothing_begins_anew_where_epochs_have_been(kms: FakeKms) -> None:
    """Given a destroyed epoch, and no alias of a living one, when one is asked for, then it is an incident (I6)."""
    rolled(kms).destroy(1)
    for region in (HERE, THERE):
        del kms.aliases[region][ALIAS.format(2)]
    with pytest.raises(KeyMissing, match="incident"):
        started(kms).current()


# Destroyed -----------------------------------------------------------------------------------------------------------


def test_a_destroyed_epoch_answers_nothing_and_is_deleted_in_the_end(kms: FakeKms) -> None:
    """Given a destroyed epoch, then KMS answers for it nowhere, and holds nothing of it when both waits are over."""
    provider = rolled(kms)
    destruction = provider.destroy(1)
    assert [(copy.place, copy.gone_after_days) for copy in destruction.copies] == [
        (f"aws-kms:{THERE}:alias/lethe-epoch-000001", 8),
        (f"aws-kms:{HERE}:alias/lethe-epoch-000001", 16),
    ]
    scheduled = [region for region, operation, _ in kms.calls if operation == "schedule_key_deletion"]
    assert scheduled == [THERE, HERE]
    for region in (HERE, THERE):
        with pytest.raises(Exception, match="KMSInvalidStateException"):
            kms.client(region).generate_mac(
                KeyId=DESTROYED.format(1), MacAlgorithm="HMAC_SHA_256", Message=b"lethe.epoch.1"
            )
    assert [len(kms.keys[region]) for region in (HERE, THERE)] == [2, 2]
    kms.let_the_wait_end()
    assert [len(kms.keys[region]) for region in (HERE, THERE)] == [1, 1]
    fresh = started(kms)
    assert (fresh.living(), fresh.destroyed(), fresh.returned()) == ((2,), (1,), ())
    for act in (lambda: fresh.create(1), lambda: fresh.key(1)):
        with pytest.raises((KeyDestroyed, KeyMissing)):
            act()
    with pytest.raises(KeyMissing, match="waiting period"):
        fresh.destroy(1)


@pytest.mark.parametrize("region", [HERE, THERE])
def test_a_cancelled_deletion_brings_no_epoch_back(kms: FakeKms, region: str) -> None:
    """Given a deletion that somebody cancelled, and the key enabled, then it is refused, reported, and goes again."""
    provider = rolled(kms)
    first = provider.destroy(1)
    back = kms.copy(region, DESTROYED.format(1))
    back.state = ENABLED
    kms.aliases[region][ALIAS.format(1)] = back.key_id
    fresh = started(kms)
    assert (fresh.living(), fresh.destroyed()) == ((2,), (1,))
    assert fresh.returned() == (CopyReturned(1, f"aws-kms:{region}:alias/lethe-epoch-000001"),)
    with pytest.raises(KeyMissing):
        fresh.key(1)
    assert fresh.destroy(1) == first
    assert fresh.returned() == ()
    assert back.state in {PENDING, PENDING_REPLICA}


@pytest.mark.parametrize("regions", [(HERE,), (THERE,), (THERE, HERE)])
def test_a_deletion_that_somebody_else_scheduled_is_not_claimed(kms: FakeKms, regions: tuple[str, ...]) -> None:
    """Given copies that wait for a day somebody else chose, then no date is claimed for them."""
    provider = rolled(kms)
    for region in regions:
        key_id = kms.copy(region, ALIAS.format(1)).key_id
        kms.client(region).schedule_key_deletion(KeyId=key_id, PendingWindowInDays=30)
    with pytest.raises(SettingsRefused, match="Cancel that"):
        provider.destroy(1)
    assert started(kms).living() == (1, 2)
    for region in regions:
        kms.copy(region, ALIAS.format(1)).state = DISABLED
    provider.destroy(1)
    assert (started(kms).living(), started(kms).destroyed()) == ((2,), (1,))


def test_a_process_lets_a_destroyed_key_go(kms: FakeKms) -> None:
    """Given a process that holds a key, when it notices the destruction, then the key is no longer in its memory."""
    provider, other = rolled(kms), started(kms)
    assert other.key(1) == provider.key(1)
    provider.destroy(1)
    assert set(provider._keys) <= {2}
    assert other.destroyed() == (1,)
    assert other._keys == {}


def test_a_deletion_that_does_not_take_is_not_claimed(kms: FakeKms) -> None:
    """Given KMS saying yes and keeping the key enabled, when an epoch is destroyed, then no destruction is claimed."""
    provider = rolled(kms)

    def revive(region: str, operation: str) -> None:
        if operation == "describe_key" and DESTROYED.format(1) in kms.aliases[region]:
            kms.copy(region, DESTROYED.format(1)).state = ENABLED

    kms.before = revive
    with pytest.raises(Unavailable, match="Destroy the epoch again"):
        provider.destroy(1)


@pytest.mark.parametrize("step", range(12))
def test_a_destruction_cut_off_anywhere_is_finished_by_the_next(kms: FakeKms, step: int) -> None:
    """Given a destruction cut off at any call, then from the first marker on nobody opens the epoch, and it ends."""
    provider = rolled(kms)
    calls = iter(range(100))
    writing = {"create_alias", "delete_alias", "schedule_key_deletion"}

    def cut_off(region: str, operation: str) -> None:
        if next(calls) == step:
            raise EndpointConnectionError(endpoint_url="kms")

    kms.calls.clear()
    kms.before = cut_off
    with suppress(Unavailable):
        provider.destroy(1)
    kms.before = lambda region, operation: None
    wrote = any(operation in writing for _, operation, _ in kms.calls)
    fresh = started(kms)
    assert (1 in fresh.living()) == (not wrote)
    fresh.destroy(1)
    assert started(kms).living() == (2,)
    assert {kms.copy(region, DESTROYED.format(1)).state for region in (HERE, THERE)} == {PENDING, PENDING_REPLICA}


# The shapes of the calls ---------------------------------------------------------------------------------------------


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """AWS as moto plays it, and boto3's own clients for it."""
    import boto3

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        yield lambda region: boto3.client("kms", region_name=region)


def test_what_boto3_is_asked_for_is_what_it_knows(aws: Callable[[str], Any]) -> None:
    """Given moto, when epochs are made and destroyed, then AWS holds multi-Region HMAC keys, one to be deleted."""
    provider = KmsKeyProvider((HERE, THERE), "lethe", 9)
    provider.create(1)
    provider.create(2)
    made = aws(THERE).describe_key(KeyId=ALIAS.format(1))["KeyMetadata"]
    assert (made["KeySpec"], made["KeyUsage"], made["MultiRegion"]) == ("HMAC_256", "GENERATE_VERIFY_MAC", True)
    assert made["KeyId"].startswith("mrk-")
    assert made["KeyId"] == aws(HERE).describe_key(KeyId=ALIAS.format(1))["KeyMetadata"]["KeyId"]
    mac = aws(THERE).generate_mac(KeyId=ALIAS.format(1), MacAlgorithm="HMAC_SHA_256", Message=b"lethe.epoch.1")["Mac"]
    assert provider.key(1) == mac
    provider.destroy(1)
    for region in (HERE, THERE):
        waiting = aws(region).describe_key(KeyId=DESTROYED.format(1))["KeyMetadata"]
        assert waiting["KeyState"] == "PendingDeletion"
        days = (waiting["DeletionDate"] - waiting["CreationDate"]).total_seconds() / 86_400
        assert round(days) == 9
