"""Runs: the stored blocks and records of calls with an output, and how such calls resume."""
