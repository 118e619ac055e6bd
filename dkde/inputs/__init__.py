"""Inputs as users pass them, converted to the sides of the work."""
