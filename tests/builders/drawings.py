"""Structures on a DICOM series: RTSTRUCT written by pydicom, SEG by highdicom, and outlines of voxels."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
Loops = Mapping[str, Sequence[np.ndarray]]


def headers(series: Path) -> list[Dataset]:
    """Of each file, in the order of the files' names."""
    return [pydicom.dcmread(path) for path in sorted(series.glob("*.dcm"))]


def write_contours(
    path: Path,
    series: Path,
    drawn: Loops,
    codes: Mapping[str, tuple[str, str]] | None = None,
    change: Callable[[Dataset], object] = lambda d: None,
) -> Path:
    """`drawn`: by name, loops (N, 3) of millimetres in LPS+; `change` may spoil the file."""
    image = headers(series)[0]
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = RTSTRUCT, generate_uid()
    dataset.Modality, dataset.SeriesInstanceUID = "RTSTRUCT", generate_uid()
    dataset.StudyInstanceUID = image.StudyInstanceUID
    dataset.ReferencedFrameOfReferenceSequence = [_reference(image)]
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    dataset.RTROIObservationsSequence = []
    for number, (name, loops) in enumerate(drawn.items(), start=1):
        region, contours, observation = Dataset(), Dataset(), Dataset()
        region.ROINumber, region.ROIName = number, name
        region.ReferencedFrameOfReferenceUID = image.FrameOfReferenceUID
        contours.ReferencedROINumber = number
        contours.ContourSequence = [_contour(loop) for loop in loops]
        observation.ObservationNumber, observation.ReferencedROINumber = number, number
        if codes and name in codes:
            observation.RTROIIdentificationCodeSequence = [code(*codes[name])]
        dataset.StructureSetROISequence.append(region)
        dataset.ROIContourSequence.append(contours)
        dataset.RTROIObservationsSequence.append(observation)
    change(dataset)
    _save(dataset, path)
    return path


def code(scheme: str, value: str) -> Dataset:
    item = Dataset()
    item.CodingSchemeDesignator, item.CodeValue, item.CodeMeaning = scheme, value, "meaning"
    return item


def loops_of(mask: np.ndarray, series: Path) -> list[np.ndarray]:
    """The outlines (N, 3) in millimetres of a mask (columns, rows, slices of `series` by file name)."""
    found = []
    for number, image in enumerate(headers(series)):
        found += [in_space(loop, image) for loop in outlines(mask[:, :, number])]
    return found


def in_space(points: np.ndarray, image: Dataset) -> np.ndarray:
    """(N, 2) of column and row in a slice to (N, 3) millimetres: PS3.3 C.7.6.2.1.1."""
    along_row, along_column = np.reshape(np.array(image.ImageOrientationPatient, float), (2, 3))
    between_rows, between_columns = (float(each) for each in image.PixelSpacing)
    return (
        np.array(image.ImagePositionPatient, float)
        + points[:, :1] * along_row * between_columns
        + points[:, 1:] * along_column * between_rows
    )


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Loops (N, 2) along the sides of the pixels of a mask (columns, rows)."""
    padded = np.pad(mask, 1)
    sides: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for c, r in np.argwhere(padded):
        corners = [(c, r), (c + 1, r), (c + 1, r + 1), (c, r + 1)]
        beside = [(c, r - 1), (c + 1, r), (c, r + 1), (c - 1, r)]
        for here, there, other in zip(corners, corners[1:] + corners[:1], beside, strict=True):
            if not padded[other]:
                sides.setdefault(here, []).append(there)
    loops = []
    while sides:
        start = place = next(iter(sides))
        loop = []
        while True:
            loop.append(place)
            ends = sides[place]
            following = ends.pop()
            if not ends:
                del sides[place]
            place = following
            if place == start:
                break
        corners = np.array(loop)
        before, behind = (np.roll(corners, by, axis=0) for by in (1, -1))
        turns = ((corners - before) != (behind - corners)).any(axis=1)
        loops.append(corners[turns] - 1.5)
    return loops


def write_segments(
    path: Path,
    series: Path,
    masks: Mapping[str, np.ndarray],
    kind: str = "BINARY",
    change: Callable[[Dataset], object] = lambda d: None,
    codes: Mapping[str, tuple[str, str]] | None = None,
) -> Path:
    """`masks`: by name, (columns, rows, slices of `series` by file name)."""
    import highdicom as hd
    from pydicom.sr.coding import Code

    organ = Code("113343008", "SCT", "Organ")
    described = []
    for number, name in enumerate(masks, start=1):
        scheme, value = (codes or {}).get(name, ("SCT", "113343008"))
        described.append(
            hd.seg.SegmentDescription(
                number, name, organ, Code(value, scheme, "meaning"), hd.seg.SegmentAlgorithmTypeValues.MANUAL
            )
        )
    pixels = np.stack([mask.transpose(2, 1, 0) for mask in masks.values()], axis=-1)
    images = headers(series)
    for image in images:
        image.SliceThickness = 1
        for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate"):
            setattr(image, keyword, getattr(image, keyword, ""))
        for keyword in ("StudyTime", "AccessionNumber", "ReferringPhysicianName"):
            setattr(image, keyword, getattr(image, keyword, ""))
    segmentation = hd.seg.Segmentation(
        images,
        pixels.astype(float if kind == "FRACTIONAL" else np.uint8),
        kind,
        described,
        generate_uid(),
        1,
        generate_uid(),
        1,
        "maker",
        "model",
        "1",
        "1",
    )
    change(segmentation)
    path.parent.mkdir(parents=True, exist_ok=True)
    segmentation.save_as(path)
    return path


def _reference(image: Dataset) -> Dataset:
    space, study, series = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = image.SeriesInstanceUID
    study.ReferencedSOPInstanceUID, study.RTReferencedSeriesSequence = image.StudyInstanceUID, [series]
    space.FrameOfReferenceUID, space.RTReferencedStudySequence = image.FrameOfReferenceUID, [study]
    return space


def _contour(loop: np.ndarray) -> Dataset:
    item = Dataset()
    item.ContourGeometricType, item.NumberOfContourPoints = "CLOSED_PLANAR", len(loop)
    item.ContourData = [f"{value:.10g}" for value in np.ravel(loop)]
    return item


def _save(dataset: Dataset, path: Path) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta = meta
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
