"""What a reader asks first: is it better than each site alone?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from segviz_exchange.contract.choices import AlgorithmName
from segviz_exchange.process.errors import Refusal
from segviz_trainer.study.results import DICE, IN_FEDERATION, Results
from segviz_trainer.study.standing import NOT_FEDERATED
from segviz_trainer.study.statistics import ALPHA, compare, holm
from segviz_trainer.study.tables import Table


@dataclass(frozen=True)
class Comparison:
    """In one table: the best federated method beside the best that shares nothing.

    Both are chosen alike, by the Dice that is shown, averaged over organs; the federated one is the method
    under test where the manifest names it.
    """

    table: str
    federated: str
    alone: str
    gains: dict[str, float]
    """Federated minus alone by organ, in mean Dice."""
    federated_mean: float
    alone_mean: float

    @property
    def wins(self) -> int:
        return sum(gain > 0 for gain in self.gains.values())


def answer(results: Results, tables: Sequence[Table]) -> str:
    """One sentence, and one on what it is worth; empty where nothing was trained alone, or together."""
    comparisons = tuple(compare_with_alone(results, tables))
    if not comparisons:
        return ""
    first, *others = comparisons
    clauses = [
        f"Federated beats alone on {first.wins} of {len(first.gains)} organs {_where(first)}: "
        f"mean Dice {_means(first)}",
        *(f"on {each.wins} of {len(each.gains)} {_where(each)}: {_means(each)}" for each in others),
    ]
    return "; ".join(clauses) + "." + _worth(results, comparisons)


def compare_with_alone(results: Results, tables: Sequence[Table]) -> Iterator[Comparison]:
    alone = {cost.row for cost in results.costs if cost.algorithm == AlgorithmName.LOCAL}
    federated = {cost.row for cost in results.costs if cost.algorithm not in NOT_FEDERATED}
    for table in (each for each in tables if each.metric is DICE):
        means = {
            method: {
                organ: cell.mean for organ, cell in zip(table.organs, cells, strict=True) if cell is not None
            }
            for method, cells in table.rows
        }
        ours = _best(means, federated, table, results.under_test)
        theirs = _best(means, alone, table)
        if ours is not None and theirs is not None:
            yield Comparison(
                table=table.name,
                federated=ours,
                alone=theirs,
                gains={organ: means[ours][organ] - means[theirs][organ] for organ in table.organs},
                federated_mean=fmean(means[ours].values()),
                alone_mean=fmean(means[theirs].values()),
            )


def _best(
    means: dict[str, dict[str, float]], rows: set[str], table: Table, named: str | None = None
) -> str | None:
    """Of methods with all organs, or of the one `named`: over fewer, a mean would be of something else."""
    complete = [
        method
        for method, organs in means.items()
        if method.removesuffix("+FT") in rows and named in (None, method) and len(organs) == len(table.organs)
    ]
    return max(complete, key=lambda method: fmean(means[method].values()), default=None)


def _where(comparison: Comparison) -> str:
    if comparison.table == IN_FEDERATION:
        return "of the sites' own test cases"
    return f"of the external set {comparison.table}"


def _means(comparison: Comparison) -> str:
    return (
        f"{comparison.federated_mean:.2f} against {comparison.alone_mean:.2f} "
        f"({comparison.federated} against {comparison.alone})"
    )


def _worth(results: Results, comparisons: Sequence[Comparison]) -> str:
    """How many of the differences a paired test over the same cases sees."""
    values = []
    for each in comparisons:
        for organ in each.gains:
            ours, theirs = (
                results.values(each.table, method, organ, DICE) for method in (each.federated, each.alone)
            )
            try:
                values.append(compare(ours, theirs, (each.federated, each.alone)).p)
            except Refusal:
                continue  # a site keeps its case rows, or has one case alone
    if not values:
        return " No difference could be tested: there are no case rows, or too few."
    holding = sum(p < ALPHA for p in holm(values))
    verb = "holds" if holding == 1 else "hold"
    return (
        f" In paired tests over cases, {holding} of {len(values)} differences {verb} "
        f"(p < {ALPHA} after Holm's correction)."
    )
