"""Mistakes on the command line of `segviz predict`, `evaluate` and `data check`: told at once, by name."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from builders.volumes import liver_label, ramp, write_volume
from segviz_exchange.contract.site_spec import CaseRange
from segviz_exchange.process.errors import Refusal
from segviz_trainer.cli.data import data
from segviz_trainer.cli.model import evaluate, predict
from segviz_trainer.cli.options import case_range, organ_ids

SHAPE = (20, 18, 16)


def kits19(folder: Path) -> Path:
    """As published: the last case has no label."""
    for name in ("case_00000", "case_00001", "case_00210"):
        write_volume(folder / name / "imaging.nii.gz", ramp(SHAPE))
        if name != "case_00210":
            write_volume(folder / name / "segmentation.nii.gz", liver_label(SHAPE))
    return folder


def refused(command: object, *arguments: object) -> str:
    done = CliRunner().invoke(command, [str(each) for each in arguments])  # type: ignore[arg-type]
    assert isinstance(done.exception, Refusal), done.output
    return str(done.exception)


# --- organs and tolerances ------------------------------------------------------------------------------


def test_the_ids_of_an_organ_named_twice_add_up() -> None:
    assert organ_ids(["liver=1", "spleen=4", "liver=2,3"]) == {"liver": (1, 2, 3), "spleen": (4,)}


TOLERANCES = {
    "liver=abc": "--tolerance liver=abc: 'abc' is not a length between 0 and 1000 mm",
    "liver=nan": "'nan' is not a length",
    "liver=-1": "'-1' is not a length",
    "lever=5": "--tolerance lever=5: no --organ is named 'lever', only liver",
    "liver": "--tolerance liver: write it as NAME=NUMBER",
}


@pytest.mark.parametrize(("text", "told"), TOLERANCES.items(), ids=TOLERANCES)
def test_a_tolerance_that_is_none_is_told_before_the_model_is_opened(
    text: str, told: str, tmp_path: Path
) -> None:
    kits19(tmp_path / "set")
    message = refused(
        evaluate, tmp_path / "no-model", tmp_path / "set", "--organ", "liver=1", "--tolerance", text
    )
    assert told in message


def test_two_tolerances_of_one_organ_are_refused(tmp_path: Path) -> None:
    twice = ["--tolerance", "liver=3", "--tolerance", "liver=5"]
    message = refused(evaluate, tmp_path / "no-model", kits19(tmp_path / "set"), "--organ", "liver=1", *twice)
    assert "--tolerance liver=5: liver already has a tolerance" in message


# --- files to write -------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--csv", "--json"])
def test_a_missing_folder_for_the_scores_is_told_before_the_model_is_opened(
    option: str, tmp_path: Path
) -> None:
    kits19(tmp_path / "set")
    file = tmp_path / "none/scores"
    message = refused(evaluate, tmp_path / "no-model", tmp_path / "set", "--organ", "liver=1", option, file)
    assert message == f"{option} {file}: the folder {file.parent} does not exist. Create it first."


def test_a_missing_folder_for_the_sheet_is_told_before_any_case_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    message = refused(data, "check", folder, "--sheet", tmp_path / "none/sheet.html")
    assert f"the folder {tmp_path / 'none'} does not exist" in message


# --- a range of cases -----------------------------------------------------------------------------------


def test_a_range_is_written_as_python_writes_a_slice() -> None:
    assert case_range("0:210") == CaseRange(0, 210)
    assert case_range(":-3") == CaseRange(None, -3)
    assert case_range("5:") == CaseRange(5, None)


@pytest.mark.parametrize("text", ["210", "a:b", "1:2:3", ":"])
def test_a_range_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Refusal, match=r"--cases .*write it as START:STOP"):
        case_range(text)


def test_a_set_that_is_labelled_in_part_is_checked_by_its_range(tmp_path: Path) -> None:
    folder = kits19(tmp_path / "set")
    done = CliRunner().invoke(data, ["check", str(folder), "--cases", ":2"])
    assert done.exit_code == 0, done.output
    assert "2 cases, layout KiTS19; 0 unusable" in done.output


def test_without_a_range_it_is_refused_with_the_option_that_helps(tmp_path: Path) -> None:
    message = refused(data, "check", kits19(tmp_path / "set"))
    assert "case_00210/segmentation.nii.gz: case 'case_00210' has no such file" in message
    assert "--cases" in message


def test_a_folder_without_a_layout_has_no_range(tmp_path: Path) -> None:
    write_volume(tmp_path / "ct.nii.gz", ramp(SHAPE))
    assert "--cases :2" in refused(data, "check", tmp_path, "--cases", ":2")


# --- formats of predictions -----------------------------------------------------------------------------


def test_an_image_without_a_patient_has_no_dicom_result(tmp_path: Path) -> None:
    write_volume(tmp_path / "ct.nii.gz", ramp(SHAPE))
    said = refused(
        predict, "no-model", tmp_path / "ct.nii.gz", "-o", tmp_path / "out", "--format", "nifti,rtstruct"
    )
    assert said.startswith(f"{tmp_path / 'ct.nii.gz'}: is not a folder with a DICOM series")
    assert said.endswith("Name such a folder, or write --format nifti.")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["dicom", "nifti,", "nifti, rtstruct", ""])
def test_a_format_that_there_is_not_is_told_before_the_model_is_opened(text: str, tmp_path: Path) -> None:
    said = refused(predict, "no-model", tmp_path, "-o", tmp_path / "out", "--format", text)
    assert "is not one of nifti, dicom-seg, rtstruct" in said


def test_probability_maps_need_nifti(tmp_path: Path) -> None:
    wanted = ("--format", "dicom-seg", "--probabilities")
    said = refused(predict, "no-model", tmp_path, "-o", tmp_path / "out", *wanted)
    assert said == "--format dicom-seg: probability maps are NIfTI files. Add nifti to it."
