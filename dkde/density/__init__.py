"""The functions that users call: log-densities, scores, bandwidths, samples."""
