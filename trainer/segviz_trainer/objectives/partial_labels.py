"""Probabilities and labels of a case whose data set annotates some of the organs."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


def merge_unannotated(
    probabilities: Tensor, label: Tensor, channels: Mapping[int, int]
) -> tuple[Tensor, Tensor]:
    """Add the probability of unannotated organs to background, on prediction and truth alike.

    Args:
        probabilities: (1 + organs, X, Y, Z), summing to one over the first axis.
        label: (X, Y, Z), 0 for background.
        channels: which channel each annotated label value belongs to.

    Returns:
        Merged probabilities and one-hot truth, both (1 + len(channels), X, Y, Z).
    """
    foreground = list(channels.values())
    rest = [channel for channel in range(len(probabilities)) if channel not in foreground]
    background = probabilities[rest].sum(dim=0, keepdim=True)
    truth = torch.stack([label == value for value in channels]).to(probabilities.dtype)
    empty = 1 - truth.sum(dim=0, keepdim=True)
    return torch.cat([background, probabilities[foreground]]), torch.cat([empty, truth])


@dataclass(frozen=True)
class Channels:
    """Which channel of the multi-organ head each label value of a site belongs to."""

    site_organs: tuple[str, ...]
    organs: tuple[str, ...]

    def annotated(self, indices: frozenset[int]) -> dict[int, int]:
        """Channel by label value, of the organs that a case annotates (F)."""
        return {1 + index: 1 + self.organs.index(self.site_organs[index]) for index in sorted(indices)}

    def unannotated(self, indices: frozenset[int]) -> list[int]:
        """Channels of all other organs (U)."""
        taken = set(self.annotated(indices).values())
        return [channel for channel in range(1, 1 + len(self.organs)) if channel not in taken]
