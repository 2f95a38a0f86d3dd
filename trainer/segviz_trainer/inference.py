"""From a prepared image to each organ's mask on the case's native grid."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.inferers.inferer import SlidingWindowInferer
from monai.transforms.spatial.array import SpatialResample
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from segviz_exchange.sharing import SHARED_HEAD
from segviz_trainer.cache import PreparedCase
from segviz_trainer.metrics.overlap import Mask
from segviz_trainer.model import SegNet
from segviz_trainer.train import Device


class Predictor:
    """A model in eval mode with sliding windows at the training patch (Gaussian weights)."""

    def __init__(self, model: SegNet, organs: tuple[str, ...], device: Device, overlap: float) -> None:
        self.model = model
        self.organs = organs
        self.device = device
        self.inferer = SlidingWindowInferer(
            roi_size=device.training.patch, sw_batch_size=1, overlap=overlap, mode="gaussian"
        )

    def masks(self, case: PreparedCase, organs: tuple[str, ...]) -> dict[str, Mask]:
        """Each asked organ's mask on the case's native grid: the argmax of the head's own softmax."""
        probabilities = self._probabilities(case, organs)
        native = to_native(probabilities, case)
        if SHARED_HEAD in self.model.heads:
            winner = native.argmax(axis=0)
            return {organ: winner == 1 + self.organs.index(organ) for organ in organs}
        return {organ: native[index] > 0.5 for index, organ in enumerate(organs)}

    def reestimate_norm(self, cases: Iterable[PreparedCase]) -> None:
        """Replace BatchNorm's running statistics by those of these images; labels are not looked at."""
        layers = [module for module in self.model.modules() if isinstance(module, _BatchNorm)]
        momenta = [layer.momentum for layer in layers]
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # a cumulative average over all windows
        self.model.train()
        for case in cases:
            self._run(case, lambda patch: torch.cat(list(self.model(patch).values()), dim=1).float())
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        self.model.eval()

    def _probabilities(self, case: PreparedCase, organs: tuple[str, ...]) -> Tensor:
        """On the prepared grid: (organs, X, Y, Z), or every channel of the multi-organ head."""
        self.model.eval()
        return self._run(case, lambda patch: self._channels(patch, organs))[0].cpu()

    def _run(self, case: PreparedCase, network: Callable[[Tensor], Tensor]) -> Tensor:
        image = self.device.place(case.image()[None])
        with torch.no_grad(), self.device.autocast():
            return torch.as_tensor(self.inferer(image, network))

    def _channels(self, patch: Tensor, organs: tuple[str, ...]) -> Tensor:
        features = self.model.features(patch)
        if SHARED_HEAD in self.model.heads:
            return torch.softmax(self.model.head(SHARED_HEAD, features).float(), dim=1)
        heads = [self.model.head(organ, features).float() for organ in organs]
        return torch.stack([torch.softmax(logits, dim=1)[:, 1] for logits in heads], dim=1)


def to_native(probabilities: Tensor, case: PreparedCase) -> NDArray[np.float32]:
    """(C, X, Y, Z) of the prepared grid, resampled linearly to the grid of the case's file."""
    resample = SpatialResample(mode="bilinear", padding_mode="border", dtype=np.float32)
    placed = MetaTensor(probabilities, affine=torch.as_tensor(case.affine))
    native = resample(placed, dst_affine=torch.as_tensor(case.native_affine), spatial_size=case.native_shape)
    values: NDArray[np.float32] = torch.as_tensor(native).numpy()
    return values
