"""The summary of a bundle for people: what it is about, what it shows, and its events. HTML that loads nothing.

It repeats what stands in the other files, which are what is checked; the verifier checks of this one its digest only.
"""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from importlib import resources
from typing import Any, Final, Self

import orjson
from jinja2 import Environment, PackageLoader, StrictUndefined

from audit.bundles.disclosing import Part
from ledger.mapper import LedgerEvent

EVENTS_SHOWN_MAX: Final = 500
"""Who needs it: a reader with a browser. All events stand in entries.tsv."""

VALUE_CHARACTERS_MAX: Final = 2_000
"""Of one opened value; a long letter to support is whole in disclosed.ndjson."""

KIND_WORDS: Final[Mapping[str, str]] = {
    "person": "Person",
    "campaign": "Campaign",
    "request": "Request",
    "destruction": "Destruction",
    "period": "Period",
    "send": "Send receipt",
}

NOT_SHOWN: Final[Mapping[str, Sequence[str]]] = {
    "person": (
        "That nothing was recorded about the person after the last event here. Only the whole log shows an end.",
        "That these streams are one person's: the ledger computed it from keys, and says so.",
    ),
    "campaign": ("That there is no further message. Only the whole log from the registration on shows that.",),
    "request": ("That nothing else followed from the request later on.",),
    "destruction": (
        "That nobody has a copy of the keys. It shows what was intended, what was done, and when that was written.",
        "Whose keys they were.",
    ),
    "period": ("That no event before the first and behind the last one was recorded in the time asked for.",),
    "send": (
        (
            "That the message was for the person whose stream is here. The ledger computed it from keys, and says so; "
            "on purpose nothing in the log ties the two."
        ),
        "What the suppression list said of the address: its entries name nobody that could be shown here.",
        "That the message left while it was allowed, beyond the events that are here.",
    ),
}
"""What a reader might take from a bundle of this kind, and must not."""

TIMES: Final = "When it happened, but by the word of the house: the times of events are those of its own clock."

STYLE: Final = (resources.files("audit.bundles") / "page" / "summary.css").read_text(encoding="utf-8")
CONTENT_POLICY: Final = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; "
    f"style-src 'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}'"
)

STEERING: Final = frozenset({*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)}) - {
    ord("\t"),
    ord("\n"),
}
"""Letters that show nothing and can turn round what stands beside them: a campaign may be called anything."""


def visible(text: Any) -> Any:
    """A text in which such letters are named; other scripts, and what joins their letters, are left as they are."""
    return text.translate(_NAMED) if isinstance(text, str) else text


_NAMED: Final = {letter: f"[U+{letter:04X}]" for letter in STEERING}

_pages: Final = Environment(
    loader=PackageLoader("audit.bundles", "page"),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=visible,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True, slots=True)
class SummaryEvent:
    """One event as the summary shows it. `parts` says of each sealed part what became of it."""

    position: int
    recorded_at: str
    occurred_at: str
    topic: str
    stream: str
    version: int
    actor: str
    rules: str | None
    plain: Mapping[str, str]
    parts: Sequence[tuple[str, str, Mapping[str, str]]]

    @classmethod
    def of(cls, event: LedgerEvent, parts: Sequence[Part] | None) -> Self:
        """An event, with its sealed parts as far as they were asked for."""
        said = orjson.loads(event.state)
        assert event.position is not None
        found = {part.name: _part(part) for part in parts or ()}
        sealed = [(name, *found.get(name, ("sealed", {}))) for name in sorted(said.get("sealed", ()))]
        return cls(
            event.position,
            said["recorded_at"],
            said["occurred_at"],
            said["topic"],
            said["stream"],
            said["version"],
            said["actor"],
            said.get("rules"),
            {name: _shown(value) for name, value in said["plain"].items()},
            sealed,
        )

    @property
    def name(self) -> str:
        """What happened, in words: `consent granted`."""
        return self.topic.rpartition(".v")[0].replace(".", " ").replace("_", " ")

    @property
    def recorded(self) -> str:
        """When the ledger learnt it, to the second."""
        return f"{self.recorded_at[:10]} {self.recorded_at[11:19]}"

    @property
    def occurred(self) -> str | None:
        """When it was true, where that is another second."""
        occurred = f"{self.occurred_at[:10]} {self.occurred_at[11:19]}"
        return occurred if occurred != self.recorded else None


