"""Faults, for real: killed processes, dead collectors, bad clocks, refused threads."""
