"""The learning rate of an epoch: one curve over all epochs of the federation."""

import math

from segviz_exchange.contract.choices import ScheduleName
from segviz_exchange.contract.training_spec import Schedule

MINIMUM_SHARE = 0.01
"""The cosine ends at this share of the first learning rate: an epoch at zero would only move statistics."""
POLY_EXPONENT = 0.9
"""nnU-Net's, and DeepLab's (Chen et al., 2017)."""
COSINE = Schedule()


def learning_rate(first: float, epoch: int, epochs: int, schedule: Schedule = COSINE) -> float:
    """The rate of epoch `epoch` (from 0) of `epochs`.

    A function of the position alone, so that no scheduler state can be lost or stepped wrongly.
    """
    rising = schedule.warmup_epochs
    if epoch < rising:
        return first * (epoch + 1) / (rising + 1)
    falling = _poly if schedule.name is ScheduleName.POLY else _cosine
    return falling(first, epoch - rising, epochs - rising)


def _cosine(first: float, epoch: int, epochs: int) -> float:
    """Cosine annealing (Loshchilov and Hutter, 2017, eq. 5) from `first` to a minimum at the last."""
    minimum = first * MINIMUM_SHARE
    if epochs <= 1:
        return first
    return minimum + (first - minimum) * (1 + math.cos(math.pi * epoch / (epochs - 1))) / 2


def _poly(first: float, epoch: int, epochs: int) -> float:
    """Above zero in the last epoch too, since none of them is epoch `epochs`."""
    return first * math.pow(1 - epoch / epochs, POLY_EXPONENT)
