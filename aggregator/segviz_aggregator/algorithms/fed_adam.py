"""FedAdam (Reddi et al., 2021, Adaptive federated optimization, algorithm 2).

With Δ = merged − w:  m ← β1·m + (1 − β1)·Δ,  v ← β2·v + (1 − β2)·Δ²,  w ← w + rate·m / (√v + τ).
No bias correction; v starts at τ², m at 0, as in the paper.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from segviz_aggregator.algorithms.server_optimizer import Numbers, Stepped
from segviz_exchange.contract.spec import Algorithm


@dataclass(frozen=True)
class FedAdam:
    rate: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 0.001

    slots: ClassVar[tuple[str, ...]] = ("mean", "square")

    @classmethod
    def of(cls, algorithm: Algorithm) -> "FedAdam":
        given = {
            "rate": algorithm.server_learning_rate,
            "beta1": algorithm.beta1,
            "beta2": algorithm.beta2,
            "tau": algorithm.tau,
        }
        return cls(**{name: value for name, value in given.items() if value is not None})

    def initial(self, slot: str) -> float:
        return self.tau**2 if slot == "square" else 0.0

    def step(self, before: Numbers, merged: Numbers, state: Mapping[str, Numbers]) -> Stepped:
        delta = merged - before
        mean = self.beta1 * state["mean"] + (1 - self.beta1) * delta
        square = self.beta2 * state["square"] + (1 - self.beta2) * delta**2
        return before + self.rate * mean / (np.sqrt(square) + self.tau), {"mean": mean, "square": square}
