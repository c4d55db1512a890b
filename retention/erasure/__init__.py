"""Erasures after their intent: keys destroyed, projections purged, the day's traces let go."""
