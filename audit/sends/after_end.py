"""The end of an account, checked over its log: no send was authorised between a termination and a reactivation (I1)."""

from __future__ import annotations

from collections.abc import Iterator

from audit.sends.after_no import Finding
from domain.account import AccountReactivated, AccountTerminated
from domain.message import SendAuthorised
from ledger.application import Ledger

SELECT_TURNS = """
SELECT position, topic FROM lethe.event WHERE tenant_id = %s AND stream_id = %s AND topic = ANY(%s)
ORDER BY tenant_id, stream_id, version
"""
SELECT_SENDS = """
SELECT position FROM lethe.event WHERE tenant_id = %s AND position > %s AND position < %s AND topic = %s
ORDER BY position LIMIT %s
"""
FINDINGS_MAX = 100
AFTER_THE_LOG = 2**62


def check_no_send_after_end(ledger: Ledger) -> list[Finding]:
    """Every authorisation that stands in the log while the account was terminated; empty if none."""
    findings = []
    with ledger.services.writer.transaction() as connection:
        for ended, taken_up in _ends(ledger):
            values = (ledger.tenant, ended, taken_up, SendAuthorised.TOPIC, FINDINGS_MAX)
            for (position,) in connection.execute(SELECT_SENDS, values):
                text = f"Authorised although the account was terminated at {ended}."
                findings.append(Finding(position, "send_after_end", text))
    return findings


def _ends(ledger: Ledger) -> Iterator[tuple[int, int]]:
    """The sections of the log in which the account was terminated: from the fact to the one that took it back."""
    topics = [AccountTerminated.TOPIC, AccountReactivated.TOPIC]
    with ledger.services.writer.transaction() as connection:
        turns = connection.execute(SELECT_TURNS, (ledger.tenant, ledger.tenant, topics)).fetchall()
    ended = None
    for position, topic in turns:
        if topic == AccountTerminated.TOPIC:
            ended = position
        elif ended is not None:
            yield ended, position
            ended = None
    if ended is not None:
        yield ended, AFTER_THE_LOG
