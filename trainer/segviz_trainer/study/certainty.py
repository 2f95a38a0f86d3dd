"""What the numbers of a study can bear, said in words, and every mean's interval."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from segviz_trainer.study.intervals import RESAMPLES
from segviz_trainer.study.results import DICE, IN_FEDERATION, Results
from segviz_trainer.study.standing import NOT_FEDERATED
from segviz_trainer.study.tables import Cell, Table


@dataclass(frozen=True)
class Mean:
    table: str
    method: str
    organ: str
    cell: Cell


@dataclass(frozen=True)
class Certainty:
    sentences: tuple[str, ...]
    means: tuple[Mean, ...]
    """Of Dice, where there is an interval."""


def certainty(results: Results, tables: Sequence[Table]) -> Certainty:
    dice = [table for table in tables if table.metric is DICE]
    means = tuple(
        Mean(table.name, method, organ, cell)
        for table in dice
        for method, cells in table.rows
        for organ, cell in zip(table.organs, cells, strict=True)
        if cell is not None and cell.interval is not None
    )
    return Certainty((*_cases(dice), *_folds(results), _choice(results), *_unmeasured()), means)


def _cases(tables: Sequence[Table]) -> Iterator[str]:
    for table in tables:
        where = (
            "the sites' own test cases" if table.name == IN_FEDERATION else f"the external set {table.name}"
        )
        counts = ", ".join(
            f"{organ} {count}" for organ, count in zip(table.organs, table.case_counts, strict=True)
        )
        yield f"Cases behind a mean on {where}: {counts}."
    yield (
        "An interval is what the mean of as many other cases may be, 95 %: bootstrap over cases, BCa, "
        f"{RESAMPLES} resamples. Two methods score the same cases, so their difference is surer than two "
        "overlapping intervals look: read the gain's own interval, or its paired test."
    )


def _folds(results: Results) -> Iterator[str]:
    if results.planned_folds is None:
        return
    code = f" Kept scores are of the code {results.code}." if results.code else ""
    yield (
        f"The tables hold {len(results.folds)} of {results.planned_folds} folds "
        f"({', '.join(map(str, results.folds))}): those that every row has finished. Models of two folds "
        f"share training cases, so their cases are less independent than an interval takes them for.{code}"
    )


def _choice(results: Results) -> str:
    rows = {cost.row: cost.algorithm for cost in results.costs}
    federated = [row for row, algorithm in rows.items() if algorithm not in NOT_FEDERATED]
    names = ", ".join(federated) or "none"
    tried = f"{len(rows)} rows ran, {len(federated)} of them federated ({names})."
    if results.under_test:
        return (
            f"{tried} The manifest names {results.under_test} as the one under test; every other row is "
            "exploratory."
        )
    return (
        f"{tried} No row was named before they ran (spec.underTest): the best one was chosen by the scores "
        "that are shown, so expect less of it on new cases."
    )


def _unmeasured() -> Iterator[str]:
    yield (
        "One seed and one training of each row: how far another seed would move a mean is in no interval. "
        "Run the study again with --seed to see."
    )
