"""Scores of cases and their summary."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from segviz_exchange.contract.records import CaseScore, Dice, Surface
from segviz_trainer.data.cache import PreparedCase
from segviz_trainer.data.labels import IGNORED
from segviz_trainer.inference.predictor import Predictor
from segviz_trainer.metrics.agreement import agreement
from segviz_trainer.metrics.overlap import Mask, dice
from segviz_trainer.metrics.tolerances import tolerance_of
from segviz_trainer.scoring.case_ids import case_name


def score(
    predictor: Predictor,
    cases: Sequence[PreparedCase],
    site_organs: tuple[str, ...],
    organs: tuple[str, ...],
    on_case: Callable[[int], object] = lambda done: None,
    tolerances: Mapping[str, float] | None = None,
    on_mask: Callable[[str, Mask], object] = lambda case, mask: None,
) -> tuple[CaseScore, ...]:
    """Scores of every case for each of `organs` that it annotates, on the grid of the stored label.

    Dice alone, which is what a round is chosen by; HD95, NSD and misses too where `tolerances` are given:
    NSD's by organ, in mm, for organs that differ from the usual. A row has the `case_name`.
    """
    rows = []
    for done, case in enumerate(cases, start=1):
        annotated = tuple(organ for organ in organs if organ in case.organs)
        # A site's data sets may annotate different organs; nothing is predicted where there is no truth.
        if annotated:
            label = case.native_label()
            for organ, mask in predictor.masks(case, annotated).items():
                found, truth = scored_masks(mask, label, site_organs.index(organ))
                rows.append(_score(case, organ, found, truth, tolerances))
                on_mask(case_name(case), mask)
        on_case(done)
    return tuple(rows)


def scored_masks(mask: Mask, label: NDArray[np.uint8], organ: int) -> tuple[Mask, Mask]:
    """Prediction and truth of the site's `organ`-th organ. Ignored voxels are neither right nor wrong."""
    return mask & (label != IGNORED), label == organ + 1


def _score(
    case: PreparedCase, organ: str, mask: Mask, truth: Mask, tolerances: Mapping[str, float] | None
) -> CaseScore:
    name = case_name(case)
    if tolerances is None:
        return CaseScore(name, organ, dice(mask, truth))
    agreed = agreement(mask, truth, case.native.spacing, tolerance_of(organ, tolerances))
    return CaseScore(name, organ, agreed.dice, agreed.hd95, agreed.nsd, agreed.missed)


def summary(rows: Sequence[CaseScore]) -> dict[str, Dice]:
    by_organ: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        by_organ[row.organ].append(row.dice)
    return {
        organ: Dice(mean=float(np.mean(values)), sd=float(np.std(values)), cases=len(values))
        for organ, values in sorted(by_organ.items())
    }


def surface_summary(rows: Sequence[CaseScore]) -> dict[str, Surface]:
    """By organ, of the rows that have surface scores."""
    by_organ: dict[str, list[tuple[float, float, bool]]] = defaultdict(list)
    for row in rows:
        if row.hd95 is not None and row.nsd is not None:
            by_organ[row.organ].append((row.hd95, row.nsd, bool(row.missed)))
    summaries = {}
    for organ, values in sorted(by_organ.items()):
        hd95, nsd, missed = map(np.array, zip(*values, strict=True))
        summaries[organ] = Surface(
            hd95=float(hd95.mean()),
            hd95_sd=float(hd95.std()),
            nsd=float(nsd.mean()),
            nsd_sd=float(nsd.std()),
            misses=int(missed.sum()),
        )
    return summaries
