"""The stand: one server from the wheel's own binaries on 127.0.0.1, with every contender on it.

fsync is on, the settings are those of the embedded server, and every contender connects the same way, over TCP
(stock `eventsourcing` saves a batch through a pipeline that hangs for ever over a unix socket). The people who are
mailed are made once, when a part first asks for them.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import UUID, uuid4

from api.bootstrap import LEDGER_DATABASE, DatabaseUrls, Instance, embedded_urls, running
from api.settings import Settings
from domain.subject_commands import AddContact, RecordConsent
from ledger.application import Ledger
from ledger.authorise_layout import Answer, Recipient
from ledger.embedded import EmbeddedPostgres
from ledger.subjects import Act

ROOT: Final = Path(__file__).parents[1]
PURPOSE: Final = "newsletter"
CHANNEL: Final = "email"
ACTOR: Final = "cli"
PEOPLE_PER_TRANSACTION: Final = 2000
STRANGER: Final = "stranger@example.org"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much each part does. Counts are per round where a part has rounds."""

    people: int = 50_000
    rounds: int = 5
    stock_batch: int = 5000
    stock_batches: int = 3
    stock_single_saves: int = 500
    raw_commits: int = 3000
    clients: int = 64
    acts_per_client: int = 75
    check_clients: int = 32
    check_rounds: int = 4
    check_seconds: float = 3.0
    small_events: int = 10
    large_events: int = 100_000
    erasures_small: int = 5
    erasures_large: int = 3
    stock_projected: int = 4000
    projection_rounds: int = 3
    streamed: int = 200_000
    rolled_keys: int = 100_000
    proof_events: int = 200_000
    fsck_small: int = 100_000
    fsck_large: int = 1_000_000
    growth_events: int = 0


NORMAL: Final = Sizes()
SOAK: Final = Sizes(
    people=100_000,
    large_events=1_000_000,
    erasures_large=2,
    streamed=1_000_000,
    rolled_keys=1_000_000,
    proof_events=5_000_000,
    fsck_large=5_000_000,
    growth_events=20_000_000,
)
QUICK: Final = Sizes(
    people=120,
    rounds=1,
    stock_batch=50,
    stock_batches=1,
    stock_single_saves=5,
    raw_commits=10,
    clients=4,
    acts_per_client=3,
    check_clients=2,
    check_rounds=1,
    check_seconds=0.2,
    large_events=200,
    erasures_small=1,
    erasures_large=1,
    stock_projected=50,
    projection_rounds=1,
    streamed=500,
    rolled_keys=600,
    proof_events=600,
    fsck_small=300,
    fsck_large=900,
)


@dataclass(slots=True)
class Campaign:
    """An authorised campaign: its id, the tokens of its messages, and the positions it took."""

    campaign_id: UUID
    tokens: list[str] = field(default_factory=list)
    first: int = 0
    last: int = 0

    def take(self, answer: Answer) -> None:
        """Note what came of one chunk."""
        self.tokens.extend(token for _, token, _, _ in answer.allowed)
        if answer.first:
            self.first = min(self.first or answer.first, answer.first)
            self.last = max(self.last, answer.last)


