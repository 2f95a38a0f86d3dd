"""Dashboards, alerts and runbooks belong together, and the committed JSON is what the code makes."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from segviz_operator.dashboards import DASHBOARDS, panels
from segviz_operator.dashboards.panel import Panel

ROOT = Path(__file__).parents[4]
RULES = ROOT / "charts/segviz-operator/alerts/segviz.rules.yaml"
ALERTS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"][0]["rules"]
ALL = [panel for rows in DASHBOARDS.values() for panel in panels(rows)]


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))


@pytest.mark.parametrize("name", DASHBOARDS)
def test_the_committed_dashboard_is_the_codes(name: str) -> None:
    import dashboards

    committed = dashboards.FOLDER.joinpath(f"{name}.json").read_text(encoding="utf-8")
    assert committed == dashboards.render(name), f"run {sys.executable} tools/dashboards.py"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_has_what_an_import_needs(name: str) -> None:
    board = json.loads((ROOT / f"charts/segviz-operator/dashboards/{name}.json").read_text(encoding="utf-8"))
    assert not board.get("uid")
    assert not board.get("id")
    variables = [each["name"] for each in board["templating"]["list"]]
    wanted = ["datasource", "namespace", "federation", "site"] if name == "federation" else ["datasource"]
    assert variables[: len(wanted)] == wanted
    shown = [panel for panel in board["panels"] if panel["type"] != "row"]
    shown += [inner for panel in board["panels"] for inner in panel.get("panels") or []]
    assert len(shown) == len(panels(DASHBOARDS[name]))
    for panel in shown:
        assert panel["description"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
        assert panel["links"][0]["url"].endswith(".md")
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24


@pytest.mark.parametrize("panel", ALL, ids=lambda each: each.title)
def test_a_panel_asks_for_metrics_that_there_are(panel: Panel) -> None:
    import metrics_table

    names = {each.name for each in metrics_table.all_measures()}
    for query in panel.queries:
        asked = re.findall(r"segviz_[a-z_]+", query.expr)
        known = {re.sub(r"_(bucket|count|sum)$", "", name) if name not in names else name for name in asked}
        assert known, query.expr
        assert known <= names, known - names


@pytest.mark.parametrize("alert", ALERTS, ids=lambda each: each["alert"])
def test_an_alert_says_what_it_means_and_what_to_do(alert: dict[str, Any]) -> None:
    import metrics_table

    said = alert["annotations"]
    assert said["summary"]
    assert said["impact"]
    page = ROOT / "docs/how-to/runbooks" / said["runbook_url"].rpartition("/")[2]
    assert "**What to do.**" in page.read_text(encoding="utf-8")
    names = {each.name for each in metrics_table.all_measures()}
    asked = {re.sub(r"_count$", "", name) for name in re.findall(r"segviz_[a-z_]+", alert["expr"])}
    assert asked <= names, asked - names


def test_every_panel_links_to_a_runbook_that_there_is() -> None:
    there = {path.stem for path in (ROOT / "docs/how-to/runbooks").glob("*.md")}
    assert {panel.runbook for panel in ALL} <= there


def test_each_alert_is_tested_for_firing_and_not_firing() -> None:
    tests = yaml.safe_load((ROOT / "tests/rules/alerts_test.yaml").read_text(encoding="utf-8"))["tests"]
    seen: dict[str, set[bool]] = {alert["alert"]: set() for alert in ALERTS}
    for test in tests:
        for check in test.get("alert_rule_test", ()):
            seen[check["alertname"]].add(bool(check.get("exp_alerts")))
        for check in test.get("promql_expr_test", ()):
            name = re.search(r'alertname="(\w+)"', check["expr"])
            assert name is not None
            seen[name[1]].add(bool(check["exp_samples"]))
    assert all(found == {True, False} for found in seen.values()), seen
