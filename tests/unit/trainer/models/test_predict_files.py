"""The files of `segviz predict`: what is there keeps its meaning; what cannot be written leaves nothing."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from segviz_exchange.process.errors import Refusal
from segviz_trainer.data.grids import Grid
from segviz_trainer.models.result_files import (
    Format,
    check_files,
    make_folder,
    plan_files,
    save,
    write_legend,
)


def legend(*organs: str) -> str:
    return json.dumps({"background": 0} | {organ: i for i, organ in enumerate(organs, 1)}, indent=2) + "\n"


ORGANS = {"liver": 1, "spleen": 2}
TWO, FOUR = legend("liver", "spleen"), legend("kidneys", "liver", "pancreas", "spleen")

# --- an earlier result's meaning --------------------------------------------------------------------------

OTHERS = {
    "four organs": FOUR,
    "one organ": legend("liver"),
    "another order": legend("spleen", "liver"),
    "other organs": legend("kidneys", "pancreas"),
    "the same organs by other numbers": '{"background": 0, "liver": 2, "spleen": 1}',
    "another background": '{"background": 3, "liver": 1, "spleen": 2}',
    "an organ more": legend("liver", "spleen", "kidneys"),
    "nothing": "",
    "no JSON": "liver = 1",
    "a list": '["background", "liver", "spleen"]',
    "numbers as text": '{"background": "0", "liver": "1", "spleen": "2"}',
}


@pytest.mark.parametrize("before", OTHERS.values(), ids=OTHERS)
def test_a_legend_that_says_otherwise_is_never_replaced(before: str, tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(before, encoding="utf-8")
    (tmp_path / "ct.nii.gz").touch()
    with pytest.raises(Refusal, match=r"labels\.json: gives label maps of an earlier prediction other numb"):
        write_legend(tmp_path, ORGANS)
    assert (tmp_path / "labels.json").read_text(encoding="utf-8") == before


SAME = {
    "the same text": TWO,
    "the same in one line": '{"background": 0, "liver": 1, "spleen": 2}',
    "the same in another order": '{"spleen": 2, "liver": 1, "background": 0}',
}


@pytest.mark.parametrize("before", SAME.values(), ids=SAME)
def test_a_legend_that_says_the_same_stays(before: str, tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(before, encoding="utf-8")
    (tmp_path / "ct.nii.gz").touch()
    write_legend(tmp_path, ORGANS)
    assert (tmp_path / "labels.json").read_text(encoding="utf-8") == before


def test_label_maps_without_a_legend_get_none(tmp_path: Path) -> None:
    (tmp_path / "ct.nii.gz").touch()
    with pytest.raises(Refusal, match=r"holds \.nii\.gz files without a labels\.json"):
        write_legend(tmp_path, ORGANS)
    assert not (tmp_path / "labels.json").exists()


def test_a_folder_of_other_files_gets_its_legend(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    write_legend(tmp_path, ORGANS)
    assert (tmp_path / "labels.json").read_text(encoding="utf-8") == TWO


# --- what cannot be written -------------------------------------------------------------------------------


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a full disk: the system itself refuses to write on."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


GRID = Grid.of((32, 32, 32), np.eye(4))
NOISE = np.random.default_rng(0).integers(0, 255, GRID.shape, dtype=np.uint8)


@pytest.mark.parametrize("size", [0, 100, 4096])
def test_a_disk_that_is_full_leaves_no_part_of_a_file(size: int, tmp_path: Path) -> None:
    with (
        files_of_at_most(size),
        pytest.raises(Refusal, match=r"ct\.nii\.gz: cannot be written \(File too large\)\. Make room"),
    ):
        save(tmp_path / "ct.nii.gz", NOISE, GRID)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_leaves_the_earlier_result(tmp_path: Path) -> None:
    save(tmp_path / "ct.nii.gz", NOISE, GRID)
    before = (tmp_path / "ct.nii.gz").read_bytes()
    with files_of_at_most(100), pytest.raises(Refusal):
        save(tmp_path / "ct.nii.gz", NOISE, GRID)
    assert [path.name for path in tmp_path.iterdir()] == ["ct.nii.gz"]
    assert (tmp_path / "ct.nii.gz").read_bytes() == before


def test_a_folder_in_the_place_of_a_result_is_told(tmp_path: Path) -> None:
    (tmp_path / "ct.nii.gz/inner").mkdir(parents=True)
    with pytest.raises(Refusal, match=r"ct\.nii\.gz: cannot be written"):
        save(tmp_path / "ct.nii.gz", NOISE, GRID)
    assert [path.name for path in tmp_path.iterdir()] == ["ct.nii.gz"]


@pytest.mark.parametrize("output", ["file", "file/below", "dangling", "loop"])
def test_an_output_that_is_no_folder_is_told(output: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "none/of/it")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(Refusal, match=rf"{output}: cannot be written \(.+\)\. Name another folder"):
        make_folder(tmp_path / output)


# A file's name has at most 255 bytes; ".partial-" and ".nii.gz" take 16 of them.
NAMES = {
    "as long as can be": ("a" * 239, (), True),
    "a letter too long": ("a" * 240, (), False),
    "as long as an image's can be": ("a" * 246, (), False),
    "letters of two bytes": ("ü" * 119, (), True),
    "a letter of two bytes too long": ("ü" * 120, (), False),
    "letters of three bytes": ("肝" * 80, (), False),
    "room for an organ": ("a" * 233, ("liver",), True),
    "no room for an organ": ("a" * 234, ("liver",), False),
    "no room for the longer organ": ("a" * 232, ("liver", "pancreas"), False),
}


@pytest.mark.parametrize(("name", "organs", "fits"), NAMES.values(), ids=NAMES)
def test_a_name_without_room_for_a_result_is_told_before_a_model_runs(
    name: str, organs: tuple[str, ...], fits: bool, tmp_path: Path
) -> None:
    planned = [plan_files(Path(f"{name}.nii.gz"), tmp_path, organs, [Format.NIFTI])]
    if not fits:
        with pytest.raises(Refusal, match="its name is too long to name a result after it"):
            check_files(planned)
        return
    check_files(planned)
    for file in (*planned[0].results.values(), *planned[0].probabilities.values()):
        save(file, NOISE, GRID)


STEMS = {
    "CT.nii": "CT", "CT.nii.gz": "CT", "CT": "CT", "CT.hdr": "CT.hdr", "CT.img": "CT.img",
    "CT.1": "CT.1", "CT.nii.nii.gz": "CT.nii", "CT.gz": "CT",
}  # fmt: skip


@pytest.mark.parametrize(("name", "stem"), STEMS.items(), ids=STEMS)
def test_a_result_is_called_after_its_image_or_folder(name: str, stem: str, tmp_path: Path) -> None:
    planned = plan_files(tmp_path / name, tmp_path / "out", (), [Format.NIFTI])
    assert planned.results[Format.NIFTI] == tmp_path / "out" / f"{stem}.nii.gz"
