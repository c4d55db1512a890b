"""How a person's standing is shown, now and in the past, on the command line and over HTTP alike."""

from __future__ import annotations

from typing import Any

from audit.asof.decision import PastView
from domain.ids import from_micros
from domain.law import rules_on
from domain.standing import Standing


def standing_as_dict(standing: Standing) -> dict[str, Any]:
    """Permissions, noes and restriction of a standing, with positions in the log; nothing of who it is."""
    return {
        "permissions": [
            {
                "purpose": key.partition("|")[0],
                "channel": key.partition("|")[2],
                "status": word.status,
                "basis": word.basis,
                "since": from_micros(word.occurred_at),
                "position": word.position,
                "evidenced": word.evidenced,
                "imported": word.imported,
            }
            for key, word in standing.permissions.items()
        ],
        "noes": [
            {"cause": no.cause, "scope": no.scope, "since": from_micros(no.occurred_at), "position": no.position}
            for no in standing.noes
        ],
        "restricted": standing.restricted_position is not None,
    }


def view_as_dict(view: PastView, purpose: str | None, channel: str) -> dict[str, Any]:
    """What is shown of a person at a moment, and what would have been decided where a purpose was asked."""
    standing = view.person.standing
    answer: dict[str, Any] = {
        "at": view.moment.at,
        "meaning": view.moment.meaning,
        "known": standing is not None,
        "position": view.person.position,
        **standing_as_dict(standing or Standing()),
        "suppressions": [
            {"scope": entry.scope, "cause": entry.cause, "since": entry.since_text()} for entry in view.against
        ],
    }
    if purpose is not None:
        decision, version = view.decide(purpose, channel, rules_on)
        answer["decision"] = {
            "allowed": decision.allowed,
            "rule": decision.rule,
            "basis": decision.basis,
            "evidence_position": decision.evidence_position,
            "rules": version,
        }
    return answer
