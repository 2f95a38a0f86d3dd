"""The element-wise median (Yin et al., 2018, Byzantine-robust distributed learning, definition 1).

Fewer than half of the sites cannot pull a number beyond what the others say. Sites count alike.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from segviz_exchange.contract.codec import Array


def median(values: Iterable[Array], weights: Sequence[int]) -> Array:
    """Holds one chunk of every site at once. Of an even number, the two middle ones are averaged."""
    stacked = np.stack(list(values))
    stacked.sort(axis=0)
    lower, upper = stacked[(len(stacked) - 1) // 2], stacked[len(stacked) // 2]
    middle: Array = (lower.astype(np.float64) + upper) / 2
    return middle.astype(stacked.dtype)
