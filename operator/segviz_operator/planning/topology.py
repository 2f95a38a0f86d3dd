"""Patch, levels, features and batch for a memory budget (nnU-Net's rules, Isensee et al. 2021)."""

from dataclasses import dataclass
from math import prod

from segviz_operator.planning.memory import step_bytes
from segviz_operator.planning.merged import Triple

Voxels = tuple[int, int, int]

SMALLEST_EDGE = 4
"""Voxels that are left of a patch at the bottom."""
SMALLEST_PATCH = 2 * SMALLEST_EDGE
"""Voxels along an axis that can be halved once; thinner images are padded to it."""
MAX_LEVELS = 6
"""With more of them the CRD has no room, and a patch of 128 voxels none either."""
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
    batch: int
    bytes: int
    """Of a step, as it is counted."""

    @property
    def strides(self) -> tuple[int, ...]:
        return (2,) * (len(self.channels) - 1)

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
    while True:
        levels, padded = _padded(patch)
        channels = tuple(min(features * 2**level, MAX_FEATURES) for level in range(levels + 1))
        if step_bytes(padded, channels, MIN_BATCH, heads) <= budget:
            break
        patch = list(padded)
        wide = [axis for axis in range(3) if patch[axis] - 2**levels >= SMALLEST_PATCH]
        if not wide:
            return None
        # The axis along which the patch covers the most of the image; the first of equals.
        axis = max(wide, key=lambda each: padded[each] / image[each])
        patch[axis] -= 2**levels
    whole = fewest_cases * prod(image)
    batch = MIN_BATCH
    while (
        batch < MAX_BATCH
        and (batch + 1) * prod(padded) <= MAX_SHARE * whole
        and step_bytes(padded, channels, batch + 1, heads) <= budget
    ):
        batch += 1
    return Topology(padded, channels, batch, step_bytes(padded, channels, batch, heads))


def _padded(patch: list[int]) -> tuple[int, Voxels]:
    """How often a patch can be halved, and the patch at whole voxels of its bottom."""
    levels = 0
    while levels < MAX_LEVELS and min(patch) // 2 ** (levels + 1) >= SMALLEST_EDGE:
        levels += 1
    step = 2**levels
    r, a, s = (-(-each // step) * step for each in patch)
    return levels, (r, a, s)
