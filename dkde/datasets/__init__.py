"""The package's own data sets: their layout, writing, order of rows, and index."""
