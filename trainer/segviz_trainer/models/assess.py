"""Scores of a trained model on a data set with labels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segviz_exchange.contract.choices import OnBadCase
from segviz_exchange.contract.records import CaseScore
from segviz_exchange.contract.site_spec import DataSet
from segviz_exchange.process.errors import Refusal
from segviz_trainer.data.cache import prepare
from segviz_trainer.data.labels import IGNORED
from segviz_trainer.data.layouts import find_cases
from segviz_trainer.data.left_out import left_out
from segviz_trainer.metrics.agreement import agreement
from segviz_trainer.metrics.tolerances import tolerance_of
from segviz_trainer.models.predict import MAX_MEBIBYTES
from segviz_trainer.models.trained import Model
from segviz_trainer.process.errors import BadCases, BadDataSet


@dataclass(frozen=True)
class Assessed:
    rows: tuple[CaseScore, ...]
    warnings: tuple[str, ...]
    """What is odd about a case, and what was left out."""


def assess(
    model: Model,
    root: Path,
    data_set: DataSet,
    cache: Path,
    tolerances: Mapping[str, float],
    report: Callable[[str, int, int], object],
) -> Assessed:
    """Every case's Dice, HD95 and NSD for each organ that both model and data set have.

    Raises:
        BadDataSet, BadCases: what cannot be used.
        Refusal: they have no organ in common.
    """
    organs = data_set.annotated
    common = tuple(organ for organ in model.trained.organs if organ in organs)
    if not common:
        raise Refusal(
            f"the model predicts {', '.join(model.trained.organs)}, the data set has {', '.join(organs)}. "
            "Name the data set's organs as the model does."
        )

    not_scored = _not_scored(organs, "the model has", model.trained.organs) + _not_scored(
        model.trained.organs, "the data set has", organs
    )

    def preparing(done: int, total: int, case: str) -> None:
        report(f"preparing {case}", done, total)

    try:
        found = find_cases(root, data_set, "dataSets[0]")
        prepared = prepare(
            found, model.preprocessing, organs, MAX_MEBIBYTES, cache, OnBadCase.REFUSE, preparing
        ).cases
    except BadDataSet as error:
        raise error.by_hand() from error
    except BadCases as error:
        raise error.advising("Fix them, or leave them out with --cases.") from error
    rows = []
    for done, case in enumerate(prepared, start=1):
        label = case.native_label()
        for organ, mask in model.masks(case.image()[None], case, common):
            truth = label == 1 + organs.index(organ)
            agreed = agreement(
                mask & (label != IGNORED), truth, case.native.spacing, tolerance_of(organ, tolerances)
            )
            rows.append(CaseScore(case.id, organ, agreed.dice, agreed.hd95, agreed.nsd, agreed.missed))
        report(case.id, done, len(prepared))
    skipped = left_out(root, data_set)
    odd = tuple(f"{case.id}: {warning}" for case in prepared for warning in case.warnings)
    return Assessed(tuple(rows), not_scored + skipped + odd)


def _not_scored(organs: Sequence[str], having: str, others: Sequence[str]) -> tuple[str, ...]:
    missing = [organ for organ in organs if organ not in others]
    if not missing:
        return ()
    counted = f"{len(missing)} of {len(organs)} organs ({', '.join(missing)})"
    return (f"not scored: {counted}; {having} {', '.join(others)}",)
