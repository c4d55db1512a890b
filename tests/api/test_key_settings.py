"""Settings of keys and of custody: what is wired from them, and what does not start."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from moto import mock_aws
from pydantic import ValidationError

from api.bootstrap import Instance, make_provider, running
from api.settings import Settings
from ledger.application import Ledger
from ledger.custody.key_files import FileKeyProvider
from ledger.custody.kms import KmsKeyProvider
from ledger.errors import SettingsRefused
from retention.policy.adopting import adopt, announce
from retention.policy.pack import Pack, UnknownPack, load_pack
from retention.policy.promised_horizon import packs_in_use, promised_horizon_days
from tests.rolls import new_account
from tests.support import SettableClock

NOWHERE = "postgresql://nobody@127.0.0.1:1/none"
REGIONS = ["eu-central-1", "eu-west-1"]


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """AWS as moto plays it."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        yield


def test_files_are_the_default_and_custody_lies_beside_them(tmp_path: Path) -> None:
    """Given no setting, then epoch keys are files, and the journal is kept in the same folders."""
    settings = Settings(data_dir=tmp_path)
    assert isinstance(make_provider(settings), FileKeyProvider)
    assert settings.folders_for_custody() == settings.folders_for_keys() == (tmp_path / "keys-a", tmp_path / "keys-b")
    named = Settings(data_dir=tmp_path, custody_folders=[tmp_path / "c", tmp_path / "d"])
    assert named.folders_for_custody() == (tmp_path / "c", tmp_path / "d")


@pytest.mark.usefixtures("aws")
def test_kms_is_wired_with_its_settings() -> None:
    """Given KMS in two regions, when the provider is made, then it has copies there, and the delay of its wait."""
    settings = Settings(key_provider="aws-kms", kms_regions=REGIONS, kms_alias_prefix="mail", kms_pending_days=10)
    provider = make_provider(settings)
    assert isinstance(provider, KmsKeyProvider)
    assert provider.delay_days == 22
    assert [copy.split("…")[0] for copy in provider.copies()] == [f"aws-kms:{r}:alias/mail-epoch-" for r in REGIONS]


@pytest.mark.parametrize("regions", [[], ["eu-central-1"]])
def test_kms_in_fewer_than_two_regions_is_refused(regions: list[str]) -> None:
    """Given KMS and one region or none, when the provider is made, then the setting is named."""
    with pytest.raises(SettingsRefused, match="LETHE_KMS_REGIONS"):
        make_provider(Settings(key_provider="aws-kms", kms_regions=regions))


def test_kms_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given an installation without the extra, when KMS is chosen, then the message names it."""
    for module in ("ledger.custody.kms", "ledger.custody.kms_calls"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(SettingsRefused, match=r"lethe\[aws\]"):
        make_provider(Settings(key_provider="aws-kms", kms_regions=REGIONS))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("key_provider", "vault"),
        ("kms_alias_prefix", "with space"),
        ("kms_alias_prefix", ""),
        ("kms_pending_days", 6),
        ("kms_pending_days", 31),
        ("epoch_days", 0),
        ("epoch_kept_days", 0),
    ],
)
def test_values_that_cannot_be_used_are_refused(name: str, value: object) -> None:
    """Given a value that no provider could work with, when settings are read, then they are refused."""
    with pytest.raises(ValidationError):
        Settings.model_validate({name: value})


def test_nothing_starts_with_a_horizon_that_is_too_long(tmp_path: Path) -> None:
    """Given settings whose horizon exceeds 30 days, when an instance starts, then it does not."""
    settings = Settings(
        data_dir=tmp_path, epoch_kept_days=24, ledger_url=NOWHERE, reader_url=NOWHERE, vault_url=NOWHERE
    )
    with pytest.raises(SettingsRefused, match="31 days"), running(settings):
        pass


@pytest.mark.usefixtures("aws")
def test_the_defaults_are_too_long_for_kms(tmp_path: Path) -> None:
    """Given KMS with the default 21 days, when an instance starts, then it does not: KMS itself takes up to 16."""
    urls = {"ledger_url": NOWHERE, "reader_url": NOWHERE, "vault_url": NOWHERE}
    settings = Settings(data_dir=tmp_path, key_provider="aws-kms", kms_regions=REGIONS).model_copy(update=urls)
    with pytest.raises(SettingsRefused, match=r"44 days.*may be at most 7"), running(settings):
        pass


def test_an_instance_does_not_start_past_what_an_account_was_promised(
    instance: Instance, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a pack that promises 20 days, when settings give 28, then no process starts (Mailenium 5.2)."""

    def stricter(name: str, version: int) -> Pack:
        return replace(load_pack(name, version), horizon_days=20 if name == "mailkai" else 30)

    assert ledger.account().pack == "mailkai"
    settings = instance.settings
    monkeypatch.setattr("retention.policy.promised_horizon.load_pack", stricter)
    with pytest.raises(SettingsRefused, match="28 days, and at most 20"), running(settings):
        pass
    with running(settings.model_copy(update={"epoch_kept_days": 13})) as started:
        assert started.ledger(ledger.tenant).account().pack == "mailkai"


