"""DICOM-SEG and RT Structure Sets as others find them: every voxel, the patient, the codes, the model."""

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.dataset import Dataset

from builders import read_back
from builders.dicom import Plane, planes, write_enhanced, write_single
from segviz_trainer.dicom.algorithm import Algorithm
from segviz_trainer.dicom.contours import Contours
from segviz_trainer.dicom.rtstruct import structure_set_of
from segviz_trainer.dicom.segmentation import check_segmentable, segmentation_of
from segviz_trainer.dicom.segments import Segments
from segviz_trainer.dicom.series import find_series, read_stack
from segviz_trainer.dicom.source import source_of
from segviz_trainer.process.errors import BadCase

DIGEST = "ab" * 32
NOW = datetime(2026, 2, 3, 4, 5, 6)
ORGANS = {"liver": 2, "kidney_left": 1, "Nebenmilz größer": 5}
ROWS, COLUMNS, SLICES = 8, 6, 5
"""Whole bytes a frame: SimpleITK misreads frames of single bits that begin within a byte."""


def turned(degrees: float, about: Sequence[float]) -> np.ndarray:
    axis = np.array(about) / np.linalg.norm(about)
    cross = np.cross(np.eye(3), axis)
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


LIES = {
    "axial": np.eye(3),
    "feet first": np.diag([-1.0, 1.0, -1.0]),
    "from front to back": np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]]),
    "oblique": turned(33.0, (1.0, -2.0, 0.5)),
}


def scanned(lies: np.ndarray) -> list[Plane]:
    """Along the normal; `lies` has the directions of columns, rows and slices as its columns."""
    given = planes(SLICES, ROWS, COLUMNS)
    for number, plane in enumerate(given):
        plane.position = (np.array([-80.5, 12.25, 700.125]) + 2.5 * number * lies[:, 2]).round(6).tolist()
        plane.orientation = lies[:, :2].T.ravel().round(8).tolist()
        plane.spacing = (0.9765625, 1.171875)
    return given


def labelled() -> np.ndarray:
    """(columns, rows, slices): blocks with holes, islands and corners that touch, and ids of no organ."""
    chance = np.random.default_rng(3)
    labels = chance.choice(np.array([0, 1, 2, 2, 2, 3, 5], np.uint8), (COLUMNS, ROWS, SLICES))
    labels[:, :, 0][labels[:, :, 0] == 1] = 0
    labels[:, :, 2] = 2
    labels[2, 3, 2] = 5
    return labels


Writer = Callable[[Path, Sequence[Plane]], Path]
WRITERS: dict[str, Writer] = {"single": write_single, "enhanced": write_enhanced}


