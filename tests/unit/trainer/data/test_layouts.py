"""Cases are found where each public layout keeps them, and nowhere outside the volume."""

import errno
import json
import os
from pathlib import Path

import pytest

from builders.volumes import data_set
from segviz_exchange.contract.choices import Layout
from segviz_exchange.contract.site_spec import CaseRange
from segviz_exchange.process.errors import Refusal
from segviz_trainer.data.guess import guess_layout
from segviz_trainer.data.layouts import find_cases
from segviz_trainer.process.errors import BadDataSet

FIELD = "spec.dataSets[0]"


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def msd(root: Path, *names: str, modality: dict[str, str] | None = None) -> Path:
    folder = root / "set"
    pairs = [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in names]
    for pair in pairs:
        touch(folder / pair["image"], folder / pair["label"])
    folder.mkdir(exist_ok=True)
    listing = {"training": pairs, "modality": modality or {"0": "CT"}, "name": "Liver", "test": []}
    (folder / "dataset.json").write_text(json.dumps(listing), encoding="utf-8")
    return folder


def found(root: Path, layout: Layout, **fields: object) -> list[str]:
    return [case.id for case in find_cases(root, data_set(layout, **fields), FIELD)]


def refusal(root: Path, layout: Layout, **fields: object) -> str:
    with pytest.raises(BadDataSet) as caught:
        find_cases(root, data_set(layout, **fields), FIELD)
    assert str(caught.value).startswith(FIELD)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_msd_cases_are_those_of_its_listing_sorted(tmp_path: Path) -> None:
    folder = msd(tmp_path, "liver_2", "liver_1")
    touch(folder / "imagesTr/._liver_1.nii.gz")
    cases = find_cases(tmp_path, data_set(Layout.MSD, background=(2,)), FIELD)
    assert [case.id for case in cases] == ["liver_1", "liver_2"]
    assert cases[0].image == folder / "imagesTr/liver_1.nii.gz"
    assert cases[0].label == folder / "labelsTr/liver_1.nii.gz"
    assert (cases[0].data_set, cases[0].organs, cases[0].background) == ("clinic", {"liver": (1,)}, (2,))


def test_kits19_cases_are_its_folders(tmp_path: Path) -> None:
    for name in ("case_00001", "case_00000"):
        touch(tmp_path / "set" / name / "imaging.nii.gz", tmp_path / "set" / name / "segmentation.nii.gz")
    touch(tmp_path / "set/kits.json")
    assert found(tmp_path, Layout.KITS19) == ["case_00000", "case_00001"]


def test_btcv_pairs_images_with_labels_by_number(tmp_path: Path) -> None:
    touch(tmp_path / "set/img/img0002.nii.gz", tmp_path / "set/label/label0002.nii.gz")
    (case,) = find_cases(tmp_path, data_set(Layout.BTCV), FIELD)
    assert (case.id, case.label.name) == ("0002", "label0002.nii.gz")


def test_a_list_names_its_files(tmp_path: Path) -> None:
    touch(
        tmp_path / "set/a/ct.nii",
        tmp_path / "set/a/seg.nii",
        tmp_path / "set/b/ct.nii",
        tmp_path / "set/b/seg.nii",
    )
    (tmp_path / "set/cases.csv").write_text(
        "image,label\nb/ct.nii,b/seg.nii\na/ct.nii,a/seg.nii\n", encoding="utf-8"
    )
    assert found(tmp_path, Layout.LIST) == ["a/ct", "b/ct"]


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        (CaseRange(start=1, stop=3), ["c1", "c2"]),
        (CaseRange(stop=-1), ["c0", "c1", "c2"]),
        (CaseRange(start=3), ["c3"]),
        (CaseRange(start=0, stop=2, rotate_by=3), ["c3", "c0"]),
        (CaseRange(start=-1, rotate_by=9), ["c0"]),
    ],
)
def test_a_range_cuts_the_sorted_ids_as_a_slice(cut: CaseRange, expected: list[str], tmp_path: Path) -> None:
    msd(tmp_path, "c3", "c1", "c0", "c2")
    assert found(tmp_path, Layout.MSD, cases=cut) == expected


