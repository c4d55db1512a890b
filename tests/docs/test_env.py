"""Names of settings outside the documentation: every LETHE_ name that a deployment file or a text uses exists."""

from __future__ import annotations

import re

import pytest

from api.settings import Settings
from tests.docs.pages import ROOT, pages

FILES = [*(page.relative_to(ROOT).as_posix() for page in pages()), "Makefile", ".ci/run"]
BESIDE_SETTINGS = {"LETHE_ACCOUNT", "LETHE_TEST_PG_BIN"}
"""The command line's stand-in for --account, and what the tests run on."""


@pytest.mark.parametrize("file", FILES)
def test_settings_named_in_the_text_exist(file: str) -> None:
    """Given a page or a script, then every LETHE_ name in it is a setting, or one of the two beside them."""
    known = {f"LETHE_{field.upper()}" for field in Settings.model_fields} | BESIDE_SETTINGS
    used = set(re.findall(r"\bLETHE_[A-Z][A-Z_]*", (ROOT / file).read_text()))
    assert used - known == set()
