"""A header is believed only after it was checked, and never for more than it can hold."""

import contextlib
import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segviz_trainer.data.headers import HEADER_BYTES, check_header, read_volume
from segviz_trainer.process.errors import BadCase

CAP_MEBIBYTES = 64


def stored(array: np.ndarray, affine: np.ndarray | None = None) -> bytearray:
    image = nib.Nifti1Image(array, np.diag([2.0, 2.0, 3.0, 1.0]) if affine is None else affine)
    image.header.set_xyzt_units("mm")
    return bytearray(image.to_bytes())


def ramp() -> np.ndarray:
    return np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)


def written(folder: Path, raw: bytes, name: str = "case.nii") -> Path:
    path = folder / name
    path.write_bytes(raw)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(BadCase) as caught:
        read_volume(path, check_header(path, CAP_MEBIBYTES))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return caught.value.reason


def test_a_volume_reads_as_nibabel_reads_it(tmp_path: Path) -> None:
    affine = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -7], [0, 0, 3.0, 9], [0, 0, 0, 1]])
    path = written(tmp_path, gzip.compress(stored(ramp(), affine)), "case.nii.gz")
    header = check_header(path, CAP_MEBIBYTES)
    assert (header.shape, header.spacing, header.orientation) == ((4, 5, 6), (1.5, 2.0, 3.0), "ALS")
    np.testing.assert_allclose(header.affine, nib.load(path).affine)
    np.testing.assert_array_equal(read_volume(path, header), ramp())


def test_a_qform_alone_gives_nibabels_affine(tmp_path: Path) -> None:
    image = nib.Nifti1Image(ramp(), None)
    turn, _ = np.linalg.qr(np.array([[0.9, 0.3, 0.1], [-0.2, 0.8, 0.4], [0.1, -0.3, 0.95]]))
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([1.0, 2.0, 3.0])
    affine[:3, 3] = (4, 5, 6)
    image.set_qform(affine, 1)
    image.set_sform(None, 0)
    path = written(tmp_path, image.to_bytes())
    np.testing.assert_allclose(check_header(path, CAP_MEBIBYTES).affine, affine, atol=1e-5)


def test_slope_and_intercept_are_applied(tmp_path: Path) -> None:
    raw = stored(ramp())
    struct.pack_into("<2f", raw, 112, 2.0, -10.0)
    path = written(tmp_path, raw)
    np.testing.assert_array_equal(read_volume(path, check_header(path, CAP_MEBIBYTES)), ramp() * 2.0 - 10)


def test_a_big_endian_file_reads_the_same(tmp_path: Path) -> None:
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    path = written(tmp_path, nib.Nifti1Image(ramp(), np.eye(4) * [2, 2, 2, 1], header).to_bytes())
    assert path.read_bytes()[:4] == b"\x00\x00\x01\x5c"
    np.testing.assert_array_equal(read_volume(path, check_header(path, CAP_MEBIBYTES)), ramp())


def test_a_trailing_dimension_of_one_is_still_one_volume(tmp_path: Path) -> None:
    path = written(tmp_path, stored(ramp()[..., None]))
    assert check_header(path, CAP_MEBIBYTES).shape == (4, 5, 6)


def test_a_spacing_of_exactly_one_is_warned_about(tmp_path: Path) -> None:
    one = check_header(written(tmp_path, stored(ramp(), np.eye(4))), CAP_MEBIBYTES)
    two = check_header(written(tmp_path, stored(ramp())), CAP_MEBIBYTES)
    assert "1x1x1" in one.warnings[0]
    assert two.warnings == ()


