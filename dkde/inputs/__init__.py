"""Inputs as users pass them, made into one side of the work."""
