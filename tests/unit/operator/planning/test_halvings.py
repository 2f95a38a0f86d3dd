"""Strides and kernels of each level, against cases computed by hand."""

import pytest

from segviz_operator.planning.halvings import divisor, halvings, kernels

ALL, FLAT = (2, 2, 2), (2, 2, 1)
CUBE = (1.0, 1.0, 1.0)
MR = (0.625, 0.625, 3.0)


def test_equal_voxels_are_halved_along_all_axes_as_long_as_all_are_long() -> None:
    """35, 50, 36 → 18, 25, 18 → 9, 13, 9 → 5, 7, 5: all are shorter than 8 then."""
    assert halvings((35, 50, 36), CUBE) == (ALL,) * 3
    assert divisor((ALL,) * 3) == (8, 8, 8)


def test_a_long_axis_goes_on_without_the_short_ones() -> None:
    """16, 64, 64 → 8, 32, 32 → 4, 16, 16; R has fewer than 8, the others go on → 8, 8 → 4, 4."""
    strides = halvings((16, 64, 64), CUBE)
    assert strides == (ALL, ALL, (1, 2, 2), (1, 2, 2))
    assert divisor(strides) == (4, 16, 16)


def test_a_coarse_axis_waits_until_the_others_are_as_coarse() -> None:
    """3 mm is 4.8 times 0.625 and 2.4 times 1.25, but less than twice 2.5: two halvings without S, then
    S: 36 → 18 → 9 → 5, and once more the others, which have 27 → 14 → 7."""
    strides = halvings((432, 432, 36), MR)
    assert strides == (FLAT, FLAT, ALL, ALL, ALL, FLAT)
    assert divisor(strides) == (64, 64, 8)


def test_an_axis_alone_is_halved_from_12_voxels_on() -> None:
    """After 8 → 4 along A and S, R has 12 or 11 voxels left."""
    assert halvings((24, 8, 8), CUBE) == (ALL, (2, 1, 1))
    assert halvings((22, 8, 8), CUBE) == (ALL,)


def test_there_is_one_level_below_the_top_at_least() -> None:
    """R alone is fine enough and has fewer than 12 voxels: then all long axes are halved once."""
    assert halvings((8, 64, 6), (1.0, 4.0, 4.0))[0] == (2, 2, 1)


def test_there_are_six_levels_below_the_top_at_most() -> None:
    assert halvings((1024, 1024, 1024), CUBE) == (ALL,) * 6


def test_an_axis_is_halved_no_more_often_than_it_may() -> None:
    assert halvings((64, 64, 64), CUBE, (4, 2, 4)) == (ALL, ALL, (2, 1, 2), (2, 1, 2))


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [
        (CUBE, [(3, 3, 3)] * 7),
        # As long as S is twice as coarse its neighbours are not looked at; the bottom looks at all.
        (MR, [(3, 3, 1), (3, 3, 1), *[(3, 3, 3)] * 5]),
    ],
    ids=["cube", "thick slices"],
)
def test_kernels(spacing: tuple[float, float, float], expected: list[tuple[int, int, int]]) -> None:
    strides = (FLAT, FLAT, ALL, ALL, ALL, FLAT) if spacing == MR else (ALL,) * 6
    assert list(kernels(spacing, strides)) == expected
