"""How updates become the next global model, one file an algorithm."""
