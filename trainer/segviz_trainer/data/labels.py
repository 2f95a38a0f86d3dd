"""A site's label ids to the federation's classes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segviz_trainer.data.layouts import MAX_ID, Case
from segviz_trainer.process.errors import BadCase

# scl_slope arithmetic leaves 0.99999994 where 1 was meant.
_INTEGER_TOLERANCE = 1e-3
_FAR = 2**53  # beyond it a float names no single integer
_SHOWN_IDS = 10

IGNORED = 255
"""The class of a voxel that neither trains nor scores."""


def annotated(case: Case, organs: Sequence[str]) -> frozenset[int]:
    """Indices in `organs` of what this case annotates; its class in a label map is 1 + index."""
    return frozenset(organs.index(organ) for organ in case.organs)


def map_label(case: Case, stored: NDArray[np.generic], organs: Sequence[str]) -> NDArray[np.uint8]:
    """`stored` (X, Y, Z) ids to 0 background, 1 + i the i-th of `organs`, IGNORED what is to be ignored.

    Raises:
        BadCase: ids that are no integers, that the manifest does not know, or no organ voxel at all.
    """
    ids = integers(case, stored)
    found = check_ids(case, ids)
    table = np.zeros(found[-1] + 1, dtype=np.uint8)
    classes = _classes(case, organs)
    for label_id in found:
        table[label_id] = classes[label_id]
    mapped: NDArray[np.uint8] = table[ids]
    return mapped


def check_ids(case: Case, ids: NDArray[np.integer]) -> list[int]:
    """The ids that occur, ascending.

    Raises:
        BadCase: one that the manifest does not know, or no organ voxel at all.
    """
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= MAX_ID:
        raise _unknown(case, np.unique(ids).tolist())
    # A table in place of np.unique, which sorts all voxels.
    present = np.zeros(high + 1, dtype=bool)
    present[ids.ravel(order="K")] = True
    found: list[int] = np.flatnonzero(present).tolist()
    if set(found) - _known(case):
        raise _unknown(case, found)
    if not set(found) & {label_id for organ_ids in case.organs.values() for label_id in organ_ids}:
        wanted = {organ: list(organ_ids[:_SHOWN_IDS]) for organ, organ_ids in case.organs.items()}
        raise BadCase(
            case.label,
            f"is empty: no voxel of any annotated organ {wanted}",
            "Check the export and the label ids; leave the case out if it truly shows none of them",
        )
    return found


def _classes(case: Case, organs: Sequence[str]) -> dict[int, int]:
    classes = {0: 0, **dict.fromkeys(case.background, 0), **dict.fromkeys(case.ignored, IGNORED)}
    for organ, organ_ids in case.organs.items():
        classes |= dict.fromkeys(organ_ids, 1 + organs.index(organ))
    return classes


def _known(case: Case) -> set[int]:
    return {0, *case.background, *case.ignored, *(i for ids in case.organs.values() for i in ids)}


def is_organ(classes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where some organ is: neither background nor ignored."""
    organ: NDArray[np.bool_] = (classes != 0) & (classes != IGNORED)
    return organ


def integers(case: Case, stored: NDArray[np.generic]) -> NDArray[np.integer]:
    """Raises BadCase for labels that are not whole numbers, but for what rounding leaves."""
    if np.issubdtype(stored.dtype, np.integer):
        return np.ascontiguousarray(stored, dtype=stored.dtype.newbyteorder("="))
    values = stored.astype(np.float64)
    if not np.isfinite(values).all():
        raise BadCase(case.label, "has NaN or infinite labels", "Export the label map as integers")
    rounded = np.rint(values)
    off = np.abs(values - rounded) > _INTEGER_TOLERANCE
    if off.any():
        raise BadCase(
            case.label,
            f"has labels that are not integers, such as {values[off][0]:g}",
            "Export the label map as integers, resampled by nearest neighbour",
        )
    return np.clip(rounded, -_FAR, _FAR).astype(np.int64)


def _unknown(case: Case, found: list[int]) -> BadCase:
    known = _known(case)
    unknown = [label_id for label_id in found if label_id not in known or label_id >= MAX_ID]
    shown = ", ".join(map(str, unknown[:_SHOWN_IDS])) + (" ..." if len(unknown) > _SHOWN_IDS else "")
    return BadCase(
        case.label,
        f"has label ids that data set {case.data_set!r} does not name: {shown}",
        "Add each to one of its organs, to its background, or to what is ignored",
    )
