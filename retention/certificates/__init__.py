"""Certificates of destruction: commitments published, certificates issued in two stages, as JSON and on paper."""
