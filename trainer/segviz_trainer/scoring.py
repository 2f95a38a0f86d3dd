"""Dice of cases and its summary."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from segviz_exchange.records import CaseScore, Dice
from segviz_exchange.spec import Scores
from segviz_trainer.cache import PreparedCase
from segviz_trainer.inference import Mask, Predictor
from segviz_trainer.labels import IGNORED


def dice(prediction: Mask, truth: Mask) -> float:
    """2·|P ∩ T| / (|P| + |T|); 1 where both are empty, 0 where only one is."""
    total = int(prediction.sum()) + int(truth.sum())
    return 1.0 if total == 0 else 2 * int(np.logical_and(prediction, truth).sum()) / total


def score(
    predictor: Predictor,
    cases: Sequence[PreparedCase],
    site_organs: tuple[str, ...],
    organs: tuple[str, ...],
    on_case: Callable[[int], object] = lambda done: None,
) -> tuple[CaseScore, ...]:
    """Dice of every case for each of `organs` that it annotates, on the grid of the stored label."""
    rows = []
    for done, case in enumerate(cases, start=1):
        annotated = tuple(organ for organ in organs if organ in case.organs)
        # A site's data sets may annotate different organs; nothing is predicted where there is no truth.
        if annotated:
            label = case.native_label()
            known = label != IGNORED
            for organ, mask in predictor.masks(case, annotated).items():
                truth = label == site_organs.index(organ) + 1
                rows.append(CaseScore(case.id, organ, dice(mask & known, truth)))
        on_case(done)
    return tuple(rows)


def summary(rows: Sequence[CaseScore]) -> dict[str, Dice]:
    by_organ: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        by_organ[row.organ].append(row.dice)
    return {
        organ: Dice(mean=float(np.mean(values)), sd=float(np.std(values)), cases=len(values))
        for organ, values in sorted(by_organ.items())
    }


def may_leave(rows: Sequence[CaseScore], policy: Scores, salt: str) -> tuple[CaseScore, ...]:
    """The case rows that a site lets out: none, or all under ids that only the site can trace back."""
    if policy is Scores.SUMMARY:
        return ()
    return tuple(
        CaseScore(hashlib.sha256(f"{salt}/{row.case}".encode()).hexdigest()[:12], row.organ, row.dice)
        for row in rows
    )
