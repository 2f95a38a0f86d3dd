"""FedAvgM (Hsu et al., 2019, Measuring the effects of non-identical data distribution, section 4.3).

v ← momentum·v + Δ and w ← w + rate·v, with Δ = merged − w. Momentum 0 and rate 1 are FedAvg.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from segviz_aggregator.algorithms.server_optimizer import Numbers, Stepped
from segviz_exchange.contract.spec import Algorithm


@dataclass(frozen=True)
class FedAvgM:
    rate: float = 1.0
    momentum: float = 0.9

    slots: ClassVar[tuple[str, ...]] = ("velocity",)

    @classmethod
    def of(cls, algorithm: Algorithm) -> "FedAvgM":
        rate, momentum = algorithm.server_learning_rate, algorithm.momentum
        return cls(cls.rate if rate is None else rate, cls.momentum if momentum is None else momentum)

    def initial(self, slot: str) -> float:
        return 0.0

    def step(self, before: Numbers, merged: Numbers, state: Mapping[str, Numbers]) -> Stepped:
        velocity = self.momentum * state["velocity"] + (merged - before)
        return before + self.rate * velocity, {"velocity": velocity}
