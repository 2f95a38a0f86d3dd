"""Local training goes on where it was, bit for bit."""

import itertools
import math
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
import torch
from torch import Tensor

from builders.rig import small_federation
from builders.volumes import ORGANS, prepared_cases
from segviz_exchange.contract.choices import (
    Augmentation,
    Axis,
    HeadLoss,
    MemoryFormat,
    Norm,
    OptimizerName,
    Precision,
    Preset,
)
from segviz_exchange.contract.spec import Model
from segviz_exchange.contract.training_spec import (
    Mirroring,
    Optimizer,
    Rotation,
    Training,
    Transforms,
    Varied,
)
from segviz_exchange.process.stopping import Stopped
from segviz_trainer.data.cache import PreparedCase
from segviz_trainer.network.device import Device
from segviz_trainer.network.segnet import build
from segviz_trainer.network.tensors import load, snapshot
from segviz_trainer.objectives.head_loss import HEAD_LOSSES
from segviz_trainer.objectives.per_organ_head import PerOrganHead
from segviz_trainer.training.checkpoint import Checkpoint, Checkpoints, Position
from segviz_trainer.training.optimizer import build_optimizer, optimizer_state, restore_optimizer
from segviz_trainer.training.trainer import Trainer

SHAPE = (16, 16, 16)
LAYOUTS = list(itertools.product(Precision, MemoryFormat))
IDS = [f"{precision}, {layout}" for precision, layout in LAYOUTS]
OPTIMIZERS = (
    Optimizer(OptimizerName.SGD),
    Optimizer(OptimizerName.SGD, momentum=0.0),
    Optimizer(OptimizerName.ADAM_W),
)
NETWORK = Model((4, 8, 8), (2, 2), 1, Norm.BATCH, 1)
RECIPE = {
    "model": Model(
        (4, 8, 8), (2, 2), 2, Norm.BATCH, 1, preset=Preset.RESIDUAL_ENCODER, deep_supervision=True
    ),
    "loss": HeadLoss.DICE_CROSS_ENTROPY,
    "max_gradient_norm": 0.1,
    "foreground_share": 1 / 3,
    "augmentation": Augmentation.CUSTOM,
    "transforms": Transforms(
        rotation=Rotation(1.0),
        scaling=Varied(0.5),
        noise=Varied(1.0),
        blur=Varied(1.0),
        low_resolution=Varied(1.0),
        gamma=Varied(1.0),
        mirroring=Mirroring((Axis.SUPERIOR,)),
    ),
}
"""What a manifest can turn on."""


# --- going on -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> tuple[PreparedCase, ...]:
    return prepared_cases(tmp_path_factory.mktemp("cases"), SHAPE, 6)


def build_trainer(
    precision: Precision, layout: MemoryFormat, model: Model = NETWORK, **recipe: object
) -> Trainer:
    """Another process's, as far as torch goes."""
    federation = small_federation(model=model)
    training: Training = msgspec.structs.replace(
        federation.training,
        precision=precision,
        memory_format=layout,
        **({"augmentation": Augmentation.DEFAULT} | recipe),
    )
    device = Device.choose(training).settle()
    net = device.move(build(federation, ORGANS))
    parameters = dict(sorted(net.named_parameters()))
    loss = PerOrganHead(ORGANS, HEAD_LOSSES[training.loss])
    optimizer = build_optimizer(parameters, training.optimizer)
    return Trainer(net, parameters, optimizer, loss, device, "basel", seed=1)


def train(trainer: Trainer, cases: tuple[PreparedCase, ...], first_step: int = 0, last_step: int = 3) -> None:
    def on_step(at: Position, loss: Tensor, patches: int) -> None:
        if at.step == last_step:
            raise Stopped

    start = Position(1, 1, 0, first_step)
    with closing(trainer.batches(cases, start, epochs=1)) as batches, pytest.raises(Stopped):
        trainer.train_epoch(batches, start, rate=1e-2, on_step=on_step)


