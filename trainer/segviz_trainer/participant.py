"""One site's process in one federation: what its round loop and its outcome work with."""

from dataclasses import dataclass

from segviz_exchange.records import Control, Phase
from segviz_exchange.stopping import Stop
from segviz_exchange.store import Store
from segviz_trainer import model as network
from segviz_trainer.checkpoint import Checkpoints, Position
from segviz_trainer.dataset import SiteData
from segviz_trainer.epochs import EpochSoFar
from segviz_trainer.federated import FederatedModel
from segviz_trainer.heartbeat import Heartbeat
from segviz_trainer.inference import Predictor
from segviz_trainer.objective import build_loss
from segviz_trainer.site import Site
from segviz_trainer.train import Device, Trainer, build_optimizer


@dataclass
class Participant:
    store: Store
    site: Site
    data: SiteData
    heartbeat: Heartbeat
    stop: Stop
    control: Control
    """The control that the newest round record names."""

    def __post_init__(self) -> None:
        spec = self.control.spec
        self.device = Device.choose(spec.training)
        organs = self.control.organs if self.control.shared_head else self.site.organs
        net = self.device.move(network.build(spec, organs))
        state = self.site.state
        self.checkpoints = Checkpoints(state / "checkpoints")
        self.model = FederatedModel(self.store, self.site.alias, net, state / "global", state / "private")
        self.predictor = Predictor(net, organs, self.device, spec.evaluation.overlap)

    @property
    def alias(self) -> str:
        return self.site.alias

    def build_trainer(self) -> Trainer:
        """A fresh optimizer over what is not frozen."""
        spec = self.control.spec
        named = sorted(self.model.net.named_parameters())
        parameters = {name: value for name, value in named if value.requires_grad}
        return Trainer(
            model=self.model.net,
            parameters=parameters,
            optimizer=build_optimizer(parameters),
            loss=build_loss(spec.objective, self.site.organs, self.control.organs),
            device=self.device,
            site=self.alias,
            seed=spec.seed,
        )

    def report(self, phase: Phase, at: Position, epoch: EpochSoFar) -> bool:
        """A heartbeat from within training; says whether one was due."""
        return self.heartbeat.beat(
            phase,
            round=at.round,
            epoch=at.epoch,
            step=at.step,
            steps=epoch.steps,
            loss=epoch.loss,
            epoch_seconds=epoch.seconds,
            samples_per_second=epoch.samples_per_second,
        )
