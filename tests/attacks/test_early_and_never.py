"""Attacks on time: what goes before its time by a clock or a file, and what never goes at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

import api.bootstrap
from api.bootstrap import Instance, running
from domain.personal import Erased, Personal
from domain.records import Record
from ledger.application import Ledger
from ledger.embedded import EmbeddedPostgres
from ledger.errors import DestructionTooEarly, LedgerError
from ledger.keys.names import TENANT_HOLDER, KeyName
from ledger.keys.vault import Vault
from retention.horizon.horizon import Horizon
from retention.plans.schedule import run_retention
from retention.policy.adopting import open_under
from retention.policy.pack import PackError, load_pack, use_packs_of
from tests.acts import willing
from tests.drills import databases
from tests.retention.pack_texts import changed, text_of
from tests.support import SettableClock

ANNA = "anna@example.com"


def test_billing_keys_cannot_be_purged_before_their_time(ledger: Ledger) -> None:
    """Given a bill of today, when the sweeping of a class is called for billing, then nothing goes (I9)."""
    willing(ledger, [ANNA])
    ledger.records.take([Record("billing", {"note": "x"}, "invoice", ANNA, None)], actor="cli")
    vault = ledger.services.vault
    before = _billing_holders(vault, ledger)
    with suppress(LedgerError):
        vault.purge_class(ledger.tenant, "billing")
    assert _billing_holders(vault, ledger) == before != set()


def _billing_holders(vault: Vault, ledger: Ledger) -> set[bytes]:
    with vault.pool.transaction() as connection:
        rows = connection.execute(
            "SELECT holder FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND class = 'billing' AND holder <> ''",
            (ledger.tenant,),
        ).fetchall()
    return {bytes(row[0]) for row in rows}


def test_support_about_nobody_goes_three_years_after_the_last_interaction(
    own_ledger: Ledger, clock: SettableClock
) -> None:
    """Given a support record that names no contact, when ten years are over, then a plan has it (Mailkai 8 support)."""
    clock.set(datetime(2030, 1, 15, tzinfo=UTC))
    taken = own_ledger.records.take([Record("support", {"letter": "I am Anna"}, "ticket", None, None)], actor="cli")
    if not taken.recorded:
        return  # Refused at the door is an answer too.
    stored = own_ledger.log.select_log(taken.first, 1)[0]
    assert isinstance(own_ledger.sealing.open(stored).content, Personal)  # type: ignore[attr-defined]  # A SupportRecorded.
    clock.set(datetime(2040, 1, 15, tzinfo=UTC))
    run_retention(own_ledger)
    own_ledger.keyring.forget_all()
    assert isinstance(own_ledger.sealing.open(stored).content, Erased)  # type: ignore[attr-defined]  # A SupportRecorded.


def test_a_clock_that_jumps_destroys_no_epoch_key(
    server: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a program on real time whose clock jumps 40 days ahead, then no epoch key goes before its real day: the
    vault's own server knows better, as it does for billing."""
    jump = [timedelta()]

    def jumped() -> datetime:
        return datetime.now(UTC) + jump[0]

    monkeypatch.setattr(api.bootstrap, "_utc_now", jumped)
    with databases(server, tmp_path / "keys") as settings, running(settings) as instance:
        assert instance.services.vault.minimums.real_time
        ledger = instance.ledger(uuid4())
        ledger.open_account(name="Acme GmbH", pack="mailkai", country="DE", minimum_age=16, actor="cli")
        willing(ledger, [ANNA])
        provider = instance.services.vault.provider
        Horizon(instance.services).run_due()
        jump[0] = timedelta(days=40)
        with suppress(LedgerError):
            Horizon(instance.services).run_due()
        assert 1 in provider.living()


def test_a_clock_that_jumps_destroys_no_month_before_its_time(
    server: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a program on real time whose clock jumps three years ahead, then the schedule destroys nothing early."""
    jump = [timedelta()]
    monkeypatch.setattr(api.bootstrap, "_utc_now", lambda: datetime.now(UTC) + jump[0])
    with databases(server, tmp_path / "keys") as settings, running(settings) as instance:
        ledger = instance.ledger(uuid4())
        ledger.open_account(name="Acme GmbH", pack="mailkai", country="DE", minimum_age=16, actor="cli")
        willing(ledger, [ANNA])
        now = datetime.now(UTC)
        assert ledger.records.take([Record("usage", {"page": "x"}, "view", ANNA, now)], actor="cli").recorded == 1
        vault, month = ledger.services.vault, f"{now:%Y-%m}"
        name = KeyName(TENANT_HOLDER, "usage", month)
        assert name in vault.find(ledger.tenant, [name]).keys
        jump[0] = timedelta(days=3 * 366)
        with suppress(LedgerError):
            run_retention(ledger)
        assert name in vault.find(ledger.tenant, [name]).keys


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    made = tmp_path / "packs"
    made.mkdir()
    yield made
    use_packs_of(None)


def test_a_pack_that_is_rewritten_under_an_account_is_refused(
    folder: Path, own_instance: Instance, clock: SettableClock
) -> None:
    """Given an account opened under a pack of one's own, when the same version says something else, it is refused."""
    own = text_of("mailkai")
    own = changed(own, 'name = "mailkai"\n', 'name = "acme"\n')
    (folder / "acme.toml").write_text(own)
    use_packs_of(folder)

    ledger = own_instance.ledger(uuid4())
    open_under(ledger, load_pack("acme"), name="Acme GmbH", country="DE", minimum_age=None, actor="cli")
    clock.set(datetime(2030, 1, 15, tzinfo=UTC))
    willing(ledger, [ANNA])
    assert ledger.records.take([Record("billing", {"note": "x"}, "invoice", ANNA, None)], actor="cli").recorded == 1
    text = own.replace("keep_years = 7\nminimum = true", "keep_years = 1")
    assert text != own
    (folder / "acme.toml").write_text(text)
    try:
        use_packs_of(folder)
    except PackError:
        return
    clock.set(datetime(2031, 6, 15, tzinfo=UTC))
    with pytest.raises((PackError, DestructionTooEarly)):
        run_retention(ledger)
    assert _billing_holders(ledger.services.vault, ledger)


def test_a_pack_of_ones_own_cannot_let_billing_go_early(folder: Path) -> None:
    """Given a pack that keeps billing for one year and no minimum, then it is not taken (billing: seven years)."""
    own = changed(text_of("mailkai"), 'name = "mailkai"\n', 'name = "acme"\n')
    (folder / "acme.toml").write_text(own.replace("keep_years = 7\nminimum = true", "keep_years = 1"))
    with pytest.raises(PackError):
        use_packs_of(folder)
