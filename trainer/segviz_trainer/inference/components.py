"""The largest connected component of a mask: false organs far from the true one go."""

import numpy as np
from scipy.ndimage import label

from segviz_trainer.metrics.overlap import Mask


def largest_component(mask: Mask) -> Mask:
    """Of voxels that touch by a face; of equally large ones the first in the array's order."""
    numbered, count = label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(numbered.ravel())
    sizes[0] = 0
    largest: Mask = numbered == sizes.argmax()
    return largest
