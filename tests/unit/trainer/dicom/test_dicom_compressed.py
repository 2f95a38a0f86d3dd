"""Compressed DICOM: the values that went in, or a refusal where a frame says otherwise than the headers."""

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from builders.dicom import SIGNED_16, Plane, planes, write_enhanced, write_single
from builders.dicom_compressed import SYNTAXES, compressed, frame_of
from segviz_exchange.process.errors import Refusal
from segviz_trainer.dicom.codestream import Codestream, read_codestream
from segviz_trainer.dicom.series import series_to_nifti

ROWS, COLUMNS = 16, 12
LOSSLESS = [each for each in SYNTAXES if "Lossless" in each and "Near" not in each]
LOSSY_BY_AT_MOST = 3

KINDS: dict[str, Callable[[Plane], Plane]] = {
    "12 bits": lambda plane: plane,
    "16 bits, signed": lambda plane: replace(plane, stored=plane.stored - 1000, bits=SIGNED_16),
    "12 bits, signed": lambda plane: replace(plane, stored=plane.stored - 1000, bits=(16, 12, True)),
    "8 bits": lambda plane: replace(plane, stored=plane.stored % 256, bits=(8, 8, False)),
}


def given(kind: str = "12 bits", rows: int = ROWS, columns: int = COLUMNS) -> list[Plane]:
    return [KINDS[kind](plane) for plane in planes(4, rows, columns)]


def read(folder: Path) -> np.ndarray:
    series_to_nifti(folder, folder.with_suffix(".nii"), 64)
    return np.asarray(nib.load(folder.with_suffix(".nii")).dataobj)


def expected(made: list[Plane]) -> np.ndarray:
    return np.stack([(p.slope * p.stored + p.intercept).T for p in made], axis=-1).astype(np.float32)


both = pytest.mark.parametrize("write", [write_single, write_enhanced])


@both
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("syntax", LOSSLESS)
def test_lossless_values_are_those_that_went_in(
    syntax: str, kind: str, write: Callable[..., Path], tmp_path: Path
) -> None:
    made = given(kind)
    assert np.array_equal(read(compressed(write, tmp_path / "series", made, syntax)), expected(made))


@both
@pytest.mark.parametrize(
    ("syntax", "kind"),
    [
        ("JPEGBaselineProcess1", "8 bits"),
        ("JPEGExtendedProcess2_4", "8 bits"),
        ("JPEGLSNearLossless", "12 bits"),
        ("JPEGLSNearLossless", "16 bits, signed"),
        ("JPEG2000", "12 bits"),
        ("JPEG2000", "16 bits, signed"),
    ],
)
def test_lossy_values_are_near_those_that_went_in(
    syntax: str, kind: str, write: Callable[..., Path], tmp_path: Path
) -> None:
    made = given(kind)
    found = read(compressed(write, tmp_path / "series", made, syntax))
    assert np.abs(found - expected(made)).max() <= LOSSY_BY_AT_MOST


# --- frames that are not what the headers say -------------------------------------------------------------

