"""Made-up patients."""
