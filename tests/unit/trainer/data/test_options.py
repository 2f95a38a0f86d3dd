"""Options of preprocessing and labels, on the phantom's CTs: tumours, windows, and the paper's own way."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from builders.volumes import write_case
from segviz_exchange.contract.choices import (
    Augmentation,
    Intensity,
    Layout,
    MemoryFormat,
    OptimizerState,
    Precision,
    Spacing,
)
from segviz_exchange.contract.site_spec import DataSet
from segviz_exchange.contract.spec import (
    IntensityScaling,
    Preprocessing,
)
from segviz_exchange.contract.training_spec import Training
from segviz_trainer.batches.sampling import Batch, epoch_batches
from segviz_trainer.data.cache import PreparedCase, prepare_case
from segviz_trainer.data.labels import IGNORED
from segviz_trainer.data.layouts import find_cases
from segviz_trainer.data.preprocess import preprocess
from segviz_trainer.phantom.generate import generate
from segviz_trainer.process.errors import BadCase, BadDataSet
from segviz_trainer.scoring.cases import score

WINDOWED = Preprocessing(
    IntensityScaling(Intensity.WINDOW, (-200.0, 304.0)), spacing_millimetres=(6.0, 6.0, 6.0)
)
ORGANS = ("kidneys",)
KIDNEY, TUMOUR = 1, 2
TRAINING = Training(
    (32, 32, 16),
    4,
    1,
    1e-3,
    Augmentation.DEFAULT,
    OptimizerState.KEEP,
    Precision.FP32,
    MemoryFormat.CONTIGUOUS,
    1,
)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    generate(folder, seed=0, cases=3, external_cases=1)
    return folder


def kidneys(**fields: object) -> DataSet:
    base = DataSet("kidneys", "kidneys", Layout.KITS19, {"kidneys": (KIDNEY,)}, ())
    return msgspec.structs.replace(base, **fields)


def prepared(
    phantom: Path, folder: Path, data_set: DataSet, preprocessing: Preprocessing = WINDOWED
) -> tuple[PreparedCase, ...]:
    cases = find_cases(phantom, data_set, "spec.dataSets[0]")
    return tuple(prepare_case(case, preprocessing, ORGANS, 512, folder) for case in cases)


MERGED = kidneys(organs={"kidneys": (KIDNEY, TUMOUR)})
DROPPED = kidneys(background=(TUMOUR,))
LEFT_OUT = kidneys(ignored=(TUMOUR,))


def stored(phantom: Path) -> list[np.ndarray]:
    """Label maps as the files have them."""
    import nibabel as nib

    cases = find_cases(phantom, MERGED, "spec.dataSets[0]")
    return [np.asarray(nib.load(case.label).dataobj).astype(int) for case in cases]


def test_a_tumour_is_organ_background_or_nothing(phantom: Path, tmp_path: Path) -> None:
    sets = {name: prepared(phantom, tmp_path, each) for name, each in (
        ("merge", MERGED), ("drop", DROPPED), ("ignore", LEFT_OUT)
    )}  # fmt: skip
    raw = stored(phantom)
    assert any((label == TUMOUR).any() for label in raw)
    for index, label in enumerate(raw):
        native = {name: cases[index].native_label() for name, cases in sets.items()}
        np.testing.assert_array_equal(native["merge"], (label > 0).astype(np.uint8))
        np.testing.assert_array_equal(native["drop"], (label == KIDNEY).astype(np.uint8))
        np.testing.assert_array_equal(native["ignore"] == 1, label == KIDNEY)
        np.testing.assert_array_equal(native["ignore"] == IGNORED, label == TUMOUR)


def with_tumour(cases: Sequence[PreparedCase]) -> list[PreparedCase]:
    return [case for case in cases if (case.mapped_label() == IGNORED).any()]


def test_crops_are_never_centred_on_what_is_ignored(phantom: Path, tmp_path: Path) -> None:
    for case in with_tumour(prepared(phantom, tmp_path, LEFT_OUT)):
        assert set(case.mapped_label().ravel()[case.mapped_foreground()]) == {1}


def batches(cases: Sequence[PreparedCase]) -> list[Batch]:
    return [batch for epoch in range(4) for batch in epoch_batches(cases, TRAINING, 0, "basel", 1, epoch)]


def test_the_batch_says_where_ignored_voxels_are(phantom: Path, tmp_path: Path) -> None:
    merged, ignored = (batches(prepared(phantom, tmp_path, each)) for each in (MERGED, LEFT_OUT))
    assert any(batch.known is not None for batch in ignored)
    for batch in ignored:
        assert set(batch.label.unique().tolist()) <= {0, 1}
        if batch.known is not None:
            assert set(batch.known.unique().tolist()) == {0.0, 1.0}
            assert not batch.label[batch.known == 0].any()
    assert all(batch.known is None for batch in merged)


def test_ignored_voxels_do_not_score(phantom: Path, tmp_path: Path) -> None:
    """A model that calls kidney and tumour kidney is right about the kidney, unless tumour is background."""

    class Knowing:
        def masks(self, case: PreparedCase, organs: tuple[str, ...]) -> dict[str, np.ndarray]:
            return {"kidneys": by_id[case.id]}

    by_id = {
        case.id: case.native_label() == 1 for case in prepared(phantom, tmp_path, MERGED)
    }  # with the tumour
    dice = {
        name: [row.dice for row in score(Knowing(), prepared(phantom, tmp_path, each), ORGANS, ORGANS)]
        for name, each in (("merge", MERGED), ("drop", DROPPED), ("ignore", LEFT_OUT))
    }
    assert set(dice["merge"]) == set(dice["ignore"]) == {1.0}
    assert min(dice["drop"]) < 1.0


def test_an_id_has_one_meaning(phantom: Path) -> None:
    with pytest.raises(BadDataSet, match="label id 2 is given to 'ignored' but is already 'kidneys'"):
        find_cases(phantom, kidneys(organs={"kidneys": (1, 2)}, ignored=(2,)), "spec.dataSets[0]")


# --- windows --------------------------------------------------------------------------------------------


def allowing(window: tuple[float, float]) -> Preprocessing:
    scaling = IntensityScaling(Intensity.WINDOW, window, site_windows=True)
    return msgspec.structs.replace(WINDOWED, intensity=scaling)


def test_a_site_may_bring_its_own_window_where_the_federation_allows_it(
    phantom: Path, tmp_path: Path
) -> None:
    own = kidneys(organs={"kidneys": (1, 2)}, window=(-57.0, 164.0))
    narrow = msgspec.structs.replace(WINDOWED, intensity=IntensityScaling(Intensity.WINDOW, (-57.0, 164.0)))
    wanted = prepared(phantom, tmp_path, MERGED, narrow)
    for preprocessing, expected in (
        (allowing((-200.0, 304.0)), wanted),
        (WINDOWED, prepared(phantom, tmp_path, MERGED)),
    ):
        got = prepared(phantom, tmp_path, own, preprocessing)
        for one, other in zip(got, expected, strict=True):
            assert torch.equal(one.image(), other.image())


# --- the paper's resizing -------------------------------------------------------------------------------


def test_every_image_is_resized_to_one_size(phantom: Path, tmp_path: Path) -> None:
    resized = msgspec.structs.replace(WINDOWED, spacing=Spacing.NATIVE, resize=(48, 40, 24))
    for case in prepared(phantom, tmp_path, MERGED, resized):
        assert case.image().shape == case.mapped_label().shape == (1, 48, 40, 24)


@pytest.mark.parametrize(
    "spacing", [{"spacing": Spacing.NATIVE}, {"spacing_millimetres": (3.0, 2.5, 4.0)}], ids=str
)
def test_a_resized_voxel_is_where_its_grid_says(tmp_path: Path, spacing: dict[str, Any]) -> None:
    """On an image whose values are its x in millimetres, whatever its stored axes."""
    affine = np.array([[0, 0, -2.0, 90], [0, -3.0, 0, 18], [-4.0, 0, 0, 15], [0, 0, 0, 1]])
    shape = (20, 24, 40)
    at = np.stack([*np.indices(shape), np.ones(shape)]).reshape(4, -1)
    image = (affine @ at)[0].reshape(shape).astype(np.float32)
    label = np.zeros(shape, np.uint8)
    label[5:15, 6:18, 10:30] = 1
    case = write_case(tmp_path, image, label, affine)
    identity = IntensityScaling(Intensity.WINDOW, (0.0, 1000.0))
    volumes = preprocess(case, Preprocessing(identity, resize=(30, 36, 16), **spacing), ("liver",), 64)
    assert volumes.label.shape == volumes.image.voxels.shape
    found = volumes.image.voxels[0]
    where = np.stack([*np.indices(found.shape), np.ones(found.shape)]).reshape(4, -1)
    world = (volumes.image.grid.matrix @ where)[0].reshape(found.shape)
    inside = tuple(slice(3, -3) for _ in range(3))  # at the rim, the edge voxel is repeated
    np.testing.assert_allclose(found[inside] * 1000, world[inside], atol=0.05)


def test_the_papers_preprocessing_makes_a_case(phantom: Path, tmp_path: Path) -> None:
    paper = Preprocessing(
        IntensityScaling(Intensity.WINDOW, (-200.0, 200.0)),
        spacing_millimetres=(1.5, 1.5, 2.0),
        resize=(256, 256, 128),
    )
    (first, *_) = find_cases(phantom, MERGED, "spec.dataSets[0]")
    case = prepare_case(first, paper, ORGANS, 512, tmp_path)
    assert case.grid.spacing == pytest.approx((1.5, 1.5, 2.0))
    assert (case.mapped_label() == 1).any()


def test_a_size_that_memory_does_not_hold_is_refused(phantom: Path, tmp_path: Path) -> None:
    huge = msgspec.structs.replace(WINDOWED, resize=(1024, 1024, 1024))
    with pytest.raises(BadCase, match=r"4,096 MiB resized to .*maxCaseMebibytes is 512"):
        prepared(phantom, tmp_path, MERGED, huge)
