"""Calls with an output: what is kept of them, and how they resume."""
