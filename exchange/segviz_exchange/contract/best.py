"""Which round is the best one, as far as the sites have scored them."""

from collections.abc import Collection, Mapping
from statistics import fmean

from segviz_exchange.contract.records import Control, RoundScores

Scores = Mapping[int, Mapping[str, RoundScores]]
"""By round and alias."""


def best_round(control: Control, scores: Scores, rounds: Collection[int]) -> int | None:
    """The highest mean Dice over organs, each the mean over its owners; the earliest of equals.

    Only rounds in which every organ that still has an owner was scored count: a round that lost its hardest
    organ would look best.
    """
    wanted = {organ for organ in control.organs if control.owners(organ)}
    means = {round_: validation(control, scores.get(round_, {})) for round_ in sorted(rounds)}
    complete = [round_ for round_, dice in means.items() if wanted and dice.keys() == wanted]
    # max() returns the first of equals, which is the earliest.
    return max(complete, key=lambda round_: fmean(means[round_].values()), default=None)


def validation(control: Control, scores: Mapping[str, RoundScores]) -> dict[str, float]:
    """Mean Dice by organ over those of its owners that have scored it."""
    means: dict[str, float] = {}
    for organ in control.organs:
        dice = [
            scores[owner].dice[organ].mean
            for owner in control.owners(organ)
            if owner in scores and organ in scores[owner].dice
        ]
        if dice:
            means[organ] = fmean(dice)
    return means
