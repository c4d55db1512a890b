"""The HTTP API under `/v1`. It maps errors to problem types; nothing below knows of status codes."""
