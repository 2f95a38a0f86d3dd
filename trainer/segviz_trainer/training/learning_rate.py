"""The learning rate of an epoch: one cosine over all epochs of the federation."""

import math

MINIMUM_SHARE = 0.01
"""The cosine ends at this share of the first learning rate: an epoch at zero would only move statistics."""


def learning_rate(first: float, epoch: int, epochs: int) -> float:
    """Cosine annealing (Loshchilov and Hutter, 2017, eq. 5) from `first` to a minimum at the last.

    A function of the position alone, so that no scheduler state can be lost or stepped wrongly.
    """
    minimum = first * MINIMUM_SHARE
    if epochs <= 1:
        return first
    return minimum + (first - minimum) * (1 + math.cos(math.pi * epoch / (epochs - 1))) / 2
