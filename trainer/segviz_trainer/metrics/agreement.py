"""One organ of one case: how well a predicted mask agrees with the true one, on the grid of the case's file.

Nothing is ever dropped. What an empty mask scores:

| truth | prediction | Dice | NSD | HD95 | |
|---|---|---|---|---|---|
| there | none | 0 | 0 | image diagonal | a miss |
| none | there | 0 | 0 | image diagonal | |
| none | none | 1 | 1 | 0 | |
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segviz_trainer.metrics.overlap import Mask, dice
from segviz_trainer.metrics.surfaces import bounding_box, surface_distances, union


@dataclass(frozen=True)
class Agreement:
    dice: float
    hd95: float
    """95th percentile of the surface distances in mm, the worse of both directions."""
    nsd: float
    """Share of both surfaces that lies within the tolerance of the other."""
    missed: bool
    """The organ is there, and nothing of it was found."""


def agreement(
    prediction: Mask, truth: Mask, spacing: Sequence[float], tolerance_millimetres: float
) -> Agreement:
    """Compare two masks (X, Y, Z) on one grid whose axes have `spacing` in mm."""
    if prediction.shape != truth.shape:
        raise ValueError(f"the masks have different shapes, {prediction.shape} and {truth.shape}")
    found, there = bounding_box(prediction), bounding_box(truth)
    if found is None and there is None:
        return Agreement(1.0, 0.0, 1.0, missed=False)
    if found is None or there is None:
        return Agreement(0.0, diagonal(truth.shape, spacing), 0.0, missed=found is None)
    # Everything outside both boxes is background in both: no metric looks there.
    box = union(found, there)
    prediction, truth = prediction[box], truth[box]
    to_truth, to_prediction = surface_distances(prediction, truth, spacing)
    tolerance = np.float32(tolerance_millimetres)
    within = np.count_nonzero(to_truth <= tolerance) + np.count_nonzero(to_prediction <= tolerance)
    return Agreement(
        dice=dice(prediction, truth),
        hd95=float(max(np.percentile(to_truth, 95), np.percentile(to_prediction, 95))),
        nsd=float(within / (len(to_truth) + len(to_prediction))),
        missed=False,
    )


def diagonal(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """Millimetres between opposite corners of an image."""
    return float(np.linalg.norm(np.multiply(shape, spacing)))
