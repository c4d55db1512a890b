"""Cells that a spreadsheet would run, made harmless in the CSV files that we write ("CSV injection").

A contact's name may well be ``=HYPERLINK(...)``, and so may the name of a processing activity. It is kept as given,
but a file that is made to be opened in a spreadsheet gets a leading apostrophe there, which turns it into text.
``unneutralised(neutralised(cell)) == cell`` for every cell (property-tested), because a cell that already begins with
apostrophes before a formula sign gets one more. Source: OWASP, "CSV Injection".
"""

from __future__ import annotations

import re

# Closed under a leading apostrophe, which is what makes the pair of functions a bijection.
_would_run = re.compile(r"['\s]*[=+\-@＝＋－＠]|'*[\t\r\n]").match


def neutralised(cell: str) -> str:
    """Return ``cell`` as text to any spreadsheet."""
    return "'" + cell if _would_run(cell) else cell


def unneutralised(cell: str) -> str:
    """Return the cell that :func:`neutralised` was given."""
    return cell[1:] if cell.startswith("'") and _would_run(cell, 1) else cell
