"""How the values of one tensor become one, by algorithm.

A new way of merging is one file with one function and one line here. Which tensors are merged over which
sites is not decided here but in `segviz_exchange.sharing`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from segviz_aggregator.mean import mean
from segviz_exchange.codec import Array
from segviz_exchange.spec import AlgorithmName


class Merge(Protocol):
    def __call__(self, values: Iterable[Array], weights: Sequence[int]) -> Array:
        """Merge one chunk of one tensor; `values` come in alias order, one at a time, never none."""


MERGES: Mapping[AlgorithmName, Merge] = {
    AlgorithmName.LOCAL: mean,
    AlgorithmName.FED_AVG: mean,
    AlgorithmName.FED_BN: mean,
    AlgorithmName.FED_PROX: mean,
}
