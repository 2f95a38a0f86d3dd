"""What the fingerprints of all sites say together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from segviz_exchange.contract.fingerprint import LEVELS, Fingerprint
from segviz_operator.planning.mixture import Known, quantile

Triple = tuple[float, float, float]
"""Along R, A, S."""

MOST_WEIGHT = 5


@dataclass(frozen=True)
class Merged:
    sites: tuple[str, ...]
    """Those that tell enough, sorted."""
    withheld: tuple[str, ...]
    """Those with too few cases."""
    cases: int
    fewest_cases: int
    """Of one site."""
    spacing: Triple
    """Median, in millimetres."""
    finest: Triple
    """The spacing that a tenth of the cases does not exceed."""
    extent: Triple
    """Median, in millimetres."""
    hounsfield: bool
    """Whether every image of every site has values below 0."""
    window: tuple[float, float] | None
    """0.5 and 99.5 percentile inside organs, every case weighing the same."""


def merge(fingerprints: Iterable[Fingerprint]) -> Merged | None:
    """A pure function of what the sites tell, whatever their order; None where nobody tells enough."""
    told = sorted(fingerprints, key=lambda each: each.site)
    known = [each for each in told if each.spacing and each.shape and each.extent and each.intensities]
    if not known:
        return None
    weights = _weights(known)
    intensities = [
        Known(weight, LEVELS, each.intensities.quantiles)
        for each, weight in zip(known, weights, strict=True)
        if each.intensities
    ]
    return Merged(
        sites=tuple(each.site for each in known),
        withheld=tuple(each.site for each in told if each not in known),
        cases=sum(each.cases for each in known),
        fewest_cases=min(each.cases for each in known),
        spacing=_along(known, weights, "spacing", 0.5),
        finest=_along(known, weights, "spacing", 0.1),
        extent=_along(known, weights, "extent", 0.5),
        hounsfield=all(each.below_zero for each in known),
        window=(quantile(intensities, LEVELS[0]), quantile(intensities, LEVELS[-1])),
    )


def _weights(known: Sequence[Fingerprint]) -> tuple[float, ...]:
    """A site says itself how many cases it has: it weighs at most five times the median of the others'."""
    cases = [each.cases for each in known]
    if len(cases) == 1:
        return (1.0,)
    return tuple(
        min(count, MOST_WEIGHT * median(cases[:index] + cases[index + 1 :]))
        for index, count in enumerate(cases)
    )


def _along(
    known: Sequence[Fingerprint], weights: Sequence[float], field: Literal["spacing", "extent"], level: float
) -> Triple:
    r, a, s = (
        quantile(
            [
                Known.of(getattr(each, field)[axis], weight)
                for each, weight in zip(known, weights, strict=True)
            ],
            level,
        )
        for axis in range(3)
    )
    return r, a, s
