"""Image and label come out in RAS, at one spacing, in one range of intensities; or not at all."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from builders.volumes import ORGANS, SPACED, WINDOWED, liver_label, ramp, write_case
from segviz_exchange.contract.choices import Intensity, Spacing
from segviz_exchange.contract.spec import IntensityScaling, Preprocessing
from segviz_trainer.data.layouts import Case
from segviz_trainer.data.preprocess import PreparedVolumes, preprocess
from segviz_trainer.process.errors import BadCase

CAP_MEBIBYTES = 64


def prepared(case: Case, preprocessing: Preprocessing = WINDOWED) -> PreparedVolumes:
    return preprocess(case, preprocessing, ORGANS, CAP_MEBIBYTES)


def spaced(x: float, y: float, z: float) -> Preprocessing:
    return Preprocessing(intensity=WINDOWED.intensity, spacing_millimetres=(x, y, z))


def test_a_window_maps_to_zero_and_one_and_clips(tmp_path: Path) -> None:
    image = ramp()
    image[0, 0, :4] = (-1000, -200, 50, 3000)
    voxels = prepared(write_case(tmp_path, image)).image.voxels
    assert (voxels.dtype, voxels.shape) == (np.float32, (1, 8, 10, 6))
    np.testing.assert_allclose(voxels[0, 0, 0, :4], [0, 0, 0.5, 1])


def test_a_z_score_has_mean_zero_and_deviation_one(tmp_path: Path) -> None:
    z_score = Preprocessing(intensity=IntensityScaling(method=Intensity.Z_SCORE), spacing=Spacing.NATIVE)
    voxels = prepared(write_case(tmp_path), z_score).image.voxels
    assert voxels.mean() == pytest.approx(0, abs=1e-5)
    assert voxels.std() == pytest.approx(1, abs=1e-4)


def test_a_label_counts_the_federations_organs_from_one(tmp_path: Path) -> None:
    label = liver_label()
    label[0, 0, 0] = 9  # declared background
    volumes = prepared(write_case(tmp_path, label=label))
    assert volumes.label.dtype == np.uint8
    np.testing.assert_array_equal(volumes.label[0], liver_label() * (1 + ORGANS.index("liver")))
    np.testing.assert_array_equal(volumes.native_label, liver_label() * (1 + ORGANS.index("liver")))


def test_stored_axes_are_turned_to_ras(tmp_path: Path) -> None:
    # Stored as inferior, posterior, left: array axis 0 runs down, 1 back, 2 to the left.
    affine = np.array([[0, 0, -2.0, 10], [0, -2.0, 0, 18], [-3.0, 0, 0, 15], [0, 0, 0, 1]])
    image, label = (array.transpose(2, 1, 0)[::-1, ::-1, ::-1] for array in (ramp(), liver_label()))
    stored = write_case(tmp_path, image, label, affine)
    turned = prepared(stored)
    plain = prepared(write_case(tmp_path / "ras"))
    np.testing.assert_allclose(turned.image.voxels, plain.image.voxels)
    np.testing.assert_array_equal(turned.label, plain.label)
    np.testing.assert_allclose(np.diag(turned.image.grid.matrix), [2, 2, 3, 1])
    assert turned.image.native.shape == (6, 10, 8)
    assert turned.native_label.shape == (6, 10, 8)


def test_image_and_label_take_the_asked_spacing_together(tmp_path: Path) -> None:
    volumes = prepared(write_case(tmp_path), spaced(1.0, 2.0, 3.0))
    assert volumes.image.voxels.shape == volumes.label.shape == (1, 15, 10, 6)
    assert volumes.image.grid.spacing == pytest.approx((1, 2, 3))
    assert set(np.unique(volumes.label)) == {0, 2}


def test_a_label_with_a_rounded_affine_stays_on_the_images_grid(tmp_path: Path) -> None:
    off = SPACED.copy()
    off[:3, :3] *= 1 + 1e-4
    volumes = prepared(write_case(tmp_path, label_affine=off), spaced(0.7, 0.7, 0.7))
    assert volumes.image.voxels.shape == volumes.label.shape


def shifted() -> np.ndarray:
    affine = SPACED.copy()
    affine[0, 3] = 1.0
    return affine


def with_nan() -> np.ndarray:
    image = ramp().astype(np.float32)
    image[1, 1, 1] = np.nan
    return image


BAD: dict[str, tuple[dict[str, np.ndarray], str, str]] = {
    "a label of another shape": ({"label": liver_label((8, 10, 7))}, "label", "(8, 10, 7)"),
    "a label that lies elsewhere": ({"label_affine": shifted()}, "label", "1.00 mm away"),
    "a label between integers": ({"label": liver_label() * np.float32(0.5)}, "label", "such as 0.5"),
    "a NaN label": ({"label": np.where(liver_label(), np.float32("nan"), 0)}, "label", "NaN"),
    "unknown ids": ({"label": liver_label() * 7}, "label", "does not name: 7"),
    "a negative id": ({"label": liver_label().astype(np.int16) * -3}, "label", "does not name: -3"),
    "a huge id": ({"label": liver_label().astype(np.int32) * 10**8}, "label", "name: 100000000"),
    "an empty label": ({"label": liver_label() * 9}, "label", "is empty"),
    "a NaN voxel": ({"image": with_nan()}, "image", "1 NaN or infinite"),
    "a constant image": ({"image": np.full((8, 10, 6), 5, np.int16)}, "image", "every voxel is 5"),
    "an image outside the window": ({"image": ramp() + 5000}, "image", "constant after Window"),
}  # fmt: skip


@pytest.mark.parametrize(("fields", "file", "reason"), BAD.values(), ids=BAD)
def test_a_case_is_refused_for(fields: dict[str, np.ndarray], file: str, reason: str, tmp_path: Path) -> None:
    case = write_case(tmp_path, **fields)
    with pytest.raises(BadCase) as caught:
        prepared(case)
    assert reason in str(caught.value)
    assert caught.value.path == getattr(case, file)


@pytest.mark.parametrize("label_id", [65536, 70000, 2**31 - 1])
def test_an_id_that_no_table_has_room_for_is_named_though_it_is_an_organs(
    label_id: int, tmp_path: Path
) -> None:
    case = write_case(tmp_path, label=liver_label().astype(np.int32) * label_id)
    with pytest.raises(BadCase, match=rf"data set 'clinic' does not name: {label_id}\."):
        prepared(replace(case, organs={"liver": (label_id,)}))


def test_a_label_that_vanishes_in_resampling_is_refused(tmp_path: Path) -> None:
    label = np.zeros((8, 10, 6), np.uint8)
    label[3, 3, 3] = 1
    with pytest.raises(BadCase, match="no organ voxel left"):
        prepared(write_case(tmp_path, label=label), spaced(8.0, 9.0, 9.0))


def test_a_spacing_that_would_inflate_the_volume_is_refused_unread(tmp_path: Path) -> None:
    with pytest.raises(BadCase, match=r"would take .* MiB"):
        prepared(write_case(tmp_path, affine=np.diag([900.0, 900.0, 900.0, 1.0])), spaced(1.5, 1.5, 2.0))
