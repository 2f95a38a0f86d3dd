"""Write the chart's dashboards from `segviz_operator.dashboards`, with Grafana's own builders."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as choices
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from segviz_operator.dashboards import DASHBOARDS
from segviz_operator.dashboards.panel import F, Panel, Row, Shape

FOLDER = Path(__file__).resolve().parent.parent / "charts" / "segviz-operator" / "dashboards"
RUNBOOKS = "https://github.com/segviz/segviz/blob/main/docs/how-to/runbooks"
"""The chart puts monitoring.runbooks in its place."""
DATASOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
TITLES = {"federation": "SegViz / Federation", "fleet": "SegViz / Fleet"}
ABOUT = {
    "federation": "One federation: where it is, whether it learns, who is late, what broke.",
    "fleet": "All federations, and the health of operator and store.",
}
COMMITS = f"segviz_round_opened_timestamp_seconds{{{F}}} * 1000"
INCIDENTS = f'ALERTS{{alertname=~"SegViz.+",alertstate="firing",{F}}}'
NAMESPACES = "label_values(segviz_federation_phase, federation_namespace)"
FEDERATIONS = 'label_values(segviz_federation_phase{federation_namespace=~"$namespace"}, federation)'
SITES = f"label_values(segviz_site_phase{{{F}}}, site)"
_COLOURS = {
    **dict.fromkeys(("Training", "FineTuning", "Testing", "Evaluating"), "blue"),
    **dict.fromkeys(("Complete", "Done"), "green"),
    **dict.fromkeys(("Failed", "LeftOut"), "red"),
    **dict.fromkeys(("Silent", "Restarting", "Suspended"), "orange"),
}


def build_dashboard(name: str, rows: tuple[Row, ...]) -> build.Dashboard:
    board = (
        build.Dashboard(TITLES[name])
        .description(ABOUT[name])
        .tags(["segviz"])
        .time("now-6h", "now")
        .refresh("30s")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .link(
            build.DashboardLink("SegViz")
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags(["segviz"])
            .as_dropdown(True)
        )
        .with_variable(build.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_variable("namespace", "Namespace", NAMESPACES))
    )
    if name == "federation":
        board = (
            board.with_variable(_variable("federation", "Federation", FEDERATIONS))
            .with_variable(_variable("site", "Site", SITES))
            .annotation(_annotation("Round committed", COMMITS, "blue", "committed: {{federation}}"))
            .annotation(_annotation("Incidents", INCIDENTS, "red", "{{alertname}} {{site}}"))
        )
    for row in rows:
        board = board.with_row(build.Row(row.title))
        for panel in row.panels:
            board = board.with_panel(_panel(panel))
    return board


def _variable(name: str, label: str, query: str) -> build.QueryVariable:
    return (
        build.QueryVariable(name)
        .label(label)
        .query(query)
        .datasource(DATASOURCE)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
    )


class _Annotation(build.AnnotationQuery):
    """With the fields of Prometheus' own, which the schema leaves open."""

    def __init__(self, extra: dict[str, Any]) -> None:
        super().__init__()
        self._extra = extra

    def build(self) -> Any:  # noqa: ANN401 - an object with to_json
        return _Extended(super().build().to_json() | self._extra)


class _Extended:
    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields

    def to_json(self) -> dict[str, Any]:
        return self._fields


def _annotation(name: str, expr: str, colour: str, title: str) -> build.AnnotationQuery:
    extra: dict[str, Any] = {"expr": expr, "titleFormat": title, "step": "30s"}
    if name == "Round committed":
        extra["useValueForTime"] = "on"
    return _Annotation(extra).name(name).datasource(DATASOURCE).enable(True).icon_color(colour)


def _panel(panel: Panel) -> Any:  # noqa: ANN401 - the builders share no type
    made = _shaped(panel)
    marker = f"\n\n{panel.marker}" if panel.marker else ""
    made = (
        made.title(panel.title)
        .description(panel.description + marker)
        .unit(panel.unit)
        .datasource(DATASOURCE)
        .span(panel.width)
        .height(panel.height)
        .links(
            [
                build.DashboardLink("Runbook")
                .type(model.DashboardLinkType.LINK)
                .url(f"{RUNBOOKS}/{panel.runbook}.md")
                .target_blank(True)
            ]
        )
    )
    if panel.states:
        made = made.mappings([_mapping(panel.states)])
    if panel.unit == "percentunit":
        made = made.min(0).max(1)
    for index, query in enumerate(panel.queries):
        target = (
            prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(chr(ord("A") + index))
        )
        if panel.shape in (Shape.STAT, Shape.GAUGE, Shape.TABLE):
            target = target.instant()
        if panel.shape is Shape.TABLE:
            target = target.format(PromQueryFormat.TABLE)
        made = made.with_target(target.datasource(DATASOURCE))
    return made


def _shaped(panel: Panel) -> Any:  # noqa: ANN401
    match panel.shape:
        case Shape.STAT:
            return (
                stat.Panel()
                .color_mode(choices.BigValueColorMode.NONE)
                .text_mode(choices.BigValueTextMode.AUTO)
            )
        case Shape.GAUGE:
            return bargauge.Panel().orientation(choices.VizOrientation.HORIZONTAL)
        case Shape.TABLE:
            return table.Panel()
        case Shape.STATES:
            return statetimeline.Panel().merge_values(True)
        case Shape.BARS:
            stacked = common.StackingConfig().mode(choices.StackingMode.NORMAL)
            bars = timeseries.Panel().draw_style(choices.GraphDrawStyle.BARS)
            return bars.stacking(stacked).fill_opacity(80).line_width(0)
        case _:
            return timeseries.Panel().show_points(choices.VisibilityMode.AUTO).span_nulls(True)


def _mapping(states: tuple[str, ...]) -> model.ValueMap:
    options = {
        str(number): model.ValueMappingResult(text=state, color=_COLOURS.get(state, "text"), index=number)
        for number, state in enumerate(states, start=1)
    }
    return model.ValueMap(options=options)


def render(name: str) -> str:
    board = build_dashboard(name, DASHBOARDS[name]).build()
    return json.dumps(board, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    for name in DASHBOARDS:
        FOLDER.joinpath(f"{name}.json").write_text(render(name), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
