"""A run's page: what came out, how, by whom, and what it must not be used for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from markupsafe import Markup

from segviz_exchange.contract.records import Dice, Surface, Variant
from segviz_trainer.models.modelcard import LIMITS
from segviz_trainer.pages import charts
from segviz_trainer.report import method
from segviz_trainer.report.fetching import sources_of
from segviz_trainer.report.rounds import RoundRow, rounds_of
from segviz_trainer.report.taking_part import events_of, sites_of
from segviz_trainer.study.figures import NO_PICTURES, Pictures
from segviz_trainer.study.page import Chart, boxes, environment, hidden, missed, uncounted
from segviz_trainer.study.results import DICE, IN_FEDERATION, METRICS, Metric, Results
from segviz_trainer.study.run import RunRecords
from segviz_trainer.study.tables import Table


@dataclass(frozen=True)
class Figure:
    """A number to begin with."""

    value: str
    what: str


@dataclass(frozen=True)
class CaseRow:
    """One organ of one case, with each variant's values."""

    table: str
    site: str
    organ: str
    case: str
    values: Mapping[str, Mapping[str, float]]
    """By method and metric."""


@dataclass(frozen=True)
class SiteScore:
    """Where several sites own an organ, each one's part of the table's mean."""

    site: str
    organ: str
    method: str
    dice: Dice
    surface: Surface | None


def render(
    run: RunRecords,
    results: Results,
    tables: Sequence[Table],
    pictures: Pictures = NO_PICTURES,
    *,
    with_images: bool,
) -> str:
    """`with_images` says whether slices may be in it; without them it may be sent on."""
    rounds = rounds_of(run)
    control = run.controls[run.final.said.control].said
    organ_styles = {organ: charts.series_style(index) for index, organ in enumerate(results.organs)}
    site_styles = {alias: charts.series_style(index) for index, alias in enumerate(sorted(run.updates))}
    return (
        environment("segviz_trainer.report")
        .get_template("run.html.j2")
        .render(
            run=run,
            control=control,
            spec=control.spec,
            final=run.final.said,
            results=results,
            tables=tables,
            marked=any(test.paired and test.paired.direction for table in tables for test in table.tests),
            figures=_figures(run, results, tables),
            boxes=boxes(results, tables),
            pictures=pictures,
            with_images=with_images,
            missed=missed(tables),
            uncounted=uncounted(results),
            hidden=hidden(results),
            cases=_cases(results),
            metrics=_metrics(results),
            by_site=_by_site(run, results),
            dice_chart=_dice_chart(run, results, organ_styles),
            organ_styles=organ_styles,
            loss_chart=_loss_chart(run, rounds, site_styles),
            site_styles=site_styles,
            rounds=rounds,
            sites=sites_of(run, rounds),
            events=events_of(run),
            algorithm_text=method.ALGORITHMS[control.spec.algorithm.name],
            objective_text=method.objective_of(control.spec),
            sharing_text=method.sharing(control),
            sources=sources_of(run),
            limits=LIMITS,
        )
    )


def _figures(run: RunRecords, results: Results, tables: Sequence[Table]) -> list[Figure]:
    found = []
    for table in (each for each in tables if each.metric is DICE):
        means = {
            name: fmean(cell.mean for cell in cells if cell is not None)
            for name, cells in table.rows
            if any(cell is not None for cell in cells)
        }
        # The last method is what the run ends with: fine-tuned, where that was asked for.
        if means:
            name = list(means)[-1]
            where = "the sites' test cases" if table.name == IN_FEDERATION else f"external set {table.name}"
            found.append(Figure(f"{means[name]:.2f}", f"mean Dice over organs, {where} ({name})"))
    cost = results.costs[0]
    filters = environment().filters
    return [
        *found,
        Figure(f"{cost.chosen_round} of {run.control.spec.rounds}", "round taken"),
        Figure(str(cost.sites), f"sites, {sum(sources_of(run).cases.values())} training cases"),
        Figure(filters["seconds"](cost.wall_seconds), "from the first record to the last"),
        Figure(filters["bytes"](cost.uploaded_bytes), "uploaded by all sites"),
    ]


def _metrics(results: Results) -> tuple[Metric, ...]:
    """Those that any case has."""
    return tuple(metric for metric in METRICS if any(metric.name in each.values for each in results.cases))


def _cases(results: Results) -> list[CaseRow]:
    """Worst first, by what the run ends with."""
    found: dict[tuple[str, str, str, str], dict[str, Mapping[str, float]]] = {}
    for each in results.cases:
        found.setdefault((each.table, each.site, each.organ, each.case), {})[each.method] = each.values
    rows = [CaseRow(*place, values) for place, values in found.items()]
    last = results.methods[-1]

    def dice(row: CaseRow) -> float:
        values = row.values.get(last) or next(iter(row.values.values()))
        return values[DICE.name]

    return sorted(
        rows, key=lambda row: (row.table != IN_FEDERATION, row.table, dice(row), row.site, row.case)
    )


def _by_site(run: RunRecords, results: Results) -> list[SiteScore]:
    """Empty where no organ has a second owner: the tables say the same."""
    if all(len(run.control.owners(organ)) <= 1 for organ in run.control.organs):
        return []
    algorithm = results.costs[0].row
    return [
        SiteScore(alias, organ, algorithm + variant.suffix, dice, scores.surface.get(organ))
        for alias, outcome in sorted(run.outcomes.items())
        for variant, scores in sorted(outcome.variants.items())
        for organ, dice in sorted(scores.test.items())
        if Variant.TUNED is not variant or run.control.spec.fine_tuning is not None
    ]


def _dice_chart(run: RunRecords, results: Results, styles: Mapping[str, Markup]) -> Chart | None:
    series: dict[str, list[tuple[int, float]]] = {}
    for point in results.curves:
        if point.organ in styles:
            series.setdefault(point.organ, []).append((point.round, point.dice))
    if not series:
        return None
    title = "Validation Dice"
    svg = charts.line_chart(title, series, styles, "by organ,", 1.0, marked=run.final.said.round)
    return Chart(title, svg)


def _loss_chart(run: RunRecords, rounds: Sequence[RoundRow], styles: Mapping[str, Markup]) -> Chart | None:
    """None where sites keep their loss, as they do under `privacy`."""
    series: dict[str, list[tuple[int, float]]] = {}
    for row in rounds:
        for alias, part in row.sites.items():
            if part.loss is not None:
                series.setdefault(alias, []).append((row.round, part.loss))
    if not series:
        return None
    title = "Training loss"
    svg = charts.line_chart(title, series, styles, "by site,", None, marked=run.final.said.round)
    return Chart(title, svg)
