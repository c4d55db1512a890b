"""The `lethe` command line, over the same application as HTTP."""
