"""Checks of every authorisation in a log, from outside the code that wrote it: none stands behind a "no" (I1)."""
