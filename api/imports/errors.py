"""What can go wrong with a whole file, as opposed to one row of it (a :class:`RejectedRow`)."""

from __future__ import annotations


class ImportFileError(Exception):
    """The file cannot be read at all, or not any further; the message says why and what to do.

    It may name columns of the header and line numbers, never the contents of a cell.
    """
