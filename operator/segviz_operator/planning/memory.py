"""What a training step of the residual U-Net holds, in bytes: counted, not measured.

MONAI's UNet strides before its first convolution: level l works at what l + 1 strides leave of the patch, the
bottom at the resolution of the level above it, and a head's last convolutions at the patch's own.
"""

from collections.abc import Sequence
from itertools import accumulate
from math import prod
from operator import mul

Strides = Sequence[tuple[int, int, int]]

_FLOAT = 4
_HELD_DOWN, _HELD_UP = 6, 5
"""Tensors that wait for the backward pass: of two convolutions with norm, activation and short cut on the way
down; of a transposed convolution and another one on the way up."""
_HELD_HEAD = 3 * 2
"""Of a head's last two convolutions, which have two channels."""
_HELD_PARAMETERS = 4
"""The weight, its gradient and Adam's two moments."""
_TAPS = 27


def step_bytes(
    patch: Sequence[int], channels: Sequence[int], patches: int, heads: int, strides: Strides | None = None
) -> int:
    """Of one step over `patches` patches.

    Args:
        patch: voxels along each axis.
        channels: of each level, from the top; there are two of them at least.
        heads: how many work side by side, each with a last level of its own.
        strides: along each axis from a level to the next; 2 along all of them, if left out.
    """
    return patches * activation_bytes(patch, channels, heads, strides) + weight_bytes(channels)


def activation_bytes(
    patch: Sequence[int], channels: Sequence[int], heads: int, strides: Strides | None = None
) -> int:
    whole = prod(patch)
    above = len(channels) - 1
    fewer: list[float] = list(accumulate((float(prod(each)) for each in strides or [(2, 2, 2)] * above), mul))
    voxels = [whole / fewer[min(level, above - 1)] for level in range(len(channels))]
    joined = [count * size for count, size in zip(_joined(channels), voxels[:-1], strict=True)]
    held = whole + sum(_HELD_DOWN * count * size for count, size in zip(channels, voxels, strict=True))
    held += sum(joined[1:]) + sum(_HELD_UP * channels[level] * voxels[level] for level in range(above - 1))
    held += heads * (joined[0] + _HELD_HEAD * whole)
    return round(held * _FLOAT)


def weight_bytes(channels: Sequence[int]) -> int:
    """The heads' own last convolutions, of two channels, are next to nothing."""
    *downs, bottom = channels
    weights = 0
    for before, count in zip((1, *downs), downs, strict=False):
        weights += _TAPS * (2 * before * count + count * count)  # with the short cut
    weights += _TAPS * (downs[-1] * bottom + bottom * bottom) + downs[-1] * bottom
    for above, count in zip(downs, _joined(channels)[1:], strict=False):
        weights += _TAPS * (count * above + above * above)
    return weights * _FLOAT * _HELD_PARAMETERS


def _joined(channels: Sequence[int]) -> list[int]:
    """What each level but the bottom gets on the way up: its own output beside the one from below."""
    *downs, bottom = channels
    return [*(2 * count for count in downs[:-1]), downs[-1] + bottom]
