"""The batches of bench/pipeline.py by nnU-Net's batchgeneratorsv2: the same crops, turns, scales and shifts.

As nnU-Net's loader does: a larger box out of a mapped file, resampled to the patch by torch's grid_sample.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from segviz_exchange.contract.training_spec import Training
from segviz_trainer.batches.affine_crop import plain_crop
from segviz_trainer.data.cache import PreparedCase

Transform = Callable[..., dict[str, torch.Tensor]]

MARGIN = (26, 26, 4)
"""What a turn by 12° and a scale of 1.1 may look at beside the patch, on each side."""
MOST_DEGREES = 12.0


def batch_makers(
    cases: Sequence[PreparedCase], training: Training, installed: Path
) -> Iterator[Callable[[], tuple[torch.Tensor, torch.Tensor]]]:
    """Of one epoch; `installed` is the folder that the package was installed to."""
    transform = augmentation(training.patch, installed)
    for first in range(0, len(cases), training.batch_size):
        chosen = cases[first : first + training.batch_size]
        yield partial(batch, chosen, training, transform)


def augmentation(patch: tuple[int, int, int], installed: Path) -> Transform:
    if str(installed) not in sys.path:
        sys.path.append(str(installed))
    from batchgeneratorsv2.transforms.intensity.brightness import (  # type: ignore[import-not-found]
        BrightnessAdditiveTransform,
        MultiplicativeBrightnessTransform,
    )
    from batchgeneratorsv2.transforms.spatial.spatial import (  # type: ignore[import-not-found]
        SpatialTransform,
    )
    from batchgeneratorsv2.transforms.utils.compose import (  # type: ignore[import-not-found]
        ComposeTransforms,
    )
    from batchgeneratorsv2.transforms.utils.random import RandomTransform  # type: ignore[import-not-found]

    most = np.deg2rad(MOST_DEGREES)

    def about_z(image: torch.Tensor, dim: int) -> float:
        return float(np.random.uniform(-most, most)) if dim == 2 else 0.0

    spatial = SpatialTransform(
        patch,
        0,
        random_crop=False,
        p_rotation=1,
        rotation=about_z,
        p_scaling=1,
        scaling=(0.9, 1.1),
        mode_seg="nearest",
    )
    # Half of the patches are turned and scaled, here as in ours; the rest is cropped.
    plain = SpatialTransform(patch, 0, random_crop=False, mode_seg="nearest")
    values = [
        RandomTransform(MultiplicativeBrightnessTransform((0.9, 1.1), synchronize_channels=True), 0.5),
        RandomTransform(BrightnessAdditiveTransform(0, 0.06), 0.5),
    ]
    turned, straight = ComposeTransforms([spatial, *values]), ComposeTransforms([plain, *values])
    return lambda **crop: (turned if np.random.random() < 0.5 else straight)(**crop)


def batch(
    cases: Sequence[PreparedCase], training: Training, transform: Transform
) -> tuple[torch.Tensor, torch.Tensor]:
    box = tuple(size + 2 * margin for size, margin in zip(training.patch, MARGIN, strict=True))
    chance = np.random.default_rng()
    images, labels = [], []
    for case in cases:
        volume, classes = np.asarray(case.mapped_image()[0]), np.asarray(case.mapped_label()[0])
        foreground = case.mapped_foreground()
        for _ in range(training.crops_per_volume):
            middle = [int(chance.integers(length)) for length in volume.shape]
            if chance.random() < training.foreground_share:
                flat = foreground[chance.integers(len(foreground))]
                middle = [int(each) for each in np.unravel_index(flat, volume.shape)]
            start = [centre - size // 2 for centre, size in zip(middle, box, strict=True)]
            image, label = np.empty(box, np.float32), np.empty(box, np.uint8)
            plain_crop(volume, start, image)
            plain_crop(classes, start, label)
            done = transform(
                image=torch.from_numpy(image[None]),
                segmentation=torch.from_numpy(label[None].astype(np.int16)),
            )
            images.append(done["image"])
            labels.append(done["segmentation"])
    return torch.stack(images), torch.stack(labels)