@pytest.fixture(params=WRITERS)
def written(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def expected(kind: str, labels: np.ndarray, order: Sequence[int]) -> read_back.Masks:
    """`order`: which plane each file or frame holds."""
    planes_of = {
        ("1.2.3.4.1", place) if kind == "enhanced" else (f"1.2.3.4.{place}", None): labels[:, :, plane].T
        for place, plane in enumerate(order, start=1)
    }
    return {
        organ: {key: plane == number for key, plane in planes_of.items() if (plane == number).any()}
        for organ, number in ORGANS.items()
    }


def both(series: Path, labels: np.ndarray, organs: dict[str, int] = ORGANS) -> tuple[Path, Path]:
    source, algorithm = source_of(series, 64), Algorithm("1.2", f"sha256:{DIGEST}")
    check_segmentable(series, source)
    files = series.parent / "seg.dcm", series.parent / "rt.dcm"
    segmentation_of(source, labels, organs, algorithm).save_as(files[0], enforce_file_format=True)
    structures = structure_set_of(source, labels, organs, algorithm, NOW)
    structures.save_as(files[1], enforce_file_format=True)
    return files


def check(found: read_back.Masks, wanted: read_back.Masks) -> None:
    assert found.keys() == wanted.keys()
    for organ, masks in wanted.items():
        assert found[organ].keys() == masks.keys(), organ
        for plane, mask in masks.items():
            assert np.array_equal(found[organ][plane], mask), (organ, plane)


@pytest.mark.parametrize("lies", LIES.values(), ids=LIES)
@pytest.mark.parametrize("order", [range(SLICES), (3, 0, 4, 1, 2)], ids=["in order", "shuffled"])
def test_every_voxel_comes_back(written: str, lies: np.ndarray, order: Sequence[int], tmp_path: Path) -> None:
    given, labels = scanned(lies), labelled()
    series = WRITERS[written](tmp_path / "series", [given[number] for number in order])
    seg, rt = both(series, labels)
    wanted = expected(written, labels, order)
    check(read_back.segments(seg, series), wanted)
    check(read_back.contours(rt, series, (ROWS, COLUMNS)), wanted)


def test_segviz_reads_its_own(written: str, tmp_path: Path) -> None:
    labels = labelled()
    series = WRITERS[written](tmp_path / "series", scanned(LIES["oblique"]))
    seg, rt = both(series, labels)
    stack = read_stack(series, find_series(series).files, 64)
    for drawing in (Segments(seg, pydicom.dcmread(seg)), Contours(rt, pydicom.dcmread(rt))):
        assert [each.name for each in drawing.structures] == list(ORGANS)
        for structure, number in zip(drawing.structures, ORGANS.values(), strict=True):
            mask, _ = drawing.mask(structure, stack)
            assert np.array_equal(mask, labels == number), structure.name


def test_segviz_reads_its_own_contours_of_an_organ_with_empty_slices_inside(tmp_path: Path) -> None:
    labels = np.zeros((COLUMNS, ROWS, SLICES), np.uint8)
    labels[1:4, 2:6, [0, 1, 4]] = 2
    series = write_single(tmp_path / "series", scanned(LIES["axial"]))
    _, rt = both(series, labels, {"liver": 2})
    drawing = Contours(rt, pydicom.dcmread(rt))
    mask, odd = drawing.mask(drawing.structures[0], read_stack(series, find_series(series).files, 64))
    assert np.array_equal(mask, labels == 2)
    assert odd == ("liver: lies in 2 parts with slices between them",)


def test_the_side_of_an_organ_is_read_back(written: str, tmp_path: Path) -> None:
    series = WRITERS[written](tmp_path / "series", scanned(LIES["axial"]))
    seg, rt = both(series, labelled())
    for drawing in (Segments(seg, pydicom.dcmread(seg)), Contours(rt, pydicom.dcmread(rt))):
        sides = {each.name: each.qualifiers for each in drawing.structures}
        assert (sides["liver"], sides["kidney_left"]) == ((), ("SCT:7771000",))


def test_headers_that_differ_in_the_last_digit_still_make_one_segmentation(tmp_path: Path) -> None:
    """As scanners round them; highdicom by itself asks for equal ones."""
    given, labels = scanned(LIES["oblique"]), labelled()
    given[2].orientation = (np.array(given[2].orientation) + 1e-7).tolist()
    seg, _ = both(write_single(tmp_path / "series", given), labels)
    check(read_back.segments(seg, tmp_path / "series"), expected("single", labels, range(SLICES)))


def test_highdicom_and_simpleitk_find_the_same_voxels(tmp_path: Path) -> None:
    labels = labelled()
    seg, _ = both(write_single(tmp_path / "series", scanned(LIES["oblique"])), labels)
    read = highdicom.seg.segread(seg)
    uids = [f"1.2.3.4.{number}" for number in range(1, SLICES + 1)]
    stacked = read.get_pixels_by_source_instance(uids, combine_segments=False, ignore_spatial_locations=False)
    for number, label in enumerate(ORGANS.values()):
        assert np.array_equal(stacked[..., number] > 0, labels.transpose(2, 1, 0) == label)
    frames = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(seg)))
    assert np.array_equal(frames > 0, read.pixel_array > 0)


