"""Which round's model is the federation's: a pure function of the sites' validation scores."""

from collections.abc import Mapping
from statistics import fmean

from segviz_exchange.records import Control, Final, Round, RoundScores
from segviz_exchange.spec import Selection

Scores = Mapping[int, Mapping[str, RoundScores]]
"""By round and alias."""


def choose_final(control: Control, scores: Scores, last: Round) -> Final:
    """Best: the highest mean Dice over organs, each the mean over its owners; the earliest of equals.

    Only rounds after the first exchange count, and only those in which every organ that still has an owner
    was scored: a round that lost its hardest organ would look best. Where there is no such round, the last.

    `control` says who owns what now. The final record names the last round's control, under which all that
    is left to do is done, whatever is edited after it.
    """
    wanted = {organ for organ in control.organs if control.owners(organ)}
    by_round = {round_: validation(control, scores.get(round_, {})) for round_ in range(last.round + 1)}
    chosen = last.round
    if control.spec.selection is Selection.BEST:
        complete = [
            round_
            for round_ in range(min(1, last.round), last.round + 1)
            if wanted and by_round[round_].keys() == wanted
        ]
        # max() returns the first of equals, which is the earliest.
        chosen = max(complete, key=lambda round_: fmean(by_round[round_].values()), default=last.round)
    return Final(round=chosen, control=last.control, validation=by_round[chosen])


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
