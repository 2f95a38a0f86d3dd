"""From cases to scores."""
