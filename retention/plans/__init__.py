"""Retention plans: what is due, written down before anything is destroyed, and then done exactly so."""
