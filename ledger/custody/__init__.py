"""Custody: what is kept outside PostgreSQL, in enumerated copies: epoch keys, tombstones, heads of logs."""
