"""The part of a case that a page has room for: cut, averaged and quantised, and saying so."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segviz_trainer.viewer.case import Mask, Modality, Triple, ViewedCase, Volume

Levels = NDArray[np.uint16]
Factors = tuple[int, int, int]

_TOP = 4095
_HU = (-1024.0, 3071.0)
"""What twelve bits of a scanner hold."""
_BODY_HU = -500.0
_BODY_MARGIN_MM = 6.0
_ORGANS_MARGIN_MM = 30.0


@dataclass(frozen=True)
class Box:
    """A part of an image, and in words what it keeps."""

    keeps: str
    slices: tuple[slice, slice, slice]

    @property
    def first(self) -> tuple[int, ...]:
        return tuple(each.start for each in self.slices)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(each.stop - each.start for each in self.slices)


@dataclass(frozen=True)
class Drawn:
    """A value is `low + step · level`; its organs are bits, the first organ the lowest of the first byte."""

    levels: Levels
    low: float
    step: float
    truth: NDArray[np.uint8]
    """(bytes, x, y, z)"""
    prediction: NDArray[np.uint8]
    spacing: Triple
    box: Box
    factors: Factors
    """How many of the image's voxels were averaged to one, by axis."""
    jump: tuple[int, ...]
    """By axis, the slice where truth and prediction differ most, or the largest one where they do not."""
    disagrees: bool

    @property
    def shape(self) -> tuple[int, ...]:
        return self.levels.shape

    def mask(self, bits: NDArray[np.uint8], organ: int) -> Mask:
        return np.asarray(bits[organ // 8] >> (organ % 8) & 1, bool)


def draw(case: ViewedCase, box: Box, factors: Factors, quantum: int) -> Drawn:
    """`quantum`: how many of the smallest steps of a value make one level."""
    image = _averaged(case.image[box.slices], factors)
    low, high = _range(image, case.modality)
    whole = case.modality is Modality.CT or (_is_whole(image) and high - low <= _TOP)
    fine = 1.0 if whole else (high - low) / _TOP
    step = fine * quantum
    levels = np.rint((np.clip(image, low, high) - low) / step).astype(np.uint16)
    jump, disagrees = _jump(case, box, factors)
    return Drawn(
        levels=levels,
        low=low,
        step=step,
        truth=_bits(case.truth, case.shown, box, factors),
        prediction=_bits(case.prediction, case.shown, box, factors),
        spacing=tuple(float(a) * b for a, b in zip(case.spacing, factors, strict=True)),  # type: ignore[arg-type]
        box=box,
        factors=factors,
        jump=jump,
        disagrees=disagrees,
    )


def body_box(case: ViewedCase) -> Box:
    """Without the air around the body; of other images, without a border of the lowest value."""
    level = _BODY_HU if case.modality is Modality.CT else case.image.min()
    masks = [case.image > level, *_masks(case)]
    return Box("the body", _around(masks, case, _BODY_MARGIN_MM))


def organs_box(case: ViewedCase) -> Box:
    keeps = f"the organs and {_ORGANS_MARGIN_MM:g} mm around them"
    return Box(keeps, _around(_masks(case), case, _ORGANS_MARGIN_MM))


def _masks(case: ViewedCase) -> list[Mask]:
    return [*case.truth.values(), *case.prediction.values()]


def _around(masks: list[Mask], case: ViewedCase, margin: float) -> tuple[slice, slice, slice]:
    """All masks with a margin in mm; the whole image where they are empty."""
    found = []
    for axis, length in enumerate(case.image.shape):
        inside = np.flatnonzero(sum((mask.any(axis=_others(axis)) for mask in masks), np.zeros(length)))
        around = int(np.ceil(margin / case.spacing[axis]))
        first, last = (inside[0] - around, inside[-1] + 1 + around) if inside.size else (0, length)
        found.append(slice(max(0, int(first)), min(length, int(last))))
    return found[0], found[1], found[2]


def _others(axis: int) -> tuple[int, ...]:
    return tuple(each for each in range(3) if each != axis)


def _averaged(image: Volume, factors: Factors) -> Volume:
    if max(factors) == 1:
        return image
    missing = [(0, -length % factor) for length, factor in zip(image.shape, factors, strict=True)]
    padded = np.pad(image, missing, mode="edge")
    (x, y, z), (i, j, k) = padded.shape, factors
    blocks = padded.reshape(x // i, i, y // j, j, z // k, k)
    return np.asarray(blocks.mean(axis=(1, 3, 5), dtype=np.float64), np.float32)


def _range(image: Volume, modality: Modality) -> tuple[float, float]:
    """Of CT, what a scanner says; else all but the rarest values, so that one spike takes no contrast."""
    least, most = float(image.min()), float(image.max())
    if modality is Modality.CT:
        return max(least, _HU[0]), max(min(most, _HU[1]), max(least, _HU[0]) + 1)
    if most - least <= _TOP and _is_whole(image):
        return least, max(most, least + 1)
    low, high = map(float, np.quantile(image, (0.0005, 0.9995)))
    return (low, high) if high > low else (least, max(most, least + 1e-6))


def _is_whole(image: Volume) -> bool:
    return bool((image == np.rint(image)).all())


def _bits(
    masks: Mapping[str, Mask], organs: tuple[str, ...], box: Box, factors: tuple[int, ...]
) -> NDArray[np.uint8]:
    """The voxel in the middle of those that were averaged speaks for them."""
    middle = [
        np.minimum(np.arange(0, length, factor) + factor // 2, length - 1)
        for length, factor in zip(box.shape, factors, strict=True)
    ]
    bits = np.zeros(((len(organs) + 7) // 8, *(len(each) for each in middle)), np.uint8)
    for number, organ in enumerate(organs):
        if organ in masks:
            inside = masks[organ][box.slices][np.ix_(*middle)]
            bits[number // 8] |= inside.astype(np.uint8) << (number % 8)
    return bits


def _jump(case: ViewedCase, box: Box, factors: Factors) -> tuple[tuple[int, ...], bool]:
    """Counted in the image's own voxels, not in those that are drawn."""
    differing = [case.truth[name] != case.prediction[name] for name in case.compared]
    disagrees = any(each.any() for each in differing)
    counted = [each[box.slices] for each in (differing if disagrees else _masks(case))]
    found = []
    for axis, factor in enumerate(factors):
        length = box.shape[axis]
        counts = sum((each.sum(axis=_others(axis)) for each in counted), np.zeros(length, np.int64))
        sums = np.add.reduceat(counts, np.arange(0, length, factor))
        found.append(int(sums.argmax()) if sums.any() else len(sums) // 2)
    return tuple(found), disagrees
