"""Sliding windows over an image: where they lie, and how their predictions become one.

The places, the padding and the Gaussian weights are those of MONAI's SlidingWindowInferer; windows with
nothing but air in them can be left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from monai.data.utils import compute_importance_map, dense_patch_slices
from torch import Tensor
from torch.nn import functional

Network = Callable[[Tensor], Tensor]
"""(B, 1, X, Y, Z) of a window to (B, C, X, Y, Z)."""
Report = Callable[[int, int], object]
"""Told windows done and windows in all."""


@dataclass(frozen=True)
class SlidingWindows:
    patch: tuple[int, int, int]
    overlap: float
    """Of neighbouring windows, as a share of the patch."""
    batch: int = 1

    def everywhere(self, image: Tensor, network: Network) -> Tensor:
        """Every window of the image, air included.

        Args:
            image: (1, 1, X, Y, Z).

        Returns:
            (1, C, X, Y, Z): the Gaussian mean of the windows' outputs.
        """
        total, weights = self._slide(image, network, skipped=None, report=lambda done, windows: None)
        return total / weights

    def body(
        self,
        image: Tensor,
        network: Network,
        outside: Sequence[float],
        report: Report = lambda done, windows: None,
    ) -> Tensor:
        """As `everywhere`, without the windows that hold air alone.

        Air is what has the image's lowest value: with an intensity window, all that lies below it.

        Args:
            outside: the C values of voxels that no window has looked at.
        """
        total, weights = self._slide(image, network, skipped=image.min(), report=report)
        background = torch.tensor(outside, device=image.device).view(1, -1, 1, 1, 1)
        return torch.where(weights > 0, total / weights.clamp_min(1e-30), background)

    def _slide(
        self, image: Tensor, network: Network, skipped: Tensor | None, report: Report
    ) -> tuple[Tensor, Tensor]:
        """The weighted sum of outputs and the sum of weights; windows of `skipped` alone add to neither."""
        shape = image.shape[2:]
        missing = [max(size - length, 0) for size, length in zip(self.patch, shape, strict=True)]
        before = [each // 2 for each in missing]
        if any(missing):
            pad = [side for b, m in zip(before[::-1], missing[::-1], strict=True) for side in (b, m - b)]
            image = functional.pad(image, pad)
        step = [max(int(size * (1 - self.overlap)), 1) for size in self.patch]
        places = dense_patch_slices(tuple(image.shape[2:]), self.patch, step, return_slice=True)
        if skipped is not None:
            places = [place for place in places if bool((image[0, 0][place] != skipped).any())]
        importance = compute_importance_map(self.patch, mode="gaussian", device=image.device).float()
        weights = torch.zeros(1, 1, *image.shape[2:], device=image.device)
        total: Tensor | None = None
        for start in range(0, len(places), self.batch):
            chosen = places[start : start + self.batch]
            windows = torch.stack([image[0][(slice(None), *place)] for place in chosen])
            output = network(windows).float()
            if total is None:
                total = torch.zeros(1, output.shape[1], *image.shape[2:], device=image.device)
            for each, place in zip(output, chosen, strict=True):
                total[0][(slice(None), *place)] += each * importance
                weights[0, 0][place] += importance
            report(min(start + self.batch, len(places)), len(places))
        assert total is not None  # an image of one value is refused when it is read
        x, y, z = (slice(b, b + length) for b, length in zip(before, shape, strict=True))
        return total[:, :, x, y, z], weights[:, :, x, y, z]
