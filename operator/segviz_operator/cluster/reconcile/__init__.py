"""Turns: what is seen, decided and carried out for one federation at a time."""
