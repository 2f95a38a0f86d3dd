"""A real Prometheus scrapes a real federation, and every panel and rule finds what it asks for."""

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from here import Here, child_of, round_is

from builders.rig import write_cases
from integration.ports import free_port
from integration.prometheus_server import Prometheus
from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import encode
from segviz_exchange.contract.records import Environment, Update
from segviz_operator.dashboards import DASHBOARDS, panels
from segviz_operator.dashboards.panel import Marker, Panel
from segviz_operator.watch.from_prometheus import filled_in

RULES = Path(__file__).parents[2] / "charts/segviz-operator/alerts/segviz.rules.yaml"
SITES = {"basel": "liver", "bern": "spleen"}
API = "segviz.dev/v1alpha1"
pytestmark = pytest.mark.timeout(600)
LONGEST_SECONDS = 540
ALL = {f"{name}: {panel.title}": panel for name, rows in DASHBOARDS.items() for panel in panels(rows)}
# Each asks for a state that a healthy run is not in; what they are made of is there, though.
SELECTORS = re.compile(r"segviz_[a-z_]+(?:\{[^}]*\})?")


def manifests() -> list[dict[str, Any]]:
    members = [{"alias": alias, "siteRef": {"namespace": "default", "name": alias}} for alias in SITES]
    spec = {
        "sites": members,
        "rounds": 5,
        "localEpochs": 12,
        "participation": {"minSites": 1, "roundTimeoutSeconds": 3600},
        "model": {"channels": [4, 8], "strides": [2], "residualUnits": 1},
        "preprocessing": {"spacing": "Native", "intensity": {"method": "ZScore"}},
        "training": {"patch": [16, 16, 16], "cropsPerVolume": 1, "learningRate": 0.01},
    }
    data_set = {"name": "cubes", "path": ".", "layout": "List", "background": []}
    return [
        {"apiVersion": API, "kind": "SegVizFederation", "metadata": {"name": "cubes"}, "spec": spec},
        *(
            {
                "apiVersion": API,
                "kind": "SegVizSite",
                "metadata": {"name": alias},
                "spec": {
                    "volume": {"persistentVolumeClaim": {"claimName": alias}},
                    "dataSets": [{**data_set, "organs": {organ: [1]}}],
                    "allowedFederations": [{"namespace": "default", "name": "cubes"}],
                    "release": "HeadsAndNorm",
                },
            }
            for alias, organ in SITES.items()
        ),
    ]


def segviz(*words: object) -> list[str]:
    return [str(Path(sys.executable).with_name("segviz")), *map(str, words)]


def empties(prometheus: Prometheus, federation: str, seconds: float) -> dict[str, str]:
    """Panels with a query that nothing answered, by marker."""
    found: dict[str, str] = {}
    for name, panel in ALL.items():
        for query in panel.queries:
            expr = filled_in(query.expr, "default", federation, seconds, interval="10s")
            if not prometheus.series(expr, seconds):
                found[name] = str(panel.marker or "")
    return found


@pytest.fixture(scope="module")
def watched_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, Path, float]]:
    """A whole run that a Prometheus has scraped."""
    folder = tmp_path_factory.mktemp("watched")
    for seed, (alias, organ) in enumerate(SITES.items()):
        write_cases(folder / alias, (organ,), cases=10, seed=seed)
    (folder / "cubes.yaml").write_text(yaml.safe_dump_all(manifests()), encoding="utf-8")
    workdir, began = folder / "run", time.monotonic()
    prometheus = Prometheus(folder / "prometheus", workdir / "targets.json", RULES)
    command = segviz("run", folder / "cubes.yaml", "--workdir", workdir, "--metrics-port", free_port())
    for alias in SITES:
        command += ["--data", f"{alias}={folder / alias}"]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=LONGEST_SECONDS)
        assert done.returncode == 0, done.stdout + done.stderr
        yield prometheus, workdir, time.monotonic() - began
    finally:
        prometheus.close()


def test_no_panel_is_empty_in_a_healthy_run(watched_run: tuple[Prometheus, Path, float]) -> None:
    prometheus, _, seconds = watched_run
    found = empties(prometheus, "cubes", seconds + 30)
    assert {name: marker for name, marker in found.items() if not marker} == {}
    failure_only = {name for name, panel in ALL.items() if panel.marker is Marker.FAILURE_ONLY}
    assert failure_only <= found.keys(), "what is marked so must be empty where nothing failed"


def test_no_rule_asks_for_what_there_is_not_and_none_fires(
    watched_run: tuple[Prometheus, Path, float],
) -> None:
    prometheus, _, seconds = watched_run
    only_elsewhere = (
        "segviz_credentials_expiration_timestamp_seconds",
        "segviz_credentials_lifetime_seconds",
        "segviz_federation_failure",
        "segviz_operator_watching",
        "segviz_workload_stuck",
    )
    rules = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"][0]["rules"]
    missing = {}
    for rule in rules:
        prometheus.series(rule["expr"], seconds)  # it is sound, at least
        for metric in {each.partition("{")[0] for each in SELECTORS.findall(rule["expr"])}:
            if metric not in only_elsewhere and not prometheus.series(metric, seconds + 30):
                missing[rule["alert"]] = metric
    assert missing == {}
    loaded = prometheus.ask("rules")["groups"][0]["rules"]
    assert {rule["name"] for rule in loaded} == {rule["alert"] for rule in rules}
    assert all(rule["health"] == "ok" for rule in loaded), [rule.get("lastError") for rule in loaded]
    fired = prometheus.series('ALERTS{alertstate="firing"}', seconds)
    assert [each["metric"]["alertname"] for each in fired] == []


