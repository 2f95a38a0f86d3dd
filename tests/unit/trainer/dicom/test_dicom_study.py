"""Which series a drawing belongs to, and what else lies in a study's folder."""

from pathlib import Path

import numpy as np
import pytest

from builders.dicom import planes, write_single
from builders.drawings import loops_of, write_contours
from segviz_trainer.dicom.labelled import label_of, open_labelled
from segviz_trainer.process.errors import BadCase

LIVER = {"liver": ("Liver",)}
MASK = np.zeros((4, 5, 6), bool)
MASK[1:3, 1:3, 1:4] = True


def write_series(folder: Path, uid: str, **headers) -> Path:
    def change(number, dataset) -> None:
        dataset.SeriesInstanceUID, dataset.SOPInstanceUID = uid, f"{uid}.{number}"
        for keyword, value in headers.items():
            setattr(dataset, keyword, value)

    return write_single(folder, planes(), change)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    series = write_series(tmp_path / "study" / "a" / "ct", "1.2.840.1111111111.7")
    write_contours(tmp_path / "study" / "rt.dcm", series, {"Liver": loops_of(MASK, series)})
    return tmp_path / "study"


def warnings(study: Path) -> tuple[str, ...]:
    return open_labelled(study, LIVER, 100).warnings


def refusal(study: Path) -> str:
    with pytest.raises(BadCase) as caught:
        open_labelled(study, LIVER, 100)
    return str(caught.value)


def unnamed(dataset) -> None:
    del dataset.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence


def redraw(study: Path, change) -> None:
    series = study / "a" / "ct"
    write_contours(study / "rt.dcm", series, {"Liver": loops_of(MASK, series)}, change=change)


def test_the_series_that_is_referenced_is_taken(study):
    write_series(study / "b", "1.2.840.1111111111.8", SeriesDescription="lung", RescaleIntercept=-99)
    labelled = open_labelled(study, LIVER, 100)
    assert {each.file.parent.name for each in labelled.stack.slices} == {"ct"}
    assert (label_of(labelled)[0] == MASK).all()
    assert labelled.warnings == (
        "left out: series without structures that are asked for: 1 (CT ...1111111111.8 'lung')",
    )


def test_without_a_reference_the_one_series_in_its_space_is_taken(study):
    redraw(study, unnamed)
    write_series(study / "b", "1.2.840.1111111111.8", FrameOfReferenceUID="1.2.9")
    assert len(warnings(study)) == 1


def test_without_a_reference_two_series_in_its_space_are_refused(study):
    redraw(study, unnamed)
    write_series(study / "b", "1.2.840.1111111111.8")
    said = refusal(study)
    assert "one of 2 series, and does not say on which: CT ...1111111111.7, CT ...1111111111.8" in said


def test_a_reference_to_a_series_that_is_not_there_is_refused(study):
    def change(dataset) -> None:
        space = dataset.ReferencedFrameOfReferenceSequence[0]
        space.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3.4.5.6"

    redraw(study, change)
    assert "drawn on the series 1.2.3.4.5.6, which is not there; there are CT ...1111111111.7" in refusal(
        study
    )


@pytest.mark.parametrize("change", [lambda d: None, unnamed], ids=["by its series", "by its space"])
def test_another_frame_of_reference_is_refused_with_both(study, change):
    def moved(dataset) -> None:
        change(dataset)
        dataset.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = "1.2.840.2222222222.5"
        dataset.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = "1.2.840.2222222222.5"

    redraw(study, moved)
    assert "has the frame of reference ...2222222222.5, its images have 1.2.3.5" in refusal(study)


def test_images_without_a_frame_of_reference_are_refused(study):
    write_series(study / "a" / "ct", "1.2.840.1111111111.7", FrameOfReferenceUID="")
    assert "has the frame of reference 1.2.3.5, its images have none" in refusal(study)


def test_drawings_on_two_series_are_refused(study):
    other = write_series(study / "b", "1.2.840.1111111111.8")
    write_contours(study / "rt2.dcm", other, {"LIVER ": loops_of(MASK, other), "x": []})
    said = refusal(study)
    assert "two structures" in said  # one name, in two files
    write_contours(study / "rt2.dcm", other, {"Liver 2": loops_of(MASK, other)})
    with pytest.raises(BadCase, match=r"has structures on 2 series: rt.dcm on CT .*; rt2.dcm on CT"):
        open_labelled(study, {"liver": ("liver*",)}, 100)


def test_a_drawing_without_what_is_asked_for_may_lie_anywhere(study):
    other = write_series(study / "b", "1.2.840.1111111111.8")
    write_contours(study / "rt2.dcm", other, {"PTV": loops_of(MASK, other)})
    assert "left out: structures that no organ asks for: 1 (PTV)" in warnings(study)


def test_whatever_else_lies_there_is_told(study):
    write_series(study / "pet", "1.2.8", Modality="PT")
    write_series(study / "dose", "1.2.9", Modality="RTDOSE")
    (study / "notes.txt").write_text("x")
    (study / ".DS_Store").write_text("x")
    assert warnings(study) == (
        "left out: hidden files: 1 (.DS_Store)",
        "left out: files that are not DICOM: 1 (notes.txt)",
        "left out: DICOM files without images or structures: 6 (IM0000.dcm, IM0001.dcm, IM0002.dcm ...)",
        "left out: series that are neither CT nor MR: 1 (PT 1.2.8)",
    )


def test_no_images_no_drawings_and_nothing_drawn_are_refused(study, tmp_path):
    write_series(tmp_path / "bare" / "ct", "1.2.8")
    assert "has no RTSTRUCT and no SEG with structures" in refusal(tmp_path / "bare")
    series = study / "a" / "ct"
    write_contours(tmp_path / "alone" / "rt", series, {"Liver": loops_of(MASK, series)})
    assert "has no series of CT or MR images" in refusal(tmp_path / "alone")
    write_contours(study / "rt.dcm", series, {"Liver": []})
    assert "has nothing drawn as liver" in refusal(study)


def test_a_link_to_a_folder_is_refused(study, tmp_path):
    (study / "link").symlink_to(tmp_path)
    assert "link: cannot be read" in refusal(study)


def test_the_size_of_the_images_is_limited_before_they_are_decoded(study):
    with pytest.raises(BadCase, match="MiB as float32; the limit is 0"):
        open_labelled(study, LIVER, 0)
