"""How a finished model predicts: mirrored windows, the largest component, and several models at once."""

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path

import msgspec
import nibabel as nib
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from builders.exported_model import ORGANS, SPEC, write_model
from segviz_exchange.contract.choices import Augmentation, Axis, Norm
from segviz_exchange.contract.codec import Array
from segviz_exchange.contract.spec import (
    FederationSpec,
    Model,
)
from segviz_exchange.contract.training_spec import Mirroring, Transforms
from segviz_exchange.process.errors import Refusal
from segviz_trainer.cli.model import evaluate, predict
from segviz_trainer.inference.components import largest_component
from segviz_trainer.inference.options import InferenceOptions
from segviz_trainer.inference.predictor import Predictor
from segviz_trainer.models.bundle import inference
from segviz_trainer.models.modelcard import Sources, model_card
from segviz_trainer.models.predict import predict_files
from segviz_trainer.models.scripted import probabilities_of
from segviz_trainer.models.trained import Model as Predicting
from segviz_trainer.models.trained import TrainedModel
from segviz_trainer.network.device import Device

SIDE = SPEC.training.patch[0]


def asking(mirroring: bool = True, largest: tuple[str, ...] = ()) -> FederationSpec:
    """Trained on images mirrored along R and S."""
    transforms = Transforms(mirroring=Mirroring((Axis.SUPERIOR, Axis.RIGHT)))
    training = msgspec.structs.replace(SPEC.training, augmentation=Augmentation.CUSTOM, transforms=transforms)
    evaluation = msgspec.structs.replace(SPEC.evaluation, mirroring=mirroring, largest_component=largest)
    return msgspec.structs.replace(SPEC, training=training, evaluation=evaluation)


def shifted(by: float) -> Callable[[dict[str, Array]], None]:
    """The same network with other weights."""

    def change(tensors: dict[str, Array]) -> None:
        for name, value in tensors.items():
            if name.endswith("conv.weight"):
                value += np.float32(by) * np.sign(value)

    return change


# --- mirrored windows -----------------------------------------------------------------------------------


def test_flips_are_all_combinations_of_the_axes_that_training_mirrors() -> None:
    options = InferenceOptions.of(asking())
    assert options.mirrored == (0, 2)
    assert options.flips == ((), (0,), (2,), (0, 2))
    assert InferenceOptions.of(asking(mirroring=False)).flips == ((),)
    assert InferenceOptions.of(SPEC).flips == ((),)


