"""The docs' commands for one machine, run as they stand, on the phantom and with a small network."""

import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from builders.clinic import write_study
from builders.documented import PAGES, TOP, Line, code_blocks
from builders.walks import runs_here, told_on
from segviz_exchange.cli import main

TUTORIAL = TOP / "docs/tutorials/your-own-data.md"
SMALL: Mapping[str, Any] = {
    "rounds": 1,
    "localEpochs": 1,
    "model": {"channels": [4, 8], "strides": [2]},
    "preprocessing": {"spacingMillimetres": [12, 12, 12]},
    "training": {"patch": [16, 16, 16], "cropsPerVolume": 1, "threads": 1},
    "fineTuning": {"epochs": 1},
}
OTHERS = {"bern": ("Task09_Spleen", "MSD", {"spleen": [1]}), "btcv": ("BTCV", "BTCV", {"liver": [6]})}
DATA_SET = "data/Task03_Liver"
NAMES = {
    "/data/": "data-of/",
    "DIR/liver": "data/Task03_Liver",
    "DIR": "data",
    "FOLDER": "data",
    "MODEL": "runs/abdomen/models/base",
    "abdomen/tuned": "runs/abdomen/models/tuned",
    "runs/phantom": "runs/abdomen",
    "examples/hippocampus": "abdomen",
    "SCT:78961009": "spleen",
    "SEED0": "runs/abdomen/models/base",
    "SEED1": "runs/abdomen/models/base",
    "SEED2": "runs/abdomen/models/base",
}
QUICK = ("validate", "data")
LONG = ("plan", "run", "status", "fetch", "predict", "evaluate")
"""In this order: a model must be there before it predicts."""


@dataclass(frozen=True)
class Machine:
    folder: Path

    def segviz(self, *words: str) -> Result:
        return CliRunner().invoke(main, words, prog_name="segviz")

    def meant(self, line: Line) -> tuple[str, ...]:
        names = dict(NAMES)
        if line.words[1] in ("evaluate", "data"):
            names["DIR"] = DATA_SET
        if "examples/phantom" in line.words:
            names["DIR"] = "made"
        words = []
        for word in line.words[1:]:
            for name, value in names.items():
                edge = r"(?![-\w])" if name[-1].isalnum() else ""
                word = re.sub(rf"(?<![-\w]){re.escape(name)}{edge}", value, word)
            words.append(word)
        if words[:2] == ["data", "phantom"]:
            words = [*words[:2], "practice", "--cases", "3", "--external-cases", "1"]
        return tuple(words)


def tutorial_block(kind: str) -> dict[str, Any]:
    blocks = code_blocks(TUTORIAL.read_text(encoding="utf-8"))
    (found,) = [yaml.safe_load(each) for each in blocks if f"kind: {kind}\n" in each]
    return dict(found)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The tutorial's folders and manifests."""
    folder = tmp_path_factory.mktemp("machine")
    machine = Machine(folder)
    made = machine.segviz("data", "phantom", str(folder / "made"), "--cases", "8", "--external-cases", "1")
    assert made.exit_code == 0, made.output
    data = folder / "data"
    data.mkdir()
    for name, given in {"Task03_Liver": "liver", "Task09_Spleen": "spleen", "BTCV": "external"}.items():
        # No link: one that leads out of the volume is refused.
        shutil.copytree(folder / "made" / given, data / name)
    shutil.copytree(folder / "made/kidneys", data / "kits19/data")
    (folder / "examples").symlink_to(TOP / "examples")
    (folder / "data-of").mkdir()
    for alias in ("basel", *OTHERS):
        (folder / "data-of" / alias).symlink_to(data)
    ct, label = (next((data / "BTCV" / kind).glob("*.nii.gz")) for kind in ("img", "label"))
    shutil.copy(ct, folder / "ct.nii.gz")
    structures = {"Liver": (6,), "spleen": (1,)}
    study = write_study(folder / "studies/case01", ct, label, structures)
    (folder / "series").symlink_to(study / "study/ct")
    for place in ("abdomen", "sites"):
        (folder / place).mkdir()
        for name, manifest in manifests().items():
            (folder / place / name).write_text(yaml.safe_dump(manifest), encoding="utf-8")
    (folder / "sites/federation.yaml").rename(folder / "federation.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("COLUMNS", "80")
        yield machine


def manifests() -> dict[str, dict[str, Any]]:
    basel, federation = tutorial_block("SegVizSite"), tutorial_block("SegVizFederation")
    federation["spec"] |= SMALL
    found = {"basel.yaml": basel, "federation.yaml": federation}
    for name, (path, layout, organs) in OTHERS.items():
        others = [each for each in range(1, 14) if [each] not in organs.values()]
        data_set = {"name": "ct", "path": path, "layout": layout, "organs": organs, "background": others}
        spec = {key: value for key, value in basel["spec"].items() if key not in ("release", "dataSets")}
        spec |= {"role": "Evaluation" if name == "btcv" else "Training", "dataSets": [data_set]}
        if name != "btcv":
            spec["release"] = basel["spec"]["release"]
        found[f"{name}.yaml"] = {**basel, "metadata": {"name": name}, "spec": spec}
    return found


def told(acts: tuple[str, ...]) -> list[Line]:
    pages = [page.relative_to(TOP).as_posix() for page in PAGES]
    lines = [line for page in pages for line in told_on(page) if runs_here(line)]
    assert {line.words[1] for line in lines} <= {*QUICK, *LONG}
    return sorted(
        (each for each in lines if each.words[1] in acts), key=lambda line: acts.index(line.words[1])
    )


def test_validate_says_what_the_tutorial_shows(machine: Machine) -> None:
    (block,) = [
        each for each in code_blocks(TUTORIAL.read_text(encoding="utf-8")) if "$ segviz validate" in each
    ]
    shutil.copytree(machine.folder / "abdomen", "misspelt")
    path = Path("misspelt/federation.yaml")
    text = path.read_text(encoding="utf-8").replace("name: FedBN", "nam: FedBN")
    path.write_text(text, encoding="utf-8")
    said = machine.segviz("validate", "misspelt")
    assert said.exit_code == 2
    assert (said.stdout + said.stderr).splitlines() == block.splitlines()[1:]


@pytest.mark.parametrize(
    "acts",
    [QUICK, pytest.param(LONG, marks=[pytest.mark.full, pytest.mark.timeout(1200)])],
    ids=["before training", "training, and its model"],
)
def test_every_command_for_one_machine_does_what_its_page_says(
    machine: Machine, acts: tuple[str, ...]
) -> None:
    failed, done = [], set[tuple[str, ...]]()
    for line in told(acts):
        if (words := machine.meant(line)) in done:
            continue
        done.add(words)
        result = machine.segviz(*words)
        if result.exit_code != 0 or "Traceback" in result.output:
            failed.append(f"{line}\nsegviz {' '.join(words)}\n{result.exit_code}: {result.output}")
    assert len(done) >= 5
    assert not failed, "\n\n".join(failed)
