"""A run's report, and the way of its model to whoever wants it."""
