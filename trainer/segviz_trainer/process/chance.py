"""Random numbers that depend on a key and on nothing else."""

import hashlib

import numpy as np


def build_generator(*key: str | int) -> np.random.Generator:
    """The same numbers for the same key in every process; unrelated ones for any other key."""
    # repr keeps ("1", 2) and (1, "2") apart; hash() would differ between processes.
    digest = hashlib.sha256(repr(key).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
