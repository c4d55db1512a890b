"""Restored ledgers: destroyed again what was destroyed since, matched, and opened."""
