"""What is on disk, and how a task reads rows of it. Knows nothing of densities or Dask graphs."""
