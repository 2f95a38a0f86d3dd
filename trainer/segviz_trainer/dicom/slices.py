"""Slices of DICOM files: what the headers of each one say of its place and its values.

A slice is a file of its own, or a frame of a multi-frame file, whose headers lie in functional groups
(PS3.3 C.7.6.16). Nothing is assumed: what leaves open where its voxels lie or what they mean is refused.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from segviz_trainer.process.errors import BadCase

_AGAIN = "Export the series again"
_UNIT = 1e-3
"""How far headers round a direction's length, and the right angle between two."""
_HOUNSFIELD = ("", "HU", "HU_MOD", "US")  # US: unspecified
_SYNTAXES = {
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.5",  # RLE
    "1.2.840.10008.1.2.4.50",  # JPEG: baseline, extended, lossless
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",  # JPEG-LS
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.90",  # JPEG 2000
    "1.2.840.10008.1.2.4.91",
}
_DEFLATED = "1.2.840.10008.1.2.1.99"


@dataclass(frozen=True)
class Slice:
    """One plane of voxels."""

    file: Path
    frame: int | None
    """From 0, within a multi-frame file."""
    rows: int
    columns: int
    position: NDArray[np.float64]
    """(3,) mm, the centre of the first voxel, in DICOM's LPS+."""
    directions: NDArray[np.float64]
    """(2, 3): along a row, along a column."""
    spacing: tuple[float, float]
    """Millimetres between rows, between columns."""
    slope: float
    intercept: float
    """Stored values v mean slope · v + intercept."""
    space: str
    """UID of the frame of reference; empty where there is none."""
    lossy: bool

    @property
    def name(self) -> str:
        return self.file.name if self.frame is None else f"frame {self.frame + 1} of {self.file.name}"


def open_dicom(path: Path) -> Dataset | None:
    """The headers of a file, without its voxels; None for a file that is not DICOM.

    Raises:
        BadCase: the file cannot be read, is damaged, or inflating its headers would inflate its voxels too.
    """
    try:
        # A deflated file would be inflated whole, whatever it inflates to, before any size is known.
        syntax = pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID")
        if syntax == _DEFLATED:
            raise BadCase(
                path, "is stored deflated, which is not read", f"{_AGAIN} as Explicit VR Little Endian"
            )
        with warnings.catch_warnings():
            # Odd values that matter here are refused by name; the others are not ours to judge.
            warnings.simplefilter("ignore")
            return pydicom.dcmread(path, stop_before_pixels=True)
    except InvalidDicomError:
        return None
    except OSError as error:
        raise BadCase(
            path, f"cannot be read ({error.strerror or error})", "Check the file and its rights"
        ) from error
    except (EOFError, ValueError, KeyError, AttributeError, NotImplementedError, TypeError) as error:
        raise BadCase(
            path, f"is damaged: its headers cannot be read ({error})", "Copy or export it again"
        ) from error


def slices_of(path: Path, dataset: Dataset) -> Iterator[Slice]:
    """Every slice of an image's file.

    Raises:
        BadCase: the headers leave a slice's place or values open; names what is missing.
    """
    _check_voxels(path, dataset)
    yield from places_of(path, dataset)


def places_of(path: Path, dataset: Dataset) -> Iterator[Slice]:
    """The same, of a file whose voxels need not be an image's."""
    frames = count(path, dataset, "NumberOfFrames", default=1)
    groups = dataset.get("PerFrameFunctionalGroupsSequence")
    if not groups and frames == 1:
        yield _slice(path, None, dataset, _Headers(path, path.name, (dataset,), in_groups=()))
        return
    if not groups:
        raise BadCase(
            path,
            f"has {frames} frames without functional groups, so where each one lies is not known",
            f"{_AGAIN} as one file a slice, or as an enhanced multi-frame image",
        )
    if len(groups) != frames:
        raise BadCase(path, f"has {frames} frames, but headers for {len(groups)} of them", _AGAIN)
    shared = dataset.get("SharedFunctionalGroupsSequence") or [Dataset()]
    for number, group in enumerate(groups):
        headers = _Headers(path, f"frame {number + 1}", (dataset,), in_groups=(group, shared[0]))
        yield _slice(path, number, dataset, headers)


@dataclass(frozen=True)
class _Headers:
    """Where a slice's headers are looked up: in its functional groups, or at the top of its file."""

    path: Path
    name: str
    top: tuple[Dataset, ...]
    in_groups: tuple[Dataset, ...]

    def macro(self, keyword: str) -> tuple[Dataset, ...]:
        """What stands for the functional group `keyword`."""
        if not self.in_groups:
            return self.top
        found = (group.get(keyword) for group in self.in_groups)
        return tuple(sequence[0] for sequence in found if sequence)

    def has(self, places: tuple[Dataset, ...], keyword: str) -> bool:
        return any(place.get(keyword) not in (None, "") for place in places)

    def numbers(self, places: tuple[Dataset, ...], keyword: str, count: int) -> list[float]:
        """Raises BadCase unless there are `count` finite numbers."""
        try:
            values = [place.get(keyword) for place in places]
            given = next((value for value in values if value not in (None, "")), None)
            # One number comes bare, several as a list.
            numbers = [float(each) for each in (np.ravel(given) if given is not None else ())]
        except (ValueError, TypeError, OverflowError) as error:
            raise BadCase(self.path, f"{self.name} has no numbers as {keyword} ({error})", _AGAIN) from error
        if not numbers:
            raise BadCase(
                self.path,
                f"{self.name} has no {keyword}, so {_MEANS[keyword]} cannot be known",
                f"{_AGAIN} with it; it cannot be guessed",
            )
        if len(numbers) != count or not np.isfinite(numbers).all():
            raise BadCase(
                self.path, f"{self.name} has {numbers} as {keyword}, not {count} finite numbers", _AGAIN
            )
        return numbers


