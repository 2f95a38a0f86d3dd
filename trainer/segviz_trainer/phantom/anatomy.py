"""A made-up person's abdomen as smooth implicit shapes: x right, y anterior, z superior, in millimetres."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Volume = NDArray[np.float32]
Triple = tuple[float, float, float]

# Centre and radii of the ellipsoids whose union a shape is. Later shapes cover earlier ones.
_SHAPES: dict[str, tuple[tuple[Triple, Triple], ...]] = {
    "fat": (((0, 0, 0), (156, 112, 900)),),
    "muscle": (((0, -4, 0), (140, 97, 900)),),
    "lungs": (((74, -10, 155), (66, 84, 78)), ((-74, -10, 155), (66, 84, 78))),
    "stomach": (((-54, 42, 48), (42, 34, 36)),),
    "liver": (((72, 12, 38), (62, 66, 56)), ((8, 48, 48), (58, 34, 30))),
    "spleen": (((-98, -38, 42), (30, 44, 44)),),
    "pancreas": (
        ((34, 12, -26), (23, 21, 27)),
        ((8, 28, -10), (26, 19, 19)),
        ((-24, 20, 2), (26, 18, 18)),
        ((-52, 2, 12), (26, 18, 17)),
    ),
    "aorta": (((-12, -32, 0), (11, 11, 900)),),
    "kidneys": (((66, -48, -40), (28, 28, 50)), ((-66, -48, -28), (28, 28, 50))),
    "tumour": (((76, -40, -20), (17, 17, 17)),),
    "spine": (((0, -62, 0), (23, 22, 900)),),
}
_SHIFT_MM = 5.0
_STILL = ("fat", "muscle", "spine")
_SIZE_SD = 0.08
_WARP_MM = 6.0
_WARP_SCALE_MM = 45.0
_TUMOUR_SHARE = 0.5


def draw_person(points: Volume, spacing: Triple, chance: np.random.Generator) -> dict[str, Volume]:
    """Each shape's soft membership in [0, 1] at `points` (3, X, Y, Z), in the order of painting."""
    warped = points + _warp(points.shape[1:], spacing, chance)
    build = chance.normal(1, 0.05)
    shapes = {}
    for name, ellipsoids in _SHAPES.items():
        shift = chance.normal(0, 0 if name in _STILL else _SHIFT_MM, size=3)
        size = build * chance.normal(1, _SIZE_SD, size=3).clip(0.8, 1.2)
        distance = np.minimum.reduce(
            [
                _distance(warped, np.add(centre, shift), np.multiply(radii, size))
                for centre, radii in ellipsoids
            ]
        )
        # One voxel wide, as the partial volume of a scanner is.
        shapes[name] = np.clip(0.5 - distance / min(spacing), 0, 1).astype(np.float32)
    if chance.random() >= _TUMOUR_SHARE:
        shapes["tumour"][:] = 0
    return shapes


def mask(shapes: Mapping[str, Volume], name: str) -> NDArray[np.bool_]:
    """Where `name` is on top."""
    names = list(shapes)
    visible = shapes[name] > 0.5
    for above in names[names.index(name) + 1 :]:
        visible &= shapes[above] <= 0.5
    return visible


def _distance(points: Volume, centre: NDArray[np.float64], radii: NDArray[np.float64]) -> Volume:
    """Roughly millimetres outside (positive) or inside an ellipsoid."""
    squares = np.zeros(points.shape[1:], np.float32)
    for axis in range(3):
        squares += ((points[axis] - np.float32(centre[axis])) / np.float32(radii[axis])) ** 2
    distance: Volume = (np.sqrt(squares) - 1) * np.float32(radii.min())
    return distance


def _warp(shape: tuple[int, ...], spacing: Triple, chance: np.random.Generator) -> Volume:
    """A smooth displacement in mm, (3, X, Y, Z): what makes organs of different people differ in shape."""
    sigma = [_WARP_SCALE_MM / length for length in spacing]
    fields = [gaussian_filter(chance.standard_normal(shape), sigma, mode="wrap") for _ in range(3)]
    return np.stack([_WARP_MM * field / field.std() for field in fields]).astype(np.float32)
