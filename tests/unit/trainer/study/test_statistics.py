import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from segviz_trainer.study.statistics import Paired, TooFewCases, UnequalCases, compare, holm

METHOD = {"a": 0.91, "b": 0.88, "c": 0.95, "d": 0.79, "e": 0.93, "f": 0.90}
REFERENCE = {"f": 0.87, "e": 0.91, "d": 0.80, "c": 0.90, "b": 0.83, "a": 0.85}
"""Differences by case: .06 .05 .05 −.01 .02 .03; mean 1/30, sample SD .0258199, t = mean / (SD / √6)."""


def test_fixed_numbers_by_hand_and_by_scipy() -> None:
    paired = compare(METHOD, REFERENCE)
    assert paired.cases == 6
    assert paired.difference == pytest.approx(1 / 30)
    differences = [0.06, 0.05, 0.05, -0.01, 0.02, 0.03]
    sd = math.sqrt(sum((each - 1 / 30) ** 2 for each in differences) / 5)
    assert paired.t == pytest.approx((1 / 30) / (sd / math.sqrt(6)), rel=1e-12)
    # Two-sided, five degrees of freedom, from Student's distribution itself.
    assert paired.p == pytest.approx(2 * stats.t.sf(paired.t, df=5), rel=1e-12)
    cases = sorted(METHOD)
    theirs = stats.ttest_rel([METHOD[c] for c in cases], [REFERENCE[c] for c in cases])
    assert (paired.t, paired.p) == (theirs.statistic, theirs.pvalue)


def test_wilcoxon_against_the_exact_distribution() -> None:
    """Ranks of |d| are 1 to 6, rank 1 negative: W = 1. 2 of 64 sign patterns are as low, on either side."""
    values = {str(i): 0.5 + i / 100 for i in range(1, 7)}
    reference = dict.fromkeys(values, 0.5)
    values["1"] = 0.49
    assert compare(values, reference).p_wilcoxon == pytest.approx(4 / 64)


def test_the_direction_is_the_sign_of_a_difference_that_is_significant() -> None:
    assert compare(METHOD, REFERENCE).direction == 1
    assert compare(REFERENCE, METHOD).direction == -1
    noise = {case: value + (0.02 if case in "ace" else -0.02) for case, value in REFERENCE.items()}
    assert compare(noise, REFERENCE).direction == 0


def test_equal_values_are_no_difference() -> None:
    paired = compare(METHOD, dict(METHOD))
    assert paired == Paired(cases=6, difference=0.0, t=0.0, p=1.0, p_wilcoxon=1.0)
    assert paired.direction == 0


def test_a_p_value_of_a_twentieth_is_not_below_it() -> None:
    assert [Paired(9, -0.2, -2.0, p, p).direction for p in (0.0499, 0.05, 0.051)] == [-1, 0, 0]


def test_two_cases_are_enough() -> None:
    assert compare({"a": 0.5, "b": 0.7}, {"a": 0.4, "b": 0.3}).cases == 2


def test_differences_that_are_all_alike_are_beyond_doubt() -> None:
    """And nobody is warned of the division by a deviation of zero."""
    with np.errstate(divide="raise", invalid="raise"):
        paired = compare({"a": 1.0, "b": 2.0, "c": 3.0}, {"a": 0.5, "b": 1.5, "c": 2.5})
    assert (paired.difference, paired.t, paired.p) == (0.5, math.inf, 0.0)


def test_five_missing_cases_are_named_and_there_are_no_more() -> None:
    theirs = {**REFERENCE, **{f"y{i}": 0.1 for i in range(5)}}
    with pytest.raises(UnequalCases, match=r"first lacks y0, y1, y2, y3, y4\. ") as refusal:
        compare(METHOD, theirs)
    assert "second lacks none;" in str(refusal.value)


def test_unequal_cases_are_refused_and_both_sides_are_named() -> None:
    mine = {**METHOD, "x": 0.5}
    theirs = {**{c: v for c, v in REFERENCE.items() if c != "a"}, **{f"y{i}": 0.1 for i in range(7)}}
    with pytest.raises(UnequalCases) as refusal:
        compare(mine, theirs, ("FedBN (liver)", "Local (liver)"))
    said = str(refusal.value)
    assert "FedBN (liver) (7 cases) against Local (liver) (12 cases)" in said
    assert "Local (liver) lacks a, x;" in said
    assert "FedBN (liver) lacks y0, y1, y2, y3, y4 and 2 more." in said


@pytest.mark.parametrize("values", [{}, {"a": 0.5}])
def test_fewer_than_two_cases_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(TooFewCases):
        compare(values, values)


def test_holm_by_hand() -> None:
    # Sorted .005 .011 .02 .04, times 4 3 2 1: .02 .033 .04 .04.
    assert holm([0.02, 0.005, 0.04, 0.011]) == pytest.approx((0.04, 0.02, 0.04, 0.033))
    assert holm([0.01, 0.9, 0.6]) == pytest.approx((0.03, 1.0, 1.0))
    assert holm([]) == ()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_lies_between_the_raw_value_and_bonferroni(values: list[float]) -> None:
    adjusted = np.array(holm(values))
    raw = np.array(values)
    assert (adjusted >= raw).all()
    assert (adjusted <= np.minimum(1.0, raw * len(values)) + 1e-12).all() or adjusted.max() <= 1.0
    assert (np.diff(adjusted[np.argsort(raw, kind="stable")]) >= 0).all()
