"""The element-wise trimmed mean (Yin et al., 2018, Byzantine-robust distributed learning, definition 2).

Of n values of a number, the ⌊fraction·n⌋ lowest and as many highest are left out, and the rest is averaged.
Sites count alike.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from segviz_aggregator.algorithms.mean import mean
from segviz_exchange.contract.codec import Array


@dataclass(frozen=True)
class TrimmedMean:
    fraction: float
    """Below one half, so that something is always left."""

    def __call__(self, values: Iterable[Array], weights: Sequence[int]) -> Array:
        """Holds one chunk of every site at once."""
        stacked = np.stack(list(values))
        stacked.sort(axis=0)
        left_out = self.left_out(len(stacked))
        rest = stacked[left_out : len(stacked) - left_out]
        return mean(rest, [1] * len(rest))

    def left_out(self, sites: int) -> int:
        """At each end."""
        # As written: 0.29 times 100 is 28.999… in floating point.
        return int(Fraction(repr(self.fraction)) * sites)
