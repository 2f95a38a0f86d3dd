"""Which round is the best one, as far as the sites have scored them."""

from collections.abc import Collection, Mapping
from statistics import fmean, median

from segviz_exchange.contract.records import Control, RoundScores

Scores = Mapping[int, Mapping[str, RoundScores]]
"""By round and alias."""


def best_round(control: Control, scores: Scores, rounds: Collection[int]) -> int | None:
    """The highest mean Dice over organs, each the median over its owners; the earliest of equals.

    The median, as an owner may claim what it likes: of three, one alone decides nothing; of two, it may.

    Only rounds in which every organ that still has an owner was scored count: a round that lost its hardest
    organ would look best.
    """
    wanted = {organ for organ in control.organs if control.owners(organ)}
    means = {
        round_: {organ: median(dice) for organ, dice in _by_organ(control, scores.get(round_, {})).items()}
        for round_ in sorted(rounds)
    }
    complete = [round_ for round_, dice in means.items() if wanted and dice.keys() == wanted]
    # max() returns the first of equals, which is the earliest.
    return max(complete, key=lambda round_: fmean(means[round_].values()), default=None)


def validation(control: Control, scores: Mapping[str, RoundScores]) -> dict[str, float]:
    """Mean Dice by organ over those of its owners that have scored it."""
    return {organ: fmean(dice) for organ, dice in _by_organ(control, scores).items()}


def _by_organ(control: Control, scores: Mapping[str, RoundScores]) -> dict[str, list[float]]:
    """Of those organs that were scored, each owner's."""
    found = {
        organ: [
            scores[owner].dice[organ].mean
            for owner in control.owners(organ)
            if owner in scores and organ in scores[owner].dice
        ]
        for organ in control.organs
    }
    return {organ: dice for organ, dice in found.items() if dice}
