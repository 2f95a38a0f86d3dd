"""A site outside the cluster: a process of this machine that has a join file and nothing else."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from federation import Make
from hospitals import Hospital, Scene
from install import COORDINATOR, Installation
from kube import Kube, until
from remote_sites import join_secret

from builders.rig import write_cases

SEGVIZ = Path(sys.executable).with_name("segviz")
NAME, ALIAS = "remote", "geneva"


@dataclass
class Outside:
    """The laptop: images, the site's manifest as its owner has it, and no way to the cluster."""

    folder: Path

    def join(self, join_file: bytes, manifest: dict[str, object]) -> subprocess.Popen[str]:
        file, site = self.folder / "geneva.json", self.folder / "site.yaml"
        file.touch(mode=0o600)
        file.write_bytes(join_file)
        site.write_text(yaml.safe_dump(manifest), encoding="utf-8")
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
        words = (
            "join",
            file,
            "--site",
            site,
            "--data",
            self.folder / "data",
            "--state",
            self.folder / "state",
        )
        return subprocess.Popen(
            (SEGVIZ, *map(str, words)),
            env={**kept, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )


@pytest.fixture
def hospital(installation: Installation, tmp_path: Path) -> Iterator[Hospital]:
    write_cases(tmp_path / "data", ("spleen",), cases=10, seed=11)
    labels = {"name": "cubes", "path": ".", "layout": "List", "organs": {"spleen": [1]}, "background": []}
    found = Hospital(ALIAS, labels, tmp_path / "data")
    installation.namespace(ALIAS)
    values = {
        "remote": True,
        "allowedFederations": [f"{COORDINATOR}/{NAME}"],
        "dataSets": [labels],
        "release": "HeadsAndNorm",
        "scores": "PerCase",
    }
    installation.helm.install(ALIAS, "segviz-site", ALIAS, values)
    yield found
    installation.helm.uninstall(ALIAS, ALIAS)


def test_a_process_outside_takes_part_by_its_join_file(
    make: Make, kube: Kube, scene: Scene, hospital: Hospital, tmp_path: Path
) -> None:
    """geneva owns the spleen beside basel's liver; its namespace never holds a Job."""
    federation = make(NAME, rounds=3)
    federation.apply(sites=("basel", ALIAS))
    secret = until("geneva's join file", 90, lambda: join_secret(kube, federation, ALIAS))
    manifest = kube.get("segvizsites.segviz.dev", ALIAS, ALIAS)
    assert manifest is not None
    laptop = Outside(tmp_path).join(secret, manifest)
    try:
        federation.wait_for("Complete")
        said, _ = laptop.communicate(timeout=60)
    finally:
        laptop.kill()
    assert laptop.returncode == 0, said
    assert "Done: the federation is over for geneva" in said
    bucket = federation.bucket()
    for number in range(4):
        assert bucket.record(f"global/rounds/{number:04d}.json")["participants"] == ["basel", ALIAS]
    assert federation.jobs("trainer", ALIAS) == []
    credentials = json.loads(secret)["credentials"]
    assert credentials["sessionToken"]
    assert credentials["expiration"]
    findings = {each["check"] for each in bucket.record(f"sites/{ALIAS}/preflight/000001.json")["findings"]}
    assert findings == {"Data", "Clock", "Disk", "Bandwidth", "GPU"}
