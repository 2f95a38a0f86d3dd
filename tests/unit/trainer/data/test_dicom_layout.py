"""The layout DICOM: what is a case, and that it is prepared as the same case in NIfTI is."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from builders.clinic import write_study
from builders.drawings import loops_of, write_contours
from builders.volumes import WINDOWED, data_set, ramp, write_case
from segviz_exchange.contract.choices import Layout, Spacing
from segviz_trainer.cli.data import data
from segviz_trainer.cli.model import evaluate
from segviz_trainer.data.cache import prepare_case
from segviz_trainer.data.guess import guess_layout
from segviz_trainer.data.layouts import find_cases
from segviz_trainer.data.left_out import left_out
from segviz_trainer.process.errors import BadCase, BadDataSet

SHAPE = (20, 18, 16)
LIVER = {"liver": ("Liver",)}
LAS = np.array([[-2.0, 0, 0, 19.5], [0, 2.0, 0, -7], [0, 0, 3.0, 4], [0, 0, 0, 1]])


@pytest.fixture
def nifti(tmp_path: Path):
    label = np.zeros(SHAPE, np.uint8)
    label[2:9, 3:7, 1:9] = 1
    label[4:6, 4:6, 2:5] = 9
    return write_case(tmp_path / "nifti", ramp(SHAPE), label, LAS)


@pytest.fixture
def root(tmp_path: Path, nifti) -> Path:
    """A volume with a set of two studies."""
    for name in ("a", "b"):
        write_study(tmp_path / "root/set" / name, nifti.image, nifti.label, {"Liver": (1,), "Tumour": (9,)})
    return tmp_path / "root"


def cases(root: Path, structures=LIVER, **fields):
    return find_cases(
        root, data_set(Layout.DICOM, organs={}, structures=structures, **fields), "spec.dataSets[0]"
    )


def test_each_folder_is_a_case_however_deep_its_files_lie(root):
    (root / "set/.hidden").mkdir()
    (root / "set/beside.dcm").write_bytes(b"x")
    assert [case.id for case in cases(root)] == ["a", "b"]
    assert len(cases(root)[0].files()) == SHAPE[2] + 1
    assert left_out(root, data_set(Layout.DICOM, organs={}, structures=LIVER)) == (
        "left out: 1 file, in no folder of a case: beside.dcm",
        "left out: 1 folder, hidden: .hidden",
    )
    assert guess_layout(root / "set") is Layout.DICOM


def test_a_file_that_leads_out_of_the_volume_is_refused(root, tmp_path):
    (tmp_path / "secret.dcm").write_bytes(b"x")
    (root / "set/a/link.dcm").symlink_to(tmp_path / "secret.dcm")
    with pytest.raises(BadDataSet, match="leads out of the volume"):
        cases(root)


def test_a_case_is_prepared_as_in_nifti(root, nifti, tmp_path):
    one = prepare_case(nifti, WINDOWED, ("liver",), 64, tmp_path / "cache")
    other = prepare_case(cases(root)[0], WINDOWED, ("liver",), 64, tmp_path / "cache")
    assert (one.mapped_image() == other.mapped_image()).all()
    assert (one.mapped_label() == other.mapped_label()).all()
    assert one.grid == other.grid
    assert other.organs == {"liver"}
    assert other.annotated == {0}
    assert (
        other.warnings
        == (
            "left out: structures that no organ asks for: 1 (Tumour)",
            "Liver: lies in 2 parts with slices between them",
        )[:1]
    )


def test_classes_follow_the_sites_organs_and_not_the_order_of_structures(root, tmp_path):
    (case, _) = cases(root, {"tumour": ("Tumour",), "liver": ("Liver",)})
    prepared = prepare_case(case, WINDOWED, ("liver", "tumour"), 64, tmp_path / "cache")
    label = prepared.native_label()
    assert (label == 1).sum() == 7 * 4 * 8 - 12
    assert (label == 2).sum() == 12


def test_a_changed_contour_or_another_name_is_another_case(root, nifti, tmp_path):
    case = cases(root)[0]
    places = {prepare_case(case, WINDOWED, ("liver",), 64, tmp_path).folder}
    places.add(
        prepare_case(cases(root, {"liver": ("Tumour",)})[0], WINDOWED, ("liver",), 64, tmp_path).folder
    )
    series = root / "set/a/study/ct"
    mask = np.ones(SHAPE, bool)
    write_contours(root / "set/a/study/rt/structures.dcm", series, {"Liver": loops_of(mask, series)})
    places.add(prepare_case(case, WINDOWED, ("liver",), 64, tmp_path).folder)
    assert len(places) == 3


def test_what_is_wrong_within_names_the_folder(root, tmp_path):
    coarse = replace(WINDOWED, spacing=Spacing.RESAMPLED, spacing_millimetres=(900.0, 900.0, 900.0))
    with pytest.raises(BadCase, match=r"set/a: "):
        prepare_case(cases(root)[0], coarse, ("liver",), 64, tmp_path)


# --- commands -------------------------------------------------------------------------------------------


def check(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(data, ["check", *map(str, arguments)])
    return done.exit_code, done.output + str(done.exception or "")


def test_data_check_lists_the_structures_of_all_cases(root):
    code, said = check(root / "set")
    assert code == 0, said
    assert "2 cases, layout DICOM; 0 unusable" in said
    assert "structures (cases): Liver (2), Tumour (2)" in said


def test_data_check_reads_them_as_the_manifest_would(root):
    code, said = check(root / "set", "--structure", "liver=liv*", "--structure", "liver=tumour")
    assert code == 0, said
    assert "structures (cases): liver (2)" in said
    assert "a: liver is united from Liver, Tumour" in said
    code, said = check(root / "set", "--structure", "spleen=Spleen")
    assert code == 2
    assert "2 unusable" in said
    assert "set/a: has no structure for spleen (Spleen); it has Liver, Tumour" in said


def test_a_structure_that_cannot_be_used_is_a_remark_as_long_as_nobody_asks_for_it(root):
    series = root / "set/a/study/ct"
    drawn = {"Isocentre": [np.array([[0.0, 0, 0]])], "Liver": loops_of(np.ones(SHAPE, bool), series)}
    write_contours(root / "set/a/study/rt/structures.dcm", series, drawn)
    code, said = check(root / "set")
    assert code == 0, said
    assert "a: Isocentre cannot be used: draws Isocentre by 1 contours of fewer than three points" in said


def test_label_ids_and_structures_are_not_mixed_up(root, tmp_path):
    assert "DICOM has no label ids" in check(root / "set", "--organ", "liver=1")[1]
    done = CliRunner().invoke(evaluate, [str(tmp_path), str(root / "set")])
    assert "--organ is missing" in str(done.exception)
    done = CliRunner().invoke(evaluate, [str(tmp_path), str(root / "set"), "--organ", "liver=1"])
    assert "DICOM has no label ids" in str(done.exception)
