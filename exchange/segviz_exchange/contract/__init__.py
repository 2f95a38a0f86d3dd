"""What the roles say to each other: keys, records, tensors, and the pure functions that read them."""
