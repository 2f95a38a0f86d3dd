"""Deep supervision: the loss at every resolution that the network predicts at (Lee et al., 2015)."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from segviz_trainer.batches.sampling import Batch


def supervised(outputs: Sequence[Tensor], batch: Batch, loss: Callable[[Tensor, Batch], Tensor]) -> Tensor:
    """The mean of the losses, weighted 1, 1/2, 1/4, … from the finest on, as in nnU-Net.

    Args:
        outputs: logits (B, C, X, Y, Z), the finest first; each side divides the batch's.
    """
    if len(outputs) == 1:
        return loss(outputs[0], batch)
    weights = [0.5**level for level in range(len(outputs))]
    losses = [
        weight * loss(logits, coarser(batch, logits.shape))
        for weight, logits in zip(weights, outputs, strict=True)
    ]
    return torch.stack(losses).sum() / sum(weights)


def coarser(batch: Batch, shape: Sequence[int]) -> Batch:
    """Labels and known voxels at the middles that a strided convolution keeps: every second, fourth, …"""
    step = [fine // few for fine, few in zip(batch.label.shape[2:], shape[2:], strict=True)]
    place = (..., slice(None, None, step[0]), slice(None, None, step[1]), slice(None, None, step[2]))
    known = None if batch.known is None else batch.known[place]
    return replace(batch, label=batch.label[place], known=known)
