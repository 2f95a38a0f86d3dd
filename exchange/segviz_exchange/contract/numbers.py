"""Numbers that no model has, wherever one comes in: from a site, a file or a store."""

from collections.abc import Iterable

import numpy as np

from segviz_exchange.contract.codec import Array

_VARIANCE = "running_var"
"""BatchNorm's; a square root is taken of it."""


def fault_of(name: str, chunks: Iterable[Array]) -> str | None:
    """What is wrong with the values of tensor `name`, or None."""
    for chunk in chunks:
        if not np.isfinite(chunk).all():
            return f"tensor {name!r} holds NaN or an infinity"
        if name.rpartition(".")[2] == _VARIANCE and (chunk < 0).any():
            return f"tensor {name!r} holds negative variances"
    return None
