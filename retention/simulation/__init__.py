"""Simulation: years under a policy pack in a minute."""
