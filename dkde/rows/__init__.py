"""Rows: descriptions of data that a task receives, and from which it reads by itself."""
