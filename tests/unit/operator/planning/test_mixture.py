"""Quantiles of sites together, by hand and against the values themselves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segviz_exchange.contract.fingerprint import LEVELS, Spread
from segviz_operator.planning.mixture import Known, quantile

TENTHS = (0.1, 0.5, 0.9)


def test_one_site_has_its_own_quantiles() -> None:
    known = Known(7, TENTHS, (1.0, 2.0, 4.0))
    assert [quantile([known], level) for level in TENTHS] == [1.0, 2.0, 4.0]


def test_between_two_that_are_known_it_is_linear() -> None:
    assert quantile([Known(1, TENTHS, (1.0, 2.0, 4.0))], 0.3) == pytest.approx(1.5)
    assert quantile([Known(1, TENTHS, (1.0, 2.0, 4.0))], 0.7) == pytest.approx(3.0)


def test_sites_of_one_spacing_each_weigh_by_their_cases() -> None:
    fine, coarse = Spread(1.0, 1.0, 1.0), Spread(3.0, 3.0, 3.0)
    assert quantile([Known.of(fine, 20), Known.of(coarse, 10)], 0.5) == 1.0
    assert quantile([Known.of(fine, 10), Known.of(coarse, 20)], 0.5) == 3.0
    assert quantile([Known.of(fine, 10), Known.of(coarse, 10)], 0.5) == 1.0, "the lower one of two halves"


def test_two_sites_side_by_side() -> None:
    """0 to 10 and 10 to 20, evenly: the middle of all is where they meet."""
    low, high = Known(1, (0.0, 1.0), (0.0, 10.0)), Known(1, (0.0, 1.0), (10.0, 20.0))
    assert quantile([low, high], 0.5) == pytest.approx(10.0)
    assert quantile([low, high], 0.25) == pytest.approx(5.0)
    assert quantile([low, high], 0.95) == pytest.approx(19.0)


@given(
    st.lists(st.tuples(st.integers(1, 50), st.floats(-500, 500), st.floats(0, 100)), min_size=1, max_size=5),
    st.sampled_from(LEVELS),
)
def test_it_is_where_the_sum_of_shares_reaches_the_level(
    sites: list[tuple[int, float, float]], level: float
) -> None:
    parts = [
        Known(weight, LEVELS, tuple(round(start + width * each, 3) for each in LEVELS))
        for weight, start, width in sites
    ]
    found = quantile(parts, level)
    total = sum(part.weight for part in parts)
    assert sum(part.weight * part.share_below(found) for part in parts) <= level * total + 1e-6 * total
    assert sum(part.weight * part.share_up_to(found) for part in parts) >= level * total - 1e-6 * total
    assert min(part.values[0] for part in parts) <= found <= max(part.values[-1] for part in parts)


def test_against_the_values_of_three_sites() -> None:
    rng = np.random.default_rng(5)
    sites = [rng.normal(mean, 20, 1000) for mean in (60, 90, 140)]
    parts = [Known(1, LEVELS, tuple(np.quantile(site, LEVELS).tolist())) for site in sites]
    together = np.concatenate(sites)
    for level in (0.05, 0.5, 0.95):
        assert quantile(parts, level) == pytest.approx(np.quantile(together, level), abs=4)
