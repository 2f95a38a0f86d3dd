"""Crops that a device resamples are those of the processor, up to the last bit of a sum."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from builders.rig import small_federation
from segviz_exchange.contract.choices import Augmentation, Axis
from segviz_exchange.contract.training_spec import Mirroring, Training, Transforms
from segviz_trainer.batches.sampling import Batch, batch_makers
from segviz_trainer.data.cache import PreparedCase
from segviz_trainer.data.grids import Grid
from segviz_trainer.data.labels import IGNORED

SHAPE = (40, 36, 24)
TOLERANCE = 2e-6
"""Of values up to 1.3."""
HOST = torch.device("cpu")


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[PreparedCase]:
    """The third has voxels that are to be ignored."""
    return [written(tmp_path_factory.mktemp(name), name) for name in ("a", "b", "ignoring")]


def written(folder: Path, name: str) -> PreparedCase:
    chance = np.random.default_rng(len(name))
    label = np.zeros((1, *SHAPE), np.uint8)
    label[0, 10:20, 8:19, 6:15] = 1
    foreground = np.flatnonzero(label).astype(np.int32)
    if name == "ignoring":
        label[0, 12:30, 10:14, 8:20] = IGNORED
    np.save(folder / "image.npy", chance.random((1, *SHAPE), dtype=np.float32))
    np.save(folder / "label.npy", label)
    np.save(folder / "foreground.npy", foreground)
    grid = Grid.of(SHAPE, np.diag([1.5, 1.2, 2.0, 1.0]))
    return PreparedCase(name, "set", frozenset({"liver"}), frozenset({0}), grid, grid, "", folder)


def training(**fields: object) -> Training:
    given = {"patch": (24, 20, 10), "crops_per_volume": 6, "augmentation": Augmentation.DEFAULT}
    return msgspec.structs.replace(small_federation().training, **(given | fields))


def both(cases: list[PreparedCase], asked: Training) -> list[tuple[Batch, Batch]]:
    key = (1, "basel", 2, 3)
    ways = (batch_makers(cases, asked, *key, resampled_on=place) for place in (None, HOST))
    return [(host(), device()) for host, device in zip(*ways, strict=True)]


@pytest.mark.parametrize("augmentation", [Augmentation.NONE, Augmentation.DEFAULT])
@pytest.mark.parametrize("patch", [(24, 20, 10), (48, 20, 30)], ids=["inside", "larger than the volume"])
def test_a_devices_crops_are_the_processors(
    cases: list[PreparedCase], augmentation: Augmentation, patch: tuple[int, int, int]
) -> None:
    pairs = both(cases, training(augmentation=augmentation, patch=patch))
    assert len(pairs) == 2
    for host, device in pairs:
        assert torch.equal(host.label, device.label)
        torch.testing.assert_close(device.image, host.image, rtol=0, atol=TOLERANCE)
        assert device.annotated == host.annotated


def test_ignored_voxels_are_the_same(cases: list[PreparedCase]) -> None:
    ((host, device),) = both(cases[2:], training())
    assert host.known is not None
    assert device.known is not None
    assert 0 < host.known.mean() < 1
    assert torch.equal(host.known, device.known)
    assert device.label.max() == 1


def test_where_nothing_is_ignored_there_is_no_mask(cases: list[PreparedCase]) -> None:
    ((_, device),) = both(cases[:2], training())
    assert device.known is None


def test_transforms_named_one_by_one_are_the_processors_to_the_bit(cases: list[PreparedCase]) -> None:
    asked = training(
        augmentation=Augmentation.CUSTOM, transforms=Transforms(mirroring=Mirroring((Axis.SUPERIOR,)))
    )
    for host, device in both(cases, asked):
        assert torch.equal(host.image, device.image)
        assert torch.equal(host.label, device.label)
