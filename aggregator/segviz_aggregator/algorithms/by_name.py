"""How the values of one tensor become one, by algorithm.

A new way of merging is one file and one line here. Which tensors are merged over which sites is not decided
here but in `segviz_exchange.contract.sharing`; what a site adds to its own loss (FedProx), in the trainer.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from segviz_aggregator.algorithms.fed_adam import FedAdam
from segviz_aggregator.algorithms.fed_avg_m import FedAvgM
from segviz_aggregator.algorithms.mean import mean
from segviz_aggregator.algorithms.median import median
from segviz_aggregator.algorithms.server_optimizer import ServerOptimizer
from segviz_aggregator.algorithms.trimmed_mean import TrimmedMean
from segviz_exchange.contract.choices import AlgorithmName
from segviz_exchange.contract.codec import Array
from segviz_exchange.contract.spec import Algorithm


class Merge(Protocol):
    def __call__(self, values: Iterable[Array], weights: Sequence[int]) -> Array:
        """Merge one chunk of one tensor; `values` come in alias order, one at a time, never none."""


def _trimmed_mean(algorithm: Algorithm) -> Merge:
    assert algorithm.trim_fraction is not None, "the schema requires it with TrimmedMean"
    return TrimmedMean(algorithm.trim_fraction)


_MERGES: Mapping[AlgorithmName, Callable[[Algorithm], Merge]] = {
    AlgorithmName.LOCAL: lambda _: mean,
    AlgorithmName.FED_AVG: lambda _: mean,
    AlgorithmName.FED_BN: lambda _: mean,
    AlgorithmName.FED_PROX: lambda _: mean,
    AlgorithmName.FED_AVG_M: lambda _: mean,
    AlgorithmName.FED_ADAM: lambda _: mean,
    AlgorithmName.MEDIAN: lambda _: median,
    AlgorithmName.TRIMMED_MEAN: _trimmed_mean,
    # Of one site: the mean of one model is that model.
    AlgorithmName.CENTRAL: lambda _: mean,
    AlgorithmName.CENTRAL_MARGINAL: lambda _: mean,
}

_OPTIMIZERS: Mapping[AlgorithmName, Callable[[Algorithm], ServerOptimizer]] = {
    AlgorithmName.FED_AVG_M: FedAvgM.of,
    AlgorithmName.FED_ADAM: FedAdam.of,
}


def merge_of(algorithm: Algorithm) -> Merge:
    return _MERGES[algorithm.name](algorithm)


def optimizer_of(algorithm: Algorithm) -> ServerOptimizer | None:
    """What the merged model is a direction for; none where it is the result."""
    build = _OPTIMIZERS.get(algorithm.name)
    return None if build is None else build(algorithm)
