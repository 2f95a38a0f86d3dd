"""Any algorithm, with the parameters that it cannot do without."""

from collections.abc import Mapping

from segviz_exchange.contract.choices import AlgorithmName, Weights
from segviz_exchange.contract.spec import Algorithm

REQUIRED: Mapping[AlgorithmName, Mapping[str, float]] = {
    AlgorithmName.FED_PROX: {"proximal_mu": 0.01},
    AlgorithmName.TRIMMED_MEAN: {"trim_fraction": 0.34},
}


def build_algorithm(
    name: AlgorithmName, weights: Weights = Weights.UNIFORM, **parameters: float
) -> Algorithm:
    return Algorithm(name, weights, **{**REQUIRED.get(name, {}), **parameters})
