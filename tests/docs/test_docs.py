"""The reference pages say what the code says, in both directions (STYLE 17)."""

from __future__ import annotations

import importlib
import re

import pytest

import domain.access
import domain.account
import domain.campaign
import domain.message
import domain.subject
import domain.suppression
from api.settings import Settings
from domain.facts import TOPICS, personal_fields, plain_fields
from domain.permission import ALLOWING_RULES, BASES, GRANT_REASONS, RULES
from domain.personal import RETENTION_CLASSES
from domain.subject_commands import EVIDENCE_KEYS
from tests.docs.pages import name, named, reference, table, tables

EVENT_MODULES = (
    domain.access,
    domain.account,
    domain.campaign,
    domain.message,
    domain.subject,
    domain.suppression,
)


def test_every_setting_is_documented_and_every_documented_setting_exists() -> None:
    """Given the settings page, then its first column is exactly the fields of Settings."""
    documented = [name(row[0]) for row in table(reference("settings"), "Settings").rows]
    fields = [f"LETHE_{field.upper()}" for field in Settings.model_fields]
    assert documented == fields


@pytest.mark.parametrize("row", table(reference("settings"), "Settings").rows, ids=lambda row: str(row[0]))
def test_documented_defaults_are_the_defaults(row: tuple[str, ...]) -> None:
    """Given a setting's row, then its default is what the program uses when nothing is set."""
    field = Settings.model_fields[name(row[0]).removeprefix("LETHE_").lower()]
    default = field.get_default(call_default_factory=True, validated_data={})
    assert row[1] == ("unset" if default in (None, []) else f"`{default}`")


def _documented_events() -> dict[str, tuple[str, ...]]:
    found = {}
    for one in tables(reference("events")):
        if one.columns[0] == "topic":
            for row in one.rows:
                assert name(row[0]) not in found, f"{row[0]} is documented twice"
                found[name(row[0])] = row
    return found


def test_every_event_is_documented_and_every_documented_event_exists() -> None:
    """Given the page of events, then it names exactly the topics that the domain declares."""
    declared = {topic for topic, fact in TOPICS.items() if fact.__module__ in {m.__name__ for m in EVENT_MODULES}}
    assert set(_documented_events()) == declared


@pytest.mark.parametrize("topic", sorted(_documented_events()))
def test_every_field_of_an_event_is_documented(topic: str) -> None:
    """Given an event's row, then its plain fields, and its personal fields with their classes, are the code's."""
    _, plain, personal, meaning = _documented_events()[topic]
    fact = TOPICS[topic]
    assert set(named(plain)) == set(plain_fields(fact))
    documented = dict(re.findall(r"`(\w+)` \((\w+)\)", personal))
    assert documented == personal_fields(fact)
    assert len(named(personal)) == len(documented)
    assert meaning.endswith(".")


def test_every_retention_class_is_documented() -> None:
    """Given the table of retention classes, then it names exactly the classes of the code."""
    rows = table(reference("events"), "Retention classes").rows
    assert {name(row[0]) for row in rows} == RETENTION_CLASSES


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("Rules that refuse", {k: v for k, v in RULES.items() if k not in ALLOWING_RULES}),
        ("Rules that allow", {k: v for k, v in RULES.items() if k in ALLOWING_RULES}),
        ("Bases", BASES),
        ("Why a grant may have no effect", GRANT_REASONS),
    ],
)
def test_permission_rules_are_documented(heading: str, expected: dict[str, str]) -> None:
    """Given a table of the rules page, then it has the code's names in the code's order."""
    rows = table(reference("permission-rules"), heading).rows
    assert [name(row[0]) for row in rows] == list(expected)
    assert all(row[1] for row in rows)


def test_law_files_are_documented() -> None:
    """Given the table of law files, then it names exactly those that ship."""
    documented = {name(row[0]) for row in table(reference("permission-rules"), "The law").rows}
    folder = importlib.resources.files("domain.law")
    assert documented == {item.name for item in folder.iterdir() if item.name.endswith(".toml")}


def test_evidence_keys_are_documented() -> None:
    """Given the HTTP page, then it names every key of evidence."""
    text = reference("http")
    assert [key for key in EVIDENCE_KEYS if f"`{key}`" not in text] == []
