"""One self-contained page: no script, no font, no request."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from segviz_trainer.study import charts
from segviz_trainer.study.pictures import PLANES, Column, WorstCase
from segviz_trainer.study.results import DICE, IN_FEDERATION, Results
from segviz_trainer.study.standing import standings
from segviz_trainer.study.tables import BASELINE, BEST, CENTRAL, MARKS, Table, text


@dataclass(frozen=True)
class Chart:
    heading: str
    svg: Markup


def render(
    results: Results,
    tables: Sequence[Table],
    worst: Sequence[WorstCase] = (),
    undrawn: Sequence[Column] = (),
    *,
    pictures: bool,
) -> str:
    """`pictures` says whether slices may be in it; without them it may be sent on."""
    styles = {cost.row: charts.series_style(index) for index, cost in enumerate(results.costs)}
    return _template().render(
        results=results,
        tables=tables,
        standings=standings(results, tuple(tables)),
        tests=[test for table in tables for test in table.tests],
        boxes=_boxes(results, tables),
        curves=_curves(results, styles),
        styles=styles,
        worst=worst,
        undrawn=undrawn,
        planes=PLANES,
        pictures=pictures,
        missed=_missed(tables),
        uncounted=sorted({each.site for each in results.summaries if each.surface is None}),
        overlaps=results.overlaps,
        hidden=sorted({each.site for each in results.summaries}),
        roles={BASELINE: results.baseline, CENTRAL: results.central, BEST: "the column's best mean"},
        marks=MARKS,
    )


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"cell": text, "seconds": _seconds, "bytes": _bytes, "p": _p, "signed": _signed}
    environment.globals |= {"IN_FEDERATION": IN_FEDERATION}
    source = (files("segviz_trainer.study") / "report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source)


def _boxes(results: Results, tables: Sequence[Table]) -> list[Chart]:
    found = []
    for table in tables:
        for organ in results.organs:
            groups = {
                method: list(results.values(table.name, method, organ, table.metric).values())
                for method in results.methods
            }
            if any(groups.values()):
                where = "in-federation" if table.name == IN_FEDERATION else table.name
                title = f"{table.metric.name}, {organ}, {where}"
                top = 1.0 if table.metric.higher_is_better else None
                svg = charts.box_plot(title, groups, table.metric.unit, top)
                found.append(Chart(title, svg))
    return found


def _curves(results: Results, styles: dict[str, Markup]) -> list[Chart]:
    found = []
    for organ in results.organs:
        series: dict[str, list[tuple[int, float]]] = {}
        for point in results.curves:
            if point.organ == organ:
                series.setdefault(point.method, []).append((point.round, point.dice))
        if series:
            found.append(Chart(organ, charts.line_chart(organ, series, styles)))
    return found


def _missed(tables: Sequence[Table]) -> list[tuple[str, str, str, int, int]]:
    return [
        (table.name, method, organ, cell.misses, cell.cases)
        for table in tables
        if table.metric is DICE
        for method, cells in table.rows
        for organ, cell in zip(table.organs, cells, strict=True)
        if cell is not None and cell.misses
    ]


def _seconds(value: float) -> str:
    whole = round(value)
    if whole < 60:
        return f"{value:.0f} s"
    return (
        f"{whole // 60} min {whole % 60:02d} s"
        if whole < 3600
        else f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    )


def _bytes(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"
