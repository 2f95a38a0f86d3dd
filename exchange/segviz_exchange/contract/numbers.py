"""Numbers that no model has, wherever one comes in: from a site, a file or a store."""

from collections.abc import Iterable

import numpy as np

from segviz_exchange.contract.codec import Array

_VARIANCE = "running_var"
"""BatchNorm's; a square root is taken of it."""
MAX_NORM_VALUE = 1e6
"""Of what a BatchNorm module owns. Images are scaled before they are seen, so no honest one comes near it."""
START_TOLERANCE = 1e-5
"""How far a start model may lie from the seeded one, in any value: builds of torch may round differently."""


def farthest(ours: Iterable[Array], theirs: Iterable[Array]) -> float:
    """The largest difference of two tensors of one shape, in float64; NaN where one of them has a NaN."""
    far = 0.0
    for mine, other in zip(ours, theirs, strict=True):
        with np.errstate(over="ignore", invalid="ignore"):
            apart = np.abs(mine.astype(np.float64) - other.astype(np.float64))
        largest = float(apart.max(initial=0.0))
        if not largest <= far:
            far = largest
        if np.isnan(far):
            return far
    return far


def fault_of(name: str, chunks: Iterable[Array]) -> str | None:
    """What is wrong with the values of tensor `name`, or None."""
    for chunk in chunks:
        if not np.isfinite(chunk).all():
            return f"tensor {name!r} holds NaN or an infinity"
        if name.rpartition(".")[2] == _VARIANCE and (chunk < 0).any():
            return f"tensor {name!r} holds negative variances"
    return None
