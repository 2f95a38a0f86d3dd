"""DICOM series: the volume that their headers describe, or a refusal that says what is missing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from builders.dicom import SIGNED_16, Plane, planes, write_enhanced, write_single
from segviz_exchange.process.errors import Refusal
from segviz_trainer.dicom.series import series_to_nifti

LIMIT = 64
Made = list[Plane]


def read(folder: Path, limit: int = LIMIT) -> tuple[np.ndarray, np.ndarray]:
    """Voxels and affine, as the product has them."""
    series_to_nifti(folder, folder.with_suffix(".nii"), limit)
    image = nib.load(folder.with_suffix(".nii"))
    return np.asarray(image.dataobj), image.affine


def expected(given: Made) -> np.ndarray:
    """(columns, rows, slices) of axial slices, lowest first."""
    ordered = sorted(given, key=lambda plane: plane.position[2])
    return np.stack([(p.slope * p.stored + p.intercept).T for p in ordered], axis=-1).astype(np.float32)


def shuffled(given: Made) -> Made:
    return [given[index] for index in (3, 0, 5, 1, 4, 2)]


def rescaled(given: Made) -> Made:
    return [replace(p, slope=1 + n / 2, intercept=-1000.0 - n) for n, p in enumerate(given)]


READ: dict[str, Callable[[Made], Made]] = {
    "in order": lambda given: given,
    "upside down": lambda given: given[::-1],
    "in random order": shuffled,
    "a rescale for each slice": rescaled,
    "one slice without an offset": lambda given: [replace(given[0], intercept=0.0), *given[1:]],
    "a fractional slope": lambda given: [replace(p, slope=0.37) for p in given],
    "signed": lambda given: [replace(p, stored=p.stored - 1000, bits=SIGNED_16) for p in given],
    "signed in 12 bits": lambda given: [
        replace(p, stored=p.stored - 1000, bits=(16, 12, True)) for p in given
    ],
    "8 bits": lambda given: [replace(p, stored=p.stored % 256, bits=(8, 8, False)) for p in given],
    "32 bits": lambda given: [replace(p, bits=(32, 32, True)) for p in given],
    "places rounded to a tenth": lambda given: [
        replace(p, position=(p.position[0], p.position[1], round(n * 0.625, 1))) for n, p in enumerate(given)
    ],
}


@pytest.mark.parametrize("write", [write_single, write_enhanced])
@pytest.mark.parametrize("made", READ.values(), ids=READ)
def test_values_are_those_of_the_headers(
    made: Callable[[Made], Made], write: Callable[..., Path], tmp_path: Path
) -> None:
    given = made(planes())
    voxels, affine = read(write(tmp_path / "series", given))
    assert np.array_equal(voxels, expected(given))
    lowest = min(given, key=lambda plane: plane.position[2]).position
    assert affine[:3, 3] == pytest.approx([-lowest[0], -lowest[1], lowest[2]])
    assert np.diag(affine)[:2] == pytest.approx([-1.5, -2.0])


def test_each_file_may_have_a_number_type_of_its_own(tmp_path: Path) -> None:
    given = planes()
    given[2] = replace(given[2], stored=given[2].stored - 1500, bits=SIGNED_16, intercept=0.0)
    voxels, _ = read(write_single(tmp_path / "series", given))
    assert np.array_equal(voxels, expected(given))


def test_bits_above_those_stored_have_no_meaning(tmp_path: Path) -> None:
    given = planes()
    marked = [replace(p, stored=p.stored | 0x7000) for p in given]  # an overlay, as old scanners packed it
    voxels, _ = read(write_single(tmp_path / "series", marked))
    assert np.array_equal(voxels, expected(given))


def test_shared_headers_stand_for_every_frame(tmp_path: Path) -> None:
    def share(dataset: Dataset) -> None:
        for name in (
            "PlaneOrientationSequence",
            "PixelMeasuresSequence",
            "PixelValueTransformationSequence",
        ):
            dataset.SharedFunctionalGroupsSequence[0][name] = dataset.PerFrameFunctionalGroupsSequence[0][
                name
            ]
            for group in dataset.PerFrameFunctionalGroupsSequence:
                del group[name]

    given = shuffled(planes())
    voxels, _ = read(write_enhanced(tmp_path / "series", given, share))
    assert np.array_equal(voxels, expected(given))


def test_a_compressed_series_is_decoded(tmp_path: Path) -> None:
    given = planes()
    folder = write_single(tmp_path / "series", given)
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless)
        dataset.save_as(path)
    assert np.array_equal(read(folder)[0], expected(given))


# --- refused ----------------------------------------------------------------------------------------------


def without(keyword: str) -> Callable[[int, Dataset], None]:
    def drop(number: int, dataset: Dataset) -> None:
        if number == 2:
            delattr(dataset, keyword)

    return drop


def having(number: int | None = 2, **values: object) -> Callable[[int, Dataset], None]:
    """`values` in the slice `number`, or in all."""

    def spoil(each: int, dataset: Dataset) -> None:
        if number in (None, each):
            for keyword, value in values.items():
                setattr(dataset, keyword, value)

    return spoil


SPOILT: dict[str, tuple[Callable[[int, Dataset], None], str]] = {
    "no position": (without("ImagePositionPatient"), r"IM0002\.dcm has no ImagePositionPatient, so where"),
    "no orientation": (without("ImageOrientationPatient"), r"IM0002\.dcm has no ImageOrientationPatient"),
    "no spacing": (without("PixelSpacing"), r"IM0002\.dcm has no PixelSpacing"),
    "no slope": (without("RescaleSlope"), r"IM0002\.dcm has no RescaleSlope, so what its values mean"),
    "no intercept": (without("RescaleIntercept"), r"IM0002\.dcm has no RescaleIntercept"),
    "an empty position": (having(ImagePositionPatient=None), "has no ImagePositionPatient"),
    "two coordinates": (having(ImagePositionPatient=[1.0, 2.0]), r"not 3 finite numbers"),
    "a spacing of zero": (having(PixelSpacing=[0.0, 1.5]), "as PixelSpacing. Write positive"),
    "a slope of zero": (having(RescaleSlope=0.0), "RescaleSlope of 0"),
    "another spacing": (having(PixelSpacing=[1.6, 1.2]), r"differ in PixelSpacing: .* in IM0002\.dcm"),
    "another orientation": (having(ImageOrientationPatient=[1, 0, 0, 0, 0, -1]), "differ in ImageOrient"),
    "flipped rows": (having(ImageOrientationPatient=[-1, 0, 0, 0, 1, 0]), "differ in ImageOrientation"),
    "skewed directions": (having(ImageOrientationPatient=[1, 0, 0, 0.5, 0.866, 0]), "at a right angle"),
    "directions of no length": (having(ImageOrientationPatient=[0, 0, 0, 0, 0, 0]), "at a right angle"),
    "another frame of reference": (having(FrameOfReferenceUID="1.9"), "differ in FrameOfReferenceUID"),
    "another series": (having(SeriesInstanceUID="1.9"), r"holds 2 DICOM series: 1\.2\.3\.4, 1\.9"),
    "the same position twice": (having(ImagePositionPatient=[-10, -20, 5]), "lie at the same place"),
    "one position for all": (having(None, ImagePositionPatient=[0, 0, 0]), r"same place \(5 such pairs\)"),
    "a slice aside": (having(ImagePositionPatient=[-4, -20, 10]), r"IM0002\.dcm lies 6\.00 mm beside"),
    "a slice off its place": (having(ImagePositionPatient=[-10, -20, 11]), r"lie 1\.50 to 3\.50 mm apart"),
    "colours": (having(SamplesPerPixel=3, PhotometricInterpretation="RGB"), "3 samples a voxel as RGB"),
    "a palette": (having(PhotometricInterpretation="PALETTE COLOR"), "as PALETTE COLOR"),
    "a map of effective numbers": (having(None, RescaleType="Z_EFF"), "values in Z_EFF"),
    "high bits": (having(HighBit=15), "stores 12 bits up to bit 15 in 16"),
    "no sign": (without("PixelRepresentation"), "does not say whether its values have a sign"),
    "voxels cut short": (having(PixelData=b"\0" * 10), "holds 10 bytes .* declare 40"),
    "more voxels than declared": (having(PixelData=b"\0" * 80), "holds 80 bytes .* declare 40"),
    "a table of values": (having(ModalityLUTSequence=[Dataset()]), "ModalityLUTSequence"),
}


@pytest.mark.parametrize(("change", "told"), SPOILT.values(), ids=SPOILT)
def test_a_series_that_leaves_something_open_is_refused(
    change: Callable[[int, Dataset], None], told: str, tmp_path: Path
) -> None:
    folder = write_single(tmp_path / "series", planes(), change)
    with pytest.raises(Refusal, match=told):
        read(folder)


def in_frame(macro: str, **values: object) -> Callable[[Dataset], None]:
    def spoil(dataset: Dataset) -> None:
        for keyword, value in values.items():
            setattr(dataset.PerFrameFunctionalGroupsSequence[2][macro][0], keyword, value)

    return spoil


def no_macro(name: str) -> Callable[[Dataset], None]:
    def spoil(dataset: Dataset) -> None:
        del dataset.PerFrameFunctionalGroupsSequence[2][name]

    return spoil


def no_groups(dataset: Dataset) -> None:
    del dataset.PerFrameFunctionalGroupsSequence


def one_group_less(dataset: Dataset) -> None:
    del dataset.PerFrameFunctionalGroupsSequence[0]


FRAMES: dict[str, tuple[Callable[[Dataset], None], str]] = {
    "no position": (no_macro("PlanePositionSequence"), "frame 3 has no ImagePositionPatient"),
    "no orientation": (no_macro("PlaneOrientationSequence"), "frame 3 has no ImageOrientationPatient"),
    "no spacing": (no_macro("PixelMeasuresSequence"), "frame 3 has no PixelSpacing"),
    "no rescale": (no_macro("PixelValueTransformationSequence"), "frame 3 has no RescaleSlope"),
    "a repeated position": (
        in_frame("PlanePositionSequence", ImagePositionPatient=[-10, -20, 5]),
        r"frame 1 of enhanced\.dcm and frame 3 of enhanced\.dcm lie at the same place",
    ),
    "a frame off its place": (
        in_frame("PlanePositionSequence", ImagePositionPatient=[-10, -20, 11]),
        "some are missing",
    ),
    "another spacing": (in_frame("PixelMeasuresSequence", PixelSpacing=[9, 9]), "differ in PixelSpacing"),
    "no functional groups": (no_groups, "has 6 frames without functional groups"),
    "a group less than frames": (one_group_less, "has 6 frames, but headers for 5"),
}


@pytest.mark.parametrize(("change", "told"), FRAMES.values(), ids=FRAMES)
def test_a_multi_frame_file_that_leaves_something_open_is_refused(
    change: Callable[[Dataset], None], told: str, tmp_path: Path
) -> None:
    folder = write_enhanced(tmp_path / "series", planes(), change)
    with pytest.raises(Refusal, match=told):
        read(folder)


@pytest.mark.parametrize("write", [write_single, write_enhanced])
@pytest.mark.parametrize("lost", [1, 3, 4])
def test_a_gap_is_refused(lost: int, write: Callable[..., Path], tmp_path: Path) -> None:
    given = planes()
    del given[lost]
    with pytest.raises(Refusal, match=r"2\.50 to 5\.00 mm apart"):
        read(write(tmp_path / "series", given))


@pytest.mark.parametrize("write", [write_single, write_enhanced])
def test_a_tilted_gantry_is_refused(write: Callable[..., Path], tmp_path: Path) -> None:
    lean = np.tan(np.radians(12))
    given = [replace(p, position=(-10.0, -20 + n * 2.5 * lean, 2.5 * n)) for n, p in enumerate(planes())]
    with pytest.raises(Refusal, match=r"stacked 12\.0 degrees off"):
        read(write(tmp_path / "series", given))


def test_one_slice_is_no_volume(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="holds one slice only"):
        read(write_single(tmp_path / "series", planes(1)))


# --- sizes ------------------------------------------------------------------------------------------------


def vast(dataset: Dataset) -> None:
    """A little file that declares a big volume: 6 frames of 4096 x 4096, 384 MiB."""
    dataset.Rows = dataset.Columns = 4096


def test_a_size_is_refused_before_a_voxel_is_decoded(tmp_path: Path) -> None:
    folder = write_enhanced(tmp_path / "series", planes(), vast)
    with pytest.raises(Refusal, match="declares 4096 x 4096 x 6 voxels, 384 MiB as float32; the limit is 64"):
        read(folder)


def test_many_small_files_meet_the_limit_together(tmp_path: Path) -> None:
    given = planes(3, rows=512, columns=512)
    with pytest.raises(Refusal, match="declares 512 x 512 x 3 voxels, 3 MiB"):
        read(write_single(tmp_path / "series", given), limit=2)


def test_a_deflated_file_is_refused_before_it_is_inflated(tmp_path: Path) -> None:
    folder = write_single(tmp_path / "series", planes())
    path = folder / "IM0003.dcm"
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(path)
    with pytest.raises(Refusal, match=r"IM0003\.dcm: is stored deflated"):
        read(folder)


# --- what else lies in the folder -------------------------------------------------------------------------


def test_other_files_are_left_out_by_name(tmp_path: Path) -> None:
    folder = write_single(tmp_path / "series", planes())
    (folder / "README.txt").write_text("from the clinic", encoding="utf-8")
    (folder / "._IM0000.dcm").write_bytes(b"macOS")
    (folder / "other").mkdir()
    told = series_to_nifti(folder, tmp_path / "out.nii", LIMIT)
    assert set(told) == {
        "left out: files that are not DICOM: 1 (README.txt)",
        "left out: hidden files: 1 (._IM0000.dcm)",
        "left out: folders, which are not looked into: 1 (other)",
    }


def test_a_slice_that_is_no_longer_dicom_is_refused(tmp_path: Path) -> None:
    """At an end of the stack nobody would miss it."""
    folder = write_single(tmp_path / "series", planes())
    (folder / "IM0005.dcm").write_bytes(b"")
    with pytest.raises(Refusal, match=r"IM0005\.dcm: is not a DICOM file, although its name says so"):
        read(folder)
