"""Mathematics on arrays: kernels, metrics, bandwidths, sums over pairs. No file, no Dask."""
