"""The reference pages say what the code says, in both directions (STYLE 17)."""

from __future__ import annotations

import importlib
import importlib.resources
import pkgutil
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

import domain.access
import domain.account
import domain.campaign
import domain.hold
import domain.keys
import domain.message
import domain.records
import domain.register
import domain.restore
import domain.subject
import domain.suppression
from api.bootstrap import Instance
from api.cli.checks import examine
from api.cli.checks_safety import HARD_CHECKS
from api.cli.checks_work import WORK_CHECKS
from api.cli.failures import MEANINGS, ExitCode
from api.cli.main import app as command_line
from api.http.app import OPERATIONS, create_app, openapi_document
from api.http.metrics import Metrics
from api.http.problems import PROBLEM_TYPES
from api.settings import Settings
from audit.records.findings import FINDINGS
from domain.category import CATEGORIES
from domain.facts import TOPICS, personal_fields, plain_fields
from domain.permission import ALLOWING_RULES, BASES, GRANT_REASONS, RULES
from domain.personal import RETENTION_CLASSES
from domain.register import DECLARED
from domain.register_shape import (
    FIELDS,
    LAWFUL_BASES,
    MEASURES,
    MECHANISMS,
    PARTY_ROLES,
    RECIPIENT_KINDS,
    ROLES,
)
from domain.subject_commands import EVIDENCE_KEYS
from projections.campaign_view import KINDS
from projections.rebuild import REBUILDABLE
from tests.docs.pages import README, code_blocks, name, named, pages, reference, table, tables

EVENT_MODULES = (
    domain.access,
    domain.account,
    domain.campaign,
    domain.hold,
    domain.keys,
    domain.message,
    domain.records,
    domain.register,
    domain.restore,
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


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for word, inner in command.commands.items():
            yield from _commands(inner, f"{path} {word}")
    else:
        yield path, command


COMMANDS = dict(_commands(typer.main.get_command(command_line), "lethe"))


def _documented_commands() -> dict[str, tuple[str, ...]]:
    found = {}
    for row in table(reference("command-line"), "Commands").rows:
        found[re.sub(r"( [A-Z_.]+)+$", "", name(row[0]))] = row
    return found


def test_every_command_is_documented_and_every_documented_command_exists() -> None:
    """Given the table of commands, then it names exactly the commands of the program."""
    assert set(_documented_commands()) == set(COMMANDS)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_arguments_and_options_of_a_command_are_documented(command: str) -> None:
    """Given a command's row, then its arguments and options are those that the program takes."""
    typed, _, options = _documented_commands()[command]
    parameters = COMMANDS[command].params
    arguments = [p.metavar or p.name.upper() for p in parameters if p.param_type_name == "argument"]
    assert name(typed).removeprefix(command).split() == arguments
    taken = {o for p in parameters if p.param_type_name == "option" for o in (*p.opts, *p.secondary_opts)}
    assert set(named(options)) == taken


def test_shared_options_are_documented() -> None:
    """Given the table of shared options, then each is an option of more than one command, or of what destroys."""
    for row in table(reference("command-line"), "Options that many commands share").rows:
        option = name(row[0])
        takers = [c for c, row in _documented_commands().items() if option in named(row[2])]
        assert len(takers) > 1 or takers == ["lethe erase"], option


def test_exit_codes_are_documented() -> None:
    """Given the table of exit codes, then it has the program's codes, names and meanings, in order."""
    rows = table(reference("command-line"), "Exit codes").rows
    expected = [(str(int(code)), f"`{code.name}`", MEANINGS[code]) for code in ExitCode]
    assert [tuple(row) for row in rows] == expected


def test_every_operation_is_documented_and_every_documented_operation_exists() -> None:
    """Given the table of operations, then paths, ids, scopes and marks are those of the program."""
    documented = {}
    for row in table(reference("http"), "Operations").rows:
        marks = set() if row[4] == "-" else {mark.strip() for mark in row[4].split(",")}
        documented[name(row[0])] = (name(row[1]), set(named(row[2])), marks)
    expected = {}
    for operation in OPERATIONS:
        possible = {"key": operation.keyed, "NDJSON": operation.ndjson, "stream": operation.streamed}
        taken = {mark for mark, has in possible.items() if has}
        path = f"{operation.method} {operation.path}"
        expected[path] = (operation.operation_id, set(operation.scopes), taken)
    assert documented == expected


def test_every_path_is_documented(instance: Instance) -> None:
    """Given the running application, then each of its routes stands on the HTTP page, and no other."""
    app = create_app(instance)
    described = {f"{method.upper()} {path}" for path, item in openapi_document(app)["paths"].items() for method in item}
    page = reference("http")
    assert {name(row[0]) for row in table(page, "Operations").rows} == described
    undescribed = {getattr(route, "path", "") for route in app.routes} - {op.split()[1] for op in described}
    documented = [row for heading in OUTSIDE_OF_THE_DOCUMENT for row in table(page, heading).rows]
    assert {name(row[0]) for row in documented} == undescribed


def test_problem_types_are_documented() -> None:
    """Given the table of problem types, then it has the program's types and statuses."""
    rows = table(reference("http"), "Problem types").rows
    documented = [(name(row[0]), int(row[1])) for row in rows]
    assert documented == [(kind.name, kind.status) for kind in PROBLEM_TYPES.values()]


def test_curl_paths_exist() -> None:
    """Given every curl in the documentation, then its method and path are an operation's."""
    known = {(o.method, re.sub(r"\{\w+\}", "*", o.path)) for o in OPERATIONS}
    used = set()
    for page in pages():
        for block in code_blocks(page.read_text()):
            for line in re.findall(r"\bcurl .*", block):
                path = re.search(r"(/v1/[\w/$-]*(?:\.\w+)?)", line)
                assert path is not None, line
                method = "POST" if re.search(r"--(?:json|data\S*) ", line) else "GET"
                used.add((method, re.sub(r"\$\w+", "*", path[1])))
    assert used - known == set()
    assert len(used) > 5


def test_metrics_are_documented() -> None:
    """Given a process that has answered a request, then the page names exactly what it reports, with its labels."""
    metrics = Metrics()
    metrics.begin()
    metrics.end("GET", "/healthz", 200, 0.001)
    text = metrics.text().decode()
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    kinds = {metric: kind for metric, kind in kinds.items() if not metric.endswith("_created")}
    documented = {}
    for row in table(reference("metrics"), "Metrics").rows:
        documented[name(row[0])] = row[1]
        sample = re.search(rf"^{name(row[0])}(?:_bucket)?(?:{{(.*)}})? ", text, re.MULTILINE)
        assert sample is not None, row[0]
        labels = set(re.findall(r"(\w+)=", sample[1] or "")) - {"le"}
        assert labels == set(named(row[2])), row[0]
    assert documented == kinds


def test_findings_of_processing_records_are_documented() -> None:
    """Given the page of records of processing, then it names each finding with its severity, and each code."""
    page = reference("processing-records")
    assert {name(row[0]): row[1] for row in table(page, "Findings").rows} == {
        code: severity for code, (severity, _, _) in FINDINGS.items()
    }
    for kind, fact_class in DECLARED.items():
        (row,) = (row for row in table(page, "The registers").rows if name(row[0]) == kind)
        assert {*named(row[1]), *named(row[2])} == set(FIELDS[kind])
        assert set(named(row[2])) == set(personal_fields(fact_class))
    codes = {*PARTY_ROLES, *ROLES, *MECHANISMS, *RECIPIENT_KINDS, *LAWFUL_BASES, *MEASURES, *CATEGORIES}
    assert [code for code in sorted(codes) if f"`{code}`" not in page] == []


def test_projections_are_documented() -> None:
    """Given the page of projections, then it names what can be rebuilt and every kind that is counted."""
    page = reference("projections")
    names = [name(row[0]) for row in table(page, "Asynchronous").rows]
    assert {"standing", "holds", *names} == set(REBUILDABLE)
    counted = next(found for found in tables(page) if found.columns[0] == "kind")
    assert {kind for row in counted.rows for kind in named(row[0])} == set(KINDS)


def test_tables_are_documented(instance: Instance) -> None:
    """Given the databases, then the page of projections names each of their tables."""
    text = reference("projections")
    for pool, schema in ((instance.services.writer, "lethe"), (instance.vault_pool, "lethe_vault")):
        with pool.connection() as connection:
            rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (schema,)).fetchall()
        assert [table for (table,) in rows if f"`{table}`" not in text and table != "migration"] == []