def test_a_run_ends_with_its_page(watched_run: tuple[Prometheus, Path, float]) -> None:
    _, workdir, _ = watched_run
    page = (workdir / "report.html").read_text(encoding="utf-8")
    assert "<h1>default/cubes</h1>" in page
    assert all(alias in page for alias in SITES)
    assert (workdir / "report-without-images.html").is_file()


def test_annotations_and_variables_have_answers(
    watched_run: tuple[Prometheus, Path, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    prometheus, _, seconds = watched_run
    monkeypatch.syspath_prepend(str(RULES.parents[3] / "tools"))
    import dashboards

    commits = prometheus.series(filled_in(dashboards.COMMITS, "default", "cubes", seconds), seconds + 30)
    moments = {value for each in commits for _, value in each["values"]}
    assert len(moments) >= 4, "the open round's beginning is a moment for every round"
    for query in (dashboards.NAMESPACES, dashboards.FEDERATIONS, dashboards.SITES):
        selector, label = re.fullmatch(r"label_values\((.*), (\w+)\)", query).groups()  # type: ignore[union-attr]
        found = prometheus.series(filled_in(selector, ".*", ".*", seconds), seconds + 30)
        assert {each["metric"][label] for each in found}


def test_a_finished_folder_is_a_page_and_can_be_scraped(
    watched_run: tuple[Prometheus, Path, float], tmp_path: Path
) -> None:
    prometheus, workdir, _ = watched_run
    with serving(workdir, "--prometheus", prometheus.url) as url:
        text = read(url)
        assert "default/cubes" in text
        assert "Complete" in text
        assert "curves from" in text
        assert text.count("<polyline") >= 4
        assert "<script src" not in text
        assert not re.search(r"(src|href)=\"https?:", text), "nothing is fetched from elsewhere"
        assert (
            'segviz_federation_phase{federation_namespace="default",federation="cubes",phase="Complete"} 1.0'
            in (read(f"{url}metrics"))
        )
        part = read(f"{url}?part=main")
        assert part.strip() in text or "<html" not in part


class serving:  # noqa: N801 - a context, as open is
    """`segviz status --web` of a folder."""

    def __init__(self, workdir: Path, *options: str) -> None:
        self._command = segviz("status", workdir, "--web", "--port", 0, *options)

    def __enter__(self) -> str:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, encoding="utf-8")
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert found is not None, line
        return found[0]

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        assert self._process.wait(10) == 0
        self._process.stdout.close()  # type: ignore[union-attr]


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return str(answer.read().decode())


# --- failures -------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    federation = Here(tmp_path)
    yield federation
    for runner in federation.runners:
        runner.kill()
        runner.communicate()


def test_failure_only_panels_fill_and_alerts_fire_when_it_fails(here: Here, tmp_path: Path) -> None:
    """An update that names a blob which is not there is quarantined; then a site is lost, and the quorum."""
    here.describe("basel", "bern", rounds=6)
    here.behave("bern", seconds="1.5")
    runner = here.start()
    here.wait(round_is(1))
    newest = here.records()
    assert newest is not None
    bad = Update(
        *("bern", (newest.newest_round or 0) + 1, 1, 1, 1, "0" * 64, 1, 1, None, 1.0),
        environment=Environment("none", "cpu", "FP32", "Contiguous", 1),
    )
    here.store_of("bern").create(keys.update(bad.site, bad.round, bad.attempt), encode(bad))
    here.wait(lambda records: records.sites["bern"].rejections)
    here.behave("bern", refuse="these are no labels")
    child_of(runner, "bern").kill()
    assert runner.wait(60) == 1, "one of two sites is no quorum"
    targets = tmp_path / "targets.json"
    with serving(here.workdir.root) as url:
        targets.write_text(
            json.dumps([{"targets": [url.removeprefix("http://").strip("/")]}]), encoding="utf-8"
        )
        prometheus = Prometheus(tmp_path / "prometheus", targets, RULES)
        try:
            await_series(prometheus, "segviz_federation_phase")
            found = empties(prometheus, "abdomen", 60)
            wanted = {name for name, panel in ALL.items() if fills_here(panel)}
            assert not wanted & found.keys()
            await_series(prometheus, 'ALERTS{alertname="SegVizQuorumLost"}')
            await_series(prometheus, 'ALERTS{alertname="SegVizFederationFailed"}')
            # A rejection that is there when Prometheus first looks is an old one: promtool tests the alert.
        finally:
            prometheus.close()


def fills_here(panel: Panel) -> bool:
    # A round that misses a site needs a quorum without it; see the next test.
    return panel.marker is Marker.FAILURE_ONLY and "exclusions" not in panel.queries[0].expr


def test_missed_rounds_fill_when_a_round_closes_without_a_site(here: Here, tmp_path: Path) -> None:
    here.describe("basel", "bern", rounds=4, participation={"minSites": 1, "roundTimeoutSeconds": 2})
    here.behave("bern", seconds="30")
    runner = here.start()
    here.wait(lambda records: any(closing.exclusions for closing in records.closings.values()))
    runner.send_signal(signal.SIGINT)
    assert runner.wait(60) == 130
    targets = tmp_path / "targets.json"
    with serving(here.workdir.root) as url:
        targets.write_text(
            json.dumps([{"targets": [url.removeprefix("http://").strip("/")]}]), encoding="utf-8"
        )
        prometheus = Prometheus(tmp_path / "prometheus", targets, RULES)
        try:
            await_series(prometheus, 'segviz_site_exclusions_total{site="bern",reason="NoUpdate"} > 0')
        finally:
            prometheus.close()


def await_series(prometheus: Prometheus, expr: str) -> None:
    deadline = time.monotonic() + 30
    while not prometheus.series(expr, 60):
        assert time.monotonic() < deadline, f"{expr} stays empty"
        time.sleep(0.5)
