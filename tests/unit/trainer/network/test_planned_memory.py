"""What a plan counts as a step's memory, beside what a step of the real network holds."""

import pytest
import torch
from torch import Tensor

from segviz_exchange.contract import choices, spec
from segviz_operator.planning.memory import activation_bytes, weight_bytes
from segviz_trainer.network.segnet import SegNet

PATCH = (32, 32, 32)


@pytest.mark.parametrize("norm", list(choices.Norm))
@pytest.mark.parametrize(
    ("channels", "heads"), [((16, 32, 64), 1), ((16, 32, 64), 4), ((8, 16, 32, 64), 1), ((32, 64), 2)]
)
def test_the_count_is_near_what_waits_for_the_backward_pass(
    channels: tuple[int, ...], heads: int, norm: choices.Norm
) -> None:
    """Neither so low that a site runs out of memory, nor so high that patches are cut for nothing."""
    model = spec.Model(channels, (2,) * (len(channels) - 1), 2, norm, 1)
    assert 0.7 <= activation_bytes(PATCH, channels, heads) / held_by(model, heads) <= 1.5


def test_the_count_is_as_near_where_one_axis_is_halved_less_often() -> None:
    strides = ((2, 2, 1), (2, 2, 2))
    model = spec.Model((16, 32, 64), (2, 2), 2, choices.Norm.BATCH, 1, axis_strides=strides)
    assert 0.7 <= activation_bytes(PATCH, model.channels, 2, strides) / held_by(model, 2) <= 1.5


def held_by(model: spec.Model, heads: int) -> int:
    """Bytes that wait for the backward pass of one patch."""
    network = SegNet(model, {f"organ-{number}": 2 for number in range(heads)}, seed=0)
    weights = {parameter.data_ptr() for parameter in network.parameters()}
    held: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = network(torch.zeros(1, 1, *PATCH))
    assert len(logits) == heads
    return sum(held.values())


def test_the_weights_are_counted_with_gradient_and_moments() -> None:
    network = SegNet(spec.Model((16, 32, 64, 128), (2, 2, 2), 2, choices.Norm.INSTANCE, 1), {"a": 2}, seed=0)
    real = sum(parameter.numel() for parameter in network.parameters()) * 4 * 4
    assert 0.7 <= weight_bytes((16, 32, 64, 128)) / real <= 1.5