EDITS = {
    "no NIfTI mark": (344, b"abcd", "not a NIfTI file"),
    "a pair": (344, b"ni1\0", "pair"),
    "NIfTI-2": (0, struct.pack("<i", 540), "NIfTI-2"),
    "four dimensions": (40, struct.pack("<5h", 4, 4, 5, 3, 2), "not one 3-D volume"),
    "two dimensions": (40, struct.pack("<3h", 2, 4, 30), "not one 3-D volume"),
    "a negative dimension": (42, struct.pack("<h", -4), "shape"),
    "a single slice": (40, struct.pack("<4h", 3, 4, 30, 1), "shape"),
    "RGB": (70, struct.pack("<h", 128), "RGB"),
    "complex": (70, struct.pack("<h", 32), "complex"),
    "a zero spacing": (80, struct.pack("<f", 0.0), "spacing"),
    "a NaN spacing": (80, struct.pack("<f", float("nan")), "spacing"),
    "metres": (123, b"\x01", "metres"),
    "an infinite slope": (112, struct.pack("<f", float("inf")), "scl_slope"),
    "no form codes": (252, struct.pack("<2h", 0, 0), "qform and sform codes are 0"),
    "a singular affine": (280, struct.pack("<4f", 0, 0, 0, 0), "affine"),
    "parallel axes": (280, struct.pack("<12f", 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0), "singular"),
    "a shear": (284, struct.pack("<f", 0.5), "sheared"),
    "a NaN affine": (280, struct.pack("<f", float("nan")), "affine"),
    "voxels within the header": (108, struct.pack("<f", 10.0), "byte 10"),
    "an extension beyond the end": (108, struct.pack("<f", 4096.0), "cut short"),
    "terabytes": (40, struct.pack("<4h", 3, 32767, 32767, 32767), "MiB"),
    "more than it holds": (42, struct.pack("<h", 40), "cut short"),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_header_is_refused_for(edit: tuple[int, bytes, str], tmp_path: Path) -> None:
    offset, value, reason = edit
    raw = stored(ramp())
    assert check_header(written(tmp_path, raw), CAP_MEBIBYTES)
    raw[offset : offset + len(value)] = value
    assert reason in refusal(written(tmp_path, raw))


def test_a_tilted_gantrys_angle_is_named(tmp_path: Path) -> None:
    assert "14.0 degrees" in refusal(written(tmp_path, stored(ramp(), np.array(
        [[2.0, 0.5, 0, 0], [0, 2.0, 0, 0], [0, 0, 3.0, 0], [0, 0, 0, 1]]
    ))))  # fmt: skip


def test_a_gzip_stream_cut_in_half_is_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 2**15, (20, 20, 20), dtype=np.int16)
    packed = gzip.compress(stored(noise))
    assert "cut short" in refusal(written(tmp_path, packed[: len(packed) // 2], "case.nii.gz"))


def test_a_gzip_stream_without_its_last_bytes_is_refused(tmp_path: Path) -> None:
    assert "cut short" in refusal(written(tmp_path, gzip.compress(stored(ramp()))[:-4], "case.nii.gz"))


def test_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(stored(ramp())))
    packed[-8] ^= 1
    assert "corrupt" in refusal(written(tmp_path, packed, "case.nii.gz"))


def test_a_stream_that_holds_more_than_declared_is_refused(tmp_path: Path) -> None:
    packed = gzip.compress(bytes(stored(ramp())) + b"\0")
    assert "more data" in refusal(written(tmp_path, packed, "case.nii.gz"))


def test_a_name_that_hides_its_compression_is_refused(tmp_path: Path) -> None:
    assert "gzip-compressed, but its name says otherwise" in refusal(
        written(tmp_path, gzip.compress(stored(ramp())))
    )
    assert "not gzip-compressed" in refusal(written(tmp_path, stored(ramp()), "case.nii.gz"))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "cannot be opened" in refusal(tmp_path / "none.nii")
    (tmp_path / "folder.nii").mkdir()
    assert "cannot be opened" in refusal(tmp_path / "folder.nii")


MARKED = st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES + 64).map(
    lambda raw: struct.pack("<i", 348) + raw[4:344] + b"n+1\0" + raw[348:]
)
# Mostly right, so that the checks behind the first ones are reached.
EDITED = st.lists(st.tuples(st.integers(0, 340), st.binary(min_size=1, max_size=8)), max_size=4).map(
    lambda edits: _edited(edits)
)


def _edited(edits: list[tuple[int, bytes]]) -> bytes:
    raw = stored(ramp())
    for offset, value in edits:
        raw[offset : offset + len(value)] = value
    return bytes(raw)


@given(raw=st.one_of(MARKED, EDITED), gzipped=st.booleans())
@settings(
    max_examples=settings().max_examples * 4, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_bytes_give_a_volume_or_a_refusal(raw: bytes, gzipped: bool, tmp_path: Path) -> None:
    path = written(tmp_path, gzip.compress(raw, 1) if gzipped else raw, f"fuzz.nii{'.gz' * gzipped}")
    # Anything but BadCase fails the test.
    with contextlib.suppress(BadCase):
        header = check_header(path, CAP_MEBIBYTES)
        assert np.isfinite(header.affine).all()
        assert read_volume(path, header).shape == header.shape
