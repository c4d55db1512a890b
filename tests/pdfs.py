"""What stands in a PDF that we drew, read without the library that drew it."""

from __future__ import annotations

import re
import zlib


def streams(content: bytes) -> list[bytes]:
    """What the compressed streams of a PDF hold."""
    found = []
    for raw in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, re.DOTALL):
        try:
            found.append(zlib.decompress(raw))
        except zlib.error:
            found.append(raw)
    return found


def words(content: bytes) -> str:
    """The text of every page, in the order it was drawn; one space between any two."""
    drawn = b"\n".join(streams(content)).decode("windows-1252", "replace")
    texts = re.findall(r"\(((?:\\.|[^\\()])*)\) Tj", drawn)
    return " ".join(" ".join(re.sub(r"\\([()\\])", r"\1", text) for text in texts).split())


def pages(content: bytes) -> int:
    """How many pages there are."""
    return content.count(b"/Type /Page\n")
