"""Backups: written, restored, and the gate that keeps a restored ledger shut."""
