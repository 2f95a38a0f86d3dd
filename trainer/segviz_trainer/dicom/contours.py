"""RTSTRUCT: regions of interest as closed contours in millimetres, brought to the voxels of an image.

A contour belongs to the slice in whose plane it lies; `polygons` says which voxels of that slice it encloses.
What the contours leave open is refused, what is merely odd is told.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from segviz_trainer.dicom.polygons import crossing, inside
from segviz_trainer.dicom.stack import Stack
from segviz_trainer.dicom.structures import Structure, code_of, number_of, qualifiers
from segviz_trainer.process.errors import BadCase

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_MAX_OFF_PLANE = 0.1
"""Of the distance between two slices: how far from a slice's plane its contours may lie."""
_LOWEST_POINTS = 3
_ALL, _BEYOND = "contours", "contours beyond the slices"
_DEGENERATE = "contours have fewer than three points and enclose nothing"
_BESIDE = "contours lie beside the image and are left out"


@dataclass(frozen=True)
class Contours:
    """One RTSTRUCT file."""

    path: Path
    dataset: Dataset

    @cached_property
    def space(self) -> str:
        """Of its structures; a file with several frames of reference has none."""
        spaces = {
            str(each.get("ReferencedFrameOfReferenceUID") or "")
            for each in self.dataset.get("StructureSetROISequence") or ()
        } | {
            str(each.get("FrameOfReferenceUID") or "")
            for each in self.dataset.get("ReferencedFrameOfReferenceSequence") or ()
        }
        return spaces.pop() if len(spaces) == 1 else self._own_space(spaces)

    def _own_space(self, spaces: set[str]) -> str:
        named = sorted(spaces - {""})
        if len(named) > 1:
            raise BadCase(
                self.path,
                f"has structures in {len(named)} frames of reference: {', '.join(map(short, named))}",
                "Export the structures of each image into a file of their own",
            )
        return named[0] if named else ""

    @cached_property
    def series(self) -> frozenset[str]:
        return frozenset(
            str(series.SeriesInstanceUID)
            for space in self.dataset.get("ReferencedFrameOfReferenceSequence") or ()
            for study in space.get("RTReferencedStudySequence") or ()
            for series in study.get("RTReferencedSeriesSequence") or ()
            if series.get("SeriesInstanceUID")
        )

    @cached_property
    def structures(self) -> tuple[Structure, ...]:
        identified = {
            self._number(each, "ReferencedROINumber"): each.get("RTROIIdentificationCodeSequence") or ()
            for each in self.dataset.get("RTROIObservationsSequence") or ()
        }
        found = tuple(
            Structure(
                self.path,
                number := self._number(each, "ROINumber"),
                str(each.get("ROIName") or "").strip(),
                code_of(identified.get(number)),
                qualifiers(identified.get(number, ())),
                is_drawn=bool(self._contours(number)),
            )
            for each in self.dataset.get("StructureSetROISequence") or ()
        )
        numbers = [each.number for each in found]
        if len(set(numbers)) != len(numbers):
            raise BadCase(self.path, "gives one ROINumber to two structures", "Export it again")
        return found

    def _number(self, item: Dataset, keyword: str) -> int:
        return number_of(self.path, item, keyword)

    @cached_property
    def _regions(self) -> dict[int, list[Dataset]]:
        """The items of ROIContourSequence by ROINumber."""
        regions: dict[int, list[Dataset]] = defaultdict(list)
        for each in self.dataset.get("ROIContourSequence") or ():
            regions[self._number(each, "ReferencedROINumber")].append(each)
        return regions

    def _contours(self, number: int) -> list[Dataset]:
        return [
            contour
            for region in self._regions.get(number, ())
            for contour in region.get("ContourSequence") or ()
        ]

    def _is_of_voxels(self, structure: Structure) -> bool:
        """Whether the file says that it was made of a mask, whose slices without a contour are empty."""
        regions = self._regions.get(structure.number, ())
        return bool(regions) and all(each.get("SourcePixelPlanesCharacteristicsSequence") for each in regions)

    def mask(self, structure: Structure, stack: Stack) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
        """See `Drawing`."""
        columns, rows, _ = stack.shape
        placed, remarks = self._by_slice(structure, stack)
        mask = np.zeros(stack.shape, bool)
        crossings = 0
        for number, outlines in placed.items():
            mask[:, :, number] = inside(outlines, columns, rows)
            crossings += crossing(outlines, columns, rows) if len(outlines) > 1 else 0
        if crossings:
            remarks.append(f"{crossings} pairs of contours cross; what lies within both counts as outside")
        if gaps := self._gaps(structure, mask, sorted(placed)):
            remarks.append(f"lies in {gaps + 1} parts with slices between them")
        if placed and not mask.any():
            remarks.append("its contours enclose no voxel's centre")
        return mask, tuple(f"{structure.name}: {remark}" for remark in remarks)

    def _by_slice(
        self, structure: Structure, stack: Stack
    ) -> tuple[dict[int, list[NDArray[np.float64]]], list[str]]:
        """Outlines in pixels by the slice that they lie in, and what is odd about them."""
        *extent, slices = stack.shape
        placed: dict[int, list[NDArray[np.float64]]] = defaultdict(list)
        counts: Counter[str] = Counter()
        for points in self._outlines(structure):
            if len(points) < _LOWEST_POINTS:
                counts[_DEGENERATE] += 1
                continue
            counts[_ALL] += 1
            indices = stack.indices_of(points)
            number, outline = self._slice_of(structure, indices[:, 2], stack), indices[:, :2]
            low, high = outline.min(axis=0), outline.max(axis=0)
            if not 0 <= number < slices:
                counts[_BEYOND] += 1
            elif (high < -0.5).any() or (low > np.array(extent) - 0.5).any():
                counts[_BESIDE] += 1
            elif any(_is_same(outline, other) for other in placed[number]):
                counts["contours come twice and count once"] += 1
            else:
                if (low < -0.5).any() or (high > np.array(extent) - 0.5).any():
                    counts["contours reach over the image's edge and are cut there"] += 1
                placed[number].append(outline)
        self._check_inside(structure, counts)
        return placed, [f"{count} {what}" for what, count in counts.items() if what not in (_ALL, _BEYOND)]

    def _check_inside(self, structure: Structure, counts: Counter[str]) -> None:
        everything, beyond = counts[_ALL], counts[_BEYOND]
        if not everything:
            raise BadCase(
                self.path,
                f"draws {structure.name} by {counts[_DEGENERATE]} contours of fewer than three points",
                "Draw it, or remove it where it is not there",
            )
        if beyond + counts[_BESIDE] == everything:
            raise BadCase(
                self.path,
                f"draws {structure.name} outside of the image",
                "Give the structures that were drawn on this image",
            )
        if beyond:
            raise BadCase(
                self.path,
                f"draws {beyond} of {everything} contours of {structure.name} before the first or behind the "
                "last slice",
                "Export the whole series",
            )

    def _outlines(self, structure: Structure) -> Iterator[NDArray[np.float64]]:
        """(N, 3) of millimetres in DICOM's LPS+."""
        for each in self._contours(structure.number):
            kind = each.get("ContourGeometricType")
            if kind not in _CLOSED:
                raise BadCase(
                    self.path,
                    f"draws {structure.name} by a contour of the type {kind}, which encloses nothing",
                    "Export it with closed contours (CLOSED_PLANAR)",
                )
            yield self._points(structure, each)

    def _points(self, structure: Structure, contour: Dataset) -> NDArray[np.float64]:
        # Raw: pydicom would make an object of each of a million numbers.
        element = contour.get_item("ContourData") if "ContourData" in contour else None
        value = element.value if element is not None else b""
        try:
            numbers = np.array(value.split(b"\\") if isinstance(value, bytes) else value or (), np.float64)
            declared = int(contour.get("NumberOfContourPoints") or numbers.size // 3)
        except (ValueError, TypeError) as error:
            raise BadCase(
                self.path,
                f"has a contour of {structure.name} that is not numbers ({error})",
                "Export it again",
            ) from error
        if numbers.size != 3 * declared or not np.isfinite(numbers).all():
            raise BadCase(
                self.path,
                f"has a contour of {structure.name} with {numbers.size} numbers for {declared} points, or "
                "with infinite ones",
                "Export it again",
            )
        return numbers.reshape(-1, 3)

    def _slice_of(self, structure: Structure, along: NDArray[np.float64], stack: Stack) -> int:
        """The slice in whose plane a contour lies; `along` is its points' place in slices."""
        number = round(float(along.mean()))
        off = float(np.abs(along - number).max())
        if off > _MAX_OFF_PLANE:
            millimetres = float(np.linalg.norm(stack.affine[:3, 2]))
            raise BadCase(
                self.path,
                f"draws a contour of {structure.name} {off * millimetres:.2f} mm off the plane of slice "
                f"{number + 1}, which is the nearest; slices are {millimetres:.2f} mm apart",
                "Export the structures on the slices of the image",
            )
        return number

    def _gaps(self, structure: Structure, mask: NDArray[np.bool_], drawn: Sequence[int]) -> int:
        """How many runs of slices without a contour there are between the first and the last.

        Raises:
            BadCase: the structure lies on both sides of one, so a person did not draw it there.
        """
        gaps, is_by_hand = 0, not self._is_of_voxels(structure)
        for before, behind in pairwise(drawn):
            gaps += behind - before > 1
            if is_by_hand and behind - before > 1 and (mask[:, :, before] & mask[:, :, behind]).any():
                raise BadCase(
                    self.path,
                    f"has no contour of {structure.name} in {behind - before - 1} slices between the slices "
                    f"{before + 1} and {behind + 1}, though it lies on both sides",
                    "Interpolate it there, and export it again",
                )
        return gaps


def short(uid: str) -> str:
    """The end of a UID, which is what tells two apart."""
    return uid if len(uid) <= 16 else f"...{uid[-12:]}"


def _is_same(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether two outlines have the same points, from wherever and whichever way around they begin."""
    return one.shape == other.shape and np.array_equal(
        one[np.lexsort(one.T)].round(4), other[np.lexsort(other.T)].round(4)
    )
