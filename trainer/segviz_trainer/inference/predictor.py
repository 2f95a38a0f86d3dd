"""From a prepared image to each organ's mask on the case's native grid."""

from collections.abc import Iterable
from typing import Protocol

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.spatial.array import SpatialResample
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from segviz_exchange.contract.sharing import SHARED_HEAD
from segviz_trainer.data.cache import PreparedCase
from segviz_trainer.data.grids import Grid
from segviz_trainer.inference.components import largest_component
from segviz_trainer.inference.options import InferenceOptions
from segviz_trainer.inference.windows import Report, SlidingWindows
from segviz_trainer.metrics.overlap import Mask
from segviz_trainer.network.device import Device
from segviz_trainer.network.segnet import SegNet


class Predictor:
    """A model in eval mode with sliding windows at the training patch (Gaussian weights)."""

    def __init__(
        self, model: SegNet, organs: tuple[str, ...], device: Device, options: InferenceOptions
    ) -> None:
        self.model = model
        self.organs = organs
        self.device = device
        self.options = options
        # On a GPU one window at a time leaves most of it idle; on a CPU a batch gains nothing.
        batch = 1 if device.place_at.type == "cpu" else 4
        self.windows = SlidingWindows(device.training.patch, options.overlap, batch)

    def masks(self, case: PreparedCase, organs: tuple[str, ...]) -> dict[str, Mask]:
        """Each asked organ's mask on the case's native grid."""
        return self.claimed(to_native(self.probabilities(case.image()[None], organs), case), organs)

    def claimed(self, probabilities: NDArray[np.float32], organs: tuple[str, ...]) -> dict[str, Mask]:
        """The voxels where each asked organ wins its head's own softmax; heads of their own may overlap.

        Args:
            probabilities: what `probabilities` gives for these organs, on any grid.
        """
        if self.shared_head:
            winner = probabilities.argmax(axis=0)
            masks = {organ: winner == self.channel(organ, organs) for organ in organs}
        else:
            masks = {organ: probabilities[self.channel(organ, organs)] > 0.5 for organ in organs}
        return {organ: self.cleaned(organ, mask) for organ, mask in masks.items()}

    def cleaned(self, organ: str, mask: Mask) -> Mask:
        """Without what lies apart from the organ, where that is asked for."""
        return largest_component(mask) if organ in self.options.largest else mask

    def channel(self, organ: str, organs: tuple[str, ...]) -> int:
        """Where `probabilities` of `organs` has this one."""
        return 1 + self.organs.index(organ) if self.shared_head else organs.index(organ)

    def reestimate_norm(self, cases: Iterable[PreparedCase]) -> None:
        """Replace BatchNorm's running statistics by those of these images; labels are not looked at."""
        layers = [module for module in self.model.modules() if isinstance(module, _BatchNorm)]
        momenta = [layer.momentum for layer in layers]
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # a cumulative average over all windows
        self.model.train()
        for case in cases:
            with torch.no_grad(), self.device.autocast():
                # Every window, as a training crop may lie in air too.
                self.windows.everywhere(
                    self.device.place(case.image()[None]),
                    lambda patch: torch.cat(list(self.model(patch).values()), dim=1),
                )
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        self.model.eval()

    def probabilities(
        self, image: Tensor, organs: tuple[str, ...], report: Report = lambda done, windows: None
    ) -> Tensor:
        """Of an image (1, 1, X, Y, Z): (organs, X, Y, Z), or every channel of the multi-organ head.

        Windows with nothing but air in them are background unseen.
        """
        self.model.eval()
        outside = [1.0] + [0.0] * len(self.organs) if self.shared_head else [0.0] * len(organs)
        with torch.inference_mode(), self.device.autocast():
            found = self.windows.body(
                self.device.place(image), lambda window: self._mirrored(window, organs), outside, report
            )
        return found[0].cpu()

    @property
    def shared_head(self) -> bool:
        return SHARED_HEAD in self.model.heads

    def _mirrored(self, patch: Tensor, organs: tuple[str, ...]) -> Tensor:
        """The mean over the patch and its mirror images, each turned back."""
        total = self._channels(patch, organs)
        others = self.options.flips[1:]
        for axes in others:
            along = [2 + axis for axis in axes]
            total = total + self._channels(patch.flip(along), organs).flip(along)
        return total / (1 + len(others)) if others else total

    def _channels(self, patch: Tensor, organs: tuple[str, ...]) -> Tensor:
        features = self.model.features(patch)
        if self.shared_head:
            return torch.softmax(self.model.head(SHARED_HEAD, features).float(), dim=1)
        heads = [self.model.head(organ, features).float() for organ in organs]
        return torch.stack([torch.softmax(logits, dim=1)[:, 1] for logits in heads], dim=1)


class Placed(Protocol):
    """A prepared image or case."""

    @property
    def grid(self) -> Grid: ...

    @property
    def native(self) -> Grid: ...


def to_native(probabilities: Tensor, image: Placed) -> NDArray[np.float32]:
    """(C, X, Y, Z) on the prepared grid, resampled linearly to the grid of the case's file."""
    resample = SpatialResample(mode="bilinear", padding_mode="border", dtype=np.float32)
    placed = MetaTensor(probabilities, affine=torch.as_tensor(image.grid.matrix))
    resampled = resample(
        placed, dst_affine=torch.as_tensor(image.native.matrix), spatial_size=image.native.shape
    )
    values: NDArray[np.float32] = torch.as_tensor(resampled).numpy()
    return values
