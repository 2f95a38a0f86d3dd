"""The weighted mean (FedAvg: McMahan et al., 2017), in float64.

Sums round, so the bits are the same because the order is: always by alias. For equal float32 values and
integer weights that add up to less than 2**29, every sum is exact, and equal models come back bit for bit.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from segviz_exchange.contract.codec import Array


def mean(values: Iterable[Array], weights: Sequence[int]) -> Array:
    """Read `values` once, holding one at a time; the result has their dtype."""
    pairs = zip(values, weights, strict=True)
    first, weight = next(pairs)
    # From the first term, not from zero: 0.0 + -0.0 loses the sign.
    total: NDArray[np.float64] = first.astype(np.float64)
    total *= weight
    term = np.empty_like(total)
    for value, weight in pairs:
        term[...] = value
        term *= weight
        total += term
    total /= sum(weights)
    return total.astype(first.dtype)
