"""Crops out of a volume, zero outside it, straight or turned about z, without a copy of the volume."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_T = TypeVar("_T", bound=np.generic)


def plain_crop(volume: NDArray[_T], start: Sequence[int], out: NDArray[_T]) -> None:
    """Fill `out` with the part of `volume` that begins at `start`, which may lie outside."""
    source, target = [], []
    for first, length, size in zip(start, volume.shape, out.shape, strict=True):
        inside = slice(min(max(first, 0), length), min(max(first + size, 0), length))
        source.append(inside)
        target.append(slice(inside.start - first, inside.stop - first))
    if any(part.stop - part.start != size for part, size in zip(target, out.shape, strict=True)):
        out[...] = 0
    out[tuple(target)] = volume[tuple(source)]


def affine_crop(
    image: NDArray[np.float32],
    label: NDArray[np.uint8],
    start: Sequence[int],
    affine: NDArray[np.float64],
    image_out: NDArray[np.float32],
    label_out: NDArray[np.uint8],
) -> None:
    """Resample a crop of `image` linearly and of `label` by nearest neighbour, about the crop's centre.

    `start` is where the crop would begin without `affine`, a (3, 3) matrix from the crop's voxels to the
    volume's. It must not mix z with x and y: then z and the plane are interpolated one after the other,
    on whole rows, 4 times faster than a general trilinear resampling.
    """
    size = image_out.shape
    middle = [(length - 1) / 2 for length in size]
    x, y = np.meshgrid(np.arange(size[0]) - middle[0], np.arange(size[1]) - middle[1], indexing="ij")
    along_x = (start[0] + middle[0] + affine[0, 0] * x + affine[0, 1] * y).ravel()
    along_y = (start[1] + middle[1] + affine[1, 0] * x + affine[1, 1] * y).ravel()
    along_z = start[2] + middle[2] + affine[2, 2] * (np.arange(size[2]) - middle[2])

    axes = (along_x, along_y, along_z)
    # All that is looked at, one voxel more at the end for the upper neighbour.
    low = [int(np.floor(axis.min())) for axis in axes]
    box = tuple(int(np.floor(axis.max())) + 2 - first for axis, first in zip(axes, low, strict=True))
    along_x, along_y, along_z = (axis - first for axis, first in zip(axes, low, strict=True))
    values, classes = np.empty(box, np.float32), np.empty(box, np.uint8)
    plain_crop(image, low, values)
    plain_crop(label, low, classes)

    nearest = _nearest(along_x) * box[1] + _nearest(along_y)
    columns = np.take(classes.reshape(-1, box[2]), _nearest(along_z), axis=1)
    np.take(columns, nearest, axis=0, out=label_out.reshape(-1, size[2]), mode="clip")
    _interpolate(values, along_x, along_y, along_z, image_out.reshape(-1, size[2]))


def _nearest(position: NDArray[np.float64]) -> NDArray[np.intp]:
    return np.floor(position + 0.5).astype(np.intp)


def _interpolate(
    values: NDArray[np.float32],
    along_x: NDArray[np.float64],
    along_y: NDArray[np.float64],
    along_z: NDArray[np.float64],
    out: NDArray[np.float32],
) -> None:
    """`values` (X, Y, Z) at the plane's points (N,) times the heights (M,), into `out` (N, M)."""
    floor_z = np.floor(along_z).astype(np.intp)
    weight_z = (along_z - floor_z).astype(np.float32)
    rows = values.reshape(-1, values.shape[2])
    columns = np.take(rows, floor_z, axis=1) * (1 - weight_z)
    columns += np.take(rows, floor_z + 1, axis=1) * weight_z

    floor_x, floor_y = np.floor(along_x).astype(np.intp), np.floor(along_y).astype(np.intp)
    weight_x = (along_x - floor_x).astype(np.float32)[:, None]
    weight_y = (along_y - floor_y).astype(np.float32)[:, None]
    corner = floor_x * values.shape[1] + floor_y
    out[...] = 0
    for offset, weight in (
        (0, (1 - weight_x) * (1 - weight_y)),
        (1, (1 - weight_x) * weight_y),
        (values.shape[1], weight_x * (1 - weight_y)),
        (values.shape[1] + 1, weight_x * weight_y),
    ):
        neighbour = np.take(columns, corner + offset, axis=0)
        neighbour *= weight
        out += neighbour
