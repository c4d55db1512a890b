"""The offline verifier: what an auditor runs alone, with no database, no settings and nothing else of Lethe.

Nothing here imports any other package of ours, nor a database driver: a copy of the folder `audit` is enough. It needs
the standard library, PyNaCl (Ed25519, AES-256-GCM) and, for RFC 3161 timestamps only, rfc3161-client. Everything here
raises a `VerificationRefused` at the first thing that is not as it is said to be, and never returns a bool.
"""
