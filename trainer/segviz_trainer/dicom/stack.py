"""A stack of slices: their order, and one affine for all, or why there is none."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segviz_trainer.dicom.slices import Slice
from segviz_trainer.process.errors import BadCase

_MAX_SHEAR = 1e-3  # that of an affine
_MAX_TURN = 2e-4  # a tenth of a millimetre over a slice of 500 mm
_MAX_STRETCH = 1e-4
_ROUNDED_MM = 0.02
"""Between two positions of which each coordinate is rounded to a hundredth."""
_WHOLE = "Export the series again, whole"
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Stack:
    """Slices by their place along the normal, at one distance from each other."""

    slices: tuple[Slice, ...]
    affine: NDArray[np.float64]
    """(4, 4), of (column, row, slice) to millimetres in RAS+."""

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.slices[0].columns, self.slices[0].rows, len(self.slices)

    @property
    def space(self) -> str:
        """UID of the frame of reference; empty where there is none."""
        return self.slices[0].space

    def indices_of(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Millimetres (N, 3) in DICOM's LPS+ as column, row and slice (N, 3), in fractions."""
        to_index = np.linalg.inv(_LPS_TO_RAS @ self.affine)
        indices: NDArray[np.float64] = points @ to_index[:3, :3].T + to_index[:3, 3]
        return indices


def stack_of(folder: Path, slices: Sequence[Slice]) -> Stack:
    """Raises BadCase, naming a slice, where one does not lie where the array would have it."""
    if len(slices) < 2:
        raise BadCase(folder, "holds one slice only", "A volume has at least two; give the whole series")
    _check_alike(folder, slices)
    rows, columns = slices[0].directions
    normal = np.cross(rows, columns)
    normal /= np.linalg.norm(normal)
    ordered = tuple(sorted(slices, key=lambda each: float(each.position @ normal)))
    from_first = np.array([each.position for each in ordered]) - ordered[0].position
    along = from_first @ normal
    _check_gaps(folder, ordered, along)
    _check_aside(folder, ordered, along, from_first - along[:, None] * normal)
    affine = np.eye(4)
    between_rows, between_columns = slices[0].spacing
    affine[:3, 0] = rows * between_columns
    affine[:3, 1] = columns * between_rows
    affine[:3, 2] = normal * along[-1] / (len(ordered) - 1)
    affine[:3, 3] = ordered[0].position
    return Stack(ordered, _LPS_TO_RAS @ affine)


def _check_alike(folder: Path, slices: Sequence[Slice]) -> None:
    first = slices[0]
    for each in slices:
        for what, differs, ours, theirs in (
            (
                "Rows and Columns",
                (each.rows, each.columns) != (first.rows, first.columns),
                (first.rows, first.columns),
                (each.rows, each.columns),
            ),
            (
                "PixelSpacing",
                not np.allclose(each.spacing, first.spacing, rtol=_MAX_STRETCH, atol=0),
                first.spacing,
                each.spacing,
            ),
            (
                "ImageOrientationPatient",
                np.abs(each.directions - first.directions).max() > _MAX_TURN,
                first.directions.round(4).ravel().tolist(),
                each.directions.round(4).ravel().tolist(),
            ),
            ("FrameOfReferenceUID", each.space != first.space, first.space or None, each.space or None),
        ):
            if differs:
                raise BadCase(
                    folder,
                    f"its slices differ in {what}: {ours} in {first.name}, {theirs} in {each.name}",
                    "Give the files of one volume only",
                )


def _check_gaps(folder: Path, ordered: Sequence[Slice], along: NDArray[np.float64]) -> None:
    gaps = np.diff(along)
    same = gaps <= max(1e-3, 0.1 * float(np.median(gaps)))
    if same.any():
        pair = int(same.argmax())
        raise BadCase(
            folder,
            f"{ordered[pair].name} and {ordered[pair + 1].name} lie at the same place ({same.sum()} "
            "such pairs): slices come twice, or there are several volumes",
            "Give the slices of one volume",
        )
    even = np.linspace(0.0, along[-1], len(along))
    gap = along[-1] / (len(along) - 1)
    # Room for positions that are rounded to a tenth of a millimetre, never more than a tenth of a voxel.
    if np.abs(along - even).max() > min(0.1 * gap, 0.01 * gap + 0.06):
        widest = int(gaps.argmax())
        between = f"{ordered[widest].name} and {ordered[widest + 1].name}"
        raise BadCase(
            folder,
            f"its slices lie {gaps.min():.2f} to {gaps.max():.2f} mm apart, the most between {between}: "
            "some are missing or come twice",
            _WHOLE,
        )


def _check_aside(
    folder: Path, ordered: Sequence[Slice], along: NDArray[np.float64], aside: NDArray[np.float64]
) -> None:
    """An array stacks along the normal: what lies beside its place would be shifted."""
    off = np.linalg.norm(aside, axis=1)
    # From the first, not from slice to slice: over thin slices rounding alone would be a tilt.
    beside = off > _MAX_SHEAR * along + _ROUNDED_MM
    if not beside.any():
        return
    lean = aside - np.outer(along / along[-1], aside[-1])
    if np.linalg.norm(lean, axis=1).max() <= 0.1 * off.max():
        degrees = np.degrees(np.arctan2(off[-1], along[-1]))
        raise BadCase(
            folder,
            f"its slices are stacked {degrees:.1f} degrees off a right angle (a tilted gantry?)",
            "Resample it to a grid with right angles",
        )
    worst = int(off.argmax())
    raise BadCase(
        folder,
        f"its slices do not lie above each other: {ordered[worst].name} lies {off[worst]:.2f} mm beside "
        f"{ordered[0].name}",
        _WHOLE,
    )