class Stand:
    """The server, a running Lethe on it, and one account with people who agreed to be mailed."""

    def __init__(self, server: EmbeddedPostgres, urls: DatabaseUrls, instance: Instance, sizes: Sizes) -> None:
        self.server = server
        self.urls = urls
        self.instance = instance
        self.sizes = sizes
        self.owner_url = server.url(LEDGER_DATABASE)
        self.campaigns: list[Campaign] = []

    @cached_property
    def ledger(self) -> Ledger:
        """The account that all parts share, with its people."""
        ledger = self.open_account()
        add_people(ledger, self.emails)
        return ledger

    @cached_property
    def emails(self) -> list[str]:
        """The addresses of the account's people."""
        return [f"person{number}@example.com" for number in range(self.sizes.people)]

    @cached_property
    def recipients(self) -> list[Recipient]:
        """Everybody, as a campaign asks for them."""
        return [Recipient(index, email) for index, email in enumerate(self.emails)]

    def open_account(self) -> Ledger:
        """A new account with nobody in it."""
        ledger = self.instance.ledger(uuid4())
        ledger.open_account(name="Bench", pack="mailkai", country="DE", minimum_age=16, actor=ACTOR)
        return ledger

    def authorise(self, campaign: Campaign, recipients: Iterable[Recipient], *, ledger: Ledger | None = None) -> None:
        """Authorise a campaign for these recipients, in full."""
        ledger = ledger or self.ledger
        account = ledger.account()
        for answer in ledger.authorisations.authorise(campaign.campaign_id, recipients, account=account, actor=ACTOR):
            campaign.take(answer)

    def environment(self) -> dict[str, str]:
        """The environment in which a child process runs Lethe on this server."""
        folders = [str(folder) for folder in self.instance.settings.folders_for_keys()]
        return os.environ | {
            "LETHE_DATA_DIR": str(self.instance.settings.data_dir),
            "LETHE_LEDGER_URL": self.urls.writer,
            "LETHE_READER_URL": self.urls.reader,
            "LETHE_REBUILDER_URL": self.urls.rebuilder,
            "LETHE_VAULT_URL": self.urls.vault,
            "LETHE_KEY_FOLDERS": json.dumps(folders),
            "LETHE_REQUESTS_PER_MINUTE": "1000000000",
            "LETHE_LOG_LEVEL": "ERROR",
            "PYTHONPATH": str(ROOT),
        }

    def stock_environment(self, schema: str) -> dict[str, str]:
        """The environment of a stock `eventsourcing` application with tables of its own in this schema."""
        parts = urlsplit(self.owner_url)
        where = parse_qs(parts.query)
        return {
            "PERSISTENCE_MODULE": "eventsourcing.postgres",
            "POSTGRES_DBNAME": unquote(parts.path.lstrip("/")),
            "POSTGRES_HOST": where["host"][0],
            "POSTGRES_PORT": where["port"][0],
            "POSTGRES_USER": parts.username or "",
            "POSTGRES_PASSWORD": "",
            "POSTGRES_SCHEMA": schema,
        }


@contextmanager
def raised(sizes: Sizes) -> Iterator[Stand]:
    """A stand for the length of the block, in a temporary folder."""
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="lethe-bench-", ignore_cleanup_errors=True))
        )
        server = stack.enter_context(EmbeddedPostgres(folder / "postgres", tcp=True))
        urls = embedded_urls(server)
        settings = Settings(
            data_dir=folder,
            ledger_url=urls.writer,
            reader_url=urls.reader,
            rebuilder_url=urls.rebuilder,
            vault_url=urls.vault,
        )
        instance = stack.enter_context(running(settings, application="lethe-bench"))
        yield Stand(server, urls, instance, sizes)


def add_people(ledger: Ledger, emails: Sequence[str], *, purpose: str = PURPOSE) -> None:
    """Add contacts who agreed, with evidence, by double opt-in."""
    evidence = {"ip": "192.0.2.17", "user_agent": USER_AGENT, "form": "footer", "method": "double_opt_in"}
    for start in range(0, len(emails), PEOPLE_PER_TRANSACTION):
        acts = []
        for email in emails[start : start + PEOPLE_PER_TRANSACTION]:
            identity: dict[str, object] = {"first_name": "Ada", "country": "DE"}
            acts.append(Act(AddContact(email, identity), address=email, actor=ACTOR))
            consent = RecordConsent(purpose, CHANNEL, "grant", evidence=evidence)
            acts.append(Act(consent, address=email, actor=ACTOR))
        ledger.subjects.act(acts)


def register(ledger: Ledger, *, ongoing: bool = False) -> Campaign:
    """A fresh campaign for the people's purpose, with tracking disclosed."""
    campaign_id = ledger.register_campaign(
        name="Spring",
        purpose=PURPOSE,
        channel=CHANNEL,
        kind="ongoing" if ongoing else "one-off",
        content_sha256=None,
        tracking_disclosed=True,
        actor=ACTOR,
    )
    return Campaign(campaign_id)


def python(*arguments: str) -> list[str]:
    """The command line of a child process with this interpreter."""
    return [sys.executable, *arguments]


USER_AGENT: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