def test_what_is_no_processor_resamples_its_crops_and_has_the_batches(
    cases: tuple[PreparedCase, ...],
) -> None:
    """torch's device "meta" stands in for a GPU: it takes the orders and computes nothing."""
    trainer = build_trainer(Precision.FP32, MemoryFormat.CONTIGUOUS)
    trainer.device = Device(torch.device("meta"), trainer.device.training)
    with closing(trainer.batches(cases, Position(1, 1, 0, 0), epochs=1)) as batches:
        assert {(batch.image.device.type, batch.label.device.type) for batch in batches} == {("meta", "meta")}


def state_of(trainer: Trainer) -> dict[str, Tensor]:
    return snapshot(trainer.model) | optimizer_state(trainer.optimizer, trainer.parameters)


def through_disk(trainer: Trainer, folder: Path) -> Checkpoint:
    checkpoints = Checkpoints(folder)
    moments = optimizer_state(trainer.optimizer, trainer.parameters)
    checkpoints.save(Checkpoint(Position(1, 1, 0, 2), snapshot(trainer.model), moments, 0.0, 0.0, 0.0))
    return checkpoints.of(1, 1)


def goes_on_bit_for_bit(
    folder: Path, cases: tuple[PreparedCase, ...], build_one: Callable[[], Trainer]
) -> None:
    """Two steps, a restart and a third are three steps."""
    unbroken = build_one()
    train(unbroken, cases)
    first = build_one()
    train(first, cases, last_step=2)
    held = through_disk(first, folder)
    second = build_one()
    load(second.model, held.model)
    restore_optimizer(second.optimizer, second.parameters, held.optimizer)
    train(second, cases, first_step=2)
    expected, reached = state_of(unbroken), state_of(second)
    assert expected.keys() == reached.keys()
    assert not [name for name in expected if not torch.equal(expected[name], reached[name])]


@pytest.mark.parametrize(("precision", "layout"), LAYOUTS, ids=IDS)
def test_two_steps_a_restart_and_a_third_are_three_steps(
    tmp_path: Path, cases: tuple[PreparedCase, ...], precision: Precision, layout: MemoryFormat
) -> None:
    goes_on_bit_for_bit(tmp_path, cases, lambda: build_trainer(precision, layout))


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda each: f"{each.name} {each.momentum}")
def test_a_restart_changes_no_bit_with_the_whole_recipe_on(
    tmp_path: Path, cases: tuple[PreparedCase, ...], optimizer: Optimizer
) -> None:
    recipe = {**RECIPE, "optimizer": optimizer}
    goes_on_bit_for_bit(
        tmp_path, cases, lambda: build_trainer(Precision.FP32, MemoryFormat.CHANNELS_LAST_3D, **recipe)
    )


@pytest.mark.parametrize("layout", MemoryFormat)
def test_restored_moments_lie_in_memory_as_adams_own(
    tmp_path: Path, cases: tuple[PreparedCase, ...], layout: MemoryFormat
) -> None:
    first, second = build_trainer(Precision.FP32, layout), build_trainer(Precision.FP32, layout)
    train(first, cases, last_step=2)
    restore_optimizer(second.optimizer, second.parameters, through_disk(first, tmp_path).optimizer)
    for name, parameter in first.parameters.items():
        own, restored = first.optimizer.state[parameter], second.optimizer.state[second.parameters[name]]
        assert {key: own[key].stride() for key in own} == {key: restored[key].stride() for key in restored}


def test_training_on_does_not_change_what_was_restored_from(cases: tuple[PreparedCase, ...]) -> None:
    first = build_trainer(Precision.FP32, MemoryFormat.CONTIGUOUS)
    train(first, cases, last_step=1)
    saved = optimizer_state(first.optimizer, first.parameters)
    before = {name: value.clone() for name, value in saved.items()}
    second = build_trainer(Precision.FP32, MemoryFormat.CONTIGUOUS)
    restore_optimizer(second.optimizer, second.parameters, saved)
    train(second, cases, first_step=1, last_step=2)
    assert not [name for name in saved if not torch.equal(saved[name], before[name])]


