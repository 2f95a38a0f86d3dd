"""SEG to voxels: frames as highdicom writes them, and what is refused."""

from pathlib import Path

import numpy as np
import pydicom
import pytest

from builders.dicom import planes, write_enhanced, write_single
from builders.drawings import write_segments
from segviz_trainer.dicom.labelled import label_of, open_labelled
from segviz_trainer.process.errors import BadCase

ORGANS = {"liver": ("Liver",), "spleen": ("Spleen",)}


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """Slices out of order, of an odd number of voxels: frames do not begin with a byte."""
    given = planes(rows=5, columns=3)
    return write_single(tmp_path / "study" / "ct", [given[number] for number in (3, 0, 5, 1, 2, 4)])


ORDER = np.argsort((3, 0, 5, 1, 2, 4))


@pytest.fixture
def masks() -> dict[str, np.ndarray]:
    """(columns, rows, slices), the slices as the files are named."""
    liver, spleen = np.random.default_rng(2).random((2, 3, 5, 6)) < 0.5
    return {"Liver": liver, "Spleen": spleen & ~liver}


def read(series: Path, structures=ORGANS):
    labelled = open_labelled(series.parent, structures, 100)
    label, odd = label_of(labelled)
    return label, (*labelled.warnings, *odd)


def refusal(series: Path, structures=ORGANS) -> str:
    with pytest.raises(BadCase) as caught:
        read(series, structures)
    return str(caught.value)


def expected(masks) -> np.ndarray:
    return (masks["Liver"] + 2 * masks["Spleen"])[:, :, ORDER]


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP", "FRACTIONAL"])
def test_segments_give_the_same_voxels(series, masks, kind):
    write_segments(series.parent / "seg.dcm", series, masks, kind)
    label, odd = read(series)
    assert (label == expected(masks)).all()
    assert odd == ()


def test_segments_in_several_files_are_taken_together(series, masks):
    for name, mask in masks.items():
        write_segments(series.parent / "more" / f"{name}.dcm", series, {name: mask})
    assert (read(series)[0] == expected(masks)).all()


def test_a_segment_is_known_by_its_code(series, masks):
    write_segments(series.parent / "seg.dcm", series, masks, codes={"Liver": ("SCT", "10200004")})
    label, odd = read(series, {"liver": ("SCT:10200004",)})
    assert (label == masks["Liver"][:, :, ORDER]).all()
    assert odd == ("left out: structures that no organ asks for: 1 (Spleen)",)


def test_fractions_are_refused(series, masks):
    write_segments(series.parent / "seg.dcm", series, {"Liver": masks["Liver"] * 0.5}, "FRACTIONAL")
    assert "has fractions of Liver" in refusal(series, {"liver": ("Liver",)})


def shifted(keyword: str, group: str, value) -> dict:
    """Options of `write_segments` that change a header of every frame."""

    def change(dataset) -> None:
        shared = dataset.SharedFunctionalGroupsSequence[0]
        for each in (shared, *dataset.PerFrameFunctionalGroupsSequence):
            if group in each:
                setattr(each[group].value[0], keyword, value)

    return {"change": change}


def test_another_grid_is_refused(series, masks):
    spoil = shifted("PixelSpacing", "PixelMeasuresSequence", [1.0, 1.0])
    write_segments(series.parent / "seg.dcm", series, masks, **spoil)
    said = refusal(series)
    assert "lies on another grid than its image: frame 1 of seg.dcm is up to" in said or "frame 1" in said
    assert "It has 3 x 5 voxels of 1 x 1 mm, the image 3 x 5 voxels of 1.5 x 2 mm" in said


def test_a_grid_that_lies_between_the_slices_is_refused(series, masks):
    spoil = shifted("ImagePositionPatient", "PlanePositionSequence", [-10.0, -20.0, 6.0])
    write_segments(series.parent / "seg.dcm", series, masks, **spoil)
    assert "lies on another grid than its image" in refusal(series)


def test_frames_behind_the_last_slice_are_refused(series, masks):
    spoil = shifted("ImagePositionPatient", "PlanePositionSequence", [-10.0, -20.0, 5.0 + 10 * 2.5])
    write_segments(series.parent / "seg.dcm", series, masks, **spoil)
    assert "lies off its image with frame" in refusal(series)


def test_two_frames_on_one_slice_are_refused(series, masks):
    spoil = shifted("ImagePositionPatient", "PlanePositionSequence", [-10.0, -20.0, 5.0])
    write_segments(series.parent / "seg.dcm", series, masks, **spoil)
    assert "has two frames of Liver on slice 1" in refusal(series)


def test_some_slices_alone_are_enough(series, masks):
    masks = {name: mask.copy() for name, mask in masks.items()}
    for mask in masks.values():
        mask[:, :, ORDER[[0, 5]]] = False
    write_segments(series.parent / "seg.dcm", series, masks)
    assert pydicom.dcmread(series.parent / "seg.dcm").NumberOfFrames == 8
    assert (read(series)[0] == expected(masks)).all()


def test_a_part_of_a_concatenation_is_refused(series, masks):
    write_segments(
        series.parent / "seg.dcm", series, masks, change=lambda d: setattr(d, "ConcatenationUID", "1.2.3.9")
    )
    assert "is one part of a segmentation in several files" in refusal(series)


def test_a_file_that_is_cut_short_is_refused(series, masks):
    def change(dataset) -> None:
        dataset.PixelData = dataset.PixelData[:4]

    write_segments(series.parent / "seg.dcm", series, masks, change=change)
    assert "has voxels that cannot be decoded" in refusal(series)


def test_the_grid_of_an_enhanced_image_does_as_well(tmp_path, masks):
    """Its SEG is written on the same slices as single files."""
    given = planes(rows=5, columns=3)
    single = write_single(tmp_path / "single", given)
    write_enhanced(tmp_path / "study" / "ct", given)
    write_segments(tmp_path / "study" / "seg.dcm", single, masks)
    label, _ = read(tmp_path / "study" / "ct")
    assert (label == masks["Liver"] + 2 * masks["Spleen"]).all()