def test_cases_outside_the_range_need_no_label(tmp_path: Path) -> None:
    touch(tmp_path / "set/case_00000/imaging.nii.gz", tmp_path / "set/case_00000/segmentation.nii.gz")
    touch(tmp_path / "set/case_00210/imaging.nii.gz")
    assert found(tmp_path, Layout.KITS19, cases=CaseRange(stop=1)) == ["case_00000"]
    assert "case_00210/segmentation.nii.gz: case 'case_00210' has no such file" in refusal(
        tmp_path, Layout.KITS19
    )


def test_a_missing_folder_is_named_with_its_field(tmp_path: Path) -> None:
    assert refusal(tmp_path, Layout.MSD).startswith(f"{FIELD}.path: {tmp_path / 'set'}: is not a folder")


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = msd(tmp_path, "a")

    def closed(path: Path) -> bool:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "is_file", closed)
    monkeypatch.setattr(Path, "is_dir", closed)
    assert refusal(tmp_path, Layout.MSD) == (
        f"{FIELD}.path: {folder}: cannot be read (Permission denied). Give this user the right to read "
        "it, or check the volume."
    )
    with pytest.raises(Refusal, match=r"dataset\.json: cannot be read \(Permission denied\)"):
        guess_layout(folder)


def test_a_folder_without_cases_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    assert "has no case" in refusal(tmp_path, Layout.KITS19)


def test_an_empty_range_is_refused(tmp_path: Path) -> None:
    msd(tmp_path, "a")
    assert refusal(tmp_path, Layout.MSD, cases=CaseRange(start=5)).startswith(f"{FIELD}.cases")


def test_a_missing_or_malformed_listing_is_refused(tmp_path: Path) -> None:
    folder = msd(tmp_path, "a")
    (folder / "dataset.json").write_text('{"training": 3, "modality": {}}', encoding="utf-8")
    assert "is malformed" in refusal(tmp_path, Layout.MSD)
    (folder / "dataset.json").unlink()
    assert "dataset.json: cannot be read" in refusal(tmp_path, Layout.MSD)


def test_several_modalities_are_refused(tmp_path: Path) -> None:
    msd(tmp_path, "a", modality={"0": "FLAIR", "1": "T1w"})
    assert "2 modalities (FLAIR, T1w)" in refusal(tmp_path, Layout.MSD)


def test_a_case_listed_twice_is_refused(tmp_path: Path) -> None:
    msd(tmp_path, "a", "a")
    assert "a.nii.gz: is listed twice" in refusal(tmp_path, Layout.MSD)


def test_a_row_without_a_label_is_refused_by_number(tmp_path: Path) -> None:
    touch(tmp_path / "set/ct.nii")
    (tmp_path / "set/cases.csv").write_text("image,label\nct.nii\n", encoding="utf-8")
    assert "row 2" in refusal(tmp_path, Layout.LIST)


LISTINGS = {
    "semicolons": (b"image;label\na.nii;b.nii\n", "separates columns by semicolons: 'image;label'"),
    "tabs": (b"image\tlabel\na.nii\tb.nii\n", "separates columns by tabs: 'image\\tlabel'"),
    "capitals": (b"Image,Label\na.nii,b.nii\n", "has the columns 'Image', 'Label', which are not written as"),
    "spaces": (b"image, label\na.nii,b.nii\n", "has the columns 'image', ' label', which are not written as"),
    "no header": (b"a.nii,b.nii\n", "has no columns image and label, but 'a.nii', 'b.nii'"),
    "other names": (b"ct,seg\na.nii,b.nii\n", "has no columns image and label, but 'ct', 'seg'"),
    "one column": (b"image\na.nii\n", "has the columns 'image', which are not written as image and label"),
    "nothing": (b"", "has no columns image and label, but nothing"),
    "UTF-16": ("image,label\n".encode("utf-16"), "is malformed"),
    "an open quote": (b'image,label\n"a.nii,b.nii\n', "is malformed"),
    "an empty image": (b"image,label\n,b.nii\n", "row 2 has no image or no label"),
    "semicolons below": (b"image,label\na.nii;b.nii\n", "row 2 has no image or no label"),
}


