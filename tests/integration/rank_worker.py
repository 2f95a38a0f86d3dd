"""A process of several that train together, as torch's launcher starts it: `rank_worker.py FOLDER`.

The leader writes FOLDER/answer.json: how far training together ends from training alone in FP64, and digests
of a model with the shipped defaults, trained at once, once more, and from a checkpoint in the middle.
"""

import hashlib
import json
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from builders.rig import small_federation
from builders.volumes import ORGANS, prepared_cases
from segviz_exchange.contract.choices import Augmentation, MemoryFormat, Norm, Precision
from segviz_exchange.contract.spec import FederationSpec, Model
from segviz_trainer.data.cache import PreparedCase
from segviz_trainer.network.device import Device
from segviz_trainer.network.segnet import build
from segviz_trainer.network.tensors import load, snapshot, to_arrays
from segviz_trainer.objectives.per_organ_head import PerOrganHead
from segviz_trainer.participation.follower import Follower, build_trainer
from segviz_trainer.training.checkpoint import Position
from segviz_trainer.training.optimizer import build_optimizer, restore_optimizer
from segviz_trainer.training.ranks import Build, Over, Ranks
from segviz_trainer.training.team import Team
from segviz_trainer.training.trainer import Trainer

STEPS = 50
SHORT = 6


def main() -> None:
    folder = Path(sys.argv[1])
    ranks = Ranks.join()
    if ranks.rank:
        torch.Tensor.float = torch.Tensor.double  # the loss casts to what is float32 in a federation
        Follower(ranks, exact).run()
        del torch.Tensor.float
        Follower(ranks, build_trainer).run()
        ranks.leave()
        return
    cases = prepared_cases(folder / "cases", (16, 16, 16), 7)
    answer: dict[str, object] = {"apart": apart(ranks, cases)}
    team = Team(ranks)
    answer["digests"] = [digest(team, cases), digest(team, cases), resumed(team, cases)]
    team.dismiss()
    (folder / "answer.json").write_text(json.dumps(answer), encoding="utf-8")


# --- FP64, InstanceNorm, SGD: together as alone -----------------------------------------------------------


@dataclass(frozen=True)
class Double(Device):
    def place(self, image: Tensor) -> Tensor:
        return image.double() if image.is_floating_point() else image


def exact(order: Build, tensors: Mapping[str, Tensor]) -> Trainer:
    training = order.spec.training
    device = Double(torch.device("cpu"), training)
    device.settle()
    net = build(order.spec, order.organs).double()
    load(net, tensors)
    parameters = dict(sorted(net.named_parameters()))
    optimizer = torch.optim.SGD(parameters.values(), lr=0.1, momentum=0.9)
    return Trainer(net, parameters, optimizer, PerOrganHead(ORGANS), device, "basel", seed=1)


def apart(ranks: Ranks, cases: tuple[PreparedCase, ...]) -> float:
    spec = federation(Norm.INSTANCE, Precision.FP32)
    kept, torch.Tensor.float = torch.Tensor.float, torch.Tensor.double
    ended = []
    for team in (None, Team(ranks)):
        order = order_of(spec)
        trainer = exact(order, build(spec, ORGANS).double().state_dict())
        trainer.team = team
        if team is not None:
            team.build(order, trainer.model)
        with trainer.gathered():
            run(trainer, cases, STEPS, rate=0.05)
        ended.append(snapshot(trainer.model))
    ranks.tell(Over())
    torch.Tensor.float = kept
    return max(float((ended[0][name] - ended[1][name]).abs().max()) for name in ended[0])


# --- the shipped defaults: bit for bit --------------------------------------------------------------------


def digest(team: Team, cases: tuple[PreparedCase, ...]) -> str:
    trainer = shipped(team)
    with trainer.gathered():
        run(trainer, cases, SHORT)
    return digest_of(trainer)


def resumed(team: Team, cases: tuple[PreparedCase, ...]) -> str:
    before = shipped(team)
    with before.gathered():
        run(before, cases, SHORT // 2)
    after = shipped(team)
    load(after.model, snapshot(before.model))
    restore_optimizer(after.optimizer, after.parameters, before.moments())
    with after.gathered():
        run(after, cases, SHORT, first=SHORT // 2)
    return digest_of(after)


def shipped(team: Team) -> Trainer:
    spec = federation(Norm.BATCH, Precision.BF16)
    device = Device.choose(spec.training).settle()
    net = device.move(build(spec, ORGANS))
    parameters = dict(sorted(net.named_parameters()))
    team.build(order_of(spec), net)
    return Trainer(
        net,
        parameters,
        build_optimizer(parameters, spec.training.optimizer),
        PerOrganHead(ORGANS),
        device,
        "basel",
        seed=1,
        team=team,
    )


def federation(norm: Norm, precision: Precision) -> FederationSpec:
    base = small_federation(model=Model((4, 8, 8), (2, 2), 1, norm, 1))
    training = msgspec.structs.replace(
        base.training,
        crops_per_volume=3,
        augmentation=Augmentation.DEFAULT,
        precision=precision,
        memory_format=MemoryFormat.CHANNELS_LAST_3D,
    )
    return msgspec.structs.replace(base, training=training)


def order_of(spec: FederationSpec) -> Build:
    trained = tuple(sorted(name for name, _ in build(spec, ORGANS).named_parameters()))
    return Build(spec, spec, "basel", ORGANS, ORGANS, 0, trained)


def run(
    trainer: Trainer, cases: tuple[PreparedCase, ...], last: int, first: int = 0, rate: float = 1e-3
) -> None:
    """Four steps an epoch, the last of them with half as many patches."""
    start = Position(1, 1, first // 4, first % 4)
    done = first
    with closing(trainer.batches(cases, start, 1 + last // 4)) as batches:
        while done < last:
            steps = min(4 - start.step, last - done)
            trainer.train_epoch(islice(batches, steps), start, rate, on_step=lambda at, loss, patches: None)
            done += steps
            start = Position(1, 1, start.epoch + 1, 0)


def digest_of(trainer: Trainer) -> str:
    tensors = {**snapshot(trainer.model), **trainer.moments()}
    sha256 = hashlib.sha256()
    for _, value in sorted(to_arrays(tensors).items()):
        sha256.update(value.tobytes())
    return sha256.hexdigest()


if __name__ == "__main__":
    main()
