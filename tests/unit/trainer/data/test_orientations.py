"""However the axes of a file are ordered and flipped, the network sees the same array."""

import itertools
from pathlib import Path

import msgspec
import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, ornt_transform

from builders.volumes import WINDOWED
from segviz_exchange.contract.choices import Spacing
from segviz_trainer.data.preprocess import prepare_image

SHARED = Path(__file__).resolve().parents[4] / "../shared/data/totalsegmentator-example/ct.nii.gz"
RESAMPLED = msgspec.structs.replace(WINDOWED, spacing=Spacing.RESAMPLED, spacing_millimetres=(4.0, 3.5, 5.0))
AXES = list(itertools.permutations(("RL", "AP", "SI")))
ALL = ["".join(codes) for axes in AXES for codes in itertools.product(*axes)]


def reoriented(image: nib.Nifti1Image, codes: str) -> nib.Nifti1Image:
    turn = ornt_transform(nib.orientations.io_orientation(image.affine), axcodes2ornt(codes))
    return image.as_reoriented(turn)


def test_there_are_48() -> None:
    assert len(set(ALL)) == 48


@pytest.fixture(scope="module")
def made() -> nib.Nifti1Image:
    voxels = np.random.default_rng(0).integers(-300, 400, (14, 11, 9)).astype(np.int16)
    affine = np.array([[3.0, 0, 0, -20.0], [0, 2.5, 0, 7.0], [0, 0, 4.0, 40.0], [0, 0, 0, 1]])
    return nib.Nifti1Image(voxels, affine)


@pytest.mark.parametrize("codes", ALL)
def test_an_image_is_prepared_alike_in_every_orientation(
    made: nib.Nifti1Image, codes: str, tmp_path: Path
) -> None:
    nib.save(made, tmp_path / "upright.nii")
    nib.save(reoriented(made, codes), tmp_path / "other.nii")
    upright = prepare_image(tmp_path / "upright.nii", RESAMPLED, 64)
    other = prepare_image(tmp_path / "other.nii", RESAMPLED, 64)
    assert np.array_equal(upright.voxels, other.voxels)
    assert np.allclose(upright.grid.matrix, other.grid.matrix)


def test_a_real_ct_is_prepared_alike_in_every_orientation(tmp_path: Path) -> None:
    if not SHARED.exists():
        pytest.skip(f"{SHARED} is missing")
    image = nib.load(SHARED)
    image = nib.Nifti1Image(np.asarray(image.dataobj).astype(np.int16), image.affine)
    at_3_mm = msgspec.structs.replace(
        WINDOWED, spacing=Spacing.RESAMPLED, spacing_millimetres=(3.0, 3.0, 3.0)
    )
    first = None
    for codes in ALL:
        nib.save(reoriented(image, codes), tmp_path / "ct.nii")
        voxels = prepare_image(tmp_path / "ct.nii", at_3_mm, 64).voxels
        first = voxels if first is None else first
        assert np.array_equal(voxels, first), codes
