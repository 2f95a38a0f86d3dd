"""A run of epochs: where it goes on, at which rate, and which checkpoints it leaves."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from builders.rig import Patience, small_federation
from builders.volumes import ORGANS, prepared_cases
from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.stopping import Stopped
from segviz_trainer.data.cache import PreparedCase
from segviz_trainer.network.device import Device
from segviz_trainer.network.segnet import build
from segviz_trainer.objectives.per_organ_head import PerOrganHead
from segviz_trainer.training.checkpoint import Checkpoint, Checkpoints, Position
from segviz_trainer.training.epochs import EpochRun
from segviz_trainer.training.optimizer import build_optimizer
from segviz_trainer.training.trainer import Trainer

SHAPE = (16, 16, 16)
STEPS = 2
"""Of an epoch: four cases, a crop of each, two at a time."""
LAST = Position(1, 1, epoch=3, step=0)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> tuple[PreparedCase, ...]:
    return prepared_cases(tmp_path_factory.mktemp("cases"), SHAPE, 4)


def build_trainer() -> Trainer:
    """Another process's, as far as torch goes."""
    federation = small_federation()
    device = Device.choose(federation.training).settle()
    net = device.move(build(federation, ORGANS))
    parameters = dict(sorted(net.named_parameters()))
    optimizer = build_optimizer(parameters, federation.training.optimizer)
    return Trainer(net, parameters, optimizer, PerOrganHead(ORGANS), device, "basel", seed=1)


def run_of(
    cases: tuple[PreparedCase, ...],
    folder: Path,
    rate: Callable[[int], float] = lambda epoch: 1e-2,
    steps_left: int | None = None,
) -> tuple[EpochRun, list[Position]]:
    """Three epochs of round 1, and what is told of them as they run."""
    told: list[Position] = []
    run = EpochRun(
        trainer=build_trainer(),
        cases=cases,
        checkpoints=Checkpoints(folder),
        round=1,
        attempt=1,
        epochs=3,
        rate=rate,
        moments={},
        stop=Patience(steps_left),
        on_progress=lambda at, epoch: told.append(at),
    )
    return run, told


def test_a_run_stopped_within_an_epoch_goes_on_to_the_bits_of_an_unbroken_one(
    tmp_path: Path, cases: tuple[PreparedCase, ...]
) -> None:
    unbroken = run_of(cases, tmp_path / "unbroken")[0].finish()
    with pytest.raises(Stopped):
        run_of(cases, tmp_path / "broken", steps_left=STEPS)[0].finish()
    resumed, told = run_of(cases, tmp_path / "broken")
    reached = resumed.finish()
    assert told[0] == Position(1, 1, epoch=1, step=2)
    for expected, got in ((unbroken.model, reached.model), (unbroken.optimizer, reached.optimizer)):
        assert expected.keys() == got.keys()
        assert not [name for name in expected if not torch.equal(expected[name], got[name])]
    assert reached.loss == unbroken.loss


def test_a_finished_run_trains_no_step_more(tmp_path: Path, cases: tuple[PreparedCase, ...]) -> None:
    run_of(cases, tmp_path)[0].finish()
    again, told = run_of(cases, tmp_path)
    assert again.finish().position == LAST
    assert told == []


def test_every_epoch_has_its_own_rate(tmp_path: Path, cases: tuple[PreparedCase, ...]) -> None:
    run, _ = run_of(cases, tmp_path, rate=lambda epoch: 10.0 ** -(epoch + 2))
    rates: list[float] = []
    run.on_progress = lambda at, epoch: rates.append(run.trainer.optimizer.param_groups[0]["lr"])
    run.finish()
    assert rates == [1e-2] * STEPS + [1e-3] * STEPS + [1e-4] * STEPS


def test_a_resumed_epoch_has_the_rate_of_its_number(tmp_path: Path, cases: tuple[PreparedCase, ...]) -> None:
    with pytest.raises(Stopped):
        run_of(cases, tmp_path, steps_left=STEPS)[0].finish()
    asked: list[int] = []
    run_of(cases, tmp_path, rate=lambda epoch: asked.append(epoch) or 1e-2)[0].finish()
    assert asked == [1, 2]


def test_the_newest_checkpoint_and_those_to_keep_remain(
    tmp_path: Path, cases: tuple[PreparedCase, ...]
) -> None:
    run, _ = run_of(cases, tmp_path)
    base, older = Position(0, 1, epoch=3, step=0), Position(0, 1, epoch=2, step=0)
    for position in (older, base):
        run.checkpoints.save(Checkpoint(position, {}, {}, 0.0, 0.0, 0.0))
    run.finish(keep=(base,))
    assert run.checkpoints.positions() == [base, LAST]


def test_a_step_that_does_not_fit_names_what_to_lower(
    tmp_path: Path, cases: tuple[PreparedCase, ...]
) -> None:
    def out_of_memory(model: object, batch: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    run, _ = run_of(cases, tmp_path)
    run.trainer.loss = out_of_memory
    with pytest.raises(Refusal) as told:
        run.finish()
    assert str(told.value) == (
        "spec.training: a step of 2 patches of 16×16×16 does not fit into the device's memory. Lower "
        "batchSize (2) or cropsPerVolume (1) first, then the patch; or give the trainer a GPU with more "
        "memory that nothing else uses."
    )
