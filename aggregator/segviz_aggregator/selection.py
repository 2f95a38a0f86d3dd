"""Which round's model is the federation's: a pure function of the sites' validation scores."""

from collections.abc import Collection

from segviz_exchange.contract.best import Scores, best_round, validation
from segviz_exchange.contract.choices import Selection
from segviz_exchange.contract.records import Control, Final, Round


def choose_final(control: Control, scores: Scores, last: Round, gone: Collection[int] = ()) -> Final:
    """Best: the highest mean Dice over organs, each the median over its owners; the earliest of equals.

    Only rounds after the first exchange count, and only those in which every organ that still has an owner
    was scored. Where there is no such round, the last. Rounds in `gone` lost their model to the retention,
    which took them for beaten before a late score or an edit said otherwise.

    `control` says who owns what now. The final record names the last round's control, under which all that
    is left to do is done, whatever is edited after it.
    """
    chosen = last.round
    if control.spec.selection is Selection.BEST:
        candidates = [round_ for round_ in range(min(1, last.round), last.round + 1) if round_ not in gone]
        best = best_round(control, scores, candidates)
        chosen = last.round if best is None else best
    return Final(round=chosen, control=last.control, validation=validation(control, scores.get(chosen, {})))
