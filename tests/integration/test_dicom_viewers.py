"""Real label maps as DICOM, read by others: a literal reader, Debian's plastimatch and dicom3tools."""

import shutil
import subprocess
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from builders import read_back
from builders.scans import write_scan
from segviz_trainer.dicom.algorithm import Algorithm
from segviz_trainer.dicom.rtstruct import structure_set_of
from segviz_trainer.dicom.segmentation import segmentation_of
from segviz_trainer.dicom.source import source_of

DATA = Path(__file__).parents[3] / "shared/data"
TOTAL = ("totalsegmentator-example/ct.nii.gz", "totalsegmentator-example/seg.nii.gz")
BTCV = [(f"btcv-3mm/img/img{n:04d}.nii.gz", f"btcv-3mm/label/label{n:04d}.nii.gz") for n in (1, 22, 40)]
CASES = {"totalsegmentator": TOTAL, **{Path(image).name[:7]: (image, label) for image, label in BTCV}}
ALGORITHM = Algorithm("1.2", "sha256:" + "ab" * 32)

PATIENCE_SECONDS = 900
"""Of a reader that is not ours; the largest case has 59 organs."""

pytestmark = [
    pytest.mark.full,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not DATA.is_dir(), reason="needs real scans in ../shared/data"),
]
plastimatch = pytest.mark.skipif(
    not shutil.which("plastimatch"), reason="needs plastimatch (Debian's package of that name)"
)
dciodvfy = pytest.mark.skipif(
    not shutil.which("dciodvfy"), reason="needs dciodvfy (Debian's package dicom3tools)"
)


class Written:
    def __init__(self, folder: Path, case: str, enhanced: bool) -> None:
        image, label = (DATA / file for file in CASES[case])
        self.series, self.seg, self.rt = folder / "series", folder / "seg.dcm", folder / "rt.dcm"
        self.labels = write_scan(self.series, image, label, enhanced)
        self.organs = {f"organ{number}": int(number) for number in np.unique(self.labels) if number}
        source = source_of(self.series, 4096)
        segmentation = segmentation_of(source, self.labels, self.organs, ALGORITHM)
        segmentation.save_as(self.seg, enforce_file_format=True)
        structures = structure_set_of(source, self.labels, self.organs, ALGORITHM, datetime(2026, 2, 3))
        structures.save_as(self.rt, enforce_file_format=True)
        self.planes = [
            (str(source.header(each).SOPInstanceUID), None if each.frame is None else each.frame + 1)
            for each in source.slices
        ]

    def volume(self, masks: dict[read_back.Plane, np.ndarray]) -> np.ndarray:
        assert set(masks) <= set(self.planes)
        empty = np.zeros(self.labels.shape[1::-1], bool)
        return np.stack([masks.get(plane, empty).T for plane in self.planes], axis=2)

    def grid(self) -> SimpleITK.Image:
        lies = read_back.places(self.series)
        first, orientation, spacing = lies[self.planes[0]]
        gap = float(np.linalg.norm(lies[self.planes[1]][0] - first))
        along_row, along_column = orientation[:3], orientation[3:]
        axes = np.stack([along_row, along_column, np.cross(along_row, along_column)], axis=1)
        image = SimpleITK.GetImageFromArray(self.labels.transpose(2, 1, 0))
        image.SetOrigin(first.tolist())
        image.SetSpacing([spacing[1], spacing[0], gap])
        image.SetDirection(axes.ravel().tolist())
        return image


@pytest.fixture(scope="module", params=[*CASES, "img0022-enhanced"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    case, _, enhanced = request.param.partition("-")
    return Written(tmp_path_factory.mktemp(case), case, bool(enhanced))


def test_segments_and_contours_are_bit_equal(written: Written) -> None:
    shape = written.labels.shape[1], written.labels.shape[0]
    for found in (
        read_back.segments(written.seg, written.series),
        read_back.contours(written.rt, written.series, shape),
    ):
        assert found.keys() == written.organs.keys()
        for organ, number in written.organs.items():
            assert np.array_equal(written.volume(found[organ]), written.labels == number), organ


@plastimatch
def test_plastimatch_finds_the_same_organs(written: Written, tmp_path: Path) -> None:
    # On a grid of its own, as neither plastimatch nor SimpleITK knows enhanced images.
    SimpleITK.WriteImage(written.grid(), str(tmp_path / "ct.nii.gz"))
    masks = tmp_path / "masks"
    done = subprocess.run(
        [
            *("plastimatch", "convert", "--input", str(written.rt), "--fixed", str(tmp_path / "ct.nii.gz")),
            *("--output-prefix", str(masks), "--prefix-format", "nrrd"),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for organ, number in written.organs.items():
        found = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(masks / f"{organ}.nrrd"))) > 0
        truth = written.labels.transpose(2, 1, 0) == number
        dice = 2 * (found & truth).sum() / (found.sum() + truth.sum())
        print(organ, dice, found.sum(), truth.sum())
        assert dice >= 0.99, organ


@dciodvfy
def test_the_checker_of_the_standard_finds_no_error(written: Written) -> None:
    for file in (written.seg, written.rt):
        done = subprocess.run(
            ["dciodvfy", str(file)], capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )
        assert [line for line in done.stderr.splitlines() if line.startswith("Error")] == []
