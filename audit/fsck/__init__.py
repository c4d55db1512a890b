"""`lethe fsck`: a whole tenant's log, recomputed from its rows to its roots; it stops at the first lie (FAULTS 18)."""

from __future__ import annotations

from audit.fsck.check import Outside, Told, Whole, require_whole_log
from audit.fsck.checkpoints import Trust
from audit.fsck.kept import Brought
from audit.fsck.lies import Lie, LogLies

__all__ = ["Brought", "Lie", "LogLies", "Outside", "Told", "Trust", "Whole", "require_whole_log"]
