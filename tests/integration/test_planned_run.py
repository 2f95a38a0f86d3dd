"""`segviz run` with plan: Auto and the real trainer: sites tell, and one plan outlives the runner."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from builders.cubes import write_cases
from segviz_exchange.contract import keys
from segviz_exchange.contract.fingerprint import Fingerprint
from segviz_exchange.contract.ledger import find, newest_control, read
from segviz_exchange.contract.records import Control, Exported, Update
from segviz_exchange.stores.folder import FolderStore
from segviz_exchange.stores.store import Store

PROGRAM = Path(sys.executable).with_name("segviz")
ORGANS = {"basel": "liver", "bern": "spleen"}


def _object(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "segviz.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def write_manifests(path: Path) -> None:
    federation = {
        "sites": [{"alias": alias, "siteRef": {"namespace": "default", "name": alias}} for alias in ORGANS],
        "rounds": 1,
        "localEpochs": 1,
        "preprocessing": {"plan": "Auto"},
        "model": {"plan": "Auto", "memoryMebibytes": 256},
        "training": {"learningRate": 0.003},
    }
    sites = [
        _object(
            "SegVizSite",
            alias,
            {
                "volume": {"persistentVolumeClaim": {"claimName": "cubes"}},
                "dataSets": [{"name": "cubes", "path": alias, "layout": "List", "organs": {organ: [1]}}],
                "allowedFederations": [{"namespace": "default", "name": "cubes"}],
                "release": "HeadsAndNorm",
                "fingerprint": "Summary",
            },
        )
        for alias, organ in ORGANS.items()
    ]
    path.write_text(
        yaml.safe_dump_all([_object("SegVizFederation", "cubes", federation), *sites]), encoding="utf-8"
    )


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for each in started:
        each.kill()  # its children end with it
        each.wait()


def start(folder: Path) -> subprocess.Popen[str]:
    words = [PROGRAM, "run", folder / "cubes.yaml", "--data", folder / "data", "--workdir", folder / "run"]
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", start_new_session=True
    )


def bucket(folder: Path) -> Store | None:
    places = list((folder / "run/bucket/default").glob("cubes-*"))
    return FolderStore(places[0]) if places else None


@pytest.mark.timeout(600)
def test_sites_tell_and_train_what_was_planned(
    tmp_path: Path, processes: list[subprocess.Popen[str]]
) -> None:
    for number, (alias, organ) in enumerate(ORGANS.items()):
        write_cases(tmp_path / "data" / alias, (organ,), cases=10, seed=number)
    write_manifests(tmp_path / "cubes.yaml")
    first = start(tmp_path)
    processes.append(first)
    planned: Control | None = None
    while planned is None:
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.1)
        store = bucket(tmp_path)
        newest = None if store is None else newest_control(store)
        planned = newest if newest is not None and newest.reasons else None
    first.kill()
    first.communicate()

    second = start(tmp_path)
    processes.append(second)
    said, _ = second.communicate()
    assert second.returncode == 0, said
    store = bucket(tmp_path)
    assert store is not None
    assert newest_control(store) == planned, "a plan is made once"
    check(store, planned)


def check(store: Store, planned: Control) -> None:
    asked = read(store, keys.control(1), Control)
    assert (asked.spec.awaits_plan, planned.number) == (True, 2)
    told = {alias: read(store, keys.fingerprint(alias), Fingerprint) for alias in ORGANS}
    assert {each.cases for each in told.values()} == {7}, "those that train"
    assert planned.reasons[0] == "Planned from 14 training cases of basel, bern."
    assert planned.spec.preprocessing.spacing_millimetres == (2.0, 2.0, 2.0)
    assert planned.spec.training.patch == (16, 16, 16)
    for alias in ORGANS:
        assert read(store, keys.update(alias, 1, 1), Update).control == 2
    exported = find(store, keys.exported("base"), Exported)
    assert exported is not None
    assert exported.spec.model == planned.spec.model
