"""Crops turned about any axis. Turns about z alone, and scales, are twice as fast by `affine_crop`."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segviz_trainer.batches.affine_crop import plain_crop

Floats = NDArray[np.float32]
Places = NDArray[np.intp]
"""Into a box of voxels laid out flat."""

_VOXELS_AT_ONCE = 32768
"""What is worked on stays in a core's own cache."""


def turned_crop(
    image: Floats,
    label: NDArray[np.uint8],
    start: Sequence[int],
    affine: NDArray[np.float64],
    image_out: Floats,
    label_out: NDArray[np.uint8],
) -> None:
    """Resample a crop of `image` linearly and of `label` by nearest neighbour, about the crop's centre.

    Args:
        start: where the crop would begin without `affine`; what lies outside the volume is 0.
        affine: (3, 3), from the crop's voxels to the volume's.
    """
    size = image_out.shape
    middle = (np.array(size) - 1) / 2
    centre = np.array(start) + middle
    # All that is looked at, as corners are the farthest that a linear map reaches, and a voxel of margin.
    reach = np.abs(affine) @ middle
    low = np.floor(centre - reach).astype(int) - 1
    box = tuple(int(length) for length in np.ceil(centre + reach).astype(int) + 2 - low)
    if (low >= 0).all() and (low + box <= image.shape).all():
        values, classes, low = image, label, np.zeros(3, int)
    else:
        values, classes = np.empty(box, np.float32), np.empty(box, np.uint8)
        plain_crop(image, low.tolist(), values)
        plain_crop(label, low.tolist(), classes)

    strides = (values.shape[1] * values.shape[2], values.shape[2], 1)
    y, z = np.arange(size[1])[:, None], np.arange(size[2])
    first = centre - low - affine @ middle  # where the crop's first voxel lies in the box
    rates = affine.astype(np.float32)
    planes = [
        (first[axis] + affine[axis, 1] * y + affine[axis, 2] * z).astype(np.float32) for axis in range(3)
    ]
    slices = max(1, _VOXELS_AT_ONCE // (size[1] * size[2]))
    for begin in range(0, size[0], slices):
        part = slice(begin, begin + slices)
        x = np.arange(size[0], dtype=np.float32)[part, None, None]
        along = [plane + rates[axis, 0] * x for axis, plane in enumerate(planes)]
        corner, nearest = _places(along, strides)
        np.take(classes.ravel(), nearest, out=label_out[part], mode="clip")
        image_out[part] = _between(values.ravel(), corner, along, strides)


def _places(along: list[Floats], strides: tuple[int, ...]) -> tuple[Places, Places]:
    """Lower corners of the voxels' neighbours, and their nearest ones; of `along` the fraction stays."""
    corner: Places = np.zeros(along[0].shape, np.intp)
    nearer: Places = np.zeros(along[0].shape, np.intp)
    for position, stride in zip(along, strides, strict=True):
        floor = np.floor(position)
        position -= floor
        corner += floor.astype(np.intp) * stride
        nearer += (position >= 0.5) * np.intp(stride)
    nearer += corner
    return corner, nearer


def _between(flat: Floats, corner: Places, weights: list[Floats], strides: tuple[int, ...]) -> Floats:
    """Linear along z, then y, then x."""
    sides = []
    for along_x in (0, strides[0]):
        rows = []
        for along_y in (0, strides[1]):
            low, high = (flat[along_x + along_y + along_z :].take(corner, mode="clip") for along_z in (0, 1))
            rows.append(_mix(low, high, weights[2]))
        sides.append(_mix(rows[0], rows[1], weights[1]))
    return _mix(sides[0], sides[1], weights[0])


def _mix(low: Floats, high: Floats, weight: Floats) -> Floats:
    """low + weight·(high − low), in the memory of both."""
    high -= low
    high *= weight
    low += high
    return low