@dataclass(slots=True)
class Summary:
    """Everything that a summary tells."""

    kind: str
    title: str
    words: Sequence[str]
    asked: Mapping[str, Any]
    account: str
    origin: str
    size: int
    published_at: datetime
    made_at: datetime
    by: str
    entries: int
    opens: bool
    rules: Mapping[str, Any] | None
    cosigned: int
    marks: Mapping[int, str] = field(default_factory=dict)
    events: list[SummaryEvent] = field(default_factory=list)
    topics: Counter[str] = field(default_factory=Counter)
    sealed: int = 0
    opened: int = 0
    erased: int = 0
    not_disclosed: int = 0

    def take(self, event: SummaryEvent) -> None:
        """Count one more event, and keep it if it is among the first."""
        self.topics[event.topic] += 1
        self.sealed += len(event.parts)
        if len(self.events) < EVENTS_SHOWN_MAX:
            self.events.append(event)

    def finish(self, *, opened: int, erased: int, not_disclosed: int) -> None:
        """What became of the sealed parts."""
        self.opened, self.erased, self.not_disclosed = opened, erased, not_disclosed

    @property
    def kind_words(self) -> str:
        """The kind for people."""
        return KIND_WORDS[self.kind]

    @property
    def not_shown(self) -> Sequence[str]:
        """What this does not show."""
        return *NOT_SHOWN[self.kind], TIMES

    @property
    def facts(self) -> list[tuple[str, str]]:
        """Label and value, for the head."""
        cosigned = f"{self.cosigned} witness{'es' if self.cosigned != 1 else ''} cosigned it"
        return [
            ("Account", self.account),
            *((name.capitalize(), str(value)) for name, value in self.asked.items()),
            ("Log", self.origin),
            ("Checkpoint", f"size {self.size:,}, published {_minute(self.published_at)}; {cosigned}"),
            ("Made", f"{_minute(self.made_at)} by {self.by}"),
        ]

    @property
    def figures(self) -> list[tuple[str, int, str]]:
        """Class, number and words, for the tiles."""
        told = [("events", self.entries, "events")]
        if self.opens:
            told += [
                ("opened", self.opened, "parts opened"),
                ("erased", self.erased, "parts erased"),
                ("closed", self.not_disclosed, "parts not opened"),
            ]
        else:
            told.append(("closed", self.sealed, "sealed parts, none opened"))
        return told


def summary_page(summary: Summary) -> str:
    """The page."""
    return _pages.get_template("summary.html").render(summary=summary, style=STYLE, policy=CONTENT_POLICY)


def _part(part: Part) -> tuple[str, Mapping[str, str]]:
    said = part.said
    if "opened" in said:
        state = "opened" if "unprovable" not in said else "opened, without a key that shows it"
        return state, {name: _shown(value) for name, value in said["opened"].items()}
    if "erased" in said:
        erased = said["erased"]
        told = {"since": str(erased["when"])[:10], "why": erased["why"], "under": erased["certificate"]}
        return "erased", {name: value for name, value in told.items() if value}
    return "not opened", {"why": said["not_disclosed"]}


def _shown(value: Any) -> str:
    if isinstance(value, str):
        text = value
    elif isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, Mapping):
        text = "; ".join(f"{name}: {_shown(held)}" for name, held in value.items())
    elif isinstance(value, Sequence):
        text = ", ".join(_shown(held) for held in value)
    else:
        text = str(value)
    return text if len(text) <= VALUE_CHARACTERS_MAX else f"{text[:VALUE_CHARACTERS_MAX]} […]"


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
