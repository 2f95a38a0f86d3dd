"""Voxels as bytes: as fine as a page has room for.

Neighbours along x differ by little, so their differences are stored, folded to whole numbers (0, −1, 1, −2 …
become 0, 1, 2, 3 …): all low bytes, then all high bytes. Then a byte a voxel for each eight organs of the
truth, and the same of the prediction. x runs fastest. All in zlib's format, which browsers inflate.
"""

import math
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from segviz_trainer.viewer.case import ViewedCase
from segviz_trainer.viewer.drawn import Box, Drawn, Factors, body_box, draw, organs_box

LIMIT = 2_000_000
"""Bytes a case; base64 makes 2.7 MB of them."""
_LEAST_BITS = 2
"""A voxel of a real image takes more: what cannot fit is not tried."""
_COARSER_MM = (1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0, 16.0, 32.0, 64.0)
_ALL: Factors = (1, 1, 1)


def fit(case: ViewedCase, limit: int = LIMIT) -> tuple[Drawn, bytes]:
    """The finest of what fits: all of the body; half the grey levels; around the organs; coarser voxels."""
    packed = b""
    for box, factors, quantum in _choices(case):
        if math.prod(box.shape) / math.prod(factors) * _LEAST_BITS > limit * 8:
            continue
        drawn = draw(case, box, factors, quantum)
        packed = pack(drawn)
        if len(packed) <= limit:
            return drawn, packed
    raise ValueError(f"{case.title}: {len(packed)} bytes at the coarsest, more than the {limit} of a case")


def _choices(case: ViewedCase) -> Iterator[tuple[Box, Factors, int]]:
    body, organs = body_box(case), organs_box(case)
    yield body, _ALL, 1
    yield body, _ALL, 2
    if organs.slices != body.slices:
        yield organs, _ALL, 2
    last = _ALL
    for coarser in _COARSER_MM:
        x, y, z = (max(1, int(coarser / each + 1e-6)) for each in case.spacing)
        if (x, y, z) != last:
            last = x, y, z
            yield organs, last, 2


def pack(drawn: Drawn) -> bytes:
    levels = drawn.levels.ravel(order="F").astype(np.int32)
    differences = np.diff(levels, prepend=0)
    folded = (differences << 1) ^ (differences >> 31)
    planes = [(folded & 255).astype(np.uint8), (folded >> 8).astype(np.uint8)]
    planes += [_flat(each) for bits in (drawn.truth, drawn.prediction) for each in bits]
    return zlib.compress(b"".join(each.tobytes() for each in planes))


def _flat(volume: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return volume.ravel(order="F")
