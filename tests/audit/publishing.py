"""Publishes a test's log as the worker would, now."""

from __future__ import annotations

from uuid import uuid4

from api.bootstrap import Instance
from audit.log.keys import living
from audit.log.sequencer import Sequencer
from audit.log.store import PublishedCheckpoint, log_keys, require_checkpoint
from audit.verify.note import VerifierKey
from ledger.application import Ledger

HOUSE = "lethe.localhost"


def publish(instance: Instance, ledger: Ledger) -> PublishedCheckpoint:
    """Publish all that a log holds; returns its last checkpoint."""
    Sequencer(instance.services.writer, instance.custody, instance.ledger, HOUSE).publish_tenant(ledger)
    with instance.services.writer.connection() as connection:
        return require_checkpoint(connection, ledger.tenant)


def grow(ledger: Ledger, events: int = 1) -> None:
    """Events about nobody."""
    for _ in range(events):
        ledger.record_refusal("/v1/test", "no_key", key_id=uuid4().hex[:16])


def keys_of(instance: Instance, ledger: Ledger) -> list[VerifierKey]:
    """The verifier keys of a log."""
    with instance.services.writer.connection() as connection:
        return [VerifierKey.parse(key.verifier_key) for key in living(log_keys(connection, ledger.tenant), 1)]
