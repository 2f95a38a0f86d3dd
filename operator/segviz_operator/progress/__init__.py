"""What the records say: how far a federation has come, and with what result."""
