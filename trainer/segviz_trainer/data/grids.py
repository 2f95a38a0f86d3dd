"""Voxel grids: where a volume lies."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Grid:
    """Shape of a volume and its affine: (4, 4), voxel indices to millimetres in RAS+."""

    shape: tuple[int, int, int]
    affine: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, shape: tuple[int, ...], affine: NDArray[np.float64]) -> "Grid":
        x, y, z = shape
        return cls((x, y, z), tuple(tuple(row) for row in affine.tolist()))

    @property
    def matrix(self) -> NDArray[np.float64]:
        return np.array(self.affine)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres per voxel along the array's axes."""
        x, y, z = np.sqrt((self.matrix[:3, :3] ** 2).sum(axis=0)).tolist()
        return x, y, z
