"""Validation Dice by round, and which round is the best so far: one meaning for every table and metric.

The *mean Dice* of a federation is that of its best round so far. That of the newest round which every active
site has scored is the *newest mean Dice*.
"""

from dataclasses import dataclass
from statistics import fmean

from segviz_exchange.contract.best import best_round, validation
from segviz_exchange.contract.choices import Selection
from segviz_exchange.contract.records import RoundScores
from segviz_operator.progress.facts import FederationRecords


@dataclass(frozen=True)
class Best:
    round: int
    mean_dice: float | None
    """Over organs; none where the final model had to be chosen without any score."""


def best_so_far(records: FederationRecords) -> Best | None:
    """The round that the selection would choose by its scores now; afterwards, the one that it has chosen."""
    control, final = records.control, records.final
    if control is None:
        return None
    if final is not None and control.spec.selection is Selection.BEST:
        return Best(final.round, _mean(final.validation))
    scores = _scores_by_round(records)
    # Round 0 is a model that nobody has trained.
    best = best_round(control, scores, [number for number in records.rounds if number > 0])
    return None if best is None else Best(best, _mean(validation(control, scores[best])))


def newest_mean_dice(records: FederationRecords) -> float | None:
    """Over organs, of the newest round that every active site has scored."""
    dice = dice_by_round(records)
    return dice[max(dice)] if dice else None


def dice_by_round(records: FederationRecords) -> dict[int, float]:
    """Mean validation Dice over organs of each round that every active site has scored."""
    return {number: fmean(dice.values()) for number, dice in organ_dice_by_round(records).items()}


def organ_dice_by_round(records: FederationRecords) -> dict[int, dict[str, float]]:
    """Validation Dice by organ, mean over its owners, of each round that every active site has scored."""
    control = records.control
    if control is None:
        return {}
    scores = _scores_by_round(records)
    active = set(control.active)
    whole = [number for number in sorted(scores.keys() & records.rounds) if active <= scores[number].keys()]
    found = {number: validation(control, scores[number]) for number in whole}
    return {number: dice for number, dice in found.items() if dice}


def _scores_by_round(records: FederationRecords) -> dict[int, dict[str, RoundScores]]:
    found: dict[int, dict[str, RoundScores]] = {}
    for alias, site in records.sites.items():
        for number, scores in site.scores.items():
            found.setdefault(number, {})[alias] = scores
    return found


def _mean(dice: dict[str, float]) -> float | None:
    return fmean(dice.values()) if dice else None
