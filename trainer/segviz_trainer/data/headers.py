"""NIfTI headers, checked before a single voxel is read.

A header is a promise by a stranger: 352 bytes may declare 35 TB, and 1 MB of gzip may inflate to 9 GB. So
the promise is checked first, from its 352 bytes alone, and reading a volume never inflates more than that.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from nibabel.nifti1 import Nifti1Header
from numpy.typing import NDArray

from segviz_trainer.data.affines import affine_of, axis_codes, check_affine
from segviz_trainer.data.streams import open_stream, read_at_most
from segviz_trainer.process.errors import BadCase

HEADER_BYTES = 352
_SIZE, _SIZE_NIFTI2 = 348, 540  # of the fields, which extensions or voxels follow
_MAX_EXTENSION_BYTES = 16 * 2**20
# Deflate cannot pack better than 1032:1, so a shorter file cannot hold what its header declares.
_MAX_GZIP_RATIO = 1032
_MIB = 2**20

# https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h, DT_*; left out: binary, complex, RGB, float128.
_USABLE_DTYPES = {2, 4, 8, 16, 64, 256, 512, 768, 1024, 1280}
_UNUSABLE_DTYPES = {
    1: "one-bit",
    32: "complex",
    128: "RGB",
    1536: "float128",
    1792: "complex",
    2048: "complex",
    2304: "RGBA",
}
LOST_AFFINE = (
    "spacing is exactly 1x1x1 mm; for a CT that is often a lost affine "
    "(known for LiTS/MSD liver volumes 28-47)"
)
_UNITS = {1: "metres", 3: "micrometres"}


@dataclass(frozen=True)
class Header:
    """What a NIfTI file declares about its one volume."""

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    """Millimetres per voxel along the three array axes."""
    orientation: str
    """Where each array axis points, RAS-style (`LPS`: towards left, posterior, superior)."""
    dtype: np.dtype[np.generic]
    """As stored, byte order included."""
    affine: NDArray[np.float64]
    """(4, 4), voxel indices to millimetres in RAS+."""
    slope: float
    intercept: float
    """Stored values v mean slope · v + intercept."""
    offset_bytes: int
    warnings: tuple[str, ...] = ()

    @property
    def voxels(self) -> int:
        return self.shape[0] * self.shape[1] * self.shape[2]


def check_header(path: Path, max_mebibytes: int) -> Header:
    """Read the first 352 bytes of `path` (`.nii` or `.nii.gz`), and nothing more.

    `max_mebibytes` caps the volume as float32.

    Raises:
        BadCase: the file cannot be read, is no NIfTI-1 volume, or declares what cannot be trained on.
    """
    with open_stream(path) as stream:
        raw = read_at_most(stream, HEADER_BYTES, path)
    fields = _fields(path, raw)
    shape = _shape(path, fields["dim"].tolist())
    dtype = _dtype(path, fields)
    _check_size(path, shape, dtype, max_mebibytes)
    _check_spacing(path, tuple(fields["pixdim"][1:4].tolist()), int(fields["xyzt_units"]) & 7)
    slope, intercept = _scaling(path, float(fields["scl_slope"]), float(fields["scl_inter"]))
    affine, warnings = affine_of(path, fields)
    spacing = check_affine(path, affine)
    if spacing == (1.0, 1.0, 1.0):
        warnings += (LOST_AFFINE,)
    return Header(
        shape=shape,
        spacing=spacing,
        orientation=axis_codes(affine),
        dtype=dtype,
        affine=affine,
        slope=slope,
        intercept=intercept,
        offset_bytes=_offset(path, float(fields["vox_offset"])),
        warnings=warnings,
    )


def read_volume(path: Path, header: Header) -> NDArray[np.generic]:
    """The voxels as stored on disk, scaled to float32 where the header says so; shape `header.shape`.

    Holds the stored volume and, if it is scaled, one float32 copy. The stream must hold exactly what the
    header declares, and gzip's checksum must match.

    Raises:
        BadCase: the file is cut short, corrupt, or holds more than its header declares.
    """
    with open_stream(path) as stream:
        _skip(stream, header.offset_bytes, path)
        stored = np.empty(header.voxels, header.dtype)
        _fill(stream, stored.view(np.uint8).data, path)
        # This read also makes gzip verify its checksum, which it does at the end of the stream.
        if read_at_most(stream, 1, path):
            raise BadCase(
                path,
                f"holds more data than the {' x '.join(map(str, header.shape))} voxels its header declares",
                "Export the case again; the file is damaged or its header was edited",
            )
    volume = stored.reshape(header.shape, order="F")
    if (header.slope, header.intercept) == (1.0, 0.0):
        return volume
    # Far-off slopes overflow to infinity here; preprocessing refuses non-finite voxels by name.
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = volume.astype(np.float32)
        scaled *= np.float32(header.slope)
        scaled += np.float32(header.intercept)
    return scaled


def _fields(path: Path, raw: bytes) -> Nifti1Header:
    if len(raw) < HEADER_BYTES:
        raise BadCase(
            path, f"is not a NIfTI file: {len(raw)} bytes, a header has {HEADER_BYTES}", "Export it again"
        )
    for order in "<>":
        # Unchecked: nibabel would mend what is refused here.
        fields = Nifti1Header(raw[:_SIZE], order, check=False)  # type: ignore[no-untyped-call]
        size = int(fields["sizeof_hdr"])
        if size == _SIZE_NIFTI2:
            raise BadCase(path, "is NIfTI-2, which is not supported", "Convert it to NIfTI-1 (nib-convert)")
        if size != _SIZE:
            continue
        magic = raw[_SIZE - 4 : _SIZE]  # nibabel's field drops the zero at its end
        if magic == b"ni1\0":
            raise BadCase(path, "is one half of a NIfTI pair (.hdr/.img)", "Convert it to a single .nii.gz")
        if magic == b"n+1\0":
            return fields
    raise BadCase(
        path, "is not a NIfTI file: the header has no NIfTI-1 mark", "Convert it to .nii or .nii.gz"
    )


def _shape(path: Path, dim: list[int]) -> tuple[int, int, int]:
    declared = dim[1 : 1 + dim[0]] if 1 <= dim[0] <= 7 else []
    # ITK and SPM write a trailing dimension of 1: still one volume.
    if len(declared) < 3 or any(length != 1 for length in declared[3:]):
        raise BadCase(
            path,
            f"is not one 3-D volume: its header declares the dimensions {dim[0]}: {declared}",
            "Give one file per volume and channel",
        )
    x, y, z = declared[:3]
    if min(x, y, z) < 2:
        raise BadCase(
            path, f"declares the shape {(x, y, z)}", "A volume has at least 2 voxels along each axis"
        )
    return x, y, z


def _dtype(path: Path, fields: Nifti1Header) -> np.dtype[np.generic]:
    code = int(fields["datatype"])
    if code not in _USABLE_DTYPES:
        kind = _UNUSABLE_DTYPES.get(code, "unknown")
        raise BadCase(
            path, f"has {kind} voxels (NIfTI datatype {code})", "Convert it to one integer or float per voxel"
        )
    dtype: np.dtype[np.generic] = fields.get_data_dtype()  # type: ignore[no-untyped-call]
    return dtype


def _check_size(path: Path, shape: tuple[int, ...], dtype: np.dtype[np.generic], max_mebibytes: int) -> None:
    voxels = shape[0] * shape[1] * shape[2]
    mebibytes = voxels * 4 / _MIB
    if mebibytes > max_mebibytes:
        raise BadCase(
            path,
            f"declares {' x '.join(map(str, shape))} voxels, {mebibytes:,.0f} MiB as float32; "
            f"spec.maxCaseMebibytes is {max_mebibytes}",
            "Crop or resample it, or raise the limit if the size is right",
        )
    on_disk = path.stat().st_size
    stored = voxels * dtype.itemsize
    gzipped = path.name.endswith(".gz")
    if on_disk * _MAX_GZIP_RATIO < stored or (not gzipped and on_disk < stored + HEADER_BYTES):
        raise BadCase(
            path,
            f"is cut short: {on_disk} bytes cannot hold the {stored} bytes its header declares",
            "Copy or export it again",
        )


def _check_spacing(path: Path, pixdim: tuple[float, ...], units: int) -> None:
    if not all(np.isfinite(length) and length > 0 for length in pixdim):
        raise BadCase(path, f"declares the spacing {pixdim}", "Write positive millimetres to pixdim[1..3]")
    if units in _UNITS:
        raise BadCase(path, f"is measured in {_UNITS[units]}", "Convert it to millimetres")


def _scaling(path: Path, slope: float, intercept: float) -> tuple[float, float]:
    if not np.isfinite([slope, intercept]).all():
        raise BadCase(
            path,
            f"scales its voxels by scl_slope {slope}, scl_inter {intercept}",
            "Write finite numbers (1 and 0 for none)",
        )
    # NIfTI: a slope of zero means that nothing is scaled.
    return (slope, intercept) if slope != 0 else (1.0, 0.0)


def _offset(path: Path, declared: float) -> int:
    if not (np.isfinite(declared) and HEADER_BYTES <= declared <= _MAX_EXTENSION_BYTES and declared % 1 == 0):
        raise BadCase(path, f"says that its voxels start at byte {declared}", "Export it again")
    return int(declared)


def _skip(stream: BinaryIO, count: int, path: Path) -> None:
    while count:
        read = read_at_most(stream, min(count, _MIB), path)
        if not read:
            raise BadCase(path, "is cut short within its header", "Copy or export it again")
        count -= len(read)


def _fill(stream: BinaryIO, target: memoryview, path: Path) -> None:
    filled = 0
    while filled < len(target):
        read = read_at_most(stream, min(_MIB, len(target) - filled), path)
        if not read:
            raise BadCase(
                path,
                f"is cut short: it holds {filled} of the {len(target)} bytes its header declares",
                "Copy or export it again",
            )
        target[filled : filled + len(read)] = read
        filled += len(read)