@pytest.mark.parametrize(("content", "told"), LISTINGS.values(), ids=LISTINGS)
def test_a_listing_written_otherwise_is_told_what_it_has(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/cases.csv").write_bytes(content)
    message = refusal(tmp_path, Layout.LIST)
    assert "cases.csv: " in message
    assert told in message


READ = {
    "a byte order mark": b"\xef\xbb\xbfimage,label\na.nii,b.nii\n",
    "Windows' line ends": b"image,label\r\na.nii,b.nii\r\n",
    "no last line end": b"image,label\na.nii,b.nii",
    "quotes": b'"image","label"\n"a.nii","b.nii"\n',
    "the other order": b"label,image\nb.nii,a.nii\n",
    "a further column": b"patient,image,label\n7,a.nii,b.nii\n",
    "empty lines": b"image,label\n\na.nii,b.nii\n\n",
}


@pytest.mark.parametrize("content", READ.values(), ids=READ)
def test_a_listing_is_read_as_spreadsheets_write_it(content: bytes, tmp_path: Path) -> None:
    touch(tmp_path / "set/a.nii", tmp_path / "set/b.nii")
    (tmp_path / "set/cases.csv").write_bytes(content)
    (case,) = find_cases(tmp_path, data_set(Layout.LIST), FIELD)
    assert (case.image.name, case.label.name) == ("a.nii", "b.nii")


def test_a_listing_of_msd_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    listing = msd(tmp_path, "a") / "dataset.json"
    listing.write_bytes(b"\xef\xbb\xbf" + listing.read_bytes())
    assert found(tmp_path, Layout.MSD) == ["a"]


NNUNET = {
    "its names of channels": '{"channel_names": {"0": "CT"}, "labels": {"liver": 1}}',
    "its number of cases": '{"numTraining": 3, "labels": {"liver": 1}}',
}


@pytest.mark.parametrize("listing", NNUNET.values(), ids=NNUNET)
def test_nnunets_listing_is_told_to_list_no_cases(listing: str, tmp_path: Path) -> None:
    folder = msd(tmp_path, "a")
    (folder / "dataset.json").write_text(listing, encoding="utf-8")
    assert "is from nnU-Net (version 2), which lists no cases. List them in a cases.csv" in refusal(
        tmp_path, Layout.MSD
    )


@pytest.mark.parametrize("label_id", [-1, 65536, 70000, 2**31])
def test_a_label_id_that_no_table_has_room_for_is_refused(label_id: int, tmp_path: Path) -> None:
    msd(tmp_path, "a")
    told = refusal(tmp_path, Layout.MSD, organs={"liver": (label_id,)})
    assert f"label id {label_id} is given to 'liver', outside of 1 to 65535" in told


def test_a_listing_that_is_no_text_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "set/cases.csv")
    (tmp_path / "set/cases.csv").write_bytes(b"image,label\n\xff\xfe,b\n")
    assert "is malformed" in refusal(tmp_path, Layout.LIST)


@pytest.mark.parametrize("path", ["../outside", "/etc", "link"])
def test_a_folder_outside_the_volume_is_refused(path: str, tmp_path: Path) -> None:
    root = tmp_path / "volume"
    root.mkdir()
    msd(tmp_path / "volume", "a")
    (tmp_path / "outside").mkdir()
    (root / "link").symlink_to(tmp_path / "outside")
    assert "leads out of the volume" in refusal(root, Layout.MSD, path=path)


def test_a_listed_file_outside_the_volume_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "volume"
    touch(tmp_path / "secret.nii", root / "set/label.nii")
    (root / "set/cases.csv").write_text("image,label\n../../secret.nii,label.nii\n", encoding="utf-8")
    assert "leads out of the volume" in refusal(root, Layout.LIST)


@pytest.mark.parametrize(
    ("organs", "background"),
    [({"liver": (1,), "spleen": (1,)}, ()), ({"liver": (1,)}, (1,)), ({"liver": (0,)}, ())],
)
def test_a_label_id_with_two_meanings_is_refused(
    organs: dict[str, tuple[int, ...]], background: tuple[int, ...], tmp_path: Path
) -> None:
    msd(tmp_path, "a")
    assert "is already" in refusal(tmp_path, Layout.MSD, organs=organs, background=background)
