"""The paper's tables: methods down, organs across, mean (SD), and what each difference is worth."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from segviz_exchange.process.errors import Refusal
from segviz_trainer.study.intervals import Interval, interval_of
from segviz_trainer.study.results import DICE, IN_FEDERATION, METRICS, Metric, Results
from segviz_trainer.study.statistics import ALPHA, Paired, compare, holm

BASELINE, CENTRAL, BEST = "baseline", "central", "best"
MARKS = {BASELINE: "b", CENTRAL: "c", BEST: "m"}
"""Letter of a mark, after the reference it compares with."""


@dataclass(frozen=True)
class Cell:
    mean: float
    sd: float
    """Divided by n (ddof 0)."""
    cases: int
    misses: int | None
    """Cases of which nothing was found; None where a site does not say."""
    interval: Interval | None = None
    """Of the mean; None of one case, and where a site keeps its rows."""
    best: bool = False
    marks: tuple["Mark", ...] = ()


@dataclass(frozen=True)
class Mark:
    """A difference with p < 0.05."""

    reference: str
    better: bool
    holds_after_holm: bool

    def __str__(self) -> str:
        return f"{MARKS[self.reference]}{'↑' if self.better else '↓'}{'' if self.holds_after_holm else '°'}"


@dataclass(frozen=True)
class Test:
    """A row of tests.csv."""

    table: str
    metric: str
    organ: str
    method: str
    reference: str
    """Which role: baseline, central or best."""
    reference_method: str
    paired: Paired | None
    p_holm: float | None
    refused: str = ""
    """Why there is no test."""


@dataclass(frozen=True)
class Table:
    name: str
    number: int
    """1 is the paper's table of in-federation scores, 2 and up external sets."""
    metric: Metric
    organs: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell | None, ...]], ...]
    """A method and a cell for each organ."""
    tests: tuple[Test, ...]

    @property
    def case_counts(self) -> tuple[str, ...]:
        """By organ; a span where methods differ, which no test would accept."""
        found = []
        for column in range(len(self.organs)):
            counts = sorted({cell.cases for _, cells in self.rows if (cell := cells[column])})
            found.append("–".join(map(str, dict.fromkeys((counts[0], counts[-1])))) if counts else "-")
        return tuple(found)

    def best(self, organ: str) -> str | None:
        """The method with the column's best mean."""
        column = self.organs.index(organ)
        return next((method for method, cells in self.rows if (cell := cells[column]) and cell.best), None)

    @property
    def title(self) -> str:
        unit = f" in {self.metric.unit}" if self.metric.unit else ""
        where = "in-federation" if self.name == IN_FEDERATION else f"external set {self.name}"
        return f"Table {self.number}: {self.metric.name}{unit}, {where}"


def text(cell: Cell | None, metric: Metric = DICE) -> str:
    """As the paper writes it."""
    if cell is None:
        return "-"
    return f"{cell.mean:.{metric.digits}f} ({cell.sd:.{metric.digits}f})"


def build_tables(results: Results) -> tuple[Table, ...]:
    return tuple(
        _table(results, name, number, metric)
        for metric in METRICS
        for number, name in enumerate(results.tables, 1)
        if metric in results.metrics(name)
    )


def _table(results: Results, name: str, number: int, metric: Metric) -> Table:
    organs = tuple(results.organs)
    cells = {
        (method, organ): cell
        for method in results.methods
        for organ in organs
        if (cell := _cell(results, name, method, organ, metric))
    }
    best = {organ: _best(cells, results.methods, organ, metric) for organ in organs}
    tests = tuple(_tests(results, name, metric, best))
    marks = _marks(tests, metric)
    return Table(
        name=name,
        number=number,
        metric=metric,
        organs=organs,
        rows=tuple(
            (
                method,
                tuple(_marked(cells.get((method, organ)), method, organ, best, marks) for organ in organs),
            )
            for method in results.methods
        ),
        tests=tests,
    )


