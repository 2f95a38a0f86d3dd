"""Segments and contours as a reader that shares no code with SegViz finds them: pydicom and plain geometry.

A mask is told by the image that it lies on: (SOP instance, frame number or None) to (rows, columns).
"""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset

Plane = tuple[str, int | None]
Masks = dict[str, dict[Plane, np.ndarray]]


def segments(path: Path, series: Path) -> Masks:
    """Of a DICOM-SEG: by the source that each frame refers to, whose place the frame's own must be."""
    dataset, lies = pydicom.dcmread(path), places(series)
    names = {each.SegmentNumber: each.SegmentLabel for each in dataset.SegmentSequence}
    found: Masks = {name: {} for name in names.values()}
    frames = np.atleast_3d(dataset.pixel_array) if dataset.NumberOfFrames > 1 else dataset.pixel_array[None]
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for frame, group in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        named = group if "SegmentIdentificationSequence" in group else shared
        number = named.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        plane = _plane(group.DerivationImageSequence[0].SourceImageSequence[0])
        position, orientation, spacing = lies[plane]
        assert np.allclose(group.PlanePositionSequence[0].ImagePositionPatient, position, atol=1e-6)
        turned = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        assert np.allclose(turned, orientation, atol=1e-6)
        assert np.allclose(shared.PixelMeasuresSequence[0].PixelSpacing, spacing, atol=1e-9)
        assert plane not in found[names[number]]
        found[names[number]][plane] = frame > 0
    return found


def contours(path: Path, series: Path, shape: tuple[int, int]) -> Masks:
    """Of an RT Structure Set: what has its centre inside of an odd number of an image's contours."""
    dataset, lies = pydicom.dcmread(path), places(series)
    names = {each.ROINumber: each.ROIName for each in dataset.StructureSetROISequence}
    found: Masks = {}
    for region in dataset.ROIContourSequence:
        masks: dict[Plane, np.ndarray] = defaultdict(lambda: np.zeros(shape, bool))
        for contour in region.ContourSequence:
            plane = _plane(contour.ContourImageSequence[0])
            points = np.reshape([float(each) for each in contour.ContourData], (-1, 3))
            assert len(points) == contour.NumberOfContourPoints
            masks[plane] ^= _inside(_pixels(points, *lies[plane]), shape)
        found[names[region.ReferencedROINumber]] = dict(masks)
    return found


def _plane(reference: Dataset) -> Plane:
    return str(reference.ReferencedSOPInstanceUID), reference.get("ReferencedFrameNumber")


def places(series: Path) -> dict[Plane, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Position, orientation and spacing of each image."""
    found = {}
    for file in series.iterdir():
        dataset = pydicom.dcmread(file, stop_before_pixels=True)
        groups = dataset.get("PerFrameFunctionalGroupsSequence")
        for number, group in enumerate(groups or [None], start=1):
            headers = [dataset] * 3
            if group is not None:
                headers = [
                    group.PlanePositionSequence[0],
                    group.PlaneOrientationSequence[0],
                    group.PixelMeasuresSequence[0],
                ]
            found[str(dataset.SOPInstanceUID), number if group is not None else None] = (
                np.array(headers[0].ImagePositionPatient, float),
                np.array(headers[1].ImageOrientationPatient, float),
                np.array(headers[2].PixelSpacing, float),
            )
    return found


def _pixels(
    points: np.ndarray, position: np.ndarray, orientation: np.ndarray, spacing: np.ndarray
) -> np.ndarray:
    """Millimetres to (row, column); each point must lie in the image's plane."""
    along_row, along_column = orientation[:3], orientation[3:]
    offset = points - position
    assert np.abs(offset @ np.cross(along_row, along_column)).max() < 1e-3
    return np.stack([offset @ along_column / spacing[0], offset @ along_row / spacing[1]], axis=1)


def _inside(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Pixel centres whose ray to the right crosses the polygon an odd number of times."""
    mask = np.zeros(shape, bool)
    columns = np.arange(shape[1])
    for (row, column), (next_row, next_column) in zip(points, np.roll(points, -1, axis=0), strict=True):
        low, high = sorted((row, next_row))
        for crossed in range(max(0, int(np.ceil(low))), min(shape[0], int(np.ceil(high)))):
            at = column + (crossed - row) / (next_row - row) * (next_column - column)
            mask[crossed] ^= columns < at
    return mask
