"""Small cases for tests of the viewer."""

from typing import Any

import numpy as np

from segviz_trainer.viewer.case import Modality, ViewedCase

SHAPE = (24, 20, 16)


def ball(centre: tuple[int, int, int], radius: float, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    distance = sum((axis - at) ** 2 for axis, at in zip(np.indices(shape), centre, strict=True))
    return np.asarray(distance <= radius**2)


def body(shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> np.ndarray:
    """HU of soft tissue with a scanner's noise, air outside."""
    noise = np.random.default_rng(seed).normal(50, 15, shape).round()
    inside = ball(tuple(each // 2 for each in shape), 0.48 * min(shape), shape)
    return np.where(inside, noise, -1000).astype(np.float32)


def viewed(**changes: Any) -> ViewedCase:
    """The liver is predicted one voxel too low along z; the spleen is right."""
    liver, spleen = ball((8, 10, 8), 4), ball((16, 10, 9), 2)
    fields: dict[str, Any] = {
        "title": "case 7",
        "image": body(),
        "spacing": (1.0, 1.0, 3.0),
        "organs": ("liver", "spleen"),
        "truth": {"liver": liver, "spleen": spleen},
        "prediction": {"liver": np.roll(liver, -1, axis=2), "spleen": spleen},
        "modality": Modality.CT,
        "origin": (-12.0, -10.0, 100.0),
    }
    return ViewedCase(**(fields | changes))
