"""Masks of a plane as polygons along the edges of their pixels, so that nothing is lost on the way back.

Pixels that touch at a corner alone are apart. A hole is joined to what surrounds it by a channel of no width
(the keyhole of DICOM PS3.3 C.8.8.6.3), so that one polygon means the same to every reader: by even and odd
crossings, by winding number, and to one that unites a plane's polygons or takes their exclusive or.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Corner = tuple[int, int]
"""Of pixels: (row, column); pixel (r, c) lies between the corners (r, c) and (r + 1, c + 1)."""
_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))
"""Right, down, left, up: each a turn to the right of the one before."""


@dataclass(frozen=True)
class _Loop:
    """Unit steps around pixels, with these on the right hand: clockwise around a part, else around a hole."""

    corners: list[Corner]
    part: int
    """Number of the connected part that it bounds."""
    hole: bool


def outlines(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """The polygons of a mask (rows, columns), each (points, 2) as (row, column).

    Coordinates count pixel centres, so that edges lie at halves: a pixel is in the mask when its centre is
    inside of an odd number of polygons. None is closed by repeating its first point.
    """
    parts: NDArray[np.int32]
    parts, _ = ndimage.label(mask)
    loops = sorted(_loops(mask, parts), key=lambda loop: min(loop.corners))
    joined = {loop.part: list(loop.corners) for loop in loops if not loop.hole}
    owners: dict[Corner, set[int]] = defaultdict(set)
    for loop in loops:
        for corner in loop.corners:
            owners[corner].add(loop.part)
    # From the top and the left, so that a channel ends at what has its own channel already.
    for loop in loops:
        if loop.hole:
            _dig(joined[loop.part], loop, owners)
    return [np.array(_straightened(corners), np.float64) - 0.5 for corners in joined.values()]


def _loops(mask: NDArray[np.bool_], parts: NDArray[np.int32]) -> Iterator[_Loop]:
    edges = _edges(mask)
    while edges:
        heading = start = next(iter(edges))
        corners: list[Corner] = []
        while not corners or heading != start:
            corner, direction = heading
            corners.append(corner)
            down, right = _STEPS[direction]
            after = (corner[0] + down, corner[1] + right)
            # The sharpest turn to the right stays with the pixel: where two touch at a corner, they part.
            turns = ((after, (direction + turn) % 4) for turn in (1, 0, 3))
            heading = next(turn for turn in turns if turn in edges)
            edges.remove(heading)
        yield _Loop(corners, int(parts[_right_of(*start)]), hole=_area(corners) < 0)


def _edges(mask: NDArray[np.bool_]) -> set[tuple[Corner, int]]:
    """Each edge between inside and outside as the corner that it starts at and its direction."""
    padded = np.pad(mask, 1)
    above, left = padded[:-1, 1:-1], padded[1:-1, :-1]
    below, right = padded[1:, 1:-1], padded[1:-1, 1:]
    starts = (
        np.argwhere(below & ~above),
        np.argwhere(left & ~right),
        np.argwhere(above & ~below) + np.array((0, 1)),
        np.argwhere(right & ~left) + np.array((1, 0)),
    )
    return {
        ((row, column), direction) for direction, found in enumerate(starts) for row, column in found.tolist()
    }


def _right_of(corner: Corner, direction: int) -> Corner:
    row, column = corner
    return ((row, column), (row, column - 1), (row - 1, column - 1), (row - 1, column))[direction]


def _area(corners: list[Corner]) -> float:
    """Positive for clockwise, rows going down."""
    rows, columns = np.array(corners, np.int64).T
    return float((columns * np.roll(rows, -1) - np.roll(columns, -1) * rows).sum()) / 2


def _dig(outline: list[Corner], hole: _Loop, owners: dict[Corner, set[int]]) -> None:
    """Join a hole to `outline` by a channel from its top left corner to the left."""
    first = hole.corners.index(min(hole.corners))
    row, column = hole.corners[first]
    # Pixels on both sides of the way belong to the part, so the first edge of it that is met bounds it.
    column -= 1
    while hole.part not in owners[row, column]:
        column -= 1
    end = outline.index((row, column))
    around = hole.corners[first:] + hole.corners[: first + 1]
    outline[end:end] = [(row, column), *around]


def _straightened(corners: list[Corner]) -> list[Corner]:
    """Without the corners that lie on a straight way."""
    points = np.array(corners)
    before, after = np.sign(points - np.roll(points, 1, 0)), np.sign(np.roll(points, -1, 0) - points)
    turns = (before != after).any(1)
    return [corner for corner, turn in zip(corners, turns, strict=True) if turn]
