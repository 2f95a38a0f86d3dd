"""Which pixels an outline encloses, against masks that are written out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.extra.numpy import arrays

from builders.drawings import outlines
from segviz_trainer.dicom.polygons import crossing, inside

SQUARE = [(0.5, 0.5), (4.5, 0.5), (4.5, 4.5), (0.5, 4.5)]
HOLE = [(1.5, 1.5), (3.5, 1.5), (3.5, 3.5), (1.5, 3.5)]
# Out to the hole on a line of any slope, around it, and back on the same line.
KEYHOLE = [*SQUARE[:3], (3.5, 3.5), *[HOLE[i] for i in (1, 0, 3)], (3.5, 3.5), (4.5, 4.5), SQUARE[3]]

CASES = {
    "a square": ([SQUARE], "......|.####.|.####.|.####.|.####.|......"),
    "the same, the other way around": ([SQUARE[::-1]], "......|.####.|.####.|.####.|.####.|......"),
    "a hole": ([SQUARE, HOLE], "......|.####.|.#..#.|.#..#.|.####.|......"),
    "a hole that comes first": ([HOLE, SQUARE], "......|.####.|.#..#.|.#..#.|.####.|......"),
    "a keyhole": ([KEYHOLE], "......|.####.|.#..#.|.#..#.|.####.|......"),
    "two outlines": (
        [
            [(-0.5, -0.5), (1.5, -0.5), (1.5, 1.5), (-0.5, 1.5)],
            [(3.5, 3.5), (5.5, 3.5), (5.5, 4.5), (3.5, 4.5)],
        ],
        "##....|##....|......|......|....##|......",
    ),
    # Rows 1, 2, 3 are met at columns from 1 to 5 - row, not beyond.
    "a triangle": ([[(0.6, 0.6), (4.8, 0.6), (0.6, 4.8)]], "......|.####.|.###..|.##...|.#....|......"),
    "an outline through centres": (
        [[(1, 1), (3, 1), (3, 3), (1, 3)]],
        "......|.##...|.##...|......|......|......",
    ),
    "one that reaches over the edge": (
        [[(3.5, -9), (99, -9), (99, 1.5), (3.5, 1.5)]],
        "....##|....##" + "|......" * 4,
    ),
    "one beside the image": ([[(-9, 0), (-3, 0), (-3, 5), (-9, 5)]], "|".join(["......"] * 6)),
    "a line": ([[(0, 0), (5, 5)]], "|".join(["......"] * 6)),
}


def drawn(text: str) -> np.ndarray:
    """(columns, rows) from rows of # and dots."""
    return np.array([[letter == "#" for letter in row] for row in text.split("|")]).T


@pytest.mark.parametrize(("loops", "expected"), CASES.values(), ids=CASES)
def test_a_pixel_counts_when_its_centre_is_inside(loops, expected):
    mask = inside([np.array(loop, float) for loop in loops], 6, 6)
    assert (mask == drawn(expected)).all(), mask.T.astype(int)


def test_areas_with_a_common_border_through_centres_share_its_pixels_out():
    left, right = (np.array([(a, 0), (a + 3, 0), (a + 3, 4), (a, 4)], float) for a in (0, 3))
    one, other = inside([left], 8, 6), inside([right], 8, 6)
    assert not (one & other).any()
    assert (one | other).sum() == one.sum() + other.sum() == 24


@settings(max_examples=settings().max_examples // 2)
@given(arrays(bool, some.tuples(some.integers(1, 9), some.integers(1, 9))))
def test_outlines_along_the_sides_of_pixels_give_the_same_pixels(mask):
    assert (inside(outlines(mask), *mask.shape) == mask).all()


def test_only_outlines_that_overlap_in_part_cross():
    square, hole = np.array(SQUARE), np.array(HOLE)
    assert crossing([square, hole, square + 20], 40, 40) == 0
    assert crossing([square, square + 2], 40, 40) == 1
    assert crossing([square, square + 2, hole], 40, 40) == 2
