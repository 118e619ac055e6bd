"""What users pass, made into one side of the work."""
