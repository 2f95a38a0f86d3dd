"""A real Prometheus scrapes the operator, trainers and aggregator of a real cluster: no panel is empty."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from federation import Federation, Make
from install import COORDINATOR, SYSTEM

from segviz_operator.dashboards import DASHBOARDS, panels
from segviz_operator.dashboards.panel import Marker
from segviz_operator.watch.from_prometheus import filled_in

ROOT = Path(__file__).parents[2]
RULES = ROOT / "charts/segviz-operator/alerts/segviz.rules.yaml"
MAY_BE_EMPTY = (Marker.FAILURE_ONLY, Marker.GPU_ONLY)
sys.path.insert(0, str(ROOT / "tests"))

from integration.prometheus_server import Prometheus  # noqa: E402 - of the integration tests


@pytest.fixture
def targets(tmp_path: Path) -> Path:
    path = tmp_path / "targets.json"
    path.write_text("[]", encoding="utf-8")
    return path


@pytest.fixture
def prometheus(tmp_path: Path, targets: Path) -> Iterator[Prometheus]:
    server = Prometheus(tmp_path / "prometheus", targets, RULES)
    yield server
    server.close()


def addresses(federation: Federation) -> list[str]:
    """Of the Pods that serve metrics, as a PodMonitor would find them."""
    pods: list[dict[str, Any]] = federation.kube.listed(
        "pods", SYSTEM, **{"app.kubernetes.io/name": "segviz-operator"}
    )
    for role in ("aggregator", "trainer"):
        pods += federation.pods(role)
    found = [pod["status"].get("podIP") for pod in pods if pod["status"].get("phase") == "Running"]
    return sorted(f"{address}:9090" for address in found if address)


def test_no_panel_is_empty_in_a_healthy_run(make: Make, prometheus: Prometheus, targets: Path) -> None:
    federation = make("watched")
    federation.apply()
    began = time.monotonic()
    while not federation.holds("Complete"):
        assert time.monotonic() - began < 600, federation.story()
        assert not federation.holds("Failed"), federation.story()
        staged = targets.with_suffix(".partial")
        staged.write_text(json.dumps([{"targets": addresses(federation)}]), encoding="utf-8")
        staged.rename(targets)
        time.sleep(2)
    time.sleep(15)  # the operator's last look at it, and a scrape of that
    seconds = time.monotonic() - began + 30
    empty = [
        f"{name}: {panel.title}"
        for name, rows in DASHBOARDS.items()
        for panel in panels(rows)
        for query in panel.queries
        if panel.marker not in MAY_BE_EMPTY
        and not prometheus.series(
            filled_in(query.expr, COORDINATOR, federation.name, seconds, interval="20s"), seconds
        )
    ]
    assert empty == []


def test_series_go_with_their_federation(make: Make, prometheus: Prometheus, targets: Path) -> None:
    federation = make("watched", rounds=40)
    federation.apply()
    federation.wait_for_round(1)
    targets.write_text(json.dumps([{"targets": addresses(federation)}]), encoding="utf-8")
    phase = f'segviz_federation_phase{{federation_namespace="{COORDINATOR}",federation="{federation.name}"}}'
    await_answer(prometheus, phase, there=True)
    federation.delete()
    await_answer(prometheus, phase, there=False)


def await_answer(prometheus: Prometheus, expr: str, *, there: bool) -> None:
    deadline = time.monotonic() + 90
    while bool(prometheus.ask("query", query=expr)["result"]) is not there:
        assert time.monotonic() < deadline, f"{expr}: there should {'be' if there else 'not be'} one"
        time.sleep(1)
