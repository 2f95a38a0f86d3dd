"""Which sites take part, and by whose consent."""
