"""An attack on backups: one that is taken while the epoch is rolled must be as good as any other."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from api.bootstrap import Instance, running
from domain.personal import Identity
from ledger.backup.gate import keep_heads
from ledger.backup.restoring import restore
from ledger.backup.writing import LEDGER, VAULT, Database, write_backup
from ledger.embedded import EmbeddedPostgres
from ledger.keys.vault import KeyName
from projections.standing import InlineStanding
from retention.horizon.horizon import Horizon
from retention.restoring.reopening import Gatekeeper
from tests.acts import person, willing
from tests.drills import databases, installation
from tests.support import SettableClock

ANNA = "anna@example.com"
SELECT_TABLES = """
SELECT t.table_name::text FROM information_schema.tables t JOIN information_schema.columns c
USING (table_schema, table_name)
WHERE t.table_schema = 'lethe_vault' AND t.table_type = 'BASE TABLE' AND c.column_name = 'tenant_id' ORDER BY 1
"""


def both(instance: Instance) -> tuple[Database, Database]:
    return Database(LEDGER, instance.services.writer), Database(VAULT, instance.vault_pool)


def test_a_backup_that_a_roll_overtakes_opens_after_its_restore(
    server: EmbeddedPostgres, tmp_path: Path, clock: SettableClock
) -> None:
    """Given a backup that took an account's wraps before the end of a roll and the epochs after it, when it is
    restored, then its keys open."""
    file = tmp_path / "b.lethe"
    with installation(server, tmp_path / "keys", clock=clock) as source:
        ledger = source.ledger(uuid4())
        ledger.open_account(name="Acme GmbH", pack="mailkai", country="DE", minimum_age=16, actor="cli")
        willing(ledger, [ANNA])
        name = KeyName(person(ledger, ANNA).person.kid, Identity.name)
        left = tables_up_to_wraps(source)

        def roll_in_between(database: str, _: int) -> None:
            nonlocal left
            left -= database == VAULT
            if database == VAULT and left == 0:
                list(Horizon(source.services).roll())

        keep_heads(source.services.writer, source.custody, [ledger.tenant])
        notes = source.custody.count()
        provider = source.services.vault.provider
        write_backup(file, both(source), provider, now=clock(), notes=notes, progress=roll_in_between)
        assert provider.current() == 2, "The roll came in between."
        with databases(server, tmp_path / "keys") as settings, running(settings, clock=clock, gated=False) as target:
            services = target.services
            restore(file, both(target), services.vault.provider, now=clock())
            book = InlineStanding(services.vault.provider)
            gate = Gatekeeper(services.writer, services.vault, target.custody, book, target.ledger)
            gate.open(reason="The disks burnt.", actor="cli")
            assert name in services.vault.find(ledger.tenant, [name]).keys


def tables_up_to_wraps(instance: Instance) -> int:
    """How many of the vault's tables are in a backup when the wraps of its first account are."""
    with instance.vault_pool.transaction() as connection:
        tables = [row[0] for row in connection.execute(SELECT_TABLES)]
    return tables.index("wrapped_key") + 1