OUTSIDE_OF_THE_DOCUMENT = ("For whoever runs the server", "The transparency log")
"""Headings on the HTTP page of what is no operation of the API."""

UNITS = {"hours": 3600, "days": 86_400}


def _limits() -> dict[str, str]:
    return {name(row[0]): row[1] for found in tables(reference("limits")) for row in found.rows}


@pytest.mark.parametrize("constant", sorted(_limits()))
def test_documented_limits_are_the_limits(constant: str) -> None:
    """Given a limit's row, then the constant is there, and has the value that the page gives."""
    module, _, attribute = constant.rpartition(".")
    value = getattr(importlib.import_module(module), attribute)
    number, unit = _limits()[constant].split(maxsplit=1)
    documented = float(number.replace(",", ""))
    if isinstance(value, timedelta):
        assert value.total_seconds() == documented * UNITS[unit]
    else:
        assert float(value) == documented


def test_limits_that_callers_meet_are_documented() -> None:
    """Given the rooms that take something from outside, then each of their limits is on the page."""
    found = set()
    for package in ("api.http", "api.imports"):
        for module in _modules(importlib.import_module(package)):
            text = Path(str(module.__file__)).read_text()
            own = re.findall(r"^([A-Z][A-Z_]*_MAX)\b.* = ", text, re.MULTILINE)
            found |= {f"{module.__name__}.{constant}" for constant in own}
    assert found - set(_limits()) == set()


def _modules(package: ModuleType) -> Iterator[ModuleType]:
    for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        yield importlib.import_module(info.name)


def test_make_targets_exist() -> None:
    """Given every `make` in the documentation, then the Makefile has the target."""
    makefile = (README.parent / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    used = {
        target
        for page in pages()
        for target in re.findall(r"\bmake ([a-z]+)\b(?=[`\s]*(?:$|`|ARGS))", page.read_text())
    }
    assert {"demo", "test"} <= used
    assert used - targets == set()


def test_checks_of_the_doctor_are_documented(instance: Instance) -> None:
    """Given a running installation, then the page on the doctor names every check it makes, and no other."""
    text = (README.parent / "docs" / "how-to" / "read-doctor.md").read_text()
    documented = {name(row[0]) for found in tables(text) for row in found.rows}
    made = {finding.check for finding in examine(instance.settings, (*HARD_CHECKS, *WORK_CHECKS))}
    families = {c if ":" not in c or c in documented else f"{c.partition(':')[0]}: …" for c in made}
    assert families - documented == set()
    assert documented - families <= {"clock: log"}, "It is made only after a clock has jumped back."


def test_evidence_keys_are_documented() -> None:
    """Given the HTTP page, then it names every key of evidence."""
    text = reference("http")
    assert [key for key in EVIDENCE_KEYS if f"`{key}`" not in text] == []
