"""The loss of one organ's own head, from its logits: Dice, or Dice and cross-entropy as in nnU-Net."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from segviz_exchange.contract.choices import HeadLoss
from segviz_trainer.objectives.soft_dice import soft_dice

OfLogits = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""Logits (B, 2, X, Y, Z), one-hot truth of the same shape, and the known voxels (B, 1, X, Y, Z)."""


def dice(logits: Tensor, truth: Tensor, known: Tensor | None) -> Tensor:
    return soft_dice(torch.softmax(logits.float(), dim=1), truth, known)


def dice_cross_entropy(logits: Tensor, truth: Tensor, known: Tensor | None) -> Tensor:
    """The sum of both, weighted alike (Isensee et al., 2021); cross-entropy is a mean over known voxels."""
    surprise = -(truth * torch.log_softmax(logits.float(), dim=1)).sum(dim=1, keepdim=True)
    if known is None:
        return dice(logits, truth, known) + surprise.mean()
    return dice(logits, truth, known) + (surprise * known).sum() / known.sum().clamp_min(1)


HEAD_LOSSES: Mapping[HeadLoss, OfLogits] = {
    HeadLoss.DICE: dice,
    HeadLoss.DICE_CROSS_ENTROPY: dice_cross_entropy,
}
