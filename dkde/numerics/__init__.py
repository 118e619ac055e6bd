"""Pair tiles: kernels, metrics, bandwidths and the hot loop. Knows nothing of storage or Dask."""
