"""The phantom federation looks like the real one: same layouts, same places, other scanners."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from builders.volumes import WINDOWED
from segviz_exchange.contract.choices import OnBadCase
from segviz_exchange.contract.site_spec import DataSet
from segviz_exchange.process.errors import Refusal
from segviz_trainer.cli.data import data
from segviz_trainer.data.cache import Prepared, prepare
from segviz_trainer.data.headers import check_header
from segviz_trainer.data.layouts import find_cases
from segviz_trainer.phantom import generate as phantom
from segviz_trainer.phantom.generate import PHANTOM_SETS, generate

ORGANS = ("kidneys", "liver", "pancreas", "spleen")
COARSE = (16, 16, 12)
"""Where organs need not be recognised."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    generate(folder, seed=0, cases=3, external_cases=2)
    return folder


@pytest.fixture(scope="module")
def prepared(folder: Path) -> dict[str, Prepared]:
    return {
        s.name: prepare(
            find_cases(folder, DataSet(s.name, s.name, s.layout, dict(s.labels), ()), "spec.dataSets[0]"),
            WINDOWED, ORGANS, 64, folder / "cache", OnBadCase.REFUSE, lambda *_: None,
        )
        for s in PHANTOM_SETS
    }  # fmt: skip


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and "cache" not in file.parts
    }


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(tmp_path: Path) -> None:
    made = {}
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        generate(tmp_path / name, seed, cases=2, external_cases=1, size=COARSE)
        made[name] = digests(tmp_path / name)
    assert made["again"] == made["first"]
    volumes = [name for name in made["first"] if name.endswith(".gz")]
    assert not any(made["other"][name] == made["first"][name] for name in volumes)


def test_more_cases_do_not_change_the_first_ones(tmp_path: Path) -> None:
    generate(tmp_path / "few", seed=0, cases=1, external_cases=1, size=COARSE)
    generate(tmp_path / "many", seed=0, cases=2, external_cases=2, size=COARSE)
    few, many = digests(tmp_path / "few"), digests(tmp_path / "many")
    assert [name for name in few if name.endswith(".gz") and few[name] != many[name]] == []


def test_every_set_reads_as_its_layout_says(prepared: dict[str, Prepared]) -> None:
    assert {name: len(p.cases) for name, p in prepared.items()} == {
        "liver": 3, "spleen": 3, "pancreas": 3, "kidneys": 3, "external": 2,
    }  # fmt: skip


def test_a_training_site_annotates_its_own_organ_alone(prepared: dict[str, Prepared]) -> None:
    for name in ORGANS:
        for case in prepared[name].cases:
            assert set(np.unique(case.native_label())) == {0, 1 + ORGANS.index(name)}
    for case in prepared["external"].cases:
        assert set(np.unique(case.native_label())) == {0, 1, 2, 3, 4}


def centre(prepared: dict[str, Prepared], organ: str) -> np.ndarray:
    """Mean position in mm from the middle of the external images, along right, anterior, superior."""
    centres = []
    for case in prepared["external"].cases:
        label = case.mapped_label()[0]
        voxels = np.argwhere(label == 1 + ORGANS.index(organ)) - (np.array(label.shape) - 1) / 2
        centres.append(voxels.mean(axis=0) * case.grid.spacing)
    return np.mean(centres, axis=0)


def test_organs_lie_where_anatomy_puts_them(prepared: dict[str, Prepared]) -> None:
    assert centre(prepared, "liver")[0] > 30  # right
    assert centre(prepared, "spleen")[0] < -60  # left
    assert centre(prepared, "spleen")[1] < -15  # posterior
    assert abs(centre(prepared, "pancreas")[0]) < 30  # central
    assert abs(centre(prepared, "kidneys")[0]) < 25  # both sides
    assert centre(prepared, "kidneys")[1] < -30  # posterior
    assert centre(prepared, "kidneys")[2] < centre(prepared, "liver")[2]  # below the liver


def test_tissue_has_plausible_hounsfield_units(prepared: dict[str, Prepared]) -> None:
    low, high = WINDOWED.intensity.window or (0.0, 0.0)
    for name in ORGANS:
        for case in prepared[name].cases:
            hu = case.mapped_image()[case.mapped_label() > 0] * (high - low) + low
            assert 30 < np.median(hu) < 230
            assert np.median(case.mapped_image()[0, 0]) == 0  # air at the right edge


def test_scanners_differ_in_spacing_and_stored_axes(folder: Path) -> None:
    first = [next((folder / s.name).rglob("*00*.nii.gz"), None) for s in PHANTOM_SETS]
    kidneys = folder / "kidneys/case_00000/imaging.nii.gz"
    headers = [check_header(path, 64) for path in [*filter(None, first), kidneys]]
    assert len({header.spacing for header in headers}) >= 4
    assert len({header.orientation for header in headers}) >= 3


def test_a_finer_phantom_covers_the_same_field(tmp_path: Path) -> None:
    generate(tmp_path, seed=0, cases=1, external_cases=1, size=(72, 80, 48))
    header = check_header(tmp_path / "liver/imagesTr/liver_000.nii.gz", 64)
    assert header.shape == (72, 80, 48)
    assert header.spacing == pytest.approx((344 / 72, 336 / 80, 224 / 48))


def test_the_command_writes_and_says_where(tmp_path: Path) -> None:
    target = tmp_path / "demo"
    result = CliRunner().invoke(data, ["phantom", str(target), "--cases", "3", "--external-cases", "1"])
    assert result.exit_code == 0, result.output
    assert "to " + str(target) in result.output.replace("\n", "")
    assert len(list((target / "kidneys").iterdir())) == 3


def test_the_command_never_writes_into_a_used_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    result = CliRunner().invoke(data, ["phantom", str(tmp_path)])
    assert isinstance(result.exception, Refusal)
    assert "not empty" in str(result.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_interrupted_command_leaves_nothing_that_looks_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(folder: Path, *args: object, **options: object) -> None:
        (folder / "liver").mkdir(parents=True)
        raise KeyboardInterrupt

    target = tmp_path / "demo"
    words = ["phantom", str(target), "--cases", "3", "--external-cases", "1"]
    with monkeypatch.context() as patched:
        patched.setattr(phantom, "generate", interrupted)
        assert CliRunner().invoke(data, words).exit_code == 1
    assert list(tmp_path.iterdir()) == []
    assert CliRunner().invoke(data, words).exit_code == 0


def test_what_a_killed_command_left_is_in_nobodys_way(tmp_path: Path) -> None:
    killed = tmp_path / ".demo.segviz-partial/liver"
    killed.mkdir(parents=True)
    (killed / "half").touch()
    words = ["phantom", str(tmp_path / "demo"), "--cases", "3", "--external-cases", "1"]
    assert CliRunner().invoke(data, words).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
    assert not (tmp_path / "demo/liver/half").exists()


def test_an_empty_folder_is_filled_and_stays_the_same_one(tmp_path: Path) -> None:
    before = tmp_path.stat().st_ino
    words = ["phantom", str(tmp_path), "--cases", "3", "--external-cases", "1"]
    assert CliRunner().invoke(data, words).exit_code == 0
    assert (tmp_path.stat().st_ino, len(list(tmp_path.iterdir()))) == (before, 5)


def test_help_shows_an_example() -> None:
    assert (
        "segviz data phantom ./phantom --cases 20" in CliRunner().invoke(data, ["phantom", "--help"]).output
    )
