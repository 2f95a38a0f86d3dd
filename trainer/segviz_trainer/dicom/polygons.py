"""Outlines to pixels.

A pixel counts when its centre lies inside. Inside is even-odd over all outlines of a plane: a hole is an
outline within an outline, and an outline may run to its hole and back on one line (a keyhole). A centre on
an outline counts where the inside lies towards the next column or row, so that two areas with a common border
share out the centres on it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_DECIMALS = 4
"""Of a pixel: an outline that runs through centres is decided by the rule, not by rounding."""


def inside(outlines: Sequence[NDArray[np.float64]], columns: int, rows: int) -> NDArray[np.bool_]:
    """(columns, rows): whether each pixel's centre lies within an odd number of `outlines`.

    An outline is (N, 2) of column and row, in pixels from the centre of the first; it closes itself.
    """
    # At the first pixel at or after each crossing of its row, what follows changes sides.
    crossings = np.zeros((rows, columns + 1), np.int32)
    for outline in outlines:
        row, column = _crossings(np.round(outline, _DECIMALS), rows)
        np.add.at(crossings, (row, np.clip(np.ceil(column), 0, columns).astype(np.intp)), 1)
    mask: NDArray[np.bool_] = (np.cumsum(crossings[:, :columns], axis=1) % 2 == 1).T
    return mask


def _crossings(outline: NDArray[np.float64], rows: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Where edges cross the centre line of each row: row, and column as a fraction."""
    ends = np.stack([outline, np.roll(outline, -1, axis=0)])
    # Both ways alike, or the two sides of a keyhole's bridge would not cancel out to the last bit.
    low, high = np.where(ends[0, :, 1:] <= ends[1, :, 1:], ends, ends[::-1])
    first, last = (np.clip(np.ceil(end[:, 1]), 0, rows).astype(np.intp) for end in (low, high))
    counts = last - first
    edge = np.repeat(np.arange(len(outline)), counts)
    row = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    share = (row - low[edge, 1]) / (high[edge, 1] - low[edge, 1])
    return row, low[edge, 0] + share * (high[edge, 0] - low[edge, 0])


def crossing(outlines: Sequence[NDArray[np.float64]], columns: int, rows: int) -> int:
    """How many pairs of `outlines` overlap without one lying within the other."""
    points = np.concatenate(outlines)
    low = np.clip(np.floor(points.min(axis=0)), 0, (columns, rows)).astype(int)
    high = np.clip(np.ceil(points.max(axis=0)) + 1, low, (columns, rows)).astype(int)
    width, height = (high - low).tolist()
    masks = [inside([outline - low], width, height).ravel() for outline in outlines]
    flat = np.stack(masks).astype(np.float32)
    shared = flat @ flat.T
    sizes = np.diag(shared)
    partial = (shared > 0) & (shared < np.minimum(sizes[:, None], sizes[None]))
    return int(np.triu(partial, 1).sum())
