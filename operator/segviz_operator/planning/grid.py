"""The voxels that all images are brought to (nnU-Net, Isensee et al. 2021, supplementary note 2)."""

from segviz_operator.planning.merged import Merged, Triple

ANISOTROPIC = 3.0
"""A spacing that is so many times the others', along which images have so many times fewer voxels."""

FINEST, COARSEST = 0.01, 100.0
"""Millimetres of any image, whatever a site tells; the second is the CRD's bound."""


def target_spacing(merged: Merged) -> tuple[Triple, str]:
    """The median along each axis, and why; a coarse axis of anisotropic images takes the finest tenth."""
    spacing = merged.spacing
    coarse = max(range(3), key=lambda axis: spacing[axis])
    others = [axis for axis in range(3) if axis != coarse]
    voxels = [extent / each for extent, each in zip(merged.extent, spacing, strict=True)]
    thick = spacing[coarse] > ANISOTROPIC * max(spacing[axis] for axis in others)
    few = ANISOTROPIC * voxels[coarse] < min(voxels[axis] for axis in others)
    if not (thick and few):
        return _written(spacing), f"the median of {merged.cases} cases along each axis"
    # Never finer than the other axes: that would only make up voxels.
    finest = max(merged.finest[coarse], *(spacing[axis] for axis in others))
    target = tuple(finest if axis == coarse else spacing[axis] for axis in range(3))
    why = (
        f"the median of {merged.cases} cases; along {'RAS'[coarse]}, where slices are {spacing[coarse]:.3g} "
        "mm apart, what a tenth of the cases does not exceed"
    )
    return _written((target[0], target[1], target[2])), why


def coarser(spacing: Triple) -> Triple:
    """A step of 3 %, along all axes, or along the fine ones where one is twice as coarse."""
    coarse = max(spacing)
    stay = coarse > 2 * min(spacing)
    r, a, s = (each if stay and each == coarse else each * 1.03 for each in spacing)
    return r, a, s


def voxels_of(extent: Triple, spacing: Triple) -> tuple[int, int, int]:
    """Of an image of that extent."""
    r, a, s = (max(1, round(length / each)) for length, each in zip(extent, spacing, strict=True))
    return r, a, s


def _written(spacing: Triple) -> Triple:
    """As a manifest writes it: a ten-thousandth of a millimetre is no difference."""
    r, a, s = (max(FINEST, min(round(each, 4), COARSEST)) for each in spacing)
    return r, a, s
