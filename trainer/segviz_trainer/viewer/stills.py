"""A slice of each plane as SVG: what a page shows where no script runs, and what is printed."""

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass

import matplotlib.image
import numpy as np
from numpy.typing import NDArray

from segviz_trainer.viewer.case import PLANES, THROUGH, Mask, Window
from segviz_trainer.viewer.drawn import Drawn

EDGES = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}
"""What lies to the left, to the right, on top and below."""


@dataclass(frozen=True)
class Overlay:
    organ: int
    """Its place among the case's organs."""
    outline: str
    """Paths in voxels: of the truth here."""
    area: str
    """Of the prediction."""


@dataclass(frozen=True)
class Still:
    plane: str
    slice: int
    columns: int
    rows: int
    width: float
    """mm, as `height`."""
    height: float
    edges: str
    png: str
    overlays: tuple[Overlay, ...]


def stills(drawn: Drawn, organs: int, window: Window) -> Iterator[Still]:
    for plane in PLANES:
        axis = THROUGH[plane]
        at = drawn.jump[axis]
        across, down = (each for each in range(3) if each != axis)
        values = drawn.low + drawn.step * cut(drawn.levels, axis, at).astype(np.float64)
        grey = np.clip((values - window.low) / (window.high - window.low), 0, 1)
        rows, columns = grey.shape
        yield Still(
            plane=plane,
            slice=at,
            columns=columns,
            rows=rows,
            width=columns * drawn.spacing[across],
            height=rows * drawn.spacing[down],
            edges=EDGES[plane],
            png=_png(grey),
            overlays=tuple(
                Overlay(
                    organ,
                    outline(cut(drawn.mask(drawn.truth, organ), axis, at)),
                    area(cut(drawn.mask(drawn.prediction, organ), axis, at)),
                )
                for organ in range(organs)
            ),
        )


def cut(volume: NDArray[np.generic], axis: int, at: int) -> NDArray[np.generic]:
    """(rows, columns) with the patient's right, or front, on the left and front, or head, on top."""
    return np.flip(volume.take(at, axis=axis).T)


def area(mask: NDArray[np.generic]) -> str:
    """One rectangle for each run of voxels in a row."""
    return "".join(f"M{first} {row}h{length}v1h-{length}z" for row, first, length in _runs(np.asarray(mask)))


def outline(mask: NDArray[np.generic]) -> str:
    """The edges of voxels between inside and outside."""
    padded = np.pad(np.asarray(mask, bool), 1)
    level = padded[1:, 1:-1] != padded[:-1, 1:-1]
    upright = padded[1:-1, 1:] != padded[1:-1, :-1]
    return "".join(f"M{first} {row}h{length}" for row, first, length in _runs(level)) + "".join(
        f"M{column} {first}v{length}" for column, first, length in _runs(upright.T)
    )


def _runs(mask: Mask) -> Iterator[tuple[int, int, int]]:
    """Row, first column and length of each run of true values, row by row."""
    steps = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    rows, first = np.nonzero(steps == 1)
    _, end = np.nonzero(steps == -1)
    yield from ((int(row), int(a), int(b - a)) for row, a, b in zip(rows, first, end, strict=True))


def _png(grey: NDArray[np.float64]) -> str:
    data = io.BytesIO()
    picture = np.repeat(np.rint(grey * 255).astype(np.uint8)[..., None], 3, axis=2)
    matplotlib.image.imsave(data, picture, format="png", metadata={"Software": "SegViz"})
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
