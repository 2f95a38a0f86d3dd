"""Gaussian noise that nobody can compute: the operating system's randomness, and never the same twice."""

import os
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

_WORD_BYTES = 8


def gaussian(count: int, randomness: Callable[[int], bytes] = os.urandom) -> NDArray[np.float64]:
    """Standard normal numbers, independent of each other and of all that was drawn before.

    Each is the normal quantile of a number of its own, so no two share any randomness.

    Args:
        randomness: gives as many random bytes as it is asked for. A test puts known ones here.
    """
    words = np.frombuffer(randomness(count * _WORD_BYTES), "<u8")
    # 52 bits and a half, as a float64 holds them: neither 0 nor 1, whose quantiles are infinite.
    uniform = ((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    drawn: NDArray[np.float64] = ndtri(uniform)
    return drawn
