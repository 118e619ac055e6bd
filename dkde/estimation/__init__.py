"""What users call: scores, sweeps, cross-validation, samples and estimators."""
