"""A study's page, and what a run's page shares with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from jinja2 import Environment
from markupsafe import Markup

from segviz_trainer.pages import charts
from segviz_trainer.pages.environment import build_environment
from segviz_trainer.study.answer import answer
from segviz_trainer.study.certainty import certainty
from segviz_trainer.study.figures import NO_PICTURES, Pictures
from segviz_trainer.study.gains import Gain, shown
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
    found: Sequence[Gain],
    pictures: Pictures = NO_PICTURES,
    *,
    with_images: bool,
) -> str:
    """`with_images` says whether slices may be in it; without them it may be sent on."""
    rows = dict.fromkeys(cost.row for cost in results.costs)
    styles = {row: charts.series_style(index) for index, row in enumerate(rows)}
    return (
        environment()
        .get_template("study.html.j2")
        .render(
            results=results,
            tables=tables,
            answer=answer(results, tables),
            standings=standings(results, tuple(tables)),
            gains=shown(results, tables, found),
            sure=certainty(results, tables),
            tests=[test for table in tables for test in table.tests],
            boxes=boxes(results, tables),
            curves=_curves(results, styles),
            styles=styles,
            pictures=pictures,
            with_images=with_images,
            missed=missed(tables),
            uncounted=uncounted(results),
            overlaps=results.overlaps,
            hidden=hidden(results),
            roles={BASELINE: results.baseline, CENTRAL: results.central, BEST: "the column's best mean"},
            marks=MARKS,
        )
    )


@cache
def environment(*packages: str) -> Environment:
    """With the templates of these packages on top of the study's."""
    made = build_environment(*packages, "segviz_trainer.study")
    made.filters["cell"] = text
    return made


def boxes(results: Results, tables: Sequence[Table]) -> list[Chart]:
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
                series.setdefault(point.method, []).append((point.epoch, point.dice))
        if series:
            found.append(
                Chart(organ, charts.line_chart(organ, series, styles, "validation Dice", 1.0, along="epoch"))
            )
    return found


def missed(tables: Sequence[Table]) -> list[tuple[str, str, str, int, int]]:
    return [
        (table.name, method, organ, cell.misses, cell.cases)
        for table in tables
        if table.metric is DICE
        for method, cells in table.rows
        for organ, cell in zip(table.organs, cells, strict=True)
        if cell is not None and cell.misses
    ]


def uncounted(results: Results) -> list[str]:
    """Sites whose records do not say how many cases were missed."""
    return sorted({each.site for each in results.summaries if each.surface is None})


def hidden(results: Results) -> list[str]:
    """Sites that keep their case rows."""
    return sorted({each.site for each in results.summaries})
