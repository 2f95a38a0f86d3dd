"""The random part of the pipeline: shuffled cases, crops around organs, augmentation.

Every random number is drawn from a generator keyed by (seed, site, round, epoch, attempt) and the case,
never from a shared stream: a run that starts again at step n sees exactly the batches it would have seen.

The definitions of the default are those of MONAI's RandCropByPosNegLabel, RandAffine, RandScaleIntensity
and RandShiftIntensity. They are written out because MONAI's chain costs 20 ms for a 48x64x48 crop, more than
half of a training step; one resampling that crops, pads and turns at once costs a tenth of it. What a
manifest names one by one is in `augment.py`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from segviz_exchange.contract.choices import Augmentation
from segviz_exchange.contract.training_spec import Training
from segviz_trainer.batches.affine_crop import affine_crop, plain_crop
from segviz_trainer.batches.augment import draw_affine, draw_flips, vary
from segviz_trainer.batches.device_crop import HostCrop, beside_its_steps, host_crop
from segviz_trainer.batches.turned_crop import turned_crop
from segviz_trainer.data.cache import PreparedCase
from segviz_trainer.data.labels import IGNORED
from segviz_trainer.process.chance import build_generator

_AFFINE_PROBABILITY = 0.5
_MAX_ROTATION = np.pi / 15
_MAX_SCALING = 0.1
_INTENSITY_PROBABILITY = 0.5
_MAX_INTENSITY_FACTOR = 0.1
_MAX_INTENSITY_SHIFT = 0.1
_BACKGROUND_DRAWS = 64


@dataclass(frozen=True)
class Batch:
    """B = volumes × crops_per_volume patches."""

    image: torch.Tensor
    """(B, 1, X, Y, Z) float32."""
    label: torch.Tensor
    """(B, 1, X, Y, Z) uint8: 0 background (and what is ignored), 1 + i the i-th organ."""
    annotated: tuple[frozenset[int], ...]
    """Of each patch, the indices (from 0) of the organs that its data set annotates."""
    known: torch.Tensor | None = None
    """(B, 1, X, Y, Z) float32: 0 where a voxel is to be ignored, else 1; none where all count."""

    def to(self, place: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        known = None if self.known is None else place(self.known)
        return Batch(place(self.image), place(self.label), self.annotated, known)


def steps_per_epoch(n_cases: int, training: Training) -> int:
    """Batches in an epoch; the last one may be smaller, so that no case is left out."""
    return -(-n_cases // training.batch_size)


def epoch_batches(
    cases: Sequence[PreparedCase],
    training: Training,
    seed: int,
    site: str,
    round: int,
    epoch: int,
    attempt: int = 1,
    first_step: int = 0,
) -> Iterator[Batch]:
    """The batches of one epoch from step `first_step` (from 0) on."""
    makers = batch_makers(cases, training, seed, site, round, epoch, attempt, first_step)
    return (make() for make in makers)


def batch_makers(
    cases: Sequence[PreparedCase],
    training: Training,
    seed: int,
    site: str,
    round: int,
    epoch: int,
    attempt: int = 1,
    first_step: int = 0,
    resampled_on: torch.device | None = None,
) -> Iterator[Callable[[], Batch]]:
    """What makes each of these batches; in any order and on any thread they come out the same.

    Args:
        resampled_on: the device that resamples the crops, and has the batch then. None is the processor, and
            so are transforms that the manifest names one by one.
    """
    make: Callable[[Sequence[PreparedCase], Training, tuple[int | str, ...]], Batch] = _batch
    if resampled_on is not None and training.transforms is None:
        make = partial(_batch_on, resampled_on)
    position = (seed, site, round, epoch, attempt)
    ordered = sorted(cases, key=lambda case: (case.data_set, case.id))
    order = build_generator(*position, "order").permutation(len(ordered))
    for step in range(first_step, steps_per_epoch(len(cases), training)):
        chosen = order[step * training.batch_size : (step + 1) * training.batch_size]
        yield partial(make, [ordered[index] for index in chosen], training, position)


def _batch(cases: Sequence[PreparedCase], training: Training, position: tuple[int | str, ...]) -> Batch:
    crops = training.crops_per_volume
    shape = (len(cases) * crops, 1, *training.patch)
    image, label = np.empty(shape, np.float32), np.empty(shape, np.uint8)
    for index, case in enumerate(cases):
        chance = build_generator(*position, "case", case.data_set, case.id)
        rows = slice(index * crops, (index + 1) * crops)
        _fill(image[rows, 0], label[rows, 0], case, training, chance)
    annotated = tuple(case.annotated for case in cases for _ in range(crops))
    known = None
    if label.max() == IGNORED:  # no class is higher, and most sites ignore nothing
        ignored = label == IGNORED
        known = torch.from_numpy((~ignored).astype(np.float32))
        label[ignored] = 0
    return Batch(torch.from_numpy(image), torch.from_numpy(label), annotated, known)


def _batch_on(
    device: torch.device,
    cases: Sequence[PreparedCase],
    training: Training,
    position: tuple[int | str, ...],
) -> Batch:
    """The same crops; what `device` computes may differ in the last bit."""
    pinned = device.type == "cuda"
    crops: list[HostCrop] = []
    for case in cases:
        chance = build_generator(*position, "case", case.data_set, case.id)
        crops.extend(_host_crops(case, training, chance, pinned=pinned))
    annotated = tuple(case.annotated for case in cases for _ in range(training.crops_per_volume))
    # Here, as a question to the device would wait for it.
    ignoring = any(crop.label.numpy().max() == IGNORED for crop in crops)
    with beside_its_steps(device) as ready:
        image = torch.empty((len(crops), 1, *training.patch), dtype=torch.float32, device=device)
        label = torch.empty(image.shape, dtype=torch.uint8, device=device)
        for row, crop in enumerate(crops):
            crop.resample(image[row, 0], label[row, 0])
        ignored = label == IGNORED if ignoring else None
        known = None if ignored is None else (~ignored).float()
        if ignored is not None:
            label.masked_fill_(ignored, 0)
        return Batch(image, label, annotated, known).to(ready)


def _host_crops(
    case: PreparedCase, training: Training, chance: np.random.Generator, *, pinned: bool
) -> Iterator[HostCrop]:
    """As `_fill`."""
    volume, classes = np.asarray(case.mapped_image()[0]), np.asarray(case.mapped_label()[0])
    foreground = case.mapped_foreground()
    for _ in range(training.crops_per_volume):
        start = _crop_start(classes, foreground, training, chance)
        affine = _draw_affine(training, case.grid.spacing, chance)
        varied = training.augmentation is Augmentation.DEFAULT
        intensity = _draw_intensity(chance) if varied else (1.0, 0.0)
        yield host_crop(volume, classes, start, affine, training.patch, intensity, pinned=pinned)


def _fill(
    image: NDArray[np.float32],
    label: NDArray[np.uint8],
    case: PreparedCase,
    training: Training,
    chance: np.random.Generator,
) -> None:
    """Draw one crop into each row of `image` and `label`, both (crops, X, Y, Z)."""
    # Plain arrays of the same memory: each slice of a memmap costs as much as a small copy.
    volume, classes = np.asarray(case.mapped_image()[0]), np.asarray(case.mapped_label()[0])
    foreground = case.mapped_foreground()
    for row in range(len(image)):
        start = _crop_start(classes, foreground, training, chance)
        affine = _draw_affine(training, case.grid.spacing, chance)
        flips = draw_flips(training.transforms, chance) if training.transforms else ()
        if affine is None:
            plain_crop(volume, start, np.flip(image[row], flips))
            plain_crop(classes, start, np.flip(label[row], flips))
        else:
            affine[:, flips] *= -1  # about the crop's middle: mirrored on the way, for nothing
            cut = turned_crop if affine[2, :2].any() or affine[:2, 2].any() else affine_crop
            cut(volume, classes, start, affine, image[row], label[row])
        if training.transforms is not None:
            vary(image[row], training.transforms, chance)
        elif training.augmentation is Augmentation.DEFAULT:
            _vary_intensity(image[row], chance)


def _crop_start(
    classes: NDArray[np.uint8],
    foreground: NDArray[np.int32],
    training: Training,
    chance: np.random.Generator,
) -> tuple[int, ...]:
    """First voxel of a crop around an organ voxel or a background voxel, as often as they are asked for.

    Kept inside the volume, as MONAI does; where the volume is the smaller, centred on it (so negative).
    """
    if len(foreground) and chance.random() < training.foreground_share:
        flat = int(foreground[chance.integers(len(foreground))])
        centre = [int(index) for index in np.unravel_index(flat, classes.shape)]
    else:
        # Rejection in place of a list of all background voxels, which is most of the volume.
        for _ in range(_BACKGROUND_DRAWS):
            centre = [int(chance.integers(length)) for length in classes.shape]
            if classes[tuple(centre)] == 0:
                break
    return tuple(
        min(max(middle - size // 2, 0), length - size) if length >= size else -((size - length) // 2)
        for middle, size, length in zip(centre, training.patch, classes.shape, strict=True)
    )


def _draw_affine(
    training: Training, spacing: tuple[float, float, float], chance: np.random.Generator
) -> NDArray[np.float64] | None:
    if training.transforms is not None:
        return draw_affine(training.transforms, spacing, training.patch, chance)
    if training.augmentation is Augmentation.NONE or chance.random() >= _AFFINE_PROBABILITY:
        return None
    return _random_affine(spacing, chance)


def _random_affine(spacing: tuple[float, float, float], chance: np.random.Generator) -> NDArray[np.float64]:
    """(3, 3), patch voxels to volume voxels: a turn about z in millimetres, and a scale per axis."""
    angle = chance.uniform(-_MAX_ROTATION, _MAX_ROTATION)
    scale = 1 + chance.uniform(-_MAX_SCALING, _MAX_SCALING, size=3)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    millimetres = np.array(spacing)
    affine: NDArray[np.float64] = turn * (millimetres * scale) / millimetres[:, None]
    return affine


def _draw_intensity(chance: np.random.Generator) -> tuple[float, float]:
    """Factor and shift; 1 and 0 where they are left out."""
    factor, shift = 1.0, 0.0
    if chance.random() < _INTENSITY_PROBABILITY:
        factor = 1 + chance.uniform(-_MAX_INTENSITY_FACTOR, _MAX_INTENSITY_FACTOR)
    if chance.random() < _INTENSITY_PROBABILITY:
        shift = chance.uniform(-_MAX_INTENSITY_SHIFT, _MAX_INTENSITY_SHIFT)
    return factor, shift


def _vary_intensity(image: NDArray[np.float32], chance: np.random.Generator) -> None:
    factor, shift = _draw_intensity(chance)
    if factor != 1:
        image *= np.float32(factor)
    if shift != 0:
        image += np.float32(shift)
