"""What `segviz data check` says of a data set."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from builders.volumes import liver_label, ramp, write_volume
from segviz_trainer.cli.data import data

ODD = Path(__file__).resolve().parents[4] / "../shared/data/odd-inputs"


def btcv(folder: Path) -> Path:
    ct = ramp((20, 18, 16))
    label = liver_label((20, 18, 16))
    write_volume(folder / "img/img0001.nii.gz", ct)
    write_volume(folder / "label/label0001.nii.gz", label)
    write_volume(folder / "img/img0002.nii.gz", ct, np.eye(4))
    write_volume(folder / "label/label0002.nii.gz", label * 2, np.eye(4))
    write_volume(folder / "img/img0003.nii.gz", ct)
    write_volume(folder / "label/label0003.nii.gz", label[:-1])
    return folder


def test_good_odd_and_unusable_cases_are_told_apart(tmp_path: Path) -> None:
    folder, page = btcv(tmp_path / "set"), tmp_path / "sheet.html"
    done = CliRunner().invoke(
        data, ["check", str(folder), "--organ", "liver=1", "--organ", "spleen=2", "--sheet", str(page)]
    )
    assert done.exit_code == 2
    assert "3 cases, layout BTCV; 1 unusable" in done.output
    assert "label ids (cases): 1 (1), 2 (1)" in done.output
    assert "0002: spacing is exactly 1x1x1 mm" in done.output
    assert "0002: no voxel of liver" in done.output
    assert "label0003.nii.gz: has the shape (19, 18, 16)" in done.output
    html = page.read_text(encoding="utf-8")
    assert html.count("data:image/png;base64,") == 2
    assert "http" not in html


def test_a_sound_data_set_exits_with_zero(tmp_path: Path) -> None:
    folder = btcv(tmp_path / "set")
    for number in ("0002", "0003"):
        (folder / f"img/img{number}.nii.gz").unlink()
    done = CliRunner().invoke(data, ["check", str(folder)])
    assert (done.exit_code, "0 unusable" in done.output) == (0, True)


def test_odd_files_each_get_a_line_that_names_them() -> None:
    if not ODD.exists():
        pytest.skip(f"{ODD} is missing")
    done = CliRunner().invoke(data, ["check", str(ODD)])
    assert done.exit_code == 2
    assert done.exception is None or isinstance(done.exception, SystemExit)
    for file in ODD.iterdir():
        assert file.name in done.output


def test_a_folder_with_nothing_in_it_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(data, ["check", str(tmp_path)])
    assert "contains no NIfTI file" in str(done.exception)


def test_a_folder_of_data_sets_is_told_which_one_to_name(tmp_path: Path) -> None:
    for name in ("kidneys/case_00000", "liver"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "kidneys/case_00000/imaging.nii.gz").touch()
    (tmp_path / "liver/dataset.json").touch()
    done = CliRunner().invoke(data, ["check", str(tmp_path)])
    assert str(done.exception).endswith(f"Name the folder that holds the data, such as {tmp_path}/kidneys.")
