"""One site's process in one federation: what its round loop and its outcome work with."""

import logging
from dataclasses import dataclass, field
from functools import cached_property

from segviz_exchange.contract import keys
from segviz_exchange.contract.choices import Start
from segviz_exchange.contract.ledger import Ledger
from segviz_exchange.contract.progress import Phase
from segviz_exchange.contract.records import Closing, Control, Round
from segviz_exchange.contract.spec import FederationSpec
from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.stopping import Stop
from segviz_exchange.stores.store import Store
from segviz_trainer.data.dataset import SiteData
from segviz_trainer.inference.options import InferenceOptions
from segviz_trainer.inference.predictor import Predictor
from segviz_trainer.network import segnet as network
from segviz_trainer.network.device import Device
from segviz_trainer.objectives.by_name import Setting, build_loss
from segviz_trainer.participation.federated import FederatedModel
from segviz_trainer.privacy.account import Account
from segviz_trainer.privacy.updates import PrivateUpdates
from segviz_trainer.process.heartbeat import Heartbeat
from segviz_trainer.process.pulse import Pulse
from segviz_trainer.process.site import Site
from segviz_trainer.training.checkpoint import Checkpoints, Position
from segviz_trainer.training.epochs import EpochSoFar
from segviz_trainer.training.optimizer import build_optimizer
from segviz_trainer.training.ranks import Build
from segviz_trainer.training.team import Team
from segviz_trainer.training.trainer import Trainer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Participant:
    """What it holds of the federation is what round 0 was made for, and never changes.

    What may change, a round's control, is handed to those who need it.
    """

    store: Store
    site: Site
    data: SiteData
    heartbeat: Heartbeat
    stop: Stop
    pulse: Pulse = field(default_factory=Pulse)
    team: Team | None = None
    """The processes of this Pod's other devices."""

    @cached_property
    def ledger(self) -> Ledger:
        """What the aggregator writes, listed once a turn; other records too are read once."""
        return Ledger(self.store, (keys.GLOBAL,))

    @cached_property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.site.state / "checkpoints")

    @cached_property
    def initial(self) -> Round:
        """The record of round 0. Before it is there, only what needs no network can be asked for."""
        return self.ledger.read(keys.round_record(0), Round)

    @cached_property
    def founding(self) -> Control:
        """The control of round 0: until then the model may be edited, from then on it is this one's."""
        return self.ledger.read(keys.control(self.initial.control), Control)

    @cached_property
    def device(self) -> Device:
        device = Device.choose(self.founding.spec.training).settle()
        if device.precision is not device.training.precision:
            log.info("computes in %s: this processor has no instructions for BF16", device.precision)
        return device

    @cached_property
    def organs(self) -> tuple[str, ...]:
        """What the network has heads or channels for.

        The channels of a multi-organ head are those of round 0, whoever joins or leaves.

        Raises:
            Refusal: an organ of this site has no channel.
        """
        if not self.founding.shared_head:
            return self.site.organs
        organs = self.founding.organs
        if unknown := sorted(set(self.site.organs) - set(organs)):
            raise Refusal(
                f"{self.alias}: spec.dataSets: the shared head was made for {', '.join(organs)}, not for "
                f"{', '.join(unknown)}. Start a new federation with this site in it."
            )
        return organs

    @cached_property
    def model(self) -> FederatedModel:
        net = self.device.move(network.build(self.founding.spec, self.organs))
        state = self.site.state
        return FederatedModel(self.store, self.alias, net, self.initial, state / "global", state / "private")

    def check_start(self) -> None:
        """Hold round 0 against what this site has seeded itself: who offered it may have lied.

        Raises:
            Refusal: it is another model than any control so far would seed.
        """
        if self.founding.spec.model.start is Start.PRETRAINED:
            return
        fault = self.model.start_difference()
        # Offers made under a control before count, too.
        for number in range(self.founding.number - 1, 0, -1):
            if fault is None:
                return
            spec = self.ledger.read(keys.control(number), Control).spec
            fault = self.model.start_difference(network.build(spec, self.organs).state_dict()) and fault
        if fault is None:
            return
        closing = self.ledger.find(keys.closing(0), Closing)
        participants = closing.participants if closing else ()
        offered = [each.site for each in participants if each.blob == self.initial.blob]
        raise Refusal(
            f"{self.alias}: the start model that {', '.join(offered) or 'nobody'} offered is not the seeded "
            f"one: {fault}. Run one build of torch at all sites, or start a new federation without that site."
        )

    @cached_property
    def predictor(self) -> Predictor:
        """Of a round: each is scored, and mirroring would cost a forward pass more for every flip."""
        options = InferenceOptions(self.founding.spec.evaluation.overlap)
        return Predictor(self.model.net, self.organs, self.device, options)

    @cached_property
    def final_predictor(self) -> Predictor:
        options = InferenceOptions.of(self.founding.spec)
        return Predictor(self.model.net, self.organs, self.device, options)

    @cached_property
    def private_updates(self) -> PrivateUpdates | None:
        """None where the site neither clips nor adds noise."""
        policy, folder = self.site.spec.privacy, self.site.state / "privacy"
        if policy is None:
            return None
        cases = (*self.data.train, *self.data.validation, *self.data.test)
        contents = frozenset(case.content for case in cases)
        account = Account(self.site.account, self.site.federation, self.alias, contents)
        return PrivateUpdates(policy, folder, account, self.store, self.alias, self.stop)

    @property
    def tells_loss(self) -> bool:
        """A loss is a number of the data's that no noise covers."""
        return self.site.spec.privacy is None

    @property
    def alias(self) -> str:
        return self.site.alias

    def build_trainer(self, spec: FederationSpec, round_: int) -> Trainer:
        """A fresh optimizer over what is not frozen; the model holds the global model of `round_`."""
        named = sorted(self.model.net.named_parameters())
        parameters = {name: value for name, value in named if value.requires_grad}
        if self.team is not None:
            trained = tuple(parameters)
            own = self.site.organs
            order = Build(self.founding.spec, spec, self.alias, own, self.organs, round_, trained)
            self.team.build(order, self.model.net)
        return Trainer(
            model=self.model.net,
            parameters=parameters,
            optimizer=build_optimizer(parameters, spec.training.optimizer),
            loss=build_loss(Setting(spec, self.site.organs, self.organs, round_, self.model.net)),
            device=self.device,
            site=self.alias,
            seed=spec.seed,
            pulse=self.pulse,
            team=self.team,
        )

    def report(self, phase: Phase, at: Position, epoch: EpochSoFar) -> bool:
        """A heartbeat from within training; says whether one was due."""
        if not self.heartbeat.is_due(phase):
            return False  # before the loss is read, which waits for the device
        return self.heartbeat.beat(
            phase,
            round=at.round,
            epoch=at.epoch,
            step=at.step,
            steps=epoch.steps,
            loss=epoch.loss if self.tells_loss else None,
            epoch_seconds=epoch.seconds,
            samples_per_second=epoch.samples_per_second,
        )
