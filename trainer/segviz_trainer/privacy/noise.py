"""Gaussian noise that only the holder of a secret can compute, and can compute again.

SHAKE-256 turns the secret and a position into as many bits as are needed (a generator such as numpy's could
be guessed from its output), Box and Muller turn those into normal numbers.
"""

import hashlib
import os
import secrets
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_SECRET_BYTES = 32
_WORD_BYTES = 8


def gaussian(secret: bytes, position: str, count: int) -> NDArray[np.float64]:
    """Standard normal numbers, the same for the same secret and position, unrelated for any other."""
    pairs = -(-count // 2)
    stream = hashlib.shake_256(secret + position.encode()).digest(2 * pairs * _WORD_BYTES)
    words = np.frombuffer(stream, "<u8").reshape(2, pairs)
    # 53 bits and a half: never 0, whose logarithm is none, and never 1.
    uniform = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    radius, angle = np.sqrt(-2 * np.log(uniform[0])), 2 * np.pi * uniform[1]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]


def noise_secret(path: Path) -> bytes:
    """The site's own, made once. It never leaves its disk, and no manifest's seed is in it."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(_SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    return path.read_bytes()
