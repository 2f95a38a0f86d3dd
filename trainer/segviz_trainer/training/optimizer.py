"""The optimizer: from gradients to steps, and its state between two processes."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from segviz_exchange.contract import training_spec
from segviz_exchange.contract.choices import OptimizerName

_MOMENTUM = 0.99
"""nnU-Net's (Isensee et al., 2021)."""
_WEIGHT_DECAY = {OptimizerName.ADAM: 0.0, OptimizerName.ADAM_W: 1e-2, OptimizerName.SGD: 3e-5}
"""Where the manifest gives none: torch's own, and nnU-Net's for SGD."""


def build_optimizer(parameters: Mapping[str, Tensor], asked: training_spec.Optimizer) -> Optimizer:
    """An optimizer over named parameters; its groups' learning rate is set at every epoch."""
    decay = _WEIGHT_DECAY[asked.name] if asked.weight_decay is None else asked.weight_decay
    if asked.name is OptimizerName.SGD:
        momentum = _MOMENTUM if asked.momentum is None else asked.momentum
        # Not fused: that cannot start one parameter's momentum beside another's that is restored.
        return torch.optim.SGD(
            parameters.values(), momentum=momentum, weight_decay=decay, nesterov=momentum > 0
        )
    kind = torch.optim.AdamW if asked.name is OptimizerName.ADAM_W else torch.optim.Adam
    return kind(parameters.values(), weight_decay=decay, fused=True)


def optimizer_state(optimizer: Optimizer, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`exp_avg/<parameter>` and so on: whatever this kind of optimizer holds of a parameter."""
    return {
        f"{key}/{name}": value.detach().clone()
        for name, parameter in parameters.items()
        for key, value in optimizer.state[parameter].items()
    }


def restore_optimizer(
    optimizer: Optimizer, parameters: Mapping[str, Tensor], saved: Mapping[str, Tensor]
) -> None:
    """Put saved moments back, in each parameter's own memory layout: fused Adam walks them together."""
    held: dict[str, dict[str, Tensor]] = {}
    for place, value in saved.items():
        key, _, name = place.partition("/")
        held.setdefault(name, {})[key] = value
    for name, parameter in parameters.items():
        # A copy: an optimizer counts in place, and `saved` may be started from again.
        state = {
            key: value.to(parameter.device, copy=True)
            if key == "step"
            else torch.empty_like(parameter).copy_(value)
            for key, value in held.get(name, {}).items()
        }
        if state:
            optimizer.state[parameter] = state
