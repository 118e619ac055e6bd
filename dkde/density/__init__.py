"""What users call: log-densities, scores, bandwidths, samples."""
