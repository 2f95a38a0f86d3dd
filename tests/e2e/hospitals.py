"""Who takes part: three sites, of which two annotated the same organ, and a fourth that only evaluates."""

import io
import json
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builders.cubes import write_cases

HIPPOCAMPUS = Path(__file__).parents[3] / "shared" / "data" / "msd-hippocampus"


@dataclass(frozen=True)
class Hospital:
    """A namespace with one SegVizSite of its name."""

    name: str
    data_set: Mapping[str, Any]
    folder: Path
    """On this machine; the volume gets a copy."""
    role: str = "Training"


@dataclass(frozen=True)
class Scene:
    hospitals: tuple[Hospital, ...]
    spec: Mapping[str, Any]
    """Of a federation, as far as the data decide it."""

    @property
    def training(self) -> tuple[str, ...]:
        return tuple(each.name for each in self.hospitals if each.role == "Training")

    @property
    def evaluating(self) -> tuple[str, ...]:
        return tuple(each.name for each in self.hospitals if each.role == "Evaluation")


def cube_scene(folder: Path) -> Scene:
    """Bright cubes in noise, 16 voxels wide: an epoch takes milliseconds."""
    organs = {"basel": ("liver",), "bern": ("spleen",), "chur": ("spleen",), "external": ("liver", "spleen")}
    hospitals = []
    for seed, (name, annotated) in enumerate(organs.items()):
        write_cases(folder / name, annotated, cases=10, seed=seed)
        labels = {organ: [index + 1] for index, organ in enumerate(annotated)}
        data_set = {"name": "cubes", "path": ".", "layout": "List", "organs": labels, "background": []}
        role = "Evaluation" if name == "external" else "Training"
        hospitals.append(Hospital(name, data_set, folder / name, role))
    spec = {
        "rounds": 4,
        "localEpochs": 6,
        "model": {"channels": [4, 8], "strides": [2], "residualUnits": 1},
        "preprocessing": {"spacing": "Native", "intensity": {"method": "ZScore"}},
        "training": {"patch": [16, 16, 16], "cropsPerVolume": 1, "learningRate": 0.01, "threads": 1},
        "fineTuning": {"epochs": 1, "learningRate": 0.01},
    }
    return Scene(tuple(hospitals), spec)


def hippocampus_scene(folder: Path) -> Scene:
    """A few of the real images of MSD Task04: one site annotated the anterior part, two the posterior one."""
    parts = {
        "lugano": ({"anterior": [1]}, [2], slice(0, 16)),
        "thun": ({"posterior": [2]}, [1], slice(16, 32)),
        "zug": ({"posterior": [2]}, [1], slice(32, 48)),
        "abroad": ({"anterior": [1], "posterior": [2]}, [], slice(-8, None)),
    }
    names = sorted(path.name for path in (HIPPOCAMPUS / "labelsTr").glob("*.nii.gz"))
    hospitals = []
    for name, (organs, background, chosen) in parts.items():
        for part in ("imagesTr", "labelsTr"):
            (folder / name / part).mkdir(parents=True)
            for case in names[chosen]:
                shutil.copy(HIPPOCAMPUS / part / case, folder / name / part / case)
        described = json.loads((HIPPOCAMPUS / "dataset.json").read_text(encoding="utf-8"))
        described["training"] = [
            {"image": f"./imagesTr/{case}", "label": f"./labelsTr/{case}"} for case in names[chosen]
        ]
        (folder / name / "dataset.json").write_text(json.dumps(described), encoding="utf-8")
        data_set = {
            "name": "hippocampus",
            "path": ".",
            "layout": "MSD",
            "organs": organs,
            "background": background,
        }
        role = "Evaluation" if name == "abroad" else "Training"
        hospitals.append(Hospital(name, data_set, folder / name, role))
    spec = {
        "rounds": 3,
        "localEpochs": 1,
        "algorithm": {"name": "FedAvg"},
        "model": {"channels": [8, 16, 32], "strides": [2, 2], "norm": "Instance"},
        "preprocessing": {"spacing": "Native", "intensity": {"method": "ZScore"}},
        "training": {
            "patch": [48, 64, 48],
            "cropsPerVolume": 1,
            "batchSize": 2,
            "learningRate": 0.003,
            "threads": 1,
        },
    }
    return Scene(tuple(hospitals), spec)


def packed(folder: Path) -> bytes:
    """As a tar for a volume that a Pod without root writes and others read."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name)
    return buffer.getvalue()
