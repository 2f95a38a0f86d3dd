"""Along which axes each level halves, and how wide its convolutions are (nnU-Net, Isensee et al. 2021)."""

from collections.abc import Sequence

from segviz_operator.planning.merged import Triple

Voxels = tuple[int, int, int]

SMALLEST_EDGE = 4
"""Voxels that are left of a patch at the bottom."""
ALONE = 3 * SMALLEST_EDGE
"""Voxels that an axis must have to be halved by itself."""
MAX_LEVELS = 6
"""With more of them the CRD has no room, and a patch of 128 voxels none either."""
COARSE = 2.0
"""An axis whose voxels are so many times as wide as the finest's waits until the others are as coarse."""
_MOST = (MAX_LEVELS,) * 3


def halvings(patch: Sequence[int], spacing: Triple, most: Voxels = _MOST) -> tuple[Voxels, ...]:
    """Strides along R, A and S from each level to the next, from the top; one level at least.

    Args:
        patch: voxels; along an axis of fewer than 8 nothing is halved.
        spacing: of a voxel.
        most: how often each axis may be halved.
    """
    size, width, left = list(patch), list(spacing), list(most)
    found: list[Voxels] = []
    while len(found) < MAX_LEVELS:
        axes = _halved(size, width, left) or ([] if found else _long(size))
        if not axes:
            break
        for axis in axes:
            size[axis] = -(-size[axis] // 2)
            width[axis] *= 2
            left[axis] -= 1
        r, a, s = (2 if axis in axes else 1 for axis in range(3))
        found.append((r, a, s))
    return tuple(found)


def _long(size: Sequence[int]) -> list[int]:
    return [axis for axis in range(3) if size[axis] >= 2 * SMALLEST_EDGE]


def _halved(size: Sequence[int], width: Sequence[float], left: Sequence[int]) -> list[int]:
    axes = [axis for axis in _long(size) if left[axis] > 0]
    finest = min((width[axis] for axis in axes), default=0.0)
    axes = [axis for axis in axes if width[axis] < COARSE * finest]
    if len(axes) == 1 and size[axes[0]] < ALONE:
        return []
    return axes


def divisor(strides: Sequence[Voxels]) -> Voxels:
    """What each side of a patch is a multiple of."""
    r, a, s = (2 ** sum(stride[axis] == 2 for stride in strides) for axis in range(3))
    return r, a, s


def kernels(spacing: Triple, strides: Sequence[Voxels]) -> tuple[Voxels, ...]:
    """Of each level, the bottom included: 1 along an axis as long as its voxels are twice the finest's."""
    width, taken = list(spacing), [1, 1, 1]
    found: list[Voxels] = []
    for stride in strides:
        taken = [
            3 if was == 3 or each < COARSE * min(width) else 1 for was, each in zip(taken, width, strict=True)
        ]
        found.append((taken[0], taken[1], taken[2]))
        width = [each * by for each, by in zip(width, stride, strict=True)]
    return (*found, (3, 3, 3))
