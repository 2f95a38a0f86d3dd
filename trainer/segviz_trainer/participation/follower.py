"""A rank that does not lead: it trains what its leader trains, and knows neither the store nor the data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from segviz_trainer.batches.sampling import Batch
from segviz_trainer.network import segnet as network
from segviz_trainer.network.device import Device
from segviz_trainer.network.tensors import load
from segviz_trainer.objectives.by_name import Setting, build_loss
from segviz_trainer.training.optimizer import build_optimizer, restore_optimizer
from segviz_trainer.training.ranks import Begin, Build, End, Over, Ranks, Step, distributed
from segviz_trainer.training.trainer import Trainer


def build_trainer(order: Build, tensors: Mapping[str, Tensor]) -> Trainer:
    """The leader's trainer (`Participant.build_trainer`), with nothing of the site's but names of organs."""
    device = Device.choose(order.founding.training).settle()
    net = device.move(network.build(order.founding, order.organs))
    load(net, tensors)
    trained = set(order.trained)
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name in trained)
    parameters = {name: value for name, value in sorted(net.named_parameters()) if name in trained}
    return Trainer(
        model=net,
        parameters=parameters,
        optimizer=build_optimizer(parameters, order.spec.training.optimizer),
        loss=build_loss(Setting(order.spec, order.site_organs, order.organs, order.round, net)),
        device=device,
        site=order.site,
        seed=order.spec.seed,
    )


@dataclass(frozen=True)
class Follower:
    ranks: Ranks
    build: Callable[[Build, Mapping[str, Tensor]], Trainer] = build_trainer

    def run(self) -> None:
        """Do what the leader says until it is over."""
        trainer: Trainer | None = None
        while True:
            match self.ranks.hear():
                case Build() as order:
                    trainer = self.build(order, self.ranks.take())
                case Begin(mu) if trainer is not None:
                    self._train(trainer, mu)
                case Over():
                    return
                case order:
                    raise AssertionError(f"{order} where nothing is trained")

    def _train(self, trainer: Trainer, mu: float) -> None:
        restore_optimizer(trainer.optimizer, trainer.parameters, self.ranks.take())
        place = trainer.device.place_at
        trainer.anchor = {name: value.to(place) for name, value in self.ranks.take().items()}
        trainer.proximal_mu = mu
        module = distributed(trainer.model, trainer.loss, self.ranks.world)
        trainer.train_mode()
        while isinstance(order := self.ranks.hear(), Step):
            weight = order.shares[self.ranks.rank].weight
            batch = self.ranks.receive_share(order, trainer.device.training.patch)
            for group in trainer.optimizer.param_groups:
                group["lr"] = order.rate
            self.ranks.mean(trainer.step(batch, partial(_weighted, module, weight)))
        assert isinstance(order, End)


def _weighted(module: DistributedDataParallel, weight: float, batch: Batch) -> Tensor:
    loss: Tensor = module(batch)
    return loss * weight
