"""A folder with one DICOM series, as a NIfTI file.

Every voxel's place and value come from the headers of its own slice, and the sizes that they declare are
checked before any voxel is decoded.
"""

import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import RLELossless

from segviz_exchange.process.errors import Refusal
from segviz_trainer.dicom.codestream import read_codestream
from segviz_trainer.dicom.slices import Slice, count, open_dicom, slices_of
from segviz_trainer.dicom.stack import Stack, stack_of
from segviz_trainer.process.errors import BadCase

_MIB = 2**20
_DERIVED = ("SEG", "RTDOSE")
"""Modalities with voxels that are not an image."""
_SHOWN = 3


@dataclass(frozen=True)
class Series:
    """The files of one series, and what else lies beside them."""

    files: dict[Path, Dataset]
    warnings: tuple[str, ...]


def series_to_nifti(folder: Path, target: Path, max_mebibytes: int) -> tuple[str, ...]:
    """Write the one series of `folder` to `target`, rescaled to HU as its headers say; returns warnings.

    `max_mebibytes` caps the volume as float32.

    Raises:
        Refusal: there is no series, more than one, it is no volume, or its headers leave something open.
    """
    series = find_series(folder)
    stack = read_stack(folder, series.files, max_mebibytes)
    write_volume(read_voxels(stack), stack, target)
    return series.warnings + lossy_slices(stack)


def read_stack(folder: Path, files: Mapping[Path, Dataset], max_mebibytes: int) -> Stack:
    """Where the slices of one series lie; no voxel is decoded."""
    slices = [each for path, dataset in files.items() for each in _capped(path, dataset, max_mebibytes)]
    stack = stack_of(folder, slices)
    _check_size(folder, stack.shape, max_mebibytes)
    return stack


def write_volume(voxels: NDArray[np.generic], stack: Stack, target: Path) -> None:
    """`voxels` (columns, rows, slices) as a NIfTI file where `stack` lies."""
    image = nib.Nifti1Image(voxels, stack.affine)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
    try:
        nib.save(image, target)
    except OSError as error:
        raise Refusal(f"{target}: cannot be written ({error.strerror}). Make room there.") from error


def lossy_slices(stack: Stack) -> tuple[str, ...]:
    lossy = sum(each.lossy for each in stack.slices)
    return (f"{lossy} of {len(stack.slices)} slices were compressed with loss",) if lossy else ()


def find_series(folder: Path) -> Series:
    """The headers of the one series of images in `folder`; whatever else is there is told in warnings."""
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise Refusal(f"{folder}: cannot be read ({error.strerror}). Check its rights.") from error
    found = sort_files(path for path in paths if not path.is_dir())
    folders = [path.name for path in paths if path.is_dir()]
    other = [path.name for path in found.others]
    if len(found.series) != 1:
        held = (
            "no DICOM series"
            if not found.series
            else f"{len(found.series)} DICOM series: {', '.join(sorted(found.series))}"
        )
        raise Refusal(f"{folder}: holds {held}. Give a folder with the files of one series.")
    (files,) = found.series.values()
    skipped = {
        "folders, which are not looked into": folders,
        **found.skipped,
        "DICOM files that are not images": other,
    }
    return Series(files, tuple(told(what, names) for what, names in skipped.items() if names))


@dataclass(frozen=True)
class Sorted:
    """Files by what they hold, without their voxels."""

    series: Mapping[str, dict[Path, Dataset]]
    """Images by SeriesInstanceUID."""
    others: Mapping[Path, Dataset]
    """DICOM without an image."""
    skipped: Mapping[str, list[str]]
    """Names of the files that are not DICOM, by what they are."""


def sort_files(paths: Iterable[Path]) -> Sorted:
    """Raises BadCase for a file that cannot be read, or that is no DICOM file against its name."""
    series: dict[str, dict[Path, Dataset]] = defaultdict(dict)
    others: dict[Path, Dataset] = {}
    skipped: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        if path.name.startswith("."):
            skipped["hidden files"].append(path.name)
        elif (dataset := open_dicom(path)) is None:
            _refuse_lost_slice(path)
            skipped["files that are not DICOM"].append(path.name)
        elif "Rows" not in dataset or dataset.get("Modality") in _DERIVED:
            others[path] = dataset
        else:
            series[str(dataset.get("SeriesInstanceUID") or "(no SeriesInstanceUID)")][path] = dataset
    return Sorted(series, others, skipped)


def _refuse_lost_slice(path: Path) -> None:
    """A slice at an end of the stack would be missed by nobody."""
    if path.suffix.lower() in (".dcm", ".dicom", ".ima"):
        raise BadCase(
            path, "is not a DICOM file, although its name says so", "Copy or export it again, or remove it"
        )


def told(what: str, names: Sequence[str]) -> str:
    """What was not read, counted, and the first few of it by name."""
    shown = ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
    return f"left out: {what}: {len(names)} ({shown})"


