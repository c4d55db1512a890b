"""What the probe and the figures say of the published logs: told always, and never a reason to turn requests away."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi import FastAPI

from api.bootstrap import Instance
from api.http.app import create_app
from ledger.application import Ledger
from tests.acts import add, emails
from tests.api.conftest import Api, serving

pytestmark = pytest.mark.store


def figure(text: str, name: str) -> float:
    (line,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(line.split(" ")[1])


def test_readiness_and_figures_tell_the_lag(
    own_instance: Instance,
    own_ledger: Ledger,
    serve: Callable[[FastAPI, Instance], serving],
    api_at: Callable[[str, Ledger], Api],
) -> None:
    """Given a log that is behind, when readiness and figures are asked for, they tell it until it is published."""
    add(own_ledger, emails(5))
    with serve(create_app(own_instance), own_instance) as url:
        api = api_at(url, own_ledger)
        behind = api.get("/readyz", scope="")
        assert behind["status"] == "ready"
        assert behind["checks"]["log"]["lag_events"] >= 6
        figures = api.call("GET", "/metrics", scope="").text
        assert figure(figures, "lethe_log_published_events") == 0
        assert figure(figures, "lethe_log_cosigned_events") == 0
        assert figure(figures, "lethe_log_lag_seconds") > 0
        published = own_instance.sequencer.publish_tenant(own_ledger)
        assert published is not None
        after = api.get("/readyz", scope="")
        assert after["checks"]["log"] == {"ok": True, "lag_events": 0, "lag_seconds": 0.0}
        figures = api.call("GET", "/metrics", scope="").text
        assert figure(figures, "lethe_log_published_events") == published.size
        assert figure(figures, "lethe_log_lag_seconds") == 0