def _cell(results: Results, table: str, method: str, organ: str, metric: Metric) -> Cell | None:
    values = list(results.values(table, method, organ, metric).values())
    # Summaries and rows alike: n, mean and SD are all that a mean and an SD need. A row is one of itself.
    parts = [(1, value, 0.0) for value in values]
    hidden = results.hidden(table, method, organ)
    for each in hidden:
        moments = each.moments(metric)
        assert moments is not None, "a table is made of metrics that all its summaries have"
        parts.append((each.dice.cases, *moments))
    count = sum(cases for cases, _, _ in parts)
    if not count:
        return None
    mean = math.fsum(cases * part for cases, part, _ in parts) / count
    spread = math.fsum(cases * (sd**2 + (part - mean) ** 2) for cases, part, sd in parts)
    interval = None if hidden else interval_of(values)
    return Cell(mean, math.sqrt(spread / count), count, results.misses(table, method, organ), interval)


def _best(cells: dict[tuple[str, str], Cell], methods: list[str], organ: str, metric: Metric) -> str | None:
    """The first method of those with the best mean."""
    there = [method for method in methods if (method, organ) in cells]
    sign = 1 if metric.higher_is_better else -1
    return max(there, key=lambda method: sign * cells[method, organ].mean, default=None)


def _tests(results: Results, table: str, metric: Metric, best: dict[str, str | None]) -> Iterator[Test]:
    """A family is one reference in one table: that is what somebody who reads along a column compares."""
    for role in (BASELINE, CENTRAL, BEST):
        family = list(_family(results, table, metric, role, best))
        adjusted = iter(holm([test.paired.p for test in family if test.paired]))
        for test in family:
            yield Test(
                *(test.table, test.metric, test.organ, test.method, test.reference, test.reference_method),
                paired=test.paired,
                p_holm=next(adjusted) if test.paired else None,
                refused=test.refused,
            )


def _family(
    results: Results, table: str, metric: Metric, role: str, best: dict[str, str | None]
) -> Iterator[Test]:
    for organ in results.organs:
        reference = {BASELINE: results.baseline, CENTRAL: results.central, BEST: best[organ]}[role]
        if reference is None or reference not in results.methods:
            continue
        theirs = results.values(table, reference, organ, metric)
        for method in results.methods:
            mine = results.values(table, method, organ, metric)
            if method == reference or not (mine or theirs):
                continue
            names = (f"{method} ({organ})", f"{reference} ({organ})")
            try:
                _check_open(results, table, (method, reference), organ)
                paired, refused = compare(mine, theirs, names), ""
            except Refusal as refusal:
                paired, refused = None, str(refusal)
            yield Test(table, metric.name, organ, method, role, reference, paired, None, refused)


def _check_open(results: Results, table: str, methods: tuple[str, str], organ: str) -> None:
    """Raises Refusal where a site keeps its case rows: a mean cannot be paired."""
    sites = {each.site for method in methods for each in results.hidden(table, method, organ)}
    if sites:
        raise Refusal(
            f"no paired test of {organ}: {', '.join(sorted(sites))} keeps its case rows. "
            "Ask its owner to set scores: PerCase."
        )


def _marks(tests: tuple[Test, ...], metric: Metric) -> dict[tuple[str, str], tuple[Mark, ...]]:
    found: dict[tuple[str, str], tuple[Mark, ...]] = {}
    for test in tests:
        if test.paired is None or test.p_holm is None or not test.paired.direction:
            continue
        better = (test.paired.direction > 0) == metric.higher_is_better
        mark = Mark(test.reference, better, test.p_holm < ALPHA)
        key = (test.method, test.organ)
        found[key] = (*found.get(key, ()), mark)
    return found


def _marked(
    cell: Cell | None,
    method: str,
    organ: str,
    best: dict[str, str | None],
    marks: dict[tuple[str, str], tuple[Mark, ...]],
) -> Cell | None:
    if cell is None:
        return None
    return replace(cell, best=best[organ] == method, marks=marks.get((method, organ), ()))
