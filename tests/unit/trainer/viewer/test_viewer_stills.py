import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from builders.viewed import ball, viewed
from segviz_trainer.viewer.case import Window
from segviz_trainer.viewer.packing import fit
from segviz_trainer.viewer.stills import area, cut, outline, stills


def test_the_paths_of_a_small_mask() -> None:
    mask = np.array([[0, 1, 1], [0, 0, 1]], bool)
    assert area(mask) == "M1 0h2v1h-2zM2 1h1v1h-1z"
    assert outline(mask) == "M1 0h2M1 1h1M2 2h1M1 0v1M2 1v1M3 0v2"


@settings(max_examples=settings().max_examples // 3)
@given(arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 6))))
def test_an_area_covers_each_voxel_of_its_mask_once(mask: np.ndarray) -> None:
    covered = np.zeros(mask.shape, int)
    for run in area(mask).split("M")[1:]:
        start, length = run.split("h")[0:2]
        column, row = map(int, start.split())
        covered[row, column : column + int(length.removesuffix("v1"))] += 1
    np.testing.assert_array_equal(covered, mask)


def test_the_patients_right_lies_on_the_left_and_the_front_and_the_head_on_top() -> None:
    volume = np.zeros((3, 4, 5), int)
    volume[2, 3, 4] = 1
    for axis in range(3):
        picture = cut(volume, axis, volume.shape[axis] - 1)
        assert picture[0, 0] == 1, axis
        assert picture.sum() == 1, axis


def test_each_plane_is_drawn_where_truth_and_prediction_differ_most() -> None:
    wrong = ball((8, 10, 8), 4)
    wrong[5, 8:13, 9] = False
    case = viewed(truth={"liver": ball((8, 10, 8), 4)}, prediction={"liver": wrong})
    drawn, _ = fit(case)
    found = list(stills(drawn, 1, Window("all", -1000, 1000)))
    assert [each.plane for each in found] == ["axial", "coronal", "sagittal"]
    assert [each.edges for each in found] == ["RLAP", "RLSI", "APSI"]
    assert found[0].slice == 9 - drawn.box.first[2]
    for each in found:
        assert each.overlays[0].outline
        assert each.overlays[0].area
    assert found[1].height == found[1].rows * 3.0
