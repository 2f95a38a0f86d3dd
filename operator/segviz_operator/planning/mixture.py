"""Quantiles of several sites' values together, from each site's own quantiles."""

from collections.abc import Sequence
from dataclasses import dataclass

from segviz_exchange.contract.fingerprint import Spread

_SPREAD_LEVELS = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Known:
    """A distribution by some of its quantiles, and how much it weighs."""

    weight: float
    levels: tuple[float, ...]
    values: tuple[float, ...]
    """Ascending, at `levels`."""

    @classmethod
    def of(cls, spread: Spread, weight: float) -> "Known":
        return cls(weight, _SPREAD_LEVELS, (spread.p10, spread.p50, spread.p90))

    def share_up_to(self, x: float) -> float:
        """Of values that are at most x: linear between what is known, a step where values repeat."""
        if x >= self.values[-1]:
            return 1.0
        below = [index for index, value in enumerate(self.values) if value <= x]
        if not below:
            return 0.0
        return self._between(below[-1], x)

    def share_below(self, x: float) -> float:
        """Of values that are less than x."""
        below = [index for index, value in enumerate(self.values) if value < x]
        if not below:
            return 0.0
        return 1.0 if below[-1] + 1 == len(self.values) else self._between(below[-1], x)

    def _between(self, index: int, x: float) -> float:
        low, high = self.values[index], self.values[index + 1]
        part = (x - low) / (high - low)
        return self.levels[index] + part * (self.levels[index + 1] - self.levels[index])


def quantile(parts: Sequence[Known], level: float) -> float:
    """The smallest value that a share `level` of all does not exceed."""
    total = sum(part.weight for part in parts)
    knots = sorted({value for part in parts for value in part.values})
    before, reached = knots[0], 0.0
    for knot in knots:
        if sum(part.weight * part.share_up_to(knot) for part in parts) >= level * total:
            left = sum(part.weight * part.share_below(knot) for part in parts) / total
            if left <= level or knot == knots[0]:
                return knot  # the step is here
            return before + (level - reached) / (left - reached) * (knot - before)
        before, reached = knot, sum(part.weight * part.share_up_to(knot) for part in parts) / total
    return knots[-1]
