"""The transforms that a manifest names one by one: what is drawn, in which order, and nnU-Net's numbers.

Everything is drawn from the generator of the case that is cropped, so a batch depends on its key alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from segviz_exchange.contract.training_spec import Transforms, Varied
from segviz_trainer.batches import intensity

_ROTATION_PROBABILITY = 0.2
_DEGREES = 30.0
_FLAT = 3
"""nnU-Net too turns a patch in its plane alone where one side is this many times as short as another."""
_MIRRORING_PROBABILITY = 0.5
"""Of each axis."""


@dataclass(frozen=True)
class Usual:
    """nnU-Net's, where the manifest gives none."""

    probability: float
    range: tuple[float, float]


_USUAL: Mapping[str, Usual] = {
    "scaling": Usual(0.2, (0.7, 1.4)),
    "noise": Usual(0.1, (0.0, 0.1)),
    # nnU-Net blurs one case of five, and of that each channel with a chance of a half; likewise below.
    "blur": Usual(0.1, (0.5, 1.0)),
    "brightness": Usual(0.15, (0.75, 1.25)),
    "contrast": Usual(0.15, (0.75, 1.25)),
    "low_resolution": Usual(0.125, (0.5, 1.0)),
    "inverted_gamma": Usual(0.1, (0.7, 1.5)),
    "gamma": Usual(0.3, (0.7, 1.5)),
}

_INTENSITY: Mapping[str, Callable[[intensity.Image, float], None]] = {
    "blur": intensity.blur,
    "brightness": intensity.brighten,
    "contrast": intensity.change_contrast,
    "low_resolution": intensity.lower_resolution,
    "inverted_gamma": intensity.change_gamma_inverted,
    "gamma": intensity.change_gamma,
}
"""In nnU-Net's order, after the noise."""

_FACTORS = frozenset({"scaling", "brightness", "contrast", "gamma", "inverted_gamma"})
"""Below 1 as often as above it: a range such as 0.7 to 1.4 would else mostly enlarge."""


def draw_affine(
    transforms: Transforms,
    spacing: tuple[float, float, float],
    patch: tuple[int, int, int],
    chance: np.random.Generator,
) -> NDArray[np.float64] | None:
    """(3, 3), patch voxels to volume voxels: turns in millimetres, and one scale; None without either."""
    angles = _angles(transforms, patch, chance)
    scale = _drawn("scaling", transforms.scaling, chance)
    if angles is None and scale is None:
        return None
    turn = np.eye(3) if angles is None else rotation(angles)
    millimetres = np.array(spacing)
    affine: NDArray[np.float64] = turn * (millimetres * (scale or 1.0)) / millimetres[:, None]
    return affine


def rotation(radians: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3): about x, then y, then z."""
    turns = []
    for axis, angle in enumerate(radians):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[[first, second], [first, second]] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        turns.append(turn)
    return reduce(np.matmul, reversed(turns))


def draw_flips(transforms: Transforms, chance: np.random.Generator) -> tuple[int, ...]:
    """The axes that a crop is mirrored along."""
    return tuple(axis for axis in transforms.mirrored_axes if chance.random() < _MIRRORING_PROBABILITY)


def vary(image: NDArray[np.float32], transforms: Transforms, chance: np.random.Generator) -> None:
    """Change the values of a crop (X, Y, Z) in place."""
    noise = _drawn("noise", transforms.noise, chance)
    if noise is not None:
        intensity.add_noise(image, noise, chance)
    for name, change in _INTENSITY.items():
        value = _drawn(name, getattr(transforms, name), chance)
        if value is not None:
            change(image, value)


def _angles(
    transforms: Transforms, patch: tuple[int, int, int], chance: np.random.Generator
) -> NDArray[np.float64] | None:
    asked = transforms.rotation
    if asked is None:
        return None
    probability = _ROTATION_PROBABILITY if asked.probability is None else asked.probability
    if chance.random() >= probability:
        return None
    most = np.deg2rad(usual_degrees(patch) if asked.degrees is None else asked.degrees)
    return chance.uniform(-most, most)


def usual_degrees(patch: tuple[int, int, int]) -> tuple[float, ...]:
    """About all axes; of a flat patch about its short axis alone: else much of it would turn outside."""
    short = min(range(3), key=lambda axis: patch[axis])
    flat = _FLAT * patch[short] < max(patch)
    return tuple(_DEGREES if axis == short or not flat else 0.0 for axis in range(3))


def _drawn(name: str, asked: Varied | None, chance: np.random.Generator) -> float | None:
    """The number to transform by; None where it is not asked for, or not this time."""
    if asked is None:
        return None
    usual = _USUAL[name]
    if chance.random() >= (usual.probability if asked.probability is None else asked.probability):
        return None
    low, high = usual.range if asked.range is None else asked.range
    if name in _FACTORS and low < 1 < high:
        low, high = (low, 1.0) if chance.random() < 0.5 else (1.0, high)
    return float(chance.uniform(low, high))