_MEANS = {
    "ImagePositionPatient": "where it lies",
    "ImageOrientationPatient": "which way it lies",
    "PixelSpacing": "its size in millimetres",
    "RescaleSlope": "what its values mean",
    "RescaleIntercept": "what its values mean",
}


def _slice(path: Path, frame: int | None, dataset: Dataset, headers: _Headers) -> Slice:
    directions = np.reshape(
        headers.numbers(headers.macro("PlaneOrientationSequence"), "ImageOrientationPatient", 6), (2, 3)
    )
    lengths = np.linalg.norm(directions, axis=1)
    if np.abs(lengths - 1).max() > _UNIT or abs(directions[0] @ directions[1]) > _UNIT:
        raise BadCase(
            path,
            f"{headers.name} has {directions.ravel().tolist()} as ImageOrientationPatient: not two "
            "directions at a right angle",
            _AGAIN,
        )
    across, along = headers.numbers(headers.macro("PixelMeasuresSequence"), "PixelSpacing", 2)
    if min(across, along) <= 0:
        raise BadCase(
            path, f"{headers.name} has {[across, along]} as PixelSpacing", "Write positive millimetres"
        )
    slope, intercept = _rescale(headers, dataset)
    return Slice(
        file=path,
        frame=frame,
        rows=count(path, dataset, "Rows"),
        columns=count(path, dataset, "Columns"),
        position=np.array(headers.numbers(headers.macro("PlanePositionSequence"), "ImagePositionPatient", 3)),
        directions=directions / lengths[:, None],
        spacing=(across, along),
        slope=slope,
        intercept=intercept,
        space=str(dataset.get("FrameOfReferenceUID") or ""),
        lossy=dataset.get("LossyImageCompression") == "01",
    )


def _rescale(headers: _Headers, dataset: Dataset) -> tuple[float, float]:
    """Slope and intercept: of the slice, or, where only the file has them, of the file."""
    own = headers.macro("PixelValueTransformationSequence")
    places = (
        own if any(headers.has(own, each) for each in ("RescaleSlope", "RescaleIntercept")) else headers.top
    )
    if headers.has(headers.top, "ModalityLUTSequence"):
        raise BadCase(
            headers.path, "maps its values by a table (ModalityLUTSequence)", f"{_AGAIN} with a slope"
        )
    is_ct = dataset.get("Modality") == "CT"
    present = [headers.has(places, each) for each in ("RescaleSlope", "RescaleIntercept")]
    if not any(present) and not is_ct:
        return 1.0, 0.0
    (slope,) = headers.numbers(places, "RescaleSlope", 1)
    (intercept,) = headers.numbers(places, "RescaleIntercept", 1)
    if slope == 0:
        raise BadCase(headers.path, f"{headers.name} has a RescaleSlope of 0", _AGAIN)
    unit = next((str(place.get("RescaleType")) for place in places if place.get("RescaleType")), "")
    if is_ct and unit not in _HOUNSFIELD:
        raise BadCase(
            headers.path,
            f"{headers.name} has values in {unit}, not in Hounsfield units (RescaleType)",
            "Export the series of Hounsfield units",
        )
    return slope, intercept


def _check_voxels(path: Path, dataset: Dataset) -> None:
    """Whether what is stored for a voxel is one integer, in a form that can be decoded."""
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax not in _SYNTAXES:
        name = UID(syntax).name if syntax else "no transfer syntax"
        raise BadCase(
            path, f"is stored as {name}, which is not read", f"{_AGAIN} as Explicit VR Little Endian"
        )
    samples, kind = dataset.get("SamplesPerPixel"), dataset.get("PhotometricInterpretation")
    if samples != 1 or kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise BadCase(
            path,
            f"has {samples} samples a voxel as {kind}, not one grey value",
            "Give the images of the scanner",
        )
    allocated, stored, high = (
        count(path, dataset, each) for each in ("BitsAllocated", "BitsStored", "HighBit")
    )
    if allocated not in (8, 16, 32) or stored > allocated or high != stored - 1:
        raise BadCase(
            path, f"stores {stored} bits up to bit {high} in {allocated}", f"{_AGAIN} with 8 or 16 bits"
        )
    if dataset.get("PixelRepresentation") not in (0, 1):
        raise BadCase(path, "does not say whether its values have a sign (PixelRepresentation)", _AGAIN)


def count(path: Path, dataset: Dataset, keyword: str, default: int | None = None) -> int:
    """Raises BadCase unless the header `keyword` is a number from 1 on."""
    given = dataset.get(keyword)
    if given in (None, "") and default is not None:
        return default
    try:
        number = int(given)
    except (ValueError, TypeError) as error:
        raise BadCase(path, f"has no number as {keyword} ({given!r})", _AGAIN) from error
    if number < 1:
        raise BadCase(path, f"has {number} as {keyword}", _AGAIN)
    return number
