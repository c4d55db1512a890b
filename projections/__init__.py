"""Read models built from facts: contact points, standing, suppressions, campaigns, the change feed.

Each can be thrown away and built again from the log, while the old one serves.
"""
