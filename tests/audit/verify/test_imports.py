"""What the verifier needs: the standard library and three packages, so that a stranger can run it (issue 4)."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit.verify.errors import VerificationRefused

VERIFY = Path(__file__).parents[3] / "audit" / "verify"
MODULES = sorted(VERIFY.glob("*.py"))
OUTSIDE = {"nacl", "cryptography", "rfc3161_client"}
"""`cryptography` comes with rfc3161-client; both are needed for timestamps only."""


def imported(source: str) -> Iterator[str]:
    """The modules that a source imports, wherever it does."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def strangers(source: str) -> set[str]:
    """What a source imports beyond the standard library, this folder and the three packages."""
    known = sys.stdlib_module_names | OUTSIDE
    return {
        name
        for name in imported(source)
        if name.partition(".")[0] not in known and name != "audit.verify" and not name.startswith("audit.verify.")
    }


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_every_module_imports_only_what_a_stranger_has(path: Path) -> None:
    """Given a module of the verifier, when its imports are read, then none of them is anything else of ours."""
    assert strangers(path.read_text()) == set()


@pytest.mark.parametrize(
    "line", ["import psycopg", "from audit.log import store", "from . import tiles", "import audit"]
)
def test_another_import_would_be_found(line: str) -> None:
    """The control: given an import that an auditor has not, when it is looked for, even in a function, it is found."""
    assert strangers(f"def late():\n    {line}\n")


def test_cryptography_is_used_in_three_modules_only() -> None:
    """Given all modules, when those are counted that call third-party crypto, then there is one for each thing."""
    users = {
        path.stem: {name.partition(".")[0] for name in imported(path.read_text())} & OUTSIDE
        for path in MODULES
        if "nacl" in path.read_text() or "rfc3161" in path.read_text()
    }
    assert {name: found for name, found in users.items() if found} == {
        "note": {"nacl"},
        "envelope": {"nacl"},
        "timestamp": {"cryptography", "rfc3161_client"},
    }


def test_every_refusal_can_be_caught_as_one() -> None:
    """Given the errors of the folder, when they are listed, then all of them are refusals of verification."""
    names = [node.name for node in ast.parse((VERIFY / "errors.py").read_text()).body if isinstance(node, ast.ClassDef)]
    errors = __import__("audit.verify.errors", fromlist=names)
    assert len(names) > 8
    assert all(issubclass(getattr(errors, name), VerificationRefused) for name in names)
