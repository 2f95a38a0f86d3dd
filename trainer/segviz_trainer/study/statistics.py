"""Paired tests with the direction of the difference, over the very same cases."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from segviz_exchange.process.errors import Refusal

ALPHA = 0.05
_SHOWN_CASES = 5


class UnequalCases(Refusal):
    """A paired test was asked for over cases that are not the same on both sides."""


class TooFewCases(Refusal):
    """A paired test needs two cases."""


@dataclass(frozen=True)
class Paired:
    """A method beside a reference; a positive difference says that the method's values are higher."""

    cases: int
    difference: float
    """Mean over cases of method − reference."""
    t: float
    p: float
    """Of the two-sided paired t-test."""
    p_wilcoxon: float
    """Of the two-sided Wilcoxon signed-rank test."""

    @property
    def direction(self) -> int:
        """1 higher, -1 lower, 0 where the t-test sees no difference."""
        return int(np.sign(self.difference)) if self.p < ALPHA else 0


def compare(
    method: Mapping[str, float], reference: Mapping[str, float], names: tuple[str, str] = ("first", "second")
) -> Paired:
    """`method` and `reference` are values by case.

    Raises:
        UnequalCases: their cases differ; both sides' missing ones are named.
        TooFewCases: there are fewer than two.
    """
    _check_same(method, reference, names)
    if len(method) < 2:
        raise TooFewCases(
            f"{names[0]} against {names[1]}: {len(method)} case(s). A paired test needs at least 2."
        )
    cases = sorted(method)
    differences = np.array([method[case] - reference[case] for case in cases])
    if not differences.any():
        return Paired(len(cases), 0.0, 0.0, 1.0, 1.0)  # where SciPy has 0/0
    with np.errstate(divide="ignore", invalid="ignore"):
        t_test = stats.ttest_rel([method[case] for case in cases], [reference[case] for case in cases])
        signed_rank = stats.wilcoxon(differences)
    return Paired(
        cases=len(cases),
        difference=float(differences.mean()),
        t=float(t_test.statistic),
        p=float(t_test.pvalue),
        p_wilcoxon=float(signed_rank.pvalue),
    )


def holm(values: Sequence[float]) -> tuple[float, ...]:
    """Holm's step-down adjustment (1979) of the p values of one family, in their order."""
    count = len(values)
    adjusted = [0.0] * count
    highest = 0.0
    for rank, index in enumerate(sorted(range(count), key=lambda each: values[each])):
        highest = max(highest, min(1.0, (count - rank) * values[index]))
        adjusted[index] = highest
    return tuple(adjusted)


def _check_same(method: Mapping[str, float], reference: Mapping[str, float], names: tuple[str, str]) -> None:
    if method.keys() == reference.keys():
        return
    only_method = sorted(method.keys() - reference.keys())
    only_reference = sorted(reference.keys() - method.keys())
    raise UnequalCases(
        f"a paired test of {names[0]} ({len(method)} cases) against {names[1]} ({len(reference)} cases) "
        f"needs the same cases on both sides. {names[1]} lacks {_listed(only_method)}; {names[0]} lacks "
        f"{_listed(only_reference)}. Score both on the same cases."
    )


def _listed(cases: Sequence[str]) -> str:
    shown = ", ".join(cases[:_SHOWN_CASES]) or "none"
    more = len(cases) - _SHOWN_CASES
    return f"{shown} and {more} more" if more > 0 else shown
