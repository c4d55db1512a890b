"""Makes bundles of a test's log and verifies them, as a stranger would who has the log's key from elsewhere."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from api.bootstrap import Instance
from api.bundling import proof_source
from audit.bundles.making import Prepared, prepared_bundle
from audit.bundles.model import Collected
from audit.verify.bundle import Trusted, Verified, verify_bundle
from ledger.application import Ledger
from tests.audit.publishing import keys_of

ACTOR = "cli"


def make(
    instance: Instance, ledger: Ledger, collected: Collected, folder: Path, *, opened: bool = False
) -> tuple[Path, Prepared]:
    """Make a bundle; returns the file, and what was said of it."""
    path = folder / f"{collected.kind}-{uuid4().hex}.zip"
    with prepared_bundle(ledger, collected, proof_source(instance), opened=opened, actor=ACTOR) as made:
        made.write(path)
    return path, made


def verified(instance: Instance, ledger: Ledger, path: Path) -> Verified:
    """Verify a bundle by the log's own key, taken from the log and not from the bundle."""
    return verify_bundle(path, Trusted(log_keys=keys_of(instance, ledger)))
