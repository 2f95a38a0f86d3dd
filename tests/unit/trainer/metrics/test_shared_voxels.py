import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segviz_trainer.metrics.shared_voxels import SharedVoxels


def test_by_hand() -> None:
    shared = SharedVoxels()
    for case, claimed in (("a", [1, 1, 1, 0, 0]), ("b", [0, 0, 0, 0, 0]), ("a", [0, 1, 1, 1, 0])):
        shared.add(case, np.array(claimed, bool).reshape(5, 1, 1))
    assert shared.rate == 2 / 4


def test_nothing_claimed_is_nothing_shared() -> None:
    assert SharedVoxels().rate == 0.0


@given(masks=arrays(bool, st.tuples(st.integers(1, 4), st.integers(1, 5), st.just(3), st.just(2))))
def test_like_a_plain_count(masks: np.ndarray) -> None:
    shared = SharedVoxels()
    for mask in masks:
        shared.add("case", mask)
    claims = masks.sum(axis=0)
    expected = (claims > 1).sum() / max(1, (claims > 0).sum())
    assert shared.rate == pytest.approx(expected)
