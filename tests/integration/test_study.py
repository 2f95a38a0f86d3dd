"""`segviz study` with the real trainer on the phantom: two short rows, interrupted once, and their report."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from segviz_trainer.phantom.generate import generate

PROGRAM = Path(sys.executable).with_name("segviz")
ORGANS = ("liver", "spleen")
SEEN = {"liver": {"liver": [1, 2]}, "spleen": {"spleen": [1]}}
MODEL = {"channels": [4, 8], "strides": [2]}
TRAINING = {"patch": [16, 16, 16], "cropsPerVolume": 1, "batchSize": 2, "learningRate": 0.003}


def _site(name: str, data_sets: list[dict[str, Any]], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "segviz.dev/v1alpha1",
        "kind": "SegVizSite",
        "metadata": {"name": name},
        "spec": {
            "volume": {"persistentVolumeClaim": {"claimName": "phantom"}},
            "dataSets": data_sets,
            "allowedFederations": [{"namespace": "default", "name": "small"}],
            "release": "HeadsAndNorm",
            "split": {"train": 50, "validation": 25, "test": 25},
            "scores": "PerCase",
            **spec,
        },
    }


def _data_set(organ: str) -> dict[str, Any]:
    return {"name": organ, "path": organ, "layout": "MSD", "organs": SEEN[organ]}


def _member(name: str) -> dict[str, Any]:
    return {"alias": name, "siteRef": {"namespace": "default", "name": name}}


def write_manifests(path: Path) -> None:
    federation = {
        "apiVersion": "segviz.dev/v1alpha1",
        "kind": "SegVizFederation",
        "metadata": {"name": "small"},
        "spec": {
            "sites": [_member(organ) for organ in ORGANS],
            "rounds": 1,
            "localEpochs": 1,
            "model": MODEL,
            "preprocessing": {"spacingMillimetres": [10, 10, 10]},
            "training": TRAINING,
            "fineTuning": {"epochs": 1},
            "evaluation": {"sites": [_member("external")]},
        },
    }
    central = {"algorithm": {"name": "CentralMarginal"}, "sites": [_member("pooled")], "fineTuning": None}
    study = {
        "apiVersion": "segviz.dev/v1alpha1",
        "kind": "SegVizStudy",
        "metadata": {"name": "small"},
        "spec": {
            "baseline": "Local",
            "central": "CentralMarginal",
            "worstCases": 1,
            "rows": [
                {"name": "Local", "spec": {"algorithm": {"name": "Local"}}},
                {"name": "CentralMarginal", "spec": central},
            ],
        },
    }
    abdomen = {
        **{"name": "abdomen", "path": "external", "layout": "BTCV"},
        **{"organs": {"spleen": [1], "liver": [6]}, "background": [2, 3, 11]},
    }
    sites = [
        *(_site(organ, [_data_set(organ)]) for organ in ORGANS),
        _site("pooled", [_data_set(organ) for organ in ORGANS]),
        _site("external", [abdomen], role="Evaluation"),
    ]
    path.write_text(yaml.safe_dump_all([study, federation, *sites]), encoding="utf-8")


def start(root: Path) -> subprocess.Popen[str]:
    words = [PROGRAM, "study", root / "small.yaml", "--data", root / "data", "--workdir", root / "study"]
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", start_new_session=True
    )


def _outcome_of(root: Path, row: str) -> list[Path]:
    return list((root / "study/rows" / row).glob("run/bucket/*/*/sites/*/outcome.json"))


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for each in started:
        each.kill()  # its children end with it
        each.wait()


@pytest.mark.timeout(900)
def test_two_rows_interrupted_once_and_reported(
    tmp_path: Path, processes: list[subprocess.Popen[str]]
) -> None:
    """Two minutes of CPU time; the limit is for a machine that is busy."""
    generate(tmp_path / "data", seed=0, cases=8, external_cases=3, size=(32, 32, 24))
    write_manifests(tmp_path / "small.yaml")

    first = start(tmp_path)
    processes.append(first)
    while not (tmp_path / "study/rows/centralmarginal/run/federation.json").exists():
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.1)
    before = {path: path.stat().st_mtime_ns for path in _outcome_of(tmp_path, "local")}
    assert len(before) == 2
    os.killpg(first.pid, signal.SIGINT)  # as a terminal does
    said, _ = first.communicate(timeout=60)
    assert (first.returncode, "Run the same command again to continue." in said) == (130, True), said

    second = start(tmp_path)
    processes.append(second)
    said, _ = second.communicate()
    assert second.returncode == 0, said
    assert {path: path.stat().st_mtime_ns for path in _outcome_of(tmp_path, "local")} == before
    check_report(tmp_path / "study", said)


def check_report(study: Path, said: str) -> None:
    assert "Table 1: Dice, in-federation" in said
    rows = list(csv.DictReader((study / "tables.csv").open(encoding="utf-8")))
    dice = {(row["table"], row["method"], row["organ"]) for row in rows if row["metric"] == "Dice"}
    methods = ("Local", "Local+FT", "CentralMarginal")
    assert dice == {
        (table, method, organ)
        for table in ("In-federation", "external")
        for method in methods
        for organ in ORGANS
    }
    # The pooled site tests the very cases that the sites test, under the same ids: nothing was refused.
    tests = json.loads((study / "results.json").read_text(encoding="utf-8"))["tests"]
    assert {test["cases"] for test in tests if test["table"] == "external"} == {3}
    assert {test["cases"] for test in tests if test["table"] == "In-federation"} == {2}
    assert {test["refused"] for test in tests} == {""}
    cases = list(csv.DictReader((study / "cases.csv").open(encoding="utf-8")))
    by_method = {
        method: {(each["organ"], each["case"]) for each in cases if each["method"] == method}
        for method in methods
    }
    assert all(found == by_method["Local"] for found in by_method.values())
    assert not any("liver" in each["case"] or "spleen" in each["case"] for each in cases), "ids are salted"
    page, shareable = (
        (study / "report.html").read_text(encoding="utf-8"),
        (study / "report-without-images.html").read_text(encoding="utf-8"),
    )
    assert page.count('<figure class="viewer"') == 2 * 2, "tables × organs"
    assert "Federated beats alone" not in said, "there is no federated row"
    assert (
        (study / "gains.csv")
        .read_text(encoding="utf-8")
        .startswith("table,site,organ,method,alone,cases,gain")
    )
    assert said.rstrip().endswith(f"Report, with pictures: {study / 'report.html'}")
    assert "data:image" not in shareable
    assert "http" not in page.replace("http-equiv", "")
    style = page[page.index("<style>") : page.index("</style>")]
    assert style.count("{") == style.count("}"), (
        "a block left open would take the rest of the page's style along"
    )


@pytest.mark.full
@pytest.mark.timeout(900)
def test_cases_rotate_and_a_fold_whose_scores_are_kept_does_not_run_again(tmp_path: Path) -> None:
    generate(tmp_path / "data", seed=0, cases=8, external_cases=4, size=(32, 32, 24))
    write_manifests(tmp_path / "small.yaml")
    study, federation, *sites = yaml.safe_load_all((tmp_path / "small.yaml").read_text(encoding="utf-8"))
    study["spec"] |= {"rotate": {"folds": 2, "by": 2}, "rows": study["spec"]["rows"][:1]}
    del study["spec"]["central"], federation["spec"]["fineTuning"]
    (external,) = [site for site in sites if site["metadata"]["name"] == "external"]
    external["spec"]["dataSets"][0]["cases"] = {"stop": 2}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump_all([study, federation, *sites]), encoding="utf-8")

    said, _ = (run := start(tmp_path)).communicate()
    assert run.returncode == 0, said
    kept = sorted((tmp_path / "study/scores").iterdir())
    assert [path.name for path in kept] == ["local-fold-1.csv", "local-fold-2.csv"]
    before = _external(tmp_path / "study")
    assert len(before) == 4, "all cases of the folder, two a fold"

    began = time.monotonic()
    words = [PROGRAM, "study", tmp_path / "small.yaml", "--data", tmp_path / "data"]
    elsewhere = [*words, "--workdir", tmp_path / "new", "--scores", tmp_path / "study/scores"]
    again = subprocess.run(elsewhere, capture_output=True, encoding="utf-8", check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count(": kept in ") == 2
    assert not (tmp_path / "new/rows").exists(), f"it ran again, for {time.monotonic() - began:.0f} s"
    assert _external(tmp_path / "new") == before

    changed = kept[0].read_text(encoding="utf-8").replace(f",{_code(kept[0])},", ",0123456789abcdef,")
    kept[0].write_text(changed, encoding="utf-8")
    refused = subprocess.run(elsewhere, capture_output=True, encoding="utf-8", check=False)
    assert refused.returncode == 2
    assert "was made by another code (digest 0123456789abcdef" in refused.stderr


def _external(study: Path) -> dict[tuple[str, str], str]:
    rows = csv.DictReader((study / "cases.csv").open(encoding="utf-8"))
    return {
        (row["organ"], row["case"]): row["value"]
        for row in rows
        if row["table"] == "external" and row["metric"] == "Dice" and row["organ"] == "liver"
    }


def _code(path: Path) -> str:
    return next(csv.DictReader(path.open(encoding="utf-8")))["code"]
