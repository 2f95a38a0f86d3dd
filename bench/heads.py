"""Why a head per organ can lose: two sites whose heads start equal, beside two whose heads do not.

    python bench/heads.py --data DIR

FedAvg on MSD Task04_Hippocampus, anterior at one site, posterior at the other, as in examples/hippocampus;
the only difference is the heads' initialisation. Prints, by round, the mean Dice of the last cases of the
folder just before and just after the average, and how far the sites' representations have drifted apart.
"""

import math
import tempfile
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from segviz_exchange.contract import choices
from segviz_exchange.contract.records import Dice
from segviz_exchange.contract.sharing import COUNTER, REPRESENTATION
from segviz_exchange.contract.spec import FederationSpec
from segviz_operator.manifests.manifest import load
from segviz_trainer.data.cache import PreparedCase
from segviz_trainer.data.dataset import load_evaluation_data
from segviz_trainer.inference.options import InferenceOptions
from segviz_trainer.inference.predictor import Predictor
from segviz_trainer.network import segnet as network
from segviz_trainer.network.device import Device
from segviz_trainer.network.segnet import SegNet
from segviz_trainer.objectives.by_name import Setting, build_loss
from segviz_trainer.process.site import Site
from segviz_trainer.scoring.cases import score, summary
from segviz_trainer.training.checkpoint import Position
from segviz_trainer.training.learning_rate import learning_rate
from segviz_trainer.training.optimizer import build_optimizer
from segviz_trainer.training.trainer import Trainer

EXAMPLE = Path(__file__).parents[1] / "examples/hippocampus"


@click.command()
@click.option("--data", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--rounds", default=15, show_default=True)
@click.option("--cases", default=20, show_default=True, help="External cases scored.")
def main(data: Path, rounds: int, cases: int) -> None:
    """Train both ways, one after the other, and print the table."""
    table = Table(
        "heads start", "round", "before the average", "after it", "drift", title="Dice anterior/posterior"
    )
    with tempfile.TemporaryDirectory() as folder:
        for start in ("equal", "each its own"):
            for row in federate(Path(folder), data, rounds, cases, equal_heads=start == "equal"):
                table.add_row(start, *row)
    Console().print(table)


def federate(
    folder: Path, data: Path, rounds: int, shown: int, *, equal_heads: bool
) -> list[tuple[str, str, str, str]]:
    manifests = load([EXAMPLE])
    federation = settings(manifests.federations[0].spec, rounds)
    sites = {each.name: Site(each.name, each.spec, data, folder / each.name) for each in manifests.sites}
    external = sites.pop("external")
    scored = load_evaluation_data(external, federation, lambda done, total, case: None)[:shown]
    trainers = {alias: build(site, federation) for alias, site in sorted(sites.items())}
    cases = {
        alias: load_evaluation_data(site, federation, lambda done, total, case: None)
        for alias, site in sites.items()
    }
    first, second = trainers.values()
    if equal_heads:
        (theirs,), (own,) = first.model.heads.values(), second.model.heads.values()
        own.load_state_dict(theirs.state_dict())
    rows = []
    for round_ in range(1, rounds + 1):
        rate = learning_rate(federation.training.learning_rate, round_ - 1, rounds)
        for alias, trainer in trainers.items():
            at = Position(round_, 1, 0, 0)
            batches = trainer.batches(cases[alias], at, epochs=1)
            trainer.train_epoch(batches, at, rate, on_step=lambda position, loss, size: None)
        if round_ % 5 == 0:
            before = show(trainers, external, scored)
            drift = average(first.model, second.model)
            rows.append((str(round_), before, show(trainers, external, scored), f"{drift:.3f}"))
        else:
            average(first.model, second.model)
    return rows


def settings(shipped: FederationSpec, rounds: int) -> FederationSpec:
    """The trial in which the head per organ lost: BatchNorm, learning rate 1e-3."""
    return msgspec.structs.replace(
        shipped,
        rounds=rounds,
        objective=choices.Objective.PER_ORGAN_HEAD,
        model=msgspec.structs.replace(shipped.model, norm=choices.Norm.BATCH),
        training=msgspec.structs.replace(shipped.training, learning_rate=1e-3),
    )


def build(site: Site, federation: FederationSpec) -> Trainer:
    device = Device.choose(federation.training).settle()
    net = device.move(network.build(federation, site.organs))
    parameters = dict(net.named_parameters())
    loss = build_loss(Setting(federation, site.organs, site.organs, 0, net))
    optimizer = build_optimizer(parameters, federation.training.optimizer)
    return Trainer(net, parameters, optimizer, loss, device, site.alias, federation.seed)


def average(one: SegNet, other: SegNet) -> float:
    """FedAvg of the representation in place; returns the relative distance that there was."""
    groups = network.groups_of(one)
    states = one.state_dict(), other.state_dict()
    apart = whole = 0.0
    for name in states[0]:
        if (group := groups[name]).block != REPRESENTATION or group.kind == COUNTER:
            continue
        a, b = states[0][name], states[1][name]
        apart += float((a - b).pow(2).sum())
        whole += float(a.pow(2).sum())
        mean = ((a.double() + b.double()) / 2).to(a.dtype)
        a.copy_(mean)
        b.copy_(mean)
    return math.sqrt(apart / whole)


def show(trainers: dict[str, Trainer], external: Site, cases: tuple[PreparedCase, ...]) -> str:
    dice: dict[str, Dice] = {}
    for alias, trainer in trainers.items():
        predictor = Predictor(trainer.model, (alias,), trainer.device, InferenceOptions(overlap=0.5))
        dice |= summary(score(predictor, cases, external.organs, (alias,)))
    return "/".join(f"{dice[organ].mean:.2f}" for organ in sorted(dice))


if __name__ == "__main__":
    main()