def test_one_voxel_of_one_organ_comes_back(written: str, tmp_path: Path) -> None:
    labels = np.zeros((COLUMNS, ROWS, SLICES), np.uint8)
    labels[COLUMNS - 1, 0, SLICES - 1] = 7
    series = WRITERS[written](tmp_path / "series", scanned(LIES["axial"]))
    seg, rt = both(series, labels, {"spleen": 7})
    for found in (read_back.segments(seg, series), read_back.contours(rt, series, (ROWS, COLUMNS))):
        ((plane, mask),) = found["spleen"].items()
        assert plane == (("1.2.3.4.1", SLICES) if written == "enhanced" else (f"1.2.3.4.{SLICES}", None))
        assert np.argwhere(mask).tolist() == [[0, COLUMNS - 1]]


# --- what the objects say of themselves -----------------------------------------------------------------


def with_patient(number: int, dataset: Dataset) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName, dataset.PatientID, dataset.PatientSex = "Müller^Jörg", "4711", "M"
    dataset.PatientBirthDate, dataset.StudyDate, dataset.StudyTime = "19600102", "20250304", "101112"
    dataset.StudyID, dataset.AccessionNumber = "S7", "A8"
    dataset.ReferringPhysicianName, dataset.StudyDescription = "Weiß^Ärztin", "Oberbauch"
    dataset.SliceThickness = "2.5"


@pytest.fixture
def objects(tmp_path: Path) -> tuple[Dataset, Dataset]:
    series = write_single(tmp_path / "series", scanned(LIES["axial"]), with_patient)
    seg, rt = both(series, labelled())
    return pydicom.dcmread(seg), pydicom.dcmread(rt)


def test_patient_and_study_are_those_of_the_series(objects: tuple[Dataset, Dataset]) -> None:
    for each in objects:
        assert (each.PatientName, each.PatientID, each.PatientSex) == ("Müller^Jörg", "4711", "M")
        assert (each.PatientBirthDate, each.StudyDate, each.StudyTime) == ("19600102", "20250304", "101112")
        assert (each.StudyID, each.AccessionNumber) == ("S7", "A8")
        assert (each.StudyDescription, each.ReferringPhysicianName) == ("Oberbauch", "Weiß^Ärztin")
        assert (each.StudyInstanceUID, each.FrameOfReferenceUID) == ("1.2.3", "1.2.3.5")
        assert each.SeriesInstanceUID != "1.2.3.4"


def test_software_and_model_are_named(objects: tuple[Dataset, Dataset]) -> None:
    seg, rt = objects
    for each in objects:
        assert (each.Manufacturer, each.SoftwareVersions) == ("SegViz", "1.2")
    by = [segment.SegmentationAlgorithmIdentificationSequence[0] for segment in seg.SegmentSequence]
    by += [region.ROIDerivationAlgorithmIdentificationSequence[0] for region in rt.StructureSetROISequence]
    for algorithm in by:
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("SegViz", "1.2")
        assert f"sha256:{DIGEST}" in algorithm.AlgorithmParameters
    for segment, region in zip(seg.SegmentSequence, rt.StructureSetROISequence, strict=True):
        assert (segment.SegmentAlgorithmType, segment.SegmentAlgorithmName) == ("AUTOMATIC", "SegViz")
        assert region.ROIGenerationAlgorithm == "AUTOMATIC"
        assert f"model sha256:{DIGEST}" in segment.SegmentDescription
        assert f"model sha256:{DIGEST}" in region.ROIDescription


