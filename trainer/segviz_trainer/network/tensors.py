"""Between torch and the arrays that the exchange carries."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from segviz_exchange.contract import codec
from segviz_exchange.contract.codec import Array

State = dict[str, Tensor]


def to_arrays(tensors: Mapping[str, Tensor]) -> dict[str, Array]:
    # Row-major, whatever the memory format of the training: the same values are the same bytes.
    return {name: np.array(value.detach().cpu().numpy(), order="C") for name, value in tensors.items()}


def to_tensors(arrays: Mapping[str, Array]) -> State:
    return {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}


def save_whole(path: Path, arrays: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> None:
    """A file that is complete or absent, also after a power cut."""
    partial = path.with_suffix(".partial")
    codec.save(partial, arrays, metadata)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.rename(path)


def snapshot(model: nn.Module) -> State:
    """A copy of the state dict that later training does not change."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def load(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Replace some or all tensors of a model in place.

    Raises:
        KeyError: a name the model does not have.
    """
    own = model.state_dict()
    with torch.no_grad():
        for name, value in state.items():
            own[name].copy_(value)
