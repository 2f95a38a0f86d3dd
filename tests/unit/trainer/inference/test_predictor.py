"""Predictions come back to the grid that the site's files have; statistics are those of the images."""

from pathlib import Path

import msgspec
import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.orientations import axcodes2ornt, ornt_transform
from torch import Tensor, nn

from builders.rig import small_federation
from builders.volumes import WINDOWED
from segviz_exchange.contract.choices import Spacing
from segviz_exchange.contract.sharing import SHARED_HEAD
from segviz_trainer.data.cache import PreparedCase, prepare_case
from segviz_trainer.data.layouts import Case
from segviz_trainer.inference.options import InferenceOptions
from segviz_trainer.inference.predictor import Predictor
from segviz_trainer.metrics.overlap import dice
from segviz_trainer.network.device import Device

ORGANS = ("kidneys", "liver", "spleen")
SHAPE = (26, 22, 18)
PATCH = (16, 16, 8)
ANISOTROPIC = np.array([[1.5, 0, 0, -20.0], [0, 1.7, 0, 13.0], [0, 0, 3.1, 40.0], [0, 0, 0, 1]])
FINER = msgspec.structs.replace(WINDOWED, spacing=Spacing.RESAMPLED, spacing_millimetres=(1.1, 1.3, 2.0))
COARSER = msgspec.structs.replace(WINDOWED, spacing=Spacing.RESAMPLED, spacing_millimetres=(2.0, 2.0, 3.5))
FLIPS = ["RAS", "LAS", "RPS", "RAI", "LPS", "LAI", "RPI", "LPI"]
# HU at which the scaled image is one half.
EDGE = 50.0


class Bright(nn.Module):
    """Stands for a network: an organ is where the image is bright."""

    def __init__(self, heads: tuple[str, ...] = ORGANS) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({name: nn.Identity() for name in heads})

    def features(self, image: Tensor) -> Tensor:
        return image

    def head(self, name: str, features: Tensor) -> Tensor:
        organ = 20 * (features - 0.5)
        if name != SHARED_HEAD:
            return torch.cat([torch.zeros_like(organ), organ], dim=1)
        # The liver is bright, the spleen the brightest of it, the kidneys nowhere.
        return torch.cat(
            [torch.zeros_like(organ), torch.full_like(organ, -20.0), organ, 2 * organ - 4], dim=1
        )


def scan() -> tuple[np.ndarray, np.ndarray]:
    """A lopsided organ that fades out across the edge of its label, along R, A, S."""
    x, y, z = np.indices(SHAPE)
    distance = np.sqrt(((x - 10) / 8) ** 2 + ((y - 12) / 6.5) ** 2 + ((z - 8) / 5) ** 2)
    distance = np.minimum(distance, np.sqrt((x - 19) ** 2 + (y - 6) ** 2 + (z - 12) ** 2) / 4)
    image = EDGE + 200 * (1 - distance) + np.random.default_rng(0).normal(0, 3, SHAPE)
    return np.clip(image, -1000, 1000).astype(np.float32), (image > EDGE).astype(np.uint8)


def stored(array: np.ndarray, orientation: str) -> nib.Nifti1Image:
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(orientation))
    return nib.Nifti1Image(array, ANISOTROPIC).as_reoriented(turn)


def in_ras(array: np.ndarray, orientation: str) -> np.ndarray:
    turn = ornt_transform(axcodes2ornt(orientation), axcodes2ornt("RAS"))
    return nib.orientations.apply_orientation(array, turn)


def prepared(folder: Path, orientation: str = "RAS", preprocessing: object = COARSER) -> PreparedCase:
    folder.mkdir(parents=True)
    for name, array in zip(("image", "label"), scan(), strict=True):
        nib.save(stored(array, orientation), folder / f"{name}.nii.gz")
    case = Case("a", folder / "image.nii.gz", folder / "label.nii.gz", "clinic", {"liver": (1,)}, ())
    return prepare_case(case, preprocessing, ORGANS, 64, folder / "cache")


def device(patch: tuple[int, int, int] = PATCH) -> Device:
    training = msgspec.structs.replace(small_federation().training, patch=patch)
    return Device(torch.device("cpu"), training)


def predictor(model: nn.Module) -> Predictor:
    return Predictor(model, ORGANS, device(), InferenceOptions(overlap=0.5))


# --- the native grid ------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", ["LPS", "IPL"])
@pytest.mark.parametrize("preprocessing", [WINDOWED, FINER, COARSER], ids=["own spacing", "finer", "coarser"])
def test_a_prediction_lies_where_the_truth_is(
    tmp_path: Path, preprocessing: object, orientation: str
) -> None:
    case = prepared(tmp_path / "case", orientation, preprocessing)
    found = predictor(Bright()).masks(case, ("liver",))["liver"]
    truth = case.native_label() == 1 + ORGANS.index("liver")
    assert found.shape == truth.shape
    assert dice(found, truth) > 0.9


