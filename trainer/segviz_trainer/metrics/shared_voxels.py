"""How often heads of different organs claim the same voxel, over all cases of a set."""

import numpy as np
from numpy.typing import NDArray

from segviz_trainer.metrics.overlap import Mask


class SharedVoxels:
    """Organs come one at a time, each for all cases; a case is kept as two bits a voxel meanwhile."""

    def __init__(self) -> None:
        self._claimed: dict[str, NDArray[np.uint8]] = {}
        self._shared: dict[str, NDArray[np.uint8]] = {}

    def add(self, case: str, mask: Mask) -> None:
        bits = np.packbits(mask)
        if case not in self._claimed:
            self._claimed[case], self._shared[case] = bits, np.zeros_like(bits)
            return
        self._shared[case] |= self._claimed[case] & bits
        self._claimed[case] |= bits

    @property
    def rate(self) -> float:
        """Voxels that more than one organ claims, as a share of those that any claims; 0 where none does."""
        claimed = sum(_count(bits) for bits in self._claimed.values())
        return sum(_count(bits) for bits in self._shared.values()) / claimed if claimed else 0.0


def _count(bits: NDArray[np.uint8]) -> int:
    return int(np.bitwise_count(bits).sum(dtype=np.int64))
