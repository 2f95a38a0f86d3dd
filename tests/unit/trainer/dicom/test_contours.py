"""RTSTRUCT to voxels: where contours lie, and what is refused or told."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from builders.dicom import planes, write_single
from builders.drawings import headers, in_space, loops_of, outlines, write_contours
from segviz_trainer.dicom.contours import Contours
from segviz_trainer.dicom.labelled import label_of, open_labelled
from segviz_trainer.process.errors import BadCase

LIVER = {"liver": ("Liver",)}


def block(columns=(1, 3), rows=(1, 4), slices=(1, 5)) -> np.ndarray:
    mask = np.zeros((4, 5, 6), bool)
    mask[slice(*columns), slice(*rows), slice(*slices)] = True
    return mask


@pytest.fixture
def series(tmp_path: Path) -> Path:
    return write_single(tmp_path / "study" / "ct", planes())


def read(series: Path, structures=LIVER):
    """The label map, and all warnings."""
    labelled = open_labelled(series.parent, structures, 100)
    label, odd = label_of(labelled)
    return label, (*labelled.warnings, *odd)


def draw(series: Path, drawn, **options) -> None:
    write_contours(series.parent / "rt" / "structures", series, drawn, **options)


def refusal(series: Path, structures=LIVER) -> str:
    with pytest.raises(BadCase) as caught:
        read(series, structures)
    return str(caught.value)


def test_contours_on_the_sides_of_voxels_give_the_same_voxels(series):
    mask = block()
    mask[1, 1, 2] = mask[2, 3, 3] = False
    draw(series, {"Liver": loops_of(mask, series)})
    label, odd = read(series)
    assert (label == mask).all()
    assert odd == ()


@settings(max_examples=settings().max_examples // 8)
@given(some.data())
def test_any_blocks_in_any_orientation_and_order_come_back(tmp_path_factory, data):
    chance = np.random.default_rng(data.draw(some.integers(0, 2**32)))
    rotation = np.linalg.qr(chance.normal(size=(3, 3)))[0]
    normal = np.cross(rotation[0], rotation[1])
    given_planes = planes()
    for number, plane in enumerate(given_planes):
        plane.orientation = tuple(rotation[:2].ravel().round(10).tolist())
        plane.position = tuple((np.array([-100.0, 50.0, 7.0]) + 2.5 * number * normal).round(8).tolist())
    order = chance.permutation(len(given_planes))
    series = write_single(
        tmp_path_factory.mktemp("any") / "study" / "ct", [given_planes[number] for number in order]
    )
    mask = chance.random((4, 5, 6)) < 0.5
    mask[1, 1] = True  # in every slice, so that there is no gap
    draw(series, {"Liver": loops_of(mask[:, :, order], series)})
    assert (read(series)[0] == mask).all()


def test_several_structures_are_united_and_told(series):
    draw(
        series,
        {
            name: loops_of(block(columns=(at, at + 1)), series)
            for at, name in enumerate(("Liver", "liver_2", "PTV"))
        },
    )
    label, odd = read(series, {"liver": ("liver", "LIVER_*")})
    assert (label == block(columns=(0, 2))).all()
    assert odd == (
        "left out: structures that no organ asks for: 1 (PTV)",
        "liver is united from Liver, liver_2",
    )


def test_a_code_is_known_by_its_old_name_too(series):
    draw(series, {"L 1": loops_of(block(), series)}, codes={"L 1": ("SRT", "T-62000")})
    assert (read(series, {"liver": ("SCT:10200004",)})[0] == block()).all()


def test_an_organ_that_is_named_and_not_drawn_is_not_there(series):
    draw(series, {"Liver": loops_of(block(), series), "Spleen": []})
    label, odd = read(series, {"liver": ("Liver",), "spleen": ("Spleen",)})
    assert (label == block()).all()
    assert odd == ("spleen counts as not there: Spleen is not drawn",)


def test_an_organ_that_is_not_named_refuses_the_case(series):
    draw(series, {"Liver": loops_of(block(), series)})
    assert "has no structure for spleen (Spleen); it has Liver" in refusal(
        series, LIVER | {"spleen": ("Spleen",)}
    )


def test_a_structure_of_two_organs_refuses_the_case(series):
    draw(series, {"Liver": loops_of(block(), series)})
    said = refusal(series, {"liver": ("liv*",), "spleen": ("*er",)})
    assert "'Liver' that is matched by liver and by spleen" in said


def test_two_structures_of_one_name_refuse_the_case(series):
    draw(series, {"Liver": loops_of(block(), series), "LIVER": loops_of(block(), series)})
    assert "has two structures 'LIVER' for liver: 1 in structures, 2 in structures" in refusal(series)


def test_voxels_of_two_organs_are_ignored_where_they_are_few_and_refused_where_not(tmp_path):
    series = write_single(tmp_path / "study" / "ct", planes(count=6, rows=30, columns=30))
    both = {"liver": ("Liver",), "spleen": ("Spleen",)}
    liver, spleen = np.zeros((2, 30, 30, 6), bool)
    liver[:15], spleen[15:] = True, True
    spleen[14, :, 0] = True
    draw(series, {"Liver": loops_of(liver, series), "Spleen": loops_of(spleen, series)})
    label, odd = read(series, both)
    assert (label == 3).sum() == 30
    assert odd == ("voxels that two organs claim neither train nor score (liver 30, spleen 30)",)
    spleen[10:] = True
    draw(series, {"Liver": loops_of(liver, series), "Spleen": loops_of(spleen, series)})
    assert "has 900 of the 2700 voxels of liver in another organ, too" in refusal(series, both)


def spoiled(what: str, value) -> dict:
    """Options of `draw` that change every contour."""

    def change(dataset) -> None:
        for contour in dataset.ROIContourSequence[0].ContourSequence:
            setattr(contour, what, value)

    return {"change": change}


def test_open_contours_are_refused(series):
    draw(series, {"Liver": loops_of(block(), series)}, **spoiled("ContourGeometricType", "OPEN_PLANAR"))
    assert "by a contour of the type OPEN_PLANAR, which encloses nothing" in refusal(series)


def test_numbers_that_are_not_points_are_refused(series):
    draw(series, {"Liver": loops_of(block(), series)}, **spoiled("NumberOfContourPoints", 3))
    assert "numbers for 3 points" in refusal(series)


def test_contours_of_points_alone_are_refused(series):
    draw(series, {"Liver": [np.array([[0.0, 0, 5]])] * 2})
    assert "draws Liver by 2 contours of fewer than three points" in refusal(series)


def test_a_contour_between_two_slices_is_refused(series):
    draw(series, {"Liver": [loop + np.array([0, 0, 1.0]) for loop in loops_of(block(), series)]})
    assert "1.00 mm off the plane of slice 2, which is the nearest; slices are 2.50 mm apart" in refusal(
        series
    )


def test_a_contour_is_on_a_slice_within_a_tenth_of_the_distance(series):
    draw(series, {"Liver": [loop + np.array([0, 0, 0.2]) for loop in loops_of(block(), series)]})
    assert (read(series)[0] == block()).all()


def test_a_structure_off_the_image_is_refused(series):
    for shift, said in (
        ((500, 0, 0), "draws Liver outside of the image"),
        ((0, 0, 250), "draws Liver outside of the image"),
        ((0, 0, 5), "draws 1 of 4 contours of Liver before the first or behind the last slice"),
    ):
        draw(series, {"Liver": [loop + shift for loop in loops_of(block(), series)]})
        assert said in refusal(series)


def test_a_structure_over_the_edge_is_cut_and_told(series):
    draw(series, {"Liver": [loop - (1.5, 0, 0) for loop in loops_of(block(columns=(0, 2)), series)]})
    label, odd = read(series)
    assert (label == block(columns=(0, 1))).all()
    assert odd == ("Liver: 4 contours reach over the image's edge and are cut there",)


def test_a_slice_left_out_within_a_structure_is_refused(series):
    mask = block()
    mask[:, :, 2] = False
    draw(series, {"Liver": loops_of(mask, series)})
    assert "no contour of Liver in 1 slices between the slices 2 and 4" in refusal(series)


def test_two_parts_with_slices_between_them_are_told(series):
    mask = block(columns=(0, 2), slices=(0, 2)) | block(columns=(2, 4), slices=(4, 6))
    draw(series, {"Liver": loops_of(mask, series)})
    label, odd = read(series)
    assert (label == mask).all()
    assert odd == ("Liver: lies in 2 parts with slices between them",)


def test_a_contour_that_comes_twice_counts_once(series):
    loops = loops_of(block(), series)
    draw(series, {"Liver": [*loops, np.roll(loops[0], 1, axis=0)[::-1]]})
    label, odd = read(series)
    assert (label == block()).all()
    assert odd == ("Liver: 1 contours come twice and count once",)


def test_contours_that_cross_are_told(series):
    image = headers(series)[0]
    loops = [
        in_space(loop, image)
        for mask in (block()[:, :, 1], block((0, 2))[:, :, 1])
        for loop in outlines(mask)
    ]
    draw(series, {"Liver": loops})
    label, odd = read(series)
    assert (label[:, 2, 0] == [1, 0, 1, 0]).all()
    assert odd == ("Liver: 1 pairs of contours cross; what lies within both counts as outside",)


def test_a_structure_smaller_than_a_voxel_is_told(series):
    loop = np.array([(1.2, 1.2), (1.4, 1.2), (1.3, 1.4)])
    draw(series, {"Liver": [in_space(loop, headers(series)[0])]})
    assert read(series)[1] == ("Liver: its contours enclose no voxel's centre",)


def test_structures_in_two_frames_of_reference_are_refused(series):
    def change(dataset) -> None:
        dataset.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = "1.2.99"

    draw(series, {"Liver": loops_of(block(), series)}, change=change)
    assert "in 2 frames of reference: 1.2.3.5, 1.2.99" in refusal(series)


def test_one_number_for_two_structures_is_refused(series):
    def change(dataset) -> None:
        dataset.StructureSetROISequence[1].ROINumber = 1

    draw(series, {"Liver": loops_of(block(), series), "Spleen": []}, change=change)
    assert "gives one ROINumber to two structures" in refusal(series)


def test_numbers_are_read_alike_from_a_file_and_from_memory(series):
    import pydicom

    draw(series, {"Liver": loops_of(block(), series)})
    labelled = open_labelled(series.parent, LIVER, 100)
    (structure,) = labelled.organs["liver"]
    dataset = pydicom.dcmread(structure.file)
    for contour in dataset.ROIContourSequence[0].ContourSequence:
        assert contour.ContourData  # parsed from here on
    mask, _ = Contours(structure.file, dataset).mask(structure, labelled.stack)
    assert (mask == block()).all()