OTHER_SIZES = {
    "rows for columns": (COLUMNS, ROWS),
    "a row less": (ROWS - 1, COLUMNS),
    "a column more": (ROWS, COLUMNS + 1),
    "the same area": (ROWS // 2, COLUMNS * 2),
    "a bomb": (1024, 1024),
}


@pytest.mark.parametrize("size", OTHER_SIZES.values(), ids=OTHER_SIZES)
@pytest.mark.parametrize("syntax", ["JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless"])
def test_a_frame_of_another_size_is_refused(syntax: str, size: tuple[int, int], tmp_path: Path) -> None:
    other = frame_of(replace(planes(1)[0], stored=np.zeros(size, np.uint16)), syntax)
    folder = compressed(
        write_enhanced, tmp_path / "series", given(), syntax, lambda frames: [*frames[:2], other, frames[3]]
    )
    rows, columns = size
    told = (
        rf"enhanced\.dcm: frame 3 is compressed as {columns} x {rows} voxels of 1 samples, "
        rf"where its headers declare {COLUMNS} x {ROWS} of 1"
    )
    with pytest.raises(Refusal, match=told):
        read(folder)


def in_colour(frame: bytes) -> bytes:
    """Its header, declaring three samples a voxel."""
    if frame.startswith(b"\xff\x4f"):
        return frame[:40] + struct.pack(">H", 3) + frame[42:]
    at = frame.index(b"\xff\xf7" if b"\xff\xf7" in frame else b"\xff\xc3")
    return frame[: at + 9] + b"\x03" + frame[at + 10 :]


def in_four_bits(frame: bytes) -> bytes:
    at = frame.index(b"\xff\xc3")
    return frame[: at + 4] + b"\x04" + frame[at + 5 :]


SPOILT: dict[str, tuple[str, str, Callable[[list[bytes]], list[bytes]], str]] = {
    "colours in JPEG": (
        "JPEGLosslessProcess14_1", "12 bits", lambda f: [in_colour(each) for each in f],
        "voxels of 3 samples",
    ),
    "colours in JPEG-LS": (
        "JPEGLSLossless", "12 bits", lambda f: [in_colour(each) for each in f], "voxels of 3 samples",
    ),
    "colours in JPEG 2000": (
        "JPEG2000Lossless", "12 bits", lambda f: [in_colour(each) for each in f], "voxels of 3 samples",
    ),
    "a sign beyond its bits": (
        "JPEGLosslessProcess14_1", "16 bits, signed", lambda f: [in_four_bits(each) for each in f],
        "compressed in 4 bits, where its headers declare 16 stored in 16",
    ),
    "a frame less": ("JPEGLSLossless", "12 bits", lambda f: f[:-1], "compressed frames of|cannot be decoded"),
    "a frame more": ("JPEGLSLossless", "12 bits", lambda f: [*f, f[0]], "compressed frames of|cannot be"),
    "no picture": (
        "JPEGLSLossless", "12 bits", lambda f: [b"nothing of the kind!" for _ in f],
        "neither JPEG, JPEG-LS nor JPEG 2000",
    ),
    "a file of JPEG 2000": (
        "JPEG2000Lossless", "12 bits", lambda f: [b"\0\0\0\x0cjP  \r\n\x87\n" + each for each in f],
        "neither JPEG, JPEG-LS nor JPEG 2000",
    ),
    "a header cut short": (
        "JPEG2000Lossless", "12 bits", lambda f: [each[:20] for each in f], "is cut short",
    ),
    "no size before the scan": (
        "JPEGLosslessProcess14_1", "12 bits",
        lambda f: [b"\xff\xd8" + each[each.index(b"\xff\xda") :] for each in f], "no header with its size",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("syntax", "kind", "change", "told"), SPOILT.values(), ids=SPOILT)
def test_frames_that_leave_something_open_are_refused(
    syntax: str, kind: str, change: Callable[[list[bytes]], list[bytes]], told: str, tmp_path: Path
) -> None:
    with pytest.raises(Refusal, match=told):
        read(compressed(write_enhanced, tmp_path / "series", given(kind), syntax, change))


def test_twelve_bits_of_extended_jpeg_are_refused(tmp_path: Path) -> None:
    """No decoder that we have reads them."""
    folder = compressed(write_single, tmp_path / "series", given(), "JPEGExtendedProcess2_4")
    with pytest.raises(Refusal, match=r"IM0000\.dcm: has voxels that cannot be decoded"):
        read(folder)


# --- what a frame says of itself --------------------------------------------------------------------------

SOF = b"\x00\x0b\x0c" + struct.pack(">HHB", 7, 9, 1) + b"\x01\x11\x00"
SIZ = struct.pack(">HH8IH", 41, 0, 29, 17, 20, 10, 9, 7, 0, 0, 1)
HEADERS = {
    "baseline": b"\xff\xd8\xff\xc0" + SOF,
    "lossless": b"\xff\xd8\xff\xc3" + SOF,
    "JPEG-LS": b"\xff\xd8\xff\xf7" + SOF,
    "after an APP segment": b"\xff\xd8\xff\xe0\x00\x06JFIF\xff\xc3" + SOF,
    "after a table": b"\xff\xd8\xff\xc4\x00\x03\xc0\xff\xdb\x00\x02\xff\xc1" + SOF,
    "after bytes that fill": b"\xff\xd8\xff\xff\xff\xc3" + SOF,
    "JPEG 2000 beside its origin": b"\xff\x4f\xff\x51" + SIZ + b"\x0b\x01\x01",
}


@pytest.mark.parametrize("frame", HEADERS.values(), ids=HEADERS)
def test_a_size_is_found(frame: bytes) -> None:
    assert read_codestream(frame) == Codestream(rows=7, columns=9, samples=1, bits=12)


@pytest.mark.parametrize("frame", [b"", b"\xff\xd8", b"\xff\xd8\xff\xd9", b"\xff\x4f\xff\x51", b"\x89PNG"])
def test_a_frame_without_a_size_is_none(frame: bytes) -> None:
    with pytest.raises(ValueError, match="a compressed frame"):
        read_codestream(frame)
