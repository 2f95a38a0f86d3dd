"""Patch, levels, features and batch for a memory budget (nnU-Net's rules, Isensee et al. 2021)."""

from dataclasses import dataclass
from math import prod

from segviz_operator.planning.halvings import SMALLEST_EDGE, Voxels, divisor, halvings, kernels
from segviz_operator.planning.memory import step_bytes
from segviz_operator.planning.merged import Triple

SMALLEST_PATCH = 2 * SMALLEST_EDGE
"""Voxels along an axis that can be halved once; thinner images are padded to it."""
MAX_FEATURES = 320
FEATURES = (32, 16)
"""At the top; the second is tried before images get coarser."""
FIRST_EDGE = 256
"""Voxels of the cube, as wide in millimetres along each axis, from which a patch is cut down."""
MIN_BATCH = 2
MAX_SHARE = 0.05
"""Of all voxels of the site with the fewest cases, that one batch sees."""
MAX_BATCH = 32


@dataclass(frozen=True)
class Topology:
    patch: Voxels
    channels: tuple[int, ...]
    strides: tuple[Voxels, ...]
    """Along each axis, from a level to the next."""
    kernels: tuple[Voxels, ...]
    batch: int
    bytes: int
    """Of a step, as it is counted."""

    @property
    def is_cubic(self) -> bool:
        """Whether all axes are halved at once."""
        return all(stride == (2, 2, 2) for stride in self.strides)

    def halved(self, axis: int) -> int:
        """How often."""
        return sum(stride[axis] == 2 for stride in self.strides)

    def covers(self, image: Voxels) -> float:
        """The share of the image's voxels that a patch sees."""
        return prod(min(p, i) for p, i in zip(self.patch, image, strict=True)) / prod(image)


def fit(
    image: Voxels, spacing: Triple, features: int, budget: int, heads: int, fewest_cases: int
) -> Topology | None:
    """The largest patch that fits, in the image's proportions; None where not even the smallest does.

    Args:
        image: voxels of the median image at `spacing`.
        budget: bytes that a step may hold.
        heads: the most of one site.
    """
    edge = FIRST_EDGE * prod(spacing) ** (1 / 3)
    patch = [
        max(SMALLEST_PATCH, min(size, round(edge / each))) for size, each in zip(image, spacing, strict=True)
    ]
    strides = halvings(patch, spacing)
    while True:
        padded = _padded(patch, divisor(strides))
        channels = tuple(min(features * 2**level, MAX_FEATURES) for level in range(len(strides) + 1))
        if step_bytes(padded, channels, MIN_BATCH, heads, strides) <= budget:
            break
        patch, steps = list(padded), divisor(strides)
        wide = [axis for axis in range(3) if patch[axis] - steps[axis] >= SMALLEST_PATCH]
        if not wide:
            return None
        # The axis along which the patch covers the most of the image; the first of equals.
        axis = max(wide, key=lambda each: padded[each] / image[each])
        patch[axis] -= steps[axis]
        # No axis more often than before the cut: padded to more, it would grow again.
        r, a, s = (step.bit_length() - 1 for step in steps)
        strides = halvings(patch, spacing, (r, a, s))
    whole = fewest_cases * prod(image)
    batch = MIN_BATCH
    while (
        batch < MAX_BATCH
        and (batch + 1) * prod(padded) <= MAX_SHARE * whole
        and step_bytes(padded, channels, batch + 1, heads, strides) <= budget
    ):
        batch += 1
    held = step_bytes(padded, channels, batch, heads, strides)
    return Topology(padded, channels, strides, kernels(spacing, strides), batch, held)


def _padded(patch: list[int], step: Voxels) -> Voxels:
    """At whole voxels of its bottom."""
    r, a, s = (-(-each // by) * by for each, by in zip(patch, step, strict=True))
    return r, a, s
