"""Jobs, built and read back."""
