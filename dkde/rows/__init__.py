"""Rows: what a task is handed, and reads by itself."""