def _capped(path: Path, dataset: Dataset, max_mebibytes: int) -> Iterator[Slice]:
    """Its slices, once the file by itself is small enough to look at each."""
    shape = (
        count(path, dataset, "Columns"),
        count(path, dataset, "Rows"),
        count(path, dataset, "NumberOfFrames", default=1),
    )
    _check_size(path, shape, max_mebibytes)
    return slices_of(path, dataset)


def _check_size(path: Path, shape: tuple[int, ...], max_mebibytes: int) -> None:
    mebibytes = float(np.prod(shape, dtype=np.float64)) * 4 / _MIB
    if mebibytes > max_mebibytes:
        raise BadCase(
            path,
            f"declares {' x '.join(map(str, shape))} voxels, {mebibytes:,.0f} MiB as float32; the limit is "
            f"{max_mebibytes}",
            "Crop or resample it",
        )


def read_voxels(stack: Stack) -> NDArray[np.float32]:
    """(columns, rows, slices)."""
    voxels = np.empty(stack.shape, np.float32, order="F")
    numbered = sorted(enumerate(stack.slices), key=lambda pair: (pair[1].file, pair[1].frame or 0))
    for file, of_file in groupby(numbered, key=lambda pair: pair[1].file):
        for (number, each), stored in zip(of_file, _planes(file), strict=True):
            voxels[:, :, number] = (each.slope * stored.astype(np.float64) + each.intercept).T
    return voxels


def _planes(path: Path) -> Iterator[NDArray[np.integer]]:
    """The stored values of each frame (rows, columns), in the file's order."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path)
        _check_length(path, dataset)
        frames = iter_pixels(dataset, raw=True)
        while True:
            with warnings.catch_warnings():
                # Whatever the decoder doubts is refused: a value that is guessed is worse than none.
                warnings.simplefilter("error", UserWarning)
                frame = next(frames, None)
            if frame is None:
                return
            yield _meant(frame, int(dataset.BitsStored), signed=dataset.PixelRepresentation == 1)
    except (
        OSError,
        EOFError,
        ValueError,
        AttributeError,
        KeyError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise BadCase(
            path, f"has voxels that cannot be decoded ({error})", "Copy or export it again"
        ) from error
    except UserWarning as warning:
        raise BadCase(path, f"has voxels that are open to doubt ({warning})", "Export it again") from warning


def _check_length(path: Path, dataset: Dataset) -> None:
    frames = int(dataset.get("NumberOfFrames") or 1)
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        _check_compressed(path, dataset, frames)
        return
    declared = dataset.Rows * dataset.Columns * frames * dataset.BitsAllocated // 8
    held = len(dataset.PixelData)
    if held not in (declared, declared + declared % 2):
        raise BadCase(
            path,
            f"holds {held} bytes of voxels where its headers declare {declared}",
            "Copy or export it again",
        )


def _check_compressed(path: Path, dataset: Dataset, frames: int) -> None:
    """Each frame's own header, before a decoder makes room for what it declares."""
    offsets = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
    held = 0
    for frame in generate_frames(
        dataset.PixelData, number_of_frames=frames, extended_offsets=offsets if all(offsets) else None
    ):
        held += 1
        if dataset.file_meta.TransferSyntaxUID == RLELossless:
            continue  # it has no size of its own: its length is compared when it is decoded
        inner = read_codestream(frame)
        found, declared = (inner.columns, inner.rows), (dataset.Columns, dataset.Rows)
        if found != declared or inner.samples != dataset.SamplesPerPixel:
            raise BadCase(
                path,
                f"frame {held} is compressed as {found[0]} x {found[1]} voxels of {inner.samples} samples, "
                f"where its headers declare {declared[0]} x {declared[1]} of {dataset.SamplesPerPixel}",
                "Export it again",
            )
        if inner.bits > dataset.BitsAllocated or (
            inner.bits < dataset.BitsStored and dataset.PixelRepresentation == 1
        ):
            raise BadCase(
                path,
                f"frame {held} is compressed in {inner.bits} bits, where its headers declare "
                f"{dataset.BitsStored} stored in {dataset.BitsAllocated}",
                "Export it again",
            )
    if held != frames:
        raise BadCase(path, f"holds {held} compressed frames of {frames}", "Copy or export it again")


def _meant(stored: NDArray[np.generic], bits: int, signed: bool) -> NDArray[np.integer]:
    """The lowest `bits` of each number, by its sign: what lies above them has no meaning (PS3.5 8.1.1)."""
    width = stored.dtype.itemsize
    values = np.ascontiguousarray(stored, dtype=stored.dtype.newbyteorder("=")).view(
        f"{'i' if signed else 'u'}{width}"
    )
    unused = width * 8 - bits
    return (values << unused) >> unused
