"""The command line `lethe`: the same application as the HTTP API, for people and for scripts."""
