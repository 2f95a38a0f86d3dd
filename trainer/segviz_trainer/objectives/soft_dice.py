"""The Dice coefficient of probabilities (Milletari et al., 2016), as MONAI defines and smooths it."""

from torch import Tensor

SMOOTH = 1e-5


def dice_coefficient(prediction: Tensor, truth: Tensor, known: Tensor | None = None) -> Tensor:
    """(2·Σpy + ε) / (Σp + Σy + ε), over the voxels that are known.

    Args:
        prediction: (B, C, X, Y, Z); truth the same, or with one channel for all.
        known: (B, 1, X, Y, Z), 1 where a voxel counts; everywhere, if left out.

    Returns:
        (B, C).
    """
    if known is not None:
        prediction, truth = prediction * known, truth * known
    voxels = (2, 3, 4)
    both = (prediction * truth).sum(voxels)
    return (2 * both + SMOOTH) / (prediction.sum(voxels) + truth.sum(voxels) + SMOOTH)


def soft_dice(prediction: Tensor, truth: Tensor, known: Tensor | None = None) -> Tensor:
    """1 − the coefficient, averaged over channels and rows: a scalar."""
    return (1 - dice_coefficient(prediction, truth, known)).mean()
