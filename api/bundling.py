"""Evidence bundles, wired: what this installation publishes its log by, and what can be asked for.

The command line and the HTTP API collect by the same functions; only here do `audit` and `retention` meet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from api.bootstrap import Instance
from audit.bundles.basis import ProofSource
from audit.bundles.campaign import collect_campaign
from audit.bundles.destruction import collect_destruction
from audit.bundles.model import Collected
from audit.bundles.reading import Progress
from audit.bundles.request import collect_request
from ledger.application import Ledger
from retention.certificates.store import certificate, exported


def proof_source(instance: Instance) -> ProofSource:
    """What the log of this installation is published by."""
    authority = instance.timestamp_authority
    return ProofSource(
        publish=instance.sequencer.publish_tenant,
        policy=instance.witnesses,
        timestamp_roots=authority.roots_pem if authority is not None else b"",
    )


def collected_by_id(ledger: Ledger, kind: str, wanted: UUID, progress: Progress | None = None) -> Collected:
    """What is asked for by one id: a campaign, a request or a destruction."""
    if kind == "campaign":
        return collect_campaign(ledger, wanted, progress)
    if kind == "request":
        return collect_request(ledger, wanted, lambda one: _exported(ledger, one), progress)
    assert kind == "destruction"
    return collect_destruction(ledger, _exported(ledger, wanted))


def _exported(ledger: Ledger, wanted: UUID) -> Mapping[str, Any]:
    return exported(ledger, certificate(ledger, wanted))
