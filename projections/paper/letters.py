"""What the built-in faces of a PDF can draw: the letters of western Europe, and nothing else.

No face is shipped with the program. So a letter with a mark that is missing there loses the mark, some letters are
spelt with others, and what is left becomes a question mark. Whoever draws says on the paper where the text is whole.
"""

from __future__ import annotations

import unicodedata
from typing import Final

ENCODING: Final = "windows-1252"
"""The widest set of letters that the built-in faces have: Latin-1 with the euro, dashes, quotes, Š, Ž and Œ."""

_SPELT: Final[dict[str, str]] = {
    **dict(zip("ŁłĐđĦħŦŧŊŋıƏəĸ", "LlDdHhTtNniEek", strict=True)),
    **dict.fromkeys(("\N{HYPHEN}", "\N{NON-BREAKING HYPHEN}", "\N{FIGURE DASH}", "\N{MINUS SIGN}"), "-"),
    **dict.fromkeys(("\N{LINE SEPARATOR}", "\N{PARAGRAPH SEPARATOR}"), "\n"),
    **dict.fromkeys(("\N{MODIFIER LETTER APOSTROPHE}", "\N{PRIME}"), "'"),
    "\t": " ",
    "\N{LATIN CAPITAL LETTER SHARP S}": "SS",
    "\N{HORIZONTAL BAR}": "\N{EM DASH}",
    "\N{RIGHTWARDS ARROW}": "->",
    "\N{LESS-THAN OR EQUAL TO}": "<=",
    "\N{GREATER-THAN OR EQUAL TO}": ">=",
}
"""Letters and signs that no decomposition leads to something the built-in faces have."""

_UNSEEN: Final = frozenset({"Cc", "Cf"})
"""Categories that print nothing: controls, and marks of direction, which could make a paper read as something else."""


def drawable(text: str) -> str:
    """The text with nothing in it that cannot be drawn; drawing what is drawable changes nothing."""
    return "".join(_drawn(character) for character in unicodedata.normalize("NFC", text))


def _drawn(character: str) -> str:
    if character in _SPELT:
        return _SPELT[character]
    if character == "\n" or (_has_face(character) and unicodedata.category(character) not in _UNSEEN):
        return character
    if unicodedata.category(character) in _UNSEEN or unicodedata.combining(character):
        return ""
    plain = (c for c in unicodedata.normalize("NFKD", character) if not unicodedata.combining(c))
    return "".join(c if _has_face(c) else _SPELT.get(c, "?") for c in plain)


def _has_face(character: str) -> bool:
    try:
        character.encode(ENCODING)
    except UnicodeEncodeError:
        return False
    return True
