"""DICOM-SEG: segments as frames of voxels, each brought to the slice of the image that it lies on.

Nothing is resampled: a frame's voxels are the image's own, or the file is refused.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import UID

from segviz_trainer.dicom.slices import Slice, places_of
from segviz_trainer.dicom.stack import Stack
from segviz_trainer.dicom.structures import Structure, code_of, number_of, qualifiers
from segviz_trainer.process.errors import BadCase

_BINARY, _FRACTIONAL, _LABEL_MAP = "BINARY", "FRACTIONAL", "LABELMAP"
_MAX_SHIFT = 0.1
"""Of a voxel, at a frame's corners: more than rounding in headers, less than anyone could see."""
_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5")
_ON_IT = "Export the segmentation on the grid of its image"


@dataclass(frozen=True)
class Segments:
    """One SEG file."""

    path: Path
    dataset: Dataset

    @property
    def space(self) -> str:
        return str(self.dataset.get("FrameOfReferenceUID") or "")

    @property
    def series(self) -> frozenset[str]:
        return frozenset(
            str(each.SeriesInstanceUID)
            for each in self.dataset.get("ReferencedSeriesSequence") or ()
            if each.get("SeriesInstanceUID")
        )

    @cached_property
    def structures(self) -> tuple[Structure, ...]:
        found = tuple(
            Structure(
                self.path,
                number := number_of(self.path, each, "SegmentNumber"),
                str(each.get("SegmentLabel") or "").strip(),
                code_of(each.get("SegmentedPropertyTypeCodeSequence")),
                qualifiers(
                    each.get("SegmentedPropertyTypeCodeSequence") or (),
                    each.get("AnatomicRegionSequence") or (),
                ),
                # Which voxels a label map has is known once it is decoded.
                is_drawn=self._kind == _LABEL_MAP or number in self._segments_of_frames,
            )
            for each in self.dataset.get("SegmentSequence") or ()
            if not (self._kind == _LABEL_MAP and each.get("SegmentNumber") == 0)  # its background
        )
        numbers = [each.number for each in found]
        if len(set(numbers)) != len(numbers):
            raise BadCase(self.path, "gives one SegmentNumber to two segments", "Export it again")
        return found

    def mask(self, structure: Structure, stack: Stack) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
        """See `Drawing`."""
        mask = np.zeros(stack.shape, bool)
        filled: set[int] = set()
        for frame, plane in self._planes(structure):
            if not plane.any():
                continue
            columns, rows, number = self._place(frame, stack)
            if number in filled:
                raise BadCase(
                    self.path, f"has two frames of {structure.name} on slice {number + 1}", "Export it again"
                )
            filled.add(number)
            mask[columns, rows, number] = plane.T
        drawn = np.flatnonzero(mask.any(axis=(0, 1)))
        gaps = int((np.diff(drawn) > 1).sum())
        return mask, (f"{structure.name}: lies in {gaps + 1} parts with slices between them",) if gaps else ()

    @property
    def _kind(self) -> str:
        return str(self.dataset.get("SegmentationType") or "")

    @cached_property
    def _frames(self) -> tuple[Slice, ...]:
        if self.dataset.get("ConcatenationUID"):
            raise BadCase(self.path, "is one part of a segmentation in several files", "Export it whole")
        if self._kind not in (_BINARY, _FRACTIONAL, _LABEL_MAP):
            raise BadCase(self.path, f"has {self._kind!r} as SegmentationType", "Export it as BINARY")
        syntax = self.dataset.file_meta.get("TransferSyntaxUID")
        if syntax not in _NATIVE:
            raise BadCase(
                self.path,
                f"is stored as {UID(syntax or '').name}",
                "Export it uncompressed or as RLE",
            )
        return tuple(places_of(self.path, self.dataset))

    @cached_property
    def _segments_of_frames(self) -> tuple[int, ...]:
        """The SegmentNumber of each frame; of a label map, which has none, nothing."""
        if self._kind == _LABEL_MAP:
            return ()
        shared = (self.dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
        groups = self.dataset.get("PerFrameFunctionalGroupsSequence") or [Dataset()]
        numbers = []
        for frame, group in enumerate(groups, start=1):
            named = group.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence")
            if not named:
                raise BadCase(self.path, f"does not say which segment frame {frame} shows", "Export it again")
            numbers.append(number_of(self.path, named[0], "ReferencedSegmentNumber"))
        return tuple(numbers)

    def _planes(self, structure: Structure) -> Iterator[tuple[Slice, NDArray[np.bool_]]]:
        """Each frame of a segment and its voxels (rows, columns)."""
        frames = self._frames
        most = int(self.dataset.get("MaximumFractionalValue") or 0)
        for number, frame in enumerate(frames):
            if self._kind == _LABEL_MAP:
                yield frame, self._stored(number) == structure.number
            elif self._segments_of_frames[number] == structure.number:
                stored = self._stored(number)
                if self._kind == _FRACTIONAL:
                    self._check_whole(structure, stored, most)
                yield frame, stored != 0

    @cached_property
    def _whole(self) -> Dataset:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as when its headers were read
            return pydicom.dcmread(self.path)

    def _stored(self, frame: int) -> NDArray[np.generic]:
        """What is stored for the voxels (rows, columns) of a frame, by its number from 0."""
        try:
            dataset = self._whole
            if dataset.BitsAllocated != 1:
                with warnings.catch_warnings():
                    # As for images: what the decoder doubts is refused.
                    warnings.simplefilter("error", UserWarning)
                    return next(iter_pixels(dataset, raw=True, indices=[frame]))
            # Frames follow each other bit by bit (PS3.5 8.2), where pydicom takes each to begin with a byte.
            size = dataset.Rows * dataset.Columns
            first, skipped = divmod(frame * size, 8)
            held = np.frombuffer(dataset.PixelData, np.uint8)[first : first + (skipped + size + 7) // 8]
            bits = np.unpackbits(held, bitorder="little")[skipped : skipped + size]
            return bits.reshape(dataset.Rows, dataset.Columns)
        except (OSError, EOFError, ValueError, AttributeError, KeyError, RuntimeError, UserWarning) as error:
            raise BadCase(
                self.path, f"has voxels that cannot be decoded ({error})", "Copy or export it again"
            ) from error

    def _check_whole(self, structure: Structure, stored: NDArray[np.generic], most: int) -> None:
        if not most or not np.isin(stored, (0, most)).all():
            raise BadCase(
                self.path,
                f"has fractions of {structure.name}, so what belongs to it is a matter of a threshold",
                "Export it as BINARY",
            )

    def _place(self, frame: Slice, stack: Stack) -> tuple[slice, slice, int]:
        """Columns, rows and slice of the image that a frame's voxels are."""
        along_row = frame.directions[0] * frame.spacing[1]
        along_column = frame.directions[1] * frame.spacing[0]
        last_column, last_row = frame.columns - 1, frame.rows - 1
        corners = np.array([[0, 0], [last_column, 0], [0, last_row], [last_column, last_row]])
        found = stack.indices_of(frame.position + corners @ np.stack([along_row, along_column]))
        column, row, number = (round(float(each)) for each in found[0])
        meant = np.column_stack([corners + np.array([column, row]), np.full(4, number)])
        shift = float(np.abs(found - meant).max())
        if shift > _MAX_SHIFT:
            raise BadCase(
                self.path,
                f"lies on another grid than its image: {frame.name} is up to {shift:.2f} voxels off. It has "
                f"{_grid(frame)}, the image {_grid(stack.slices[0])}",
                _ON_IT,
            )
        if (
            min(column, row, number) < 0
            or (np.array([column + last_column, row + last_row, number]) >= stack.shape).any()
        ):
            raise BadCase(self.path, f"lies off its image with {frame.name}", _ON_IT)
        return slice(column, column + frame.columns), slice(row, row + frame.rows), number


def _grid(plane: Slice) -> str:
    return f"{plane.columns} x {plane.rows} voxels of {plane.spacing[1]:g} x {plane.spacing[0]:g} mm"
