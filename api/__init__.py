"""Every way in: HTTP, console, portal and command line, and `bootstrap`, the one place that wires things."""
