"""The summary of a bundle on paper: the same words as the page, for a file. The same summary gives the same bytes."""

from __future__ import annotations

from typing import Final

from audit.bundles.summary import Summary, SummaryEvent
from projections.paper.page import Paper

TITLE: Final = "Evidence bundle"
FOOT: Final = "All times are UTC. Checked are the other files; they have the letters that stand here as question marks."

LABEL_MM: Final = 34

EVENTS_DRAWN_MAX: Final = 200
"""Who needs it: whoever prints it. The page shows more, and entries.tsv all."""

DETAILS_CHARACTERS_MAX: Final = 600
"""Of one event on paper."""


def summary_pdf(summary: Summary) -> bytes:
    """The PDF."""
    paper = Paper(TITLE, summary.title, FOOT, summary.made_at)
    paper.add_page()
    _front(paper, summary)
    paper.heading("What it shows")
    for sentence in summary.words:
        paper.paragraph(sentence)
    paper.paragraph(
        "Every event here stands in the account's log at the position named, under the signed checkpoint in this "
        "bundle. The log is tamper-evident back to the last checkpoint that somebody else holds."
    )
    if summary.not_shown:
        paper.heading("What it does not show")
        for sentence in summary.not_shown:
            paper.paragraph(f"- {sentence}")
    paper.heading("How to check it")
    paper.paragraph(
        "These pages are for reading. What counts are the other files of the bundle. README.md says how they are "
        "checked with Go, with tlog-scales and with lethe verify, each without a network. Take the log's public key "
        "from somebody else than whoever gave you the bundle."
    )
    _events(paper, summary)
    _rules(paper, summary)
    return paper.drawn()


def _front(paper: Paper, summary: Summary) -> None:
    paper.band(f"{TITLE}: {summary.kind_words}", summary.title)
    told = ", ".join(f"{count:,} {what}" for _, count, what in summary.figures)
    for label, value in [*summary.facts, ("In it", told)]:
        paper.fact(label, value, LABEL_MM)


def _rules(paper: Paper, summary: Summary) -> None:
    if summary.rules is None:
        return
    paper.heading(f"The rules of the day: {summary.rules['version']}")
    rows = []
    for row in summary.rules["rows"]:
        says = ", ".join(_rule(one) for one in row["says"])
        until = f" to {row['effective_to']}" if row["effective_to"] else ""
        rows.append((says, f"from {row['effective_from']}{until}", row["source"]))
    paper.rows(("rule", "in force", "source"), rows, (66, 34, 70))


def _events(paper: Paper, summary: Summary) -> None:
    paper.heading("Events")
    shown = summary.events[:EVENTS_DRAWN_MAX]
    if len(shown) < summary.entries:
        paper.paragraph(f"The first {len(shown)} of {summary.entries:,}. All of them are in entries.tsv.")
    rows = [(f"{event.position:,}", event.recorded, _name(summary, event), _details(event)) for event in shown]
    paper.rows(("position", "recorded", "what", "details"), rows, (18, 32, 36, 84))


def _rule(said: object) -> str:
    if isinstance(said, list):
        return " ".join(map(str, said))
    return "no end" if said is None else str(said)


def _name(summary: Summary, event: SummaryEvent) -> str:
    mark = summary.marks.get(event.position)
    return f"{event.name} ({mark})" if mark else event.name


def _details(event: SummaryEvent) -> str:
    said = [f"{name.replace('_', ' ')}: {value}" for name, value in event.plain.items()]
    for name, state, values in event.parts:
        told = "; ".join(f"{key}: {value}" for key, value in values.items())
        said.append(f"{name} ({state})" + (f": {told}" if told else ""))
    text = ". ".join(said)
    return text if len(text) <= DETAILS_CHARACTERS_MAX else f"{text[:DETAILS_CHARACTERS_MAX]} [...]"