def test_organs_have_their_names_and_codes(objects: tuple[Dataset, Dataset]) -> None:
    seg, rt = objects
    assert [each.SegmentLabel for each in seg.SegmentSequence] == list(ORGANS)
    assert [each.ROIName for each in rt.StructureSetROISequence] == list(ORGANS)
    in_seg = [each.SegmentedPropertyTypeCodeSequence[0] for each in seg.SegmentSequence]
    in_rt = [each.RTROIIdentificationCodeSequence[0] for each in rt.RTROIObservationsSequence]
    for codes in (in_seg, in_rt):
        assert [code.CodeValue for code in codes] == ["10200004", "64033007", "91723000"]
        assert {code.CodingSchemeDesignator for code in codes} == {"SCT"}
        (side,) = codes[1].SegmentedPropertyTypeModifierCodeSequence
        assert (side.CodeValue, side.CodeMeaning) == ("7771000", "Left")
    assert [each.RTROIInterpretedType for each in rt.RTROIObservationsSequence] == ["ORGAN", "ORGAN", ""]


def test_every_image_of_the_series_is_referred_to(objects: tuple[Dataset, Dataset]) -> None:
    seg, rt = objects
    uids = {f"1.2.3.4.{number}" for number in range(1, SLICES + 1)}
    (study,) = rt.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence
    (series,) = study.RTReferencedSeriesSequence
    assert (study.ReferencedSOPInstanceUID, series.SeriesInstanceUID) == ("1.2.3", "1.2.3.4")
    assert {each.ReferencedSOPInstanceUID for each in series.ContourImageSequence} == uids
    (referred,) = seg.ReferencedSeriesSequence
    assert {each.ReferencedSOPInstanceUID for each in referred.ReferencedInstanceSequence} == uids


def test_every_object_has_a_uid_of_its_own(tmp_path: Path) -> None:
    series = write_single(tmp_path / "series", scanned(LIES["axial"]))
    uids = set()
    for _ in range(2):
        for file in both(series, labelled()):
            dataset = pydicom.dcmread(file)
            uids |= {dataset.SOPInstanceUID, dataset.SeriesInstanceUID}
    assert len(uids) == 8


# --- what is refused ------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[Callable[[int, Dataset], object], str]] = {
    "no study": (lambda n, d: d.pop("StudyInstanceUID"), "has no StudyInstanceUID"),
    "no frame of reference": (
        lambda n, d: d.__delattr__("FrameOfReferenceUID"),
        "has no FrameOfReferenceUID",
    ),
    "two patients": (lambda n, d: setattr(d, "PatientID", f"{n % 2}"), "its files differ in PatientID"),
    "one UID twice": (lambda n, d: setattr(d, "SOPInstanceUID", "1.2.3.4.9"), "have the same SOPInstanceUID"),
}


@pytest.mark.parametrize(("fault", "told"), FAULTS.values(), ids=FAULTS)
def test_a_series_that_no_result_can_belong_to_is_refused(
    fault: Callable[[int, Dataset], object], told: str, tmp_path: Path
) -> None:
    series = write_single(tmp_path / "series", scanned(LIES["axial"]), fault)
    with pytest.raises(BadCase, match=told):
        source_of(series, 64)


def test_a_series_of_several_multi_frame_files_has_contours_but_no_segmentation(tmp_path: Path) -> None:
    given = scanned(LIES["axial"])
    series = write_enhanced(tmp_path / "series", given[:2])
    (series / "enhanced.dcm").rename(series / "first.dcm")
    write_enhanced(series, given[2:], lambda d: setattr(d, "SOPInstanceUID", "1.2.3.4.2"))
    source = source_of(series, 64)
    with pytest.raises(BadCase, match="a series of 2 multi-frame files, which a DICOM-SEG cannot refer to"):
        check_segmentable(series, source)
    found = structure_set_of(source, labelled(), ORGANS, Algorithm("1.2", DIGEST), NOW)
    found.save_as(tmp_path / "rt.dcm", enforce_file_format=True)
    masks = read_back.contours(tmp_path / "rt.dcm", series, (ROWS, COLUMNS))
    assert np.array_equal(masks["liver"]["1.2.3.4.2", 1], labelled()[:, :, 2].T == 2)
