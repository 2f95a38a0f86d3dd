"""`segviz run` with real processes, of which any may be killed at any moment."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from builders.rig import write_cases

KILLS = 20
SITES = {"basel": "liver", "bern": "spleen"}


def manifests() -> list[dict]:
    meta = {"apiVersion": "segviz.dev/v1alpha1"}
    federation = {
        **meta,
        "kind": "SegVizFederation",
        "metadata": {"name": "cubes"},
        "spec": {
            "sites": [
                {"alias": alias, "siteRef": {"namespace": "default", "name": alias}} for alias in SITES
            ],
            "rounds": 60,
            "localEpochs": 2,
            "model": {"channels": [4, 8], "strides": [2], "residualUnits": 1},
            "preprocessing": {"spacing": "Native", "intensity": {"method": "ZScore"}},
            "training": {"patch": [16, 16, 16], "cropsPerVolume": 1, "learningRate": 0.01},
            "fineTuning": {"epochs": 2, "learningRate": 0.01},
        },
    }
    sites = [
        {
            **meta,
            "kind": "SegVizSite",
            "metadata": {"name": alias},
            "spec": {
                "volume": {"persistentVolumeClaim": {"claimName": alias}},
                "dataSets": [
                    {"name": "cubes", "path": ".", "layout": "List", "organs": {organ: [1]}, "background": []}
                ],
                "allowedFederations": [{"namespace": "default", "name": "cubes"}],
                "release": "HeadsAndNorm",
            },
        }
        for alias, organ in SITES.items()
    ]
    return [federation, *sites]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    for seed, (alias, organ) in enumerate(SITES.items()):
        write_cases(folder / alias, (organ,), cases=10, seed=seed)
    (folder / "cubes.yaml").write_text(yaml.safe_dump_all(manifests()), encoding="utf-8")
    return folder


def start(inputs: Path, workdir: Path) -> subprocess.Popen:
    command = [str(Path(sys.executable).with_name("segviz")), "run", str(inputs / "cubes.yaml")]
    command += ["--workdir", str(workdir), "--poll-seconds", "0.2"]
    for alias in SITES:
        command += ["--data", f"{alias}={inputs / alias}"]
    with workdir.with_suffix(".log").open("a", encoding="utf-8") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)


def digests(workdir: Path) -> list[str]:
    report = json.loads((workdir / "report.json").read_text(encoding="utf-8"))
    return [model["sha256"] for model in report["models"]]


def facts(workdir: Path) -> int:
    """Records and checkpoints so far; heartbeats and leases are no progress."""
    kinds = (
        "bucket/**/rounds/*",
        "bucket/**/updates/**/*.json",
        "bucket/**/scores/*",
        "state/*/checkpoints/*",
    )
    return sum(1 for kind in kinds for _ in workdir.glob(kind))


def kill_one(runner: subprocess.Popen, chance: random.Random) -> str | None:
    """Kill one process, the runner now and then, so that orphans are seen too; None if it had just ended."""
    parent = psutil.Process(runner.pid)
    chosen = chance.choice([*parent.children(), parent])
    try:
        role = "runner" if chosen == parent else " ".join(chosen.cmdline()[2:4])
        chosen.kill()
    except psutil.NoSuchProcess:
        return None
    if chosen == parent:
        runner.wait()
    return role


@pytest.mark.timeout(1500)
def test_twenty_kills_change_no_bit_of_the_models(inputs: Path, tmp_path: Path) -> None:
    undisturbed = tmp_path / "undisturbed"
    assert start(inputs, undisturbed).wait(timeout=600) == 0

    disturbed, chance = tmp_path / "disturbed", random.Random(20)
    runner, killed, seen = start(inputs, disturbed), [], -1
    while len(killed) < KILLS and runner.poll() is None:
        time.sleep(0.1)
        # Each kill meets work in progress: something has become true since the last one.
        if (now := facts(disturbed)) == seen or not now:
            continue
        time.sleep(chance.uniform(0.0, 1.5))
        if (role := kill_one(runner, chance)) is not None:
            killed.append(role)
        seen = facts(disturbed)
        if runner.poll() is not None:
            runner = start(inputs, disturbed)
    assert runner.wait(timeout=900) == 0, disturbed.with_suffix(".log").read_text(encoding="utf-8")[-2000:]
    assert len(killed) == KILLS, f"the run ended after {len(killed)} kills; make it longer"
    assert "runner" in killed
    assert any("segviz_trainer" in role for role in killed)
    assert any("segviz_aggregator" in role for role in killed)
    assert digests(disturbed) == digests(undisturbed)


def test_ctrl_c_says_how_to_go_on_and_loses_nothing(inputs: Path, tmp_path: Path) -> None:
    workdir = tmp_path / "interrupted"
    runner = start(inputs, workdir)
    scores = workdir / "bucket"
    while not list(scores.rglob("rounds/0002.json")):
        assert runner.poll() is None, workdir.with_suffix(".log").read_text(encoding="utf-8")
        time.sleep(0.1)
    workers = psutil.Process(runner.pid).children()
    asked = time.monotonic()
    runner.send_signal(signal.SIGINT)
    assert runner.wait(timeout=30) == 130
    assert time.monotonic() - asked < 10
    assert not [process for process in workers if process.is_running()]
    assert "same command again to continue" in workdir.with_suffix(".log").read_text(encoding="utf-8")
    assert start(inputs, workdir).wait(timeout=600) == 0
    assert len(digests(workdir)) == 2
