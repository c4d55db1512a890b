"""What can go wrong with the read models. Messages say what to do; none of them carries a personal value."""

from __future__ import annotations


class ProjectionError(Exception):
    """The root of this folder's errors."""


class UnknownProjection(ProjectionError):
    """No projection of this name can be rebuilt."""


class RebuildRunning(ProjectionError):
    """Another process rebuilds the same projection of this account."""


class RebuildRefused(ProjectionError):
    """The log cannot give back what the serving projection knows; the serving one stays as it is."""


class TooManyUnreadable(ProjectionError):
    """So many events of one batch failed that the fault is not theirs: nothing is parked, the batch waits."""


class CursorTooOld(ProjectionError):
    """The change feed no longer holds everything that came after a cursor."""