def test_a_parameter_without_saved_moments_starts_afresh(cases: tuple[PreparedCase, ...]) -> None:
    first = build_trainer(Precision.FP32, MemoryFormat.CONTIGUOUS)
    train(first, cases, last_step=2)
    saved = optimizer_state(first.optimizer, first.parameters)
    joined = {name: value for name, value in saved.items() if "heads.liver" not in name}
    second = build_trainer(Precision.FP32, MemoryFormat.CONTIGUOUS)
    restore_optimizer(second.optimizer, second.parameters, joined)
    train(second, cases, first_step=2)
    steps = {
        name: int(value)
        for name, value in optimizer_state(second.optimizer, second.parameters).items()
        if name.startswith("step/")
    }
    assert {steps[name] for name in steps if "heads.liver" in name} == {1}
    assert {steps[name] for name in steps if "representation" in name} == {3}


def test_a_frozen_representation_keeps_its_statistics(cases: tuple[PreparedCase, ...]) -> None:
    trainer = build_trainer(Precision.FP32, MemoryFormat.CONTIGUOUS)
    trainer.model.representation.requires_grad_(False)
    before = snapshot(trainer.model.representation)
    train(trainer, cases)
    after = snapshot(trainer.model.representation)
    assert not [name for name in before if not torch.equal(before[name], after[name])]


def test_the_statistics_of_a_head_move_while_the_representation_is_frozen(
    cases: tuple[PreparedCase, ...],
) -> None:
    trainer = build_trainer(Precision.FP32, MemoryFormat.CONTIGUOUS)
    trainer.model.representation.requires_grad_(False)
    before = snapshot(trainer.model.heads["liver"])
    train(trainer, cases)
    after = snapshot(trainer.model.heads["liver"])
    moved = [name for name in before if name.endswith("running_mean")]
    assert moved
    assert not [name for name in moved if torch.equal(before[name], after[name])]


def test_the_proximal_term_takes_part_in_the_steps(cases: tuple[PreparedCase, ...]) -> None:
    losses = []
    for mu in (0.0, 2.0):
        trainer = build_trainer(Precision.FP32, MemoryFormat.CONTIGUOUS)
        name = next(iter(trainer.parameters))
        trainer.anchor, trainer.proximal_mu = {name: trainer.parameters[name].detach() + 1}, mu
        seen: list[float] = []
        start = Position(1, 1, 0, 2)
        trainer.train_epoch(
            trainer.batches(cases, start, epochs=1),
            start,
            rate=0.0,
            on_step=lambda at, loss, patches, seen=seen: seen.append(float(loss)),
        )
        losses.append(seen[0])
    assert losses[1] - losses[0] == pytest.approx(trainer.parameters[name].numel(), rel=1e-5)


def test_a_gradient_longer_than_its_bound_is_scaled_to_it(cases: tuple[PreparedCase, ...]) -> None:
    gradients = []
    for longest in (None, 1e-3):
        trainer = build_trainer(Precision.FP32, MemoryFormat.CONTIGUOUS, max_gradient_norm=longest)
        train(trainer, cases, last_step=1)
        given = {name: value.grad for name, value in trainer.parameters.items()}
        gradients.append({name: grad.clone() for name, grad in given.items() if grad is not None})
    plain, clipped = gradients
    length = math.sqrt(sum(float(value.double().pow(2).sum()) for value in plain.values()))
    assert length > 1e-2
    for name, value in plain.items():
        torch.testing.assert_close(clipped[name], value * (1e-3 / length), rtol=1e-4, atol=1e-9)


def test_a_gradient_shorter_than_its_bound_is_left_alone(cases: tuple[PreparedCase, ...]) -> None:
    states = []
    for longest in (None, 1e6):
        trainer = build_trainer(Precision.FP32, MemoryFormat.CONTIGUOUS, max_gradient_norm=longest)
        train(trainer, cases, last_step=1)
        states.append(snapshot(trainer.model))
    assert not [name for name in states[0] if not torch.equal(states[0][name], states[1][name])]
