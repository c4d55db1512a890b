"""A real ledger's log, exported and checked by verifiers that are not ours, before and after half of all are erased.

Must-show 1 and 2: nothing that was proven before an erasure stops being proven after it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from api.bootstrap import Instance
from audit.log.export import export_log
from audit.log.proofs import proven_entry
from audit.log.reading import reading
from audit.verify.tlog_proof import TlogProof
from ledger.application import Ledger
from retention.erasure.erasing import finish_erasures
from tests.acts import ask, emails, register, report, topics, willing
from tests.audit.publishing import grow, keys_of, publish
from tests.verifiers.outside import Refused, go_verify, scales_verify

PEOPLE = 60


def live(ledger: Ledger) -> list[str]:
    """People, a campaign, sends and engagement; returns the addresses."""
    people = emails(PEOPLE)
    willing(ledger, people)
    asked = ask(ledger, register(ledger), people)
    report(ledger, [(token, "delivered") for token in asked.allowed.values()])
    return people


def exported(instance: Instance, ledger: Ledger, folder: Path) -> str:
    """Export the log with its entries; returns its verifier key."""
    publish(instance, ledger)
    export_log(folder, lambda: reading(instance.services.reader, ledger.tenant), ledger.tenant, entries=True)
    (key,) = (folder / "log.vkey").read_text().split()
    return key


def test_others_verify_a_real_log_also_after_half_of_all_persons_are_erased(
    instance: Instance, ledger: Ledger, tmp_path: Path
) -> None:
    """Given an exported log and proofs, when half of all are erased, then Go and tlog-scales verify old and new.

    The older checkpoint lies beside the newer one in the folder, so both verifiers also check that the log only grew;
    a proof from before verifies as it is; and one changed byte is refused by each.
    """
    people = live(ledger)
    folder = tmp_path / "log"
    key = exported(instance, ledger, folder)
    go_verify(folder, key)
    scales_verify(folder, key)
    with reading(instance.services.reader, ledger.tenant) as connection:
        before = [proven_entry(connection, ledger.tenant, position) for position in range(1, 200, 7)]
    ledger.erasures.intend(people[::2], reason="subject_request", actor="cli")
    finish_erasures(ledger)
    assert topics(ledger).count("keys.destroyed.v1") == PEOPLE // 2
    exported(instance, ledger, folder)
    assert len(list((folder / "checkpoints").iterdir())) == 2
    go_verify(folder, key)
    scales_verify(folder, key)
    for proof, entry in before:
        TlogProof.parse(proof.format()).require_logged(entry, keys_of(instance, ledger))
    bundle = folder / "tile" / "entries" / "000"
    content = bundle.read_bytes()
    bundle.write_bytes(content[:500] + bytes([content[500] ^ 1]) + content[501:])
    for verify in (go_verify, scales_verify):
        with pytest.raises(Refused):
            verify(folder, key)


def test_others_verify_every_size_of_a_growing_log(instance: Instance, ledger: Ledger, tmp_path: Path) -> None:
    """Given exports of one log at several sizes, around a full tile too, then both verifiers take all of them."""
    folder, key = tmp_path / "log", ""
    for more in (1, 1, 2, 5, 240, 3, 1, 1, 1, 260):
        grow(ledger, more)
        key = exported(instance, ledger, folder)
    assert len(list((folder / "checkpoints").iterdir())) == 10
    go_verify(folder, key)
    scales_verify(folder, key)
