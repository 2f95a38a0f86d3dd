"""A whole federation in one process, under a virtual clock and one seed, over a store that misbehaves."""
