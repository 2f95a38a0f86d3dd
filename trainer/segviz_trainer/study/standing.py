"""How far the best federated method is from pooled data, and from each site alone."""

from dataclasses import dataclass
from statistics import fmean

from segviz_exchange.contract.choices import AlgorithmName
from segviz_trainer.study.results import DICE, Results
from segviz_trainer.study.tables import Table

NOT_FEDERATED = (AlgorithmName.LOCAL, AlgorithmName.CENTRAL, AlgorithmName.CENTRAL_MARGINAL)
"""Algorithms that share nothing, or need all data in one place."""


@dataclass(frozen=True)
class Standing:
    table: str
    method: str
    organ: str
    mean: float
    from_central: float | None
    """The method's mean minus the reference's; None where there is no such row."""
    from_baseline: float | None


def standings(results: Results, tables: tuple[Table, ...]) -> tuple[Standing, ...]:
    """Of each table's federated method with the best Dice, averaged over organs."""
    federated = {cost.row for cost in results.costs if cost.algorithm not in NOT_FEDERATED}
    return tuple(
        standing for table in tables if table.metric is DICE for standing in _of(table, results, federated)
    )


def _of(table: Table, results: Results, federated: set[str]) -> list[Standing]:
    means = {
        (method, organ): cell.mean
        for method, cells in table.rows
        for organ, cell in zip(table.organs, cells, strict=True)
        if cell is not None
    }
    complete = [
        method
        for method, cells in table.rows
        if method.removesuffix("+FT") in federated and None not in cells
    ]
    if not complete:
        return []
    best = max(complete, key=lambda method: fmean(means[method, organ] for organ in table.organs))

    def distance(reference: str | None, organ: str) -> float | None:
        theirs = None if reference is None else means.get((reference, organ))
        return None if theirs is None else means[best, organ] - theirs

    return [
        Standing(
            table.name,
            best,
            organ,
            means[best, organ],
            distance(results.central, organ),
            distance(results.baseline, organ),
        )
        for organ in table.organs
    ]
