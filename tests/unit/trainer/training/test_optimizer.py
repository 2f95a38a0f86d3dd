"""Each optimizer against its formula, written out in NumPy for one weight matrix."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from segviz_exchange.contract.choices import OptimizerName
from segviz_exchange.contract.training_spec import Optimizer
from segviz_trainer.training.optimizer import build_optimizer

RATE, STEPS = 0.05, 4


def gradient(weights: np.ndarray) -> np.ndarray:
    """Of a loss that is no parabola."""
    return weights**3 - 0.3


def slow_sgd(weights: np.ndarray, momentum: float, decay: float) -> np.ndarray:
    """Sutskever et al. (2013), as torch writes it: v <- mu v + g, w <- w - rate (g + mu v)."""
    velocity = np.zeros_like(weights)
    for step in range(STEPS):
        slope = gradient(weights) + decay * weights
        velocity = slope if step == 0 else momentum * velocity + slope
        weights = weights - RATE * (slope + momentum * velocity)
    return weights


def slow_adam(weights: np.ndarray, decay: float, *, decoupled: bool) -> np.ndarray:
    """Kingma and Ba (2015), algorithm 1; with weights decayed apart, Loshchilov and Hutter (2019)."""
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    for step in range(1, STEPS + 1):
        slope = gradient(weights) + (0 if decoupled else decay * weights)
        if decoupled:
            weights = weights * (1 - RATE * decay)
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        corrected = first / (1 - 0.9**step), second / (1 - 0.999**step)
        weights = weights - RATE * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
    return weights


CASES = {
    "Adam": (Optimizer(), lambda w: slow_adam(w, 0.0, decoupled=False)),
    "Adam with decay": (Optimizer(weight_decay=0.1), lambda w: slow_adam(w, 0.1, decoupled=False)),
    "AdamW": (Optimizer(OptimizerName.ADAM_W), lambda w: slow_adam(w, 0.01, decoupled=True)),
    "SGD": (Optimizer(OptimizerName.SGD), lambda w: slow_sgd(w, 0.99, 3e-5)),
    "SGD with its own": (
        Optimizer(OptimizerName.SGD, momentum=0.5, weight_decay=0.2),
        lambda w: slow_sgd(w, 0.5, 0.2),
    ),
    "plain SGD": (Optimizer(OptimizerName.SGD, momentum=0.0), lambda w: slow_sgd(w, 0.0, 3e-5)),
}


@pytest.mark.parametrize(("asked", "slow"), CASES.values(), ids=CASES)
def test_an_optimizer_is_its_formula(asked: Optimizer, slow: Callable[[np.ndarray], np.ndarray]) -> None:
    start = np.random.default_rng(0).normal(size=(3, 4))
    weights = torch.nn.Parameter(torch.tensor(start, dtype=torch.float32))
    optimizer = build_optimizer({"weights": weights}, asked)
    for group in optimizer.param_groups:
        group["lr"] = RATE
    for _ in range(STEPS):
        weights.grad = torch.from_numpy(gradient(weights.detach().numpy()))
        optimizer.step()
    np.testing.assert_allclose(weights.detach().numpy(), slow(start), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [OptimizerName.ADAM, OptimizerName.ADAM_W])
def test_adam_walks_all_parameters_in_one_pass(name: OptimizerName) -> None:
    weights = torch.nn.Parameter(torch.ones(3))
    optimizer = build_optimizer({"weights": weights}, Optimizer(name))
    assert [group["fused"] for group in optimizer.param_groups] == [True]
