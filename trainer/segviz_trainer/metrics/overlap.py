"""Dice of two masks."""

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def dice(prediction: Mask, truth: Mask) -> float:
    """2·|P ∩ T| / (|P| + |T|); 1 where both are empty, 0 where only one is."""
    total = int(np.count_nonzero(prediction)) + int(np.count_nonzero(truth))
    return 1.0 if total == 0 else 2 * int(np.count_nonzero(prediction & truth)) / total
