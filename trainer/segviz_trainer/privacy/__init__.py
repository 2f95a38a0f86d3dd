"""What leaves with noise on it, and what that has spent."""
