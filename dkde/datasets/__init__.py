"""The package's own data sets: their layout, how they are written, sorted and indexed."""
