"""A federation of each network: rounds, release, export, bundle and prediction."""

from pathlib import Path

import msgspec
import nibabel as nib
import numpy as np
import pytest
import torch

from builders.rig import Rig, algorithm, small_federation
from segviz_exchange.contract.choices import AlgorithmName, HeadLoss, Norm, Objective, OptimizerName, Preset
from segviz_exchange.contract.sharing import NORM, REPRESENTATION
from segviz_exchange.contract.spec import (
    FineTuning,
    Model,
)
from segviz_exchange.contract.training_spec import Optimizer
from segviz_trainer.models.predict import predict_files
from segviz_trainer.models.trained import Model as Predicting
from segviz_trainer.models.trained import TrainedModel
from segviz_trainer.network.segnet import build, groups_of

SITES = {"basel": ("liver",), "bern": ("liver", "spleen")}
"""The liver's head is averaged over both, the spleen's stays at one."""


def network_of(preset: Preset) -> Model:
    return Model((4, 6, 8), (2, 2), 2, Norm.BATCH, 1, preset=preset, deep_supervision=True)


@pytest.mark.parametrize("preset", Preset)
def test_heads_per_organ_under_fedbn_become_a_model_that_predicts(preset: Preset, tmp_path: Path) -> None:
    federation = small_federation(
        rounds=1, local_epochs=1, model=network_of(preset), fine_tuning=FineTuning(1, 1e-3)
    )
    training = msgspec.structs.replace(
        federation.training, loss=HeadLoss.DICE_CROSS_ENTROPY, optimizer=Optimizer(OptimizerName.SGD)
    )
    rig = Rig(tmp_path, msgspec.structs.replace(federation, training=training), SITES)
    rig.control()
    rig.run()
    groups = groups_of(build(rig.spec, ("liver", "spleen")))
    uploaded = rig.update_tensors("basel", 1).keys()
    assert uploaded == {
        name
        for name, group in groups.items()
        if group.kind == "parameter" and group.block in (REPRESENTATION, "liver")
    }
    assert {name for name, group in groups.items() if group.kind == NORM}.isdisjoint(uploaded)
    exported = rig.export()
    assert {variant: each.organs for variant, each in exported.items()} == dict.fromkeys(
        ("base", "tuned"), ("liver", "spleen")
    )
    assert predicted(tmp_path, "tuned") <= {0, 1, 2}


@pytest.mark.parametrize("preset", [Preset.PLAIN_UNET, Preset.RESIDUAL_ENCODER])
def test_one_head_for_all_becomes_a_model_that_predicts(preset: Preset, tmp_path: Path) -> None:
    federation = small_federation(
        rounds=1,
        local_epochs=1,
        model=network_of(preset),
        algorithm=algorithm(AlgorithmName.FED_AVG),
        objective=Objective.MARGINAL,
    )
    rig = Rig(tmp_path, federation, SITES)
    rig.control()
    rig.run()
    assert rig.export()["base"].organs == ("liver", "spleen")
    assert predicted(tmp_path, "base") <= {0, 1, 2}


def predicted(folder: Path, variant: str) -> set[int]:
    """The labels of a scan; beside it the bundle's TorchScript, which was held to the model when written."""
    model = folder / "models" / variant
    assert (model / "models" / "model.ts").is_file()
    scan = folder / "scan.nii.gz"
    nib.save(
        nib.Nifti1Image(np.random.default_rng(0).normal(size=(20, 18, 16)).astype("f4"), np.eye(4)), scan
    )
    trained = Predicting(TrainedModel.open(model), torch.device("cpu"), threads=1)
    (written,) = predict_files(trained, [scan], folder / "out", False, lambda image, done, windows: None)
    labels = np.asarray(nib.load(written.files[0]).dataobj)
    assert labels.shape == (20, 18, 16)
    return set(np.unique(labels).tolist())
