"""FedProx (Li et al., 2020, eq. 2): what the local loss gains."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def proximal_term(model: nn.Module, anchor: Mapping[str, Tensor], mu: float) -> Tensor:
    """(mu/2)·‖w − w_global‖² over the shared parameters."""
    named = dict(model.named_parameters())
    squares = [(named[name] - value).pow(2).sum() for name, value in anchor.items()]
    return mu / 2 * torch.stack(squares).sum()
