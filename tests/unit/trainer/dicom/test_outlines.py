"""Outlines along pixel edges: each kind of reader gets the mask back, pixel by pixel."""

import numpy as np
import pytest

from segviz_trainer.dicom.outlines import outlines

SHAPES = {
    "one pixel": "#",
    "the whole plane": "###\n###",
    "an island in a lake": "#####\n#...#\n#.#.#\n#...#\n#####",
    "two lakes beside each other": "#####\n#.#.#\n#####",
    "a lake below and left of another": "######\n##.###\n######\n#.####\n######",
    "parts that touch at a corner": "##..\n##..\n..##\n..##",
    "a lake that touches the shore at a corner": "####\n##.#\n#.##\n####\n.###",
    "lakes that touch at a corner": "####\n#.##\n##.#\n####",
    "a ring that touches itself": "###.\n#.#.\n##.#\n..##",
    "nothing": "....\n....",
}


def mask_of(drawn: str) -> np.ndarray:
    return np.array([[pixel == "#" for pixel in line] for line in drawn.split("\n")])


def readings(polygons: list[np.ndarray], shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Literally: a ray from each centre counts the edges that it meets, and their turn."""
    odd, either, winding = np.zeros(shape, bool), np.zeros(shape, bool), np.zeros(shape, int)
    for row, column in np.ndindex(*shape):
        for polygon in polygons:
            crossed, turns = 0, 0
            for (r0, c0), (r1, c1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
                if (r0 > row) != (r1 > row) and column < c0 + (row - r0) / (r1 - r0) * (c1 - c0):
                    crossed += 1
                    turns += 1 if r1 > r0 else -1
            odd[row, column] ^= bool(crossed % 2)
            either[row, column] |= bool(crossed % 2)
            winding[row, column] += turns
    return {"even and odd": odd, "united": either, "winding": winding != 0}


def check(mask: np.ndarray) -> None:
    for reader, found in readings(outlines(mask), mask.shape).items():
        assert np.array_equal(found, mask), reader


@pytest.mark.parametrize("drawn", SHAPES.values(), ids=SHAPES)
def test_every_reader_gets_the_mask_back(drawn: str) -> None:
    check(mask_of(drawn))


@pytest.mark.parametrize("seed", range(25))
def test_every_reader_gets_any_mask_back(seed: int) -> None:
    chance = np.random.default_rng(seed)
    rows, columns = chance.integers(1, 9, 2)
    check(chance.random((rows, columns)) < chance.choice([0.3, 0.6, 0.85]))


def test_edges_lie_half_a_pixel_off_the_centres() -> None:
    (square,) = outlines(mask_of("...\n.#."))
    assert {tuple(point) for point in square} == {(0.5, 0.5), (0.5, 1.5), (1.5, 1.5), (1.5, 0.5)}


def test_a_part_with_its_holes_is_one_polygon_and_parts_are_apart() -> None:
    assert len(outlines(mask_of(SHAPES["two lakes beside each other"]))) == 1
    assert len(outlines(mask_of(SHAPES["an island in a lake"]))) == 2
    assert len(outlines(mask_of(SHAPES["parts that touch at a corner"]))) == 2


def test_a_straight_edge_has_no_points_on_its_way() -> None:
    assert [len(polygon) for polygon in outlines(np.ones((7, 9), bool))] == [4]