@pytest.mark.parametrize("preprocessing", [FINER, COARSER], ids=["finer", "coarser"])
def test_the_prepared_grid_is_another_than_the_native_one(tmp_path: Path, preprocessing: object) -> None:
    case = prepared(tmp_path / "case", "IPL", preprocessing)
    assert case.image().shape[1:] != case.native.shape == (18, 22, 26)


@pytest.fixture(scope="module")
def upright(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    case = prepared(tmp_path_factory.mktemp("upright") / "case")
    return predictor(Bright()).masks(case, ("liver",))["liver"]


@pytest.mark.parametrize("orientation", [*FLIPS[1:], "SAR", "IPL"])
def test_how_the_axes_are_stored_does_not_change_the_mask(
    tmp_path: Path, upright: np.ndarray, orientation: str
) -> None:
    case = prepared(tmp_path / "case", orientation)
    found = predictor(Bright()).masks(case, ("liver",))["liver"]
    assert np.array_equal(in_ras(found, orientation), upright)


def test_without_resampling_the_mask_is_the_threshold_itself(tmp_path: Path) -> None:
    case = prepared(tmp_path / "case", "LPS", WINDOWED)
    found = predictor(Bright()).masks(case, ("liver",))["liver"]
    assert np.array_equal(found, case.native_label() > 0)


# --- heads ----------------------------------------------------------------------------------------------


def test_heads_of_their_own_may_overlap(tmp_path: Path) -> None:
    masks = predictor(Bright()).masks(prepared(tmp_path / "case"), ("liver", "spleen"))
    assert np.logical_and(masks["liver"], masks["spleen"]).any()


def test_organs_of_one_head_never_overlap(tmp_path: Path) -> None:
    masks = predictor(Bright((SHARED_HEAD,))).masks(prepared(tmp_path / "case"), ORGANS)
    assert masks["liver"].any()
    assert masks["spleen"].any()
    assert max(sum(mask.astype(int) for mask in masks.values()).flat) == 1


def test_a_channel_of_the_one_head_is_its_organ_whichever_is_asked_for(tmp_path: Path) -> None:
    case = prepared(tmp_path / "case")
    shared = predictor(Bright((SHARED_HEAD,)))
    every = shared.masks(case, ORGANS)
    alone = shared.masks(case, ("spleen",))
    assert alone.keys() == {"spleen"}
    assert np.array_equal(alone["spleen"], every["spleen"])


def test_predicting_leaves_the_model_in_eval_mode(tmp_path: Path) -> None:
    model = Bright().train()
    predictor(model).masks(prepared(tmp_path / "case"), ("liver",))
    assert not model.training


# --- statistics -----------------------------------------------------------------------------------------


class Normed(nn.Module):
    """One BatchNorm in the representation and one, of its output, in a head."""

    def __init__(self) -> None:
        super().__init__()
        self.representation = nn.BatchNorm3d(1, momentum=0.3)
        self.heads = nn.ModuleDict({"liver": nn.BatchNorm3d(1, momentum=0.2)})
        with torch.no_grad():
            self.representation.weight.fill_(2.0)
            self.heads["liver"].running_mean.fill_(9.0)
            self.representation.running_mean.fill_(9.0)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {name: head(self.representation(image)) for name, head in self.heads.items()}


class ImageAlone:
    """A case of which nothing but the image can be asked."""

    def __init__(self, image: Tensor) -> None:
        self._image = image

    def image(self) -> Tensor:
        return self._image


def images() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [scale * torch.randn(1, 16, 8, 8, generator=generator) + scale for scale in (1.0, 3.0)]


def windows() -> list[Tensor]:
    """What an 8x8x8 window sees at an overlap of one half."""
    return [image[:, start : start + 8] for image in images() for start in (0, 4, 8)]


@pytest.fixture
def adapted() -> Normed:
    model = Normed()
    Predictor(model, ("liver",), device((8, 8, 8)), InferenceOptions(0.5)).reestimate_norm(
        map(ImageAlone, images())
    )
    return model


def test_reestimated_means_are_those_of_the_images(adapted: Normed) -> None:
    expected = torch.stack([window.mean() for window in windows()]).mean()
    torch.testing.assert_close(adapted.representation.running_mean, expected[None])


def test_reestimated_variances_are_those_of_the_images(adapted: Normed) -> None:
    expected = torch.stack([window.var() for window in windows()]).mean()
    torch.testing.assert_close(adapted.representation.running_var, expected[None])


def test_a_heads_statistics_are_reestimated_too(adapted: Normed) -> None:
    head = adapted.heads["liver"]
    torch.testing.assert_close(head.running_mean, torch.zeros(1), atol=1e-6, rtol=0)
    torch.testing.assert_close(head.running_var, torch.full((1,), 4 * 512 / 511), atol=1e-3, rtol=0)


def test_reestimating_leaves_weights_and_momenta_alone(adapted: Normed) -> None:
    assert (adapted.representation.momentum, adapted.heads["liver"].momentum) == (0.3, 0.2)
    assert (adapted.representation.weight.item(), adapted.representation.bias.item()) == (2.0, 0.0)


def test_reestimating_leaves_the_model_in_eval_mode(adapted: Normed) -> None:
    assert not adapted.training
