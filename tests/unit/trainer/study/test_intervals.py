"""The bootstrap over cases, against its own definition."""

import numpy as np
import pytest
from scipy import stats

from segviz_trainer.study.intervals import Interval, interval_of

VALUES = (0.62, 0.71, 0.55, 0.80, 0.77, 0.69, 0.73, 0.66, 0.58, 0.75)


def bca(values: np.ndarray, resamples: int = 20_000) -> tuple[float, float]:
    """Efron (1987), written out: bias from the share below the mean, acceleration from the jackknife."""
    rng = np.random.default_rng(7)
    means = np.array([rng.choice(values, len(values)).mean() for _ in range(resamples)])
    bias = stats.norm.ppf((means < values.mean()).mean())
    left_out = np.array([np.delete(values, index).mean() for index in range(len(values))])
    spread = left_out.mean() - left_out
    acceleration = (spread**3).sum() / (6 * (spread**2).sum() ** 1.5)
    ends = []
    for quantile in (0.025, 0.975):
        z = bias + stats.norm.ppf(quantile)
        ends.append(np.quantile(means, stats.norm.cdf(bias + z / (1 - acceleration * z))))
    return ends[0], ends[1]


def test_it_is_the_bca_interval() -> None:
    found = interval_of(VALUES)
    assert found is not None
    assert (found.low, found.high) == pytest.approx(bca(np.array(VALUES)), abs=0.004)


def test_the_same_scores_give_the_same_interval() -> None:
    assert interval_of(VALUES) == interval_of(list(VALUES))


def test_one_case_has_none() -> None:
    assert interval_of([0.5]) is None
    assert interval_of([]) is None


def test_cases_that_are_all_alike_leave_no_room() -> None:
    assert interval_of([0.5, 0.5, 0.5]) == Interval(0.5, 0.5)


def test_it_covers_the_true_mean_about_as_often_as_it_says() -> None:
    """Thirty cases, as a study of three folds of ten has; 95 % within what 150 draws can tell."""
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(150):
        found = interval_of(rng.beta(8, 2, size=30).tolist())
        assert found is not None
        hits += found.low <= 0.8 <= found.high
    assert 0.88 <= hits / 150 <= 0.99
