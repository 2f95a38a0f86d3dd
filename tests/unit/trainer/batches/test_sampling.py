"""The random part depends on its key alone, and crops where MONAI would."""

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform

from builders.volumes import ORGANS, WINDOWED, write_case
from segviz_exchange.contract.choices import Augmentation, MemoryFormat, OptimizerState, Precision
from segviz_exchange.contract.training_spec import Training
from segviz_trainer.batches.affine_crop import affine_crop, plain_crop
from segviz_trainer.batches.prefetch import Prefetch
from segviz_trainer.batches.sampling import Batch, batch_makers, epoch_batches, steps_per_epoch
from segviz_trainer.data.cache import PreparedCase, prepare_case

SHAPE = (24, 28, 20)


def training(**fields: object) -> Training:
    given: dict[str, object] = {
        "patch": (16, 16, 8),
        "crops_per_volume": 3,
        "batch_size": 2,
        "learning_rate": 1e-4,
        "augmentation": Augmentation.DEFAULT,
        "optimizer_state": OptimizerState.KEEP,
        "precision": Precision.FP32,
        "memory_format": MemoryFormat.CONTIGUOUS,
        "threads": 1,
    }
    return Training(**(given | fields))


def liver(*corner: int) -> np.ndarray:
    label = np.zeros(SHAPE, np.uint8)
    label[corner[0] : corner[0] + 2, corner[1] : corner[1] + 2, corner[2] : corner[2] + 2] = 1
    return label


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> tuple[PreparedCase, ...]:
    folder = tmp_path_factory.mktemp("cases")
    chance = np.random.default_rng(0)
    prepared = []
    for index in range(5):
        image = chance.integers(-200, 300, SHAPE, dtype=np.int16)
        case = write_case(folder, image, liver(index + 2, 20, 3), id=f"case{index}")
        prepared.append(prepare_case(case, WINDOWED, ORGANS, 64, folder / "cache"))
    return tuple(prepared)


def batches(cases: tuple[PreparedCase, ...], first_step: int = 0, **key: object) -> list[Batch]:
    given: dict[str, object] = {"seed": 1, "site": "basel", "round": 2, "epoch": 3, "attempt": 1}
    return list(epoch_batches(cases, training(), **(given | key), first_step=first_step))


def same(one: Batch, other: Batch) -> bool:
    return torch.equal(one.image, other.image) and torch.equal(one.label, other.label)


def test_a_batch_holds_crops_of_its_volumes(cases: tuple[PreparedCase, ...]) -> None:
    first = batches(cases)[0]
    assert (first.image.shape, first.image.dtype) == ((6, 1, 16, 16, 8), torch.float32)
    assert (first.label.shape, first.label.dtype) == ((6, 1, 16, 16, 8), torch.uint8)
    assert first.annotated == (frozenset({1}),) * 6
    assert torch.isfinite(first.image).all()
    assert set(first.label.unique().tolist()) <= {0, 2}


def test_an_epoch_leaves_no_case_out(cases: tuple[PreparedCase, ...]) -> None:
    assert [len(batch.image) for batch in batches(cases)] == [6, 6, 3]
    assert steps_per_epoch(5, training()) == 3
    assert steps_per_epoch(4, training()) == 2


@pytest.mark.parametrize("first_step", [1, 2, 3])
def test_a_resumed_epoch_ends_as_an_unbroken_one(first_step: int, cases: tuple[PreparedCase, ...]) -> None:
    whole, rest = batches(cases), batches(cases, first_step)
    assert [same(a, b) for a, b in zip(whole[first_step:], rest, strict=True)] == [True] * (3 - first_step)


def test_the_order_of_the_cases_given_does_not_matter(cases: tuple[PreparedCase, ...]) -> None:
    assert all(map(same, batches(cases), batches(cases[::-1])))


@pytest.mark.parametrize(
    "key", [{"seed": 2}, {"site": "bern"}, {"round": 3}, {"epoch": 4}, {"attempt": 2}], ids=str
)
def test_every_part_of_the_key_changes_the_crops(
    key: dict[str, object], cases: tuple[PreparedCase, ...]
) -> None:
    assert not any(map(same, batches(cases), batches(cases, **key)))


