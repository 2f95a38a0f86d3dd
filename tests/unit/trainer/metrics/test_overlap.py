"""Dice of two masks, by hand."""

import numpy as np
import pytest

from segviz_trainer.metrics.overlap import dice


@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [
        ([0, 0, 0], [0, 0, 0], 1.0),  # nothing to find, nothing found
        ([0, 1, 0], [0, 0, 0], 0.0),
        ([0, 0, 0], [0, 1, 0], 0.0),
        ([1, 1, 0], [0, 1, 1], 0.5),
        ([1, 1, 1], [0, 0, 1], 0.5),
        ([0, 1, 1], [0, 1, 1], 1.0),
    ],
)
def test_dice_is_twice_what_is_shared_over_both(prediction: list, truth: list, expected: float) -> None:
    assert dice(np.array(prediction, bool), np.array(truth, bool)) == expected