def test_a_mirrored_prediction_is_the_mean_of_the_flips_turned_back(tmp_path: Path) -> None:
    trained = TrainedModel.open(write_model(tmp_path / "model"))
    net = trained.network_of("liver")
    image = torch.rand(1, 1, SIDE, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    device = Device(torch.device("cpu"), SPEC.training)
    found = Predictor(net, ORGANS, device, InferenceOptions(0.5, (0, 2))).probabilities(image, ORGANS)
    total = np.zeros((len(ORGANS), SIDE, SIDE, SIDE))
    with torch.no_grad():
        for x, z in product((1, -1), repeat=2):
            turned = torch.from_numpy(image.numpy()[:, :, ::x, :, ::z].copy())
            for row, organ in enumerate(ORGANS):
                p = torch.softmax(net(turned)[organ], dim=1)[0, 1].numpy()
                total[row] += p[::x, :, ::z]
    np.testing.assert_allclose(found.numpy(), total / 4, atol=1e-5)


def test_a_bundle_mirrors_as_the_model_does(tmp_path: Path) -> None:
    trained = TrainedModel.open(write_model(tmp_path / "model", spec=asking()))
    script, net = probabilities_of(trained), trained.network_of("liver")
    patch = torch.rand(1, 1, SIDE, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    device = Device(torch.device("cpu"), SPEC.training)
    predictor = Predictor(net, ORGANS, device, InferenceOptions.of(asking()))
    with torch.no_grad():
        torch.testing.assert_close(script(patch)[0], predictor.probabilities(patch, ORGANS))


# --- the largest component ------------------------------------------------------------------------------


def slow_largest(mask: np.ndarray) -> np.ndarray:
    """Flooded voxel by voxel over faces."""
    seen, best = np.zeros(mask.shape, bool), np.zeros(mask.shape, bool)
    for start in np.ndindex(mask.shape):
        if not mask[start] or seen[start]:
            continue
        part, todo = np.zeros(mask.shape, bool), [start]
        while todo:
            place = todo.pop()
            if part[place]:
                continue
            part[place] = seen[place] = True
            for axis, by in product(range(3), (-1, 1)):
                beside = tuple(at + by * (axis == each) for each, at in enumerate(place))
                inside = all(0 <= at < length for at, length in zip(beside, mask.shape, strict=True))
                if inside and mask[beside] and not part[beside]:
                    todo.append(beside)
        if part.sum() > best.sum():
            best = part
    return best


@pytest.mark.parametrize("seed", range(4))
def test_the_largest_component_is_what_a_flood_finds(seed: int) -> None:
    mask = np.random.default_rng(seed).random((7, 6, 8)) < 0.3
    np.testing.assert_array_equal(largest_component(mask), slow_largest(mask))


def test_an_empty_mask_stays_empty() -> None:
    assert not largest_component(np.zeros((3, 3, 3), bool)).any()


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scan") / "scan.nii.gz"
    voxels = np.random.default_rng(1).normal(size=(14, 12, 10)).astype(np.float32)
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)
    return path


def predicted(model: Predicting, scan: Path, output: Path) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and the organs' probabilities."""
    (written,) = predict_files(model, [scan], output, True, lambda image, done, windows: None)
    labels, *maps = (
        np.asarray(nib.load(file).dataobj)
        for file in (written.files[0], *(output / f"scan_{organ}.nii.gz" for organ in ORGANS))
    )
    return labels, np.stack(maps)


def test_of_the_organs_asked_for_a_label_map_has_the_largest_component(scan: Path, tmp_path: Path) -> None:
    trained = TrainedModel.open(write_model(tmp_path / "model", shifted(0.3)))
    cpu = torch.device("cpu")
    whole, _ = predicted(Predicting(trained, cpu, 1), scan, tmp_path / "whole")
    some = InferenceOptions(0.5, largest=("spleen",))
    kept, _ = predicted(Predicting(trained, cpu, 1, some), scan, tmp_path / "kept")
    liver, spleen = (1 + ORGANS.index(organ) for organ in ("liver", "spleen"))
    np.testing.assert_array_equal(kept == liver, whole == liver)
    np.testing.assert_array_equal(kept == spleen, slow_largest(whole == spleen))
    assert (kept == spleen).sum() < (whole == spleen).sum()


def test_a_bundle_keeps_the_largest_component_of_the_same_organs(tmp_path: Path) -> None:
    trained = TrainedModel.open(write_model(tmp_path / "model", spec=asking(largest=("spleen",))))
    (step,) = (
        each
        for each in inference(trained, probabilities_of(trained))["postprocessing"]["transforms"]
        if each["_target_"] == "KeepLargestConnectedComponentd"
    )
    assert step["applied_labels"] == [1 + ORGANS.index("spleen")]
    assert step["connectivity"] == 1


def test_record_and_model_card_say_how_it_predicts(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", spec=asking(largest=("spleen",)))
    evaluation = json.loads((folder / "model.json").read_bytes())["spec"]["evaluation"]
    assert (evaluation["mirroring"], evaluation["largestComponent"]) == (True, ["spleen"])
    card = model_card(TrainedModel.open(folder).exported, Sources({}, {}, {}))
    assert "the mean over flips along R, S; the largest component alone of spleen" in card


# --- several models -------------------------------------------------------------------------------------


def test_several_models_predict_the_mean_of_their_probabilities(scan: Path, tmp_path: Path) -> None:
    trained = [TrainedModel.open(write_model(tmp_path / str(by), shifted(by))) for by in (0.0, 0.1, 0.3)]
    cpu = torch.device("cpu")
    alone = [
        predicted(Predicting(each, cpu, 1), scan, tmp_path / f"out{n}")[1] for n, each in enumerate(trained)
    ]
    together = Predicting(trained[0], cpu, 1, others=trained[1:])
    found = predicted(together, scan, tmp_path / "together")[1]
    np.testing.assert_allclose(found, np.mean(alone, axis=0), atol=1e-5)
    assert np.abs(found - alone[0]).max() > 1e-3


def test_several_models_have_a_digest_of_their_own(tmp_path: Path) -> None:
    one, other = (TrainedModel.open(write_model(tmp_path / str(by), shifted(by))) for by in (0.0, 0.1))
    cpu = torch.device("cpu")
    digests = {Predicting(one, cpu, 1, others=others).digest for others in ((), (other,), (one,))}
    assert len(digests) == 3
    assert one.exported.blob in digests


def test_models_of_different_recipes_are_not_averaged(tmp_path: Path) -> None:
    first = TrainedModel.open(write_model(tmp_path / "first"))
    wider = msgspec.structs.replace(SPEC, model=Model((4, 8), (2,), 1, Norm.INSTANCE, 1))
    second = TrainedModel.open(write_model(tmp_path / "second", spec=wider))
    with pytest.raises(Refusal, match="has another network, so its probabilities cannot be averaged"):
        Predicting(first, torch.device("cpu"), 1, others=(second,))


# --- the command ----------------------------------------------------------------------------------------


def test_the_command_takes_models_and_options(scan: Path, tmp_path: Path) -> None:
    first, second = (write_model(tmp_path / str(by), shifted(by), asking(False)) for by in (0.0, 0.1))
    arguments = [first, scan, "-o", tmp_path / "out", "--with", second, "--mirroring", "--device", "cpu"]
    done = CliRunner().invoke(predict, [*map(str, arguments), "--largest-component", "liver"])
    assert done.exit_code == 0, done.output
    written = np.asarray(nib.load(tmp_path / "out" / "scan.nii.gz").dataobj)
    trained = [TrainedModel.open(each) for each in (first, second)]
    options = InferenceOptions(0.5, (0, 2), ("liver",))
    expected, _ = predicted(
        Predicting(trained[0], torch.device("cpu"), 1, options, trained[1:]), scan, tmp_path / "expected"
    )
    np.testing.assert_array_equal(written, expected)


def test_several_models_are_scored_as_one_beside_background_ids(scan: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    labels = np.random.default_rng(2).choice([0, 1, 2, 7], size=(14, 12, 10)).astype(np.uint8)
    nib.save(nib.Nifti1Image(labels, np.eye(4)), folder / "label.nii.gz")
    (folder / "image.nii.gz").write_bytes(scan.read_bytes())
    (folder / "cases.csv").write_text("image,label\nimage.nii.gz,label.nii.gz\n", encoding="utf-8")
    first, second = (write_model(tmp_path / str(by), shifted(by)) for by in (0.0, 0.3))
    organs = ["--organ", "liver=1", "--organ", "spleen=2", "--background", "7", "--device", "cpu"]
    scores = []
    for number, models in enumerate(([first], [first, second], [second, first])):
        csv_file = tmp_path / f"{number}.csv"
        others = [part for each in models[1:] for part in ("--with", str(each))]
        arguments = [str(models[0]), str(folder), *organs, *others, "--csv", str(csv_file)]
        done = CliRunner().invoke(evaluate, arguments)
        assert done.exit_code == 0, done.output
        scores.append(csv_file.read_text(encoding="utf-8"))
    assert scores[1] == scores[2] != scores[0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--mirroring"], "--mirroring: the model was trained on no mirrored image"),
        (["--largest-component", "livre"], "'livre' is not one of liver, spleen"),
    ],
    ids=["mirroring", "an organ misspelt"],
)
def test_what_the_model_cannot_do_is_refused(
    arguments: list[str], says: str, scan: Path, tmp_path: Path
) -> None:
    model = write_model(tmp_path / "model")
    done = CliRunner().invoke(predict, [str(model), str(scan), "-o", str(tmp_path / "out"), *arguments])
    assert isinstance(done.exception, Refusal)
    assert says in str(done.exception)