def test_half_of_the_crops_are_centred_on_an_organ(cases: tuple[PreparedCase, ...]) -> None:
    many = training(crops_per_volume=400, patch=(3, 3, 3), augmentation=Augmentation.NONE)
    (batch,) = epoch_batches(cases[:1], many, 0, "basel", 0, 0)
    centred = (batch.label[:, 0, 1, 1, 1] == 2).float().mean().item()
    assert centred == pytest.approx(0.5, abs=0.07)


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_so_many_crops_are_centred_on_an_organ(cases: tuple[PreparedCase, ...], share: float) -> None:
    many = training(
        crops_per_volume=300, patch=(3, 3, 3), augmentation=Augmentation.NONE, foreground_share=share
    )
    (batch,) = epoch_batches(cases[:1], many, 0, "basel", 0, 0)
    centred = float((batch.label[:, 0, 1, 1, 1] == 2).float().mean())
    assert centred == pytest.approx(share, abs=0.07)


def test_without_augmentation_a_crop_is_a_part_of_the_volume(cases: tuple[PreparedCase, ...]) -> None:
    (batch,) = epoch_batches(cases[:1], training(augmentation=Augmentation.NONE), 0, "basel", 0, 0)
    image, label = cases[0].mapped_image()[0], cases[0].mapped_label()[0]
    windows = np.lib.stride_tricks.sliding_window_view(image, (16, 16, 8))
    for row in range(3):
        crop = batch.image[row, 0].numpy()
        x, y, z = np.argwhere((windows == crop).all(axis=(3, 4, 5)))[0]
        np.testing.assert_array_equal(batch.label[row, 0], label[x : x + 16, y : y + 16, z : z + 8])


def test_a_volume_smaller_than_the_patch_is_centred_on_zeros(cases: tuple[PreparedCase, ...]) -> None:
    large = training(patch=(32, 32, 32), crops_per_volume=1, augmentation=Augmentation.NONE)
    (batch,) = epoch_batches(cases[:1], large, 0, "basel", 0, 0)
    image = batch.image[0, 0].numpy().copy()
    np.testing.assert_array_equal(image[4:28, 2:30, 6:26], cases[0].mapped_image()[0])
    image[4:28, 2:30, 6:26] = 0
    assert not image.any()


def test_augmentation_changes_shape_and_intensity(cases: tuple[PreparedCase, ...]) -> None:
    whole = {"patch": SHAPE, "crops_per_volume": 20}
    (plain,) = epoch_batches(cases[:1], training(**whole, augmentation=Augmentation.NONE), 0, "b", 0, 0)
    (varied,) = epoch_batches(cases[:1], training(**whole), 0, "b", 0, 0)
    assert len({crop.numpy().tobytes() for crop in plain.image}) == 1
    assert len({crop.numpy().tobytes() for crop in varied.image}) > 15
    turned = sum(not torch.equal(a, b) for a, b in zip(plain.label, varied.label, strict=True))
    assert 3 <= turned <= 17


def test_an_affine_crop_is_scipys_trilinear_and_nearest() -> None:
    chance = np.random.default_rng(3)
    image = chance.random(SHAPE, dtype=np.float32)
    label = chance.integers(0, 3, SHAPE, dtype=np.uint8)
    affine = np.array([[0.95, -0.2, 0], [0.18, 1.08, 0], [0, 0, 0.93]])
    start, size = np.array([-2, 9, 4]), (16, 16, 8)
    image_out, label_out = np.empty(size, np.float32), np.empty(size, np.uint8)
    affine_crop(image, label, start.tolist(), affine, image_out, label_out)
    middle = (np.array(size) - 1) / 2
    # scipy takes outside voxels as 0 only from a padded volume on, as ours does everywhere.
    padded, shift = [np.pad(array, 8) for array in (image, label)], start + middle - affine @ middle + 8
    expected, classes = (
        affine_transform(array, affine, shift, size, order=order)
        for order, array in zip((1, 0), padded, strict=True)
    )
    np.testing.assert_allclose(image_out, expected, atol=1e-5)
    np.testing.assert_array_equal(label_out, classes)


def test_the_identity_is_a_plain_crop() -> None:
    image = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
    turned, plain, label = (np.empty((16, 40, 8), kind) for kind in ("f4", "f4", "u1"))
    affine_crop(image, np.zeros(SHAPE, np.uint8), (3, -6, 18), np.eye(3), turned, label)
    plain_crop(image, (3, -6, 18), plain)
    np.testing.assert_allclose(turned, plain, atol=1e-6)


def test_batches_made_out_of_order_and_beside_each_other_are_the_same(
    cases: tuple[PreparedCase, ...],
) -> None:
    makers = list(batch_makers(cases, training(), 1, "basel", 2, 3))
    backwards = list(Prefetch(workers=3, ahead=3).run(makers[::-1]))
    assert all(map(same, batches(cases), backwards[::-1]))
