"""How far a mean may be off: the bootstrap over cases."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats

LEVEL = 0.95
RESAMPLES = 5000
_SEED = 0
"""The same report for the same scores."""


@dataclass(frozen=True)
class Interval:
    """Of a mean, at 95 %."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:+.3f} to {self.high:+.3f}"


def interval_of(values: Iterable[float]) -> Interval | None:
    """BCa bootstrap (Efron, 1987) of the mean over cases; None of fewer than two, which say nothing."""
    return _interval_of(tuple(values))


@lru_cache(maxsize=65536)
def _interval_of(values: tuple[float, ...]) -> Interval | None:
    if len(values) < 2:
        return None
    if len(set(values)) == 1:
        return Interval(values[0], values[0])  # where BCa has 0/0
    found = stats.bootstrap(
        (np.array(values),),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=LEVEL,
        method="BCa",
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return Interval(float(found.low), float(found.high))
