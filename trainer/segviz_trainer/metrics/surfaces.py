"""Distances between the surfaces of two masks, in millimetres.

A mask's surface is every voxel of it with one of its six neighbours outside; beyond the image is outside.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from segviz_trainer.metrics.overlap import Mask

Distances = NDArray[np.float32]
Box = tuple[slice, slice, slice]


def bounding_box(mask: Mask) -> Box | None:
    """The smallest box around what is set; None for an empty mask."""
    box: list[slice] = []
    rest = mask
    for axis in range(3):
        # Each axis is looked at within the box so far: the first, the dearest, reads whole rows at once.
        others = tuple(other for other in range(3) if other != axis)
        present = np.flatnonzero(
            rest.reshape(len(rest), -1).any(axis=1) if axis == 0 else rest.any(axis=others)
        )
        if not len(present):
            return None
        box.append(slice(int(present[0]), int(present[-1]) + 1))
        rest = rest[(slice(None),) * axis + (box[-1],)]
    x, y, z = box
    return x, y, z


def union(one: Box, other: Box) -> Box:
    x, y, z = (slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True))
    return x, y, z


def surface(mask: Mask) -> Mask:
    """The mask's voxels that have a neighbour outside it."""
    inside = mask.copy()
    for axis in range(3):
        ahead = (slice(None),) * axis + (slice(1, None),)
        behind = (slice(None),) * axis + (slice(None, -1),)
        inside[ahead] &= mask[behind]
        inside[behind] &= mask[ahead]
        inside[(slice(None),) * axis + (0,)] = False
        inside[(slice(None),) * axis + (-1,)] = False
    return mask & ~inside


def surface_distances(prediction: Mask, truth: Mask, spacing: Sequence[float]) -> tuple[Distances, Distances]:
    """From each surface voxel of one mask to the nearest of the other, both ways.

    Neither mask may be empty. float32, as in MONAI: a distance that equals a tolerance but for float64's
    rounding counts as within it.
    """
    of_prediction, of_truth = surface(prediction), surface(truth)
    # Where both surfaces meet the distance is 0, and in a good prediction that is most of it.
    shared = int(np.count_nonzero(of_prediction & of_truth))
    points = np.asarray(spacing, np.float64)
    all_predicted, all_true = np.argwhere(of_prediction) * points, np.argwhere(of_truth) * points
    only_predicted = np.argwhere(of_prediction & ~of_truth) * points
    only_true = np.argwhere(of_truth & ~of_prediction) * points
    return (
        _nearest(only_predicted, all_true, shared),
        _nearest(only_true, all_predicted, shared),
    )


def _nearest(points: NDArray[np.float64], targets: NDArray[np.float64], zeros: int) -> Distances:
    distances = np.zeros(zeros + len(points), np.float32)
    if len(points):
        # Asked once per point, a tree is not worth balancing.
        tree = cKDTree(targets, leafsize=32, balanced_tree=False, compact_nodes=False)
        distances[zeros:] = tree.query(points)[0]
    return distances