def test_the_pack_adopted_last_is_the_one_that_counts(instance: Instance, ledger: Ledger, clock: SettableClock) -> None:
    """Given an account that moved to another policy, then what that one promises is asked for, and not the old."""

    def in_use() -> tuple[str, int]:
        with instance.services.writer.transaction() as connection:
            return packs_in_use(connection)[ledger.tenant]

    assert in_use() == ("mailkai", 1)
    wanted = load_pack("mailenium", 1)
    notice = announce(ledger, wanted, effective_on=None, actor="cli").account.announced["mailenium", 1]
    clock.set(datetime.fromisoformat(f"{notice.effective_on}T12:00:00+00:00"))
    assert in_use() == ("mailkai", 1)
    adopt(ledger, wanted, actor="cli")
    assert in_use() == ("mailenium", 1)
    with instance.services.writer.transaction() as connection:
        assert promised_horizon_days(connection) == wanted.horizon_days == 30


def test_a_pack_that_is_gone_states_no_horizon(instance: Instance, ledger: Ledger) -> None:
    """Given an account whose pack's file was taken away, when a process starts, then the others' promises count."""

    def gone(name: str, version: int) -> Pack:
        raise UnknownPack(name)

    with pytest.MonkeyPatch.context() as patch, instance.services.writer.transaction() as connection:
        patch.setattr("retention.policy.promised_horizon.load_pack", gone)
        assert promised_horizon_days(connection) is None


def test_an_account_whose_own_event_was_changed_keeps_nobody_from_working(
    own_instance: Instance, own_ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    """Given an account whose first event a superuser changed, when a process starts, then it serves the others, and
    says which account has to be looked at."""
    with psycopg.connect(str(own_instance.settings.ledger_owner_url), autocommit=True) as owner:
        owner.execute("UPDATE lethe.event SET entry = 'x' WHERE tenant_id = %s AND position = 1", (own_ledger.tenant,))
    with running(own_instance.settings) as started:
        said = capsys.readouterr()
        assert f"tenant={own_ledger.tenant}" in said.out + said.err
        assert new_account(started).account().pack == "mailkai"


def test_what_is_destroyed_is_noted_in_custody(instance: Instance) -> None:
    """Given a running instance, when keys are destroyed, then the journal outside the databases has them."""
    tenant, kid = uuid4(), uuid4().bytes
    vault, before = instance.services.vault, instance.custody.count()
    vault.destroy_holder(tenant, kid, when=datetime(2026, 11, 21, tzinfo=UTC), cause="erasure", certificate=None)
    noted = list(instance.custody.notes(before))
    assert [(note.tenant, note.holder, note.cause) for note in noted] == [(tenant, kid.hex(), "erasure")]
