"""A finished run's model and report, fetched by the real command from its working folder."""

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from builders.rig import Rig, small_federation
from segviz_exchange.contract import keys
from segviz_exchange.contract.records import Exported
from segviz_exchange.contract.run import RunHere, SiteHere
from segviz_exchange.contract.spec import FineTuning
from segviz_exchange.stores.folder import FolderStore
from segviz_operator.local.identity import Identity
from segviz_operator.local.workdir import WorkDir
from segviz_trainer.models.trained import TrainedModel

PROGRAM = Path(sys.executable).with_name("segviz")
PREFIX = keys.federation_prefix("default", "cubes", "1f2e3d4c")
SITES = {"basel": ("liver",), "bern": ("spleen",)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working folder of a run of two sites and one round, each with ten cases of its own."""
    folder = tmp_path_factory.mktemp("run")
    rig = Rig(folder, small_federation(rounds=1, local_epochs=1, fine_tuning=FineTuning(1, 1e-3)), SITES)
    rig.store = FolderStore(folder / "bucket").scoped(PREFIX)
    rig.control()
    rig.run()
    rig.export()
    shutil.rmtree(folder / "models")
    workdir = WorkDir(folder)
    workdir.remember(Identity("default", "cubes", "1f2e3d4c", str(workdir.bucket), (), {}))
    sites = {
        alias: SiteHere(rig.site_spec(alias), str(folder / "data" / alias), f"state/{alias}")
        for alias in SITES
    }
    index = RunHere("default/cubes", "bucket", PREFIX, sites)
    workdir.run_index.write_bytes(msgspec.json.encode(index))
    return folder


def fetch(workdir: Path, output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    words = (PROGRAM, "fetch", workdir, "-o", output, *options)
    return subprocess.run(list(map(str, words)), capture_output=True, encoding="utf-8", timeout=800)


class Page(HTMLParser):
    """Fails on what a browser would have to mend, and notes what it would ask for."""

    VOID = ("meta", "img", "br", "input")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.targets: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.targets += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.targets += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def said(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.mark.timeout(900)  # on a machine that is busy
def test_the_model_comes_home_with_its_report(finished: Path, tmp_path: Path) -> None:
    done = fetch(finished, tmp_path / "home")
    assert done.returncode == 0, done.stdout + done.stderr

    (record,) = (finished / "bucket" / PREFIX / "export").glob("tuned.json")
    exported = msgspec.json.decode(record.read_bytes(), type=Exported)
    assert TrainedModel.open(tmp_path / "home/tuned").exported == exported
    metadata = json.loads((tmp_path / "home/base/configs/metadata.json").read_text(encoding="utf-8"))
    assert metadata["name"] == "SegViz liver, spleen"
    assert (tmp_path / "home/base/models/model.ts").is_file()

    html = (tmp_path / "home/report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert "http" not in html.replace("http-equiv", "")
    assert all(target.startswith(("#", "data:image/png;base64,")) for target in page.targets)
    assert html.count('<figure class="viewer"') == 2 * 2, "of each organ the worst and the median case"
    assert "worst case of In-federation, FedBN" in page.said
    assert exported.blob in page.said
    assert f"{tmp_path / 'home/tuned'}, sha256 {exported.blob}, as recorded" in done.stdout


@pytest.mark.timeout(900)
def test_a_page_to_be_sent_on_has_neither_slices_nor_the_names_of_cases(
    finished: Path, tmp_path: Path
) -> None:
    """As a cluster's: the bucket alone is read."""
    done = fetch(finished, tmp_path / "home", "--without-images")
    assert done.returncode == 0, done.stdout + done.stderr
    html = (tmp_path / "home/report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert "data:image" not in html
    assert "Without slices of images." in page.said
    assert not re.search(r"image\d\d|cubes/", page.said.replace("default/cubes", ""))
    outcome = (finished / "bucket" / PREFIX / "sites/basel/outcome.json").read_text(encoding="utf-8")
    for case in json.loads(outcome)["variants"]["base"]["cases"]:
        assert case["case"] in page.said


@pytest.mark.timeout(900)
def test_a_tampered_model_is_refused_with_a_sentence(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(finished, copy, symlinks=True)
    record = json.loads((copy / "bucket" / PREFIX / "export/base.json").read_text(encoding="utf-8"))
    blob = copy / "bucket" / PREFIX / "export/blobs" / record["blob"]
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(data)

    done = fetch(copy, tmp_path / "home")
    assert done.returncode != 0
    assert "the base model in the store is not the one that its record export/base.json names" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "home/base").exists()


@pytest.mark.timeout(900)
def test_a_folder_of_somebody_else_stays(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base/thesis.tex").touch()
    done = fetch(finished, tmp_path)
    assert done.returncode != 0
    assert f"{tmp_path / 'base'}: is no model of SegViz" in done.stderr
    assert (tmp_path / "base/thesis.tex").exists()


def test_a_study_is_told_from_a_run(tmp_path: Path) -> None:
    (tmp_path / "study.json").touch()
    done = fetch(tmp_path, tmp_path / "home")
    assert (done.returncode, "is a study. Name the folder of one of its rows" in done.stderr) == (2, True)
