"""What the viewer shows: an image with the organs that are true and those that were predicted."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Volume = NDArray[np.float32]
Mask = NDArray[np.bool_]
Triple = tuple[float, float, float]
PLANES = ("axial", "coronal", "sagittal")
THROUGH = {"axial": 2, "coronal": 1, "sagittal": 0}
"""The axis that each plane's slices follow each other along."""


class Modality(StrEnum):
    CT = "CT"
    """Values are Hounsfield units, not scaled ones."""
    OTHER = "Other"
    """MR, or a CT whose values were scaled: windows come from the values themselves."""


@dataclass(frozen=True)
class Window:
    """Values from `low` (black) to `high` (white)."""

    name: str
    low: float
    high: float


CT_WINDOWS = (
    Window("Soft tissue", -150.0, 250.0),
    Window("Liver", -20.0, 140.0),
    Window("Bone", -500.0, 1300.0),
)
"""Level 50, width 400; level 60, width 160; level 400, width 1800."""


@dataclass(frozen=True)
class ViewedCase:
    """Volumes are (x, y, z) with x to the patient's left-to-right, y to the front, z to the head (RAS)."""

    title: str
    image: Volume
    spacing: Triple
    """mm between voxels along x, y, z."""
    organs: tuple[str, ...]
    """All organs of the page, in one order: an organ has its colour by its place here."""
    truth: Mapping[str, Mask]
    """Only organs that are annotated; one that is not has no disagreement."""
    prediction: Mapping[str, Mask]
    modality: Modality
    origin: Triple | None = None
    """mm of the first voxel's centre, where it is known."""

    def __post_init__(self) -> None:
        for name, mask in (*self.truth.items(), *self.prediction.items()):
            if name not in self.organs:
                raise ValueError(f"{self.title}: {name!r} is not one of the organs {self.organs}")
            if mask.shape != self.image.shape:
                raise ValueError(
                    f"{self.title}: {name} has the shape {mask.shape}, its image {self.image.shape}"
                )
        if self.image.ndim != 3 or not self.image.size or not np.isfinite(self.image).all():
            raise ValueError(f"{self.title}: an image to view has three axes and finite values")

    @property
    def shown(self) -> tuple[str, ...]:
        """Organs that there is anything to say about, in the page's order."""
        return tuple(name for name in self.organs if name in self.truth or name in self.prediction)

    @property
    def compared(self) -> tuple[str, ...]:
        return tuple(name for name in self.shown if name in self.truth and name in self.prediction)

    def windows(self) -> tuple[Window, ...]:
        """Presets, the first of which is shown first."""
        if self.modality is Modality.CT:
            return CT_WINDOWS
        low, dark, bright, high = map(float, np.quantile(self.image, (0.0, 0.01, 0.99, 1.0)))
        return (
            Window("1–99 %", dark, max(bright, dark + 1e-6)),
            Window("All", low, max(high, low + 1e-6)),
        )
