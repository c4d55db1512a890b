"""The audit trail as a stream, for auditors and their tools: every event of a section of the log, as CSV or NDJSON."""
