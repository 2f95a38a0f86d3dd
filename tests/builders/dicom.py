"""DICOM series of made-up voxels, single-frame or enhanced, written by pydicom."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

CT, ENHANCED = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
UNSIGNED_12, SIGNED_16 = (16, 12, False), (16, 16, True)


@dataclass
class Plane:
    """One slice: stored numbers, place and rescale."""

    stored: np.ndarray
    position: Sequence[float]
    slope: float = 1.0
    intercept: float = -1024.0
    orientation: Sequence[float] = AXIAL
    spacing: Sequence[float] = (2.0, 1.5)
    bits: tuple[int, int, bool] = UNSIGNED_12
    """Allocated, stored, signed."""


def planes(count: int = 6, rows: int = 5, columns: int = 4, gap: float = 2.5) -> list[Plane]:
    """No two voxels of neighbouring slices alike."""
    chance = np.random.default_rng(1)
    return [
        Plane(chance.integers(0, 2000, (rows, columns)), (-10.0, -20.0, 5.0 + gap * number))
        for number in range(count)
    ]


def write_single(
    folder: Path, given: Sequence[Plane], change: Callable[[int, Dataset], object] = lambda n, d: None
) -> Path:
    """A file a slice, in the order of `given`; `change` may spoil the headers of each."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, plane in enumerate(given):
        dataset = _basic(CT, plane, number + 1)
        _place(dataset, plane)
        _measure(dataset, plane)
        _rescale(dataset, plane)
        dataset.PixelData = _packed(plane)
        change(number, dataset)
        _save(dataset, folder / f"IM{number:04d}.dcm")
    return folder


def write_enhanced(
    folder: Path, given: Sequence[Plane], change: Callable[[Dataset], object] = lambda d: None
) -> Path:
    """One file with a frame a slice, in the order of `given`; every header lies with its frame."""
    folder.mkdir(parents=True, exist_ok=True)
    dataset = _basic(ENHANCED, given[0], 1)
    dataset.NumberOfFrames = len(given)
    dataset.SharedFunctionalGroupsSequence = [Dataset()]
    dataset.PerFrameFunctionalGroupsSequence = [_group(plane) for plane in given]
    packed = b"".join(_packed(plane, pad=False) for plane in given)
    dataset.PixelData = packed + b"\0" * (len(packed) % 2)
    change(dataset)
    _save(dataset, folder / "enhanced.dcm")
    return folder


def _group(plane: Plane) -> Dataset:
    group, place, turn, measures, values = (Dataset() for _ in range(5))
    place.ImagePositionPatient = list(plane.position)
    turn.ImageOrientationPatient = list(plane.orientation)
    _measure(measures, plane)
    _rescale(values, plane)
    group.PlanePositionSequence, group.PlaneOrientationSequence = [place], [turn]
    group.PixelMeasuresSequence, group.PixelValueTransformationSequence = [measures], [values]
    return group


def _basic(sop: str, plane: Plane, number: int) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop, f"1.2.3.4.{number}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    dataset.FrameOfReferenceUID, dataset.Modality = "1.2.3.5", "CT"
    dataset.InstanceNumber = number
    dataset.Rows, dataset.Columns = plane.stored.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    allocated, stored, signed = plane.bits
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = allocated, stored, stored - 1
    dataset.PixelRepresentation = int(signed)
    return dataset


def _place(dataset: Dataset, plane: Plane) -> None:
    dataset.ImagePositionPatient = list(plane.position)
    dataset.ImageOrientationPatient = list(plane.orientation)


def _measure(dataset: Dataset, plane: Plane) -> None:
    dataset.PixelSpacing = list(plane.spacing)


def _rescale(dataset: Dataset, plane: Plane) -> None:
    dataset.RescaleSlope, dataset.RescaleIntercept = plane.slope, plane.intercept
    dataset.RescaleType = "HU"


def _packed(plane: Plane, pad: bool = True) -> bytes:
    allocated, _, signed = plane.bits
    packed = plane.stored.astype(f"<{'i' if signed else 'u'}{allocated // 8}").tobytes()
    return packed + b"\0" * (len(packed) % 2 if pad else 0)


def _save(dataset: Dataset, path: Path) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
        dataset.SOPClassUID,
        dataset.SOPInstanceUID,
    )
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta = meta
    dataset.save_as(path, enforce_file_format=True)
