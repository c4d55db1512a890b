"""What a command about a person may say."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from domain.standing import CONSENT, PERMISSION_BASES, Standing
from domain.subject import Action
from domain.subject_commands import CommandRefused, RecordConsent, decide

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize("action", ["request", "grant", "withdraw"])
@pytest.mark.parametrize("basis", ["legitimate-interest", "soft_opt_in", "Consent", ""])
def test_a_basis_that_nobody_knows_is_no_consent(basis: str, action: Action) -> None:
    """Given a word on a basis that the rules do not know, then it is refused, and never taken as consent given."""
    with pytest.raises(CommandRefused, match=CONSENT) as refused:
        decide(Standing(), RecordConsent("newsletter", "email", action, basis=basis), [], NOW)
    assert refused.value.reason == "unknown_basis"


@pytest.mark.parametrize("basis", [CONSENT, *sorted(PERMISSION_BASES)])
def test_a_known_basis_is_taken(basis: str) -> None:
    """Given a basis of the rules, then the word leads to a fact."""
    assert decide(Standing(), RecordConsent("newsletter", "email", "grant", basis=basis), [], NOW)
