"""Local training: one visible loop."""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim.optimizer import Optimizer

from segviz_trainer.batches.prefetch import Prefetch
from segviz_trainer.batches.sampling import Batch, batch_makers
from segviz_trainer.data.cache import PreparedCase
from segviz_trainer.network.device import Device
from segviz_trainer.network.segnet import SegNet
from segviz_trainer.objectives.by_name import Loss
from segviz_trainer.objectives.proximal import proximal_term
from segviz_trainer.process.pulse import Pulse
from segviz_trainer.training.checkpoint import Position
from segviz_trainer.training.optimizer import optimizer_state
from segviz_trainer.training.team import Team


@dataclass
class Trainer:
    """A model under local training, and everything that its epochs depend on."""

    model: SegNet
    parameters: Mapping[str, Tensor]
    """What the optimizer moves; the rest is frozen."""
    optimizer: Optimizer
    loss: Loss
    device: Device
    site: str
    seed: int
    anchor: Mapping[str, Tensor] = field(default_factory=dict)
    """FedProx's global parameters, by name; empty for every other algorithm."""
    proximal_mu: float = 0.0
    pulse: Pulse = field(default_factory=Pulse)
    team: Team | None = None
    """The other devices' processes; none where this one trains alone."""

    def gathered(self) -> AbstractContextManager[None]:
        """A stretch of steps, in which the team, if there is one, takes part."""
        return nullcontext() if self.team is None else self.team.gathered(self)

    def moments(self) -> dict[str, Tensor]:
        return optimizer_state(self.optimizer, self.parameters)

    def batches(
        self, cases: Sequence[PreparedCase], start: Position, epochs: int
    ) -> Generator[Batch, None, None]:
        """The batches from `start` to the end of epoch `epochs`, made ahead: close it if it is left early."""
        at = self.device.place_at
        # Shares of a team's batch go out from the host.
        resampled_on = at if at.type != "cpu" and self.team is None else None
        makers = (
            partial(self._staged, make)
            for epoch in range(start.epoch, epochs)
            for make in batch_makers(
                cases,
                self.device.training,
                self.seed,
                self.site,
                start.round,
                epoch,
                start.attempt,
                start.step if epoch == start.epoch else 0,
                resampled_on,
            )
        )
        return Prefetch.beside(at).run(makers)

    def _staged(self, make: Callable[[], Batch]) -> Batch:
        return make().to(self.device.stage)

    def train_epoch(
        self,
        batches: Iterable[Batch],
        start: Position,
        rate: float,
        *,
        on_step: Callable[[Position, Tensor, int], None],
    ) -> None:
        """Run the steps of one epoch from `start.step` on.

        Args:
            batches: those of the epoch's steps that are left.
            start: the epoch, and how many of its steps are already in the model.
            rate: the epoch's learning rate.
            on_step: told after each step what has been done, the step's loss and its patches; may raise.
                To read the loss is to wait for the device.
        """
        self.train_mode()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        for step, batch in enumerate(self.pulse.timed(batches), start=start.step + 1):
            loss = self._step(batch) if self.team is None else self._step_together(batch, self.team, rate)
            self.pulse.samples += len(batch.image)
            on_step(Position(start.round, start.attempt, start.epoch, step), loss, len(batch.image))

    def _step_together(self, batch: Batch, team: Team, rate: float) -> Tensor:
        return team.mean(self.step(team.share(batch, rate), team.loss))

    def _step(self, batch: Batch) -> Tensor:
        return self.step(batch, lambda placed: self.loss(self.model, placed))

    def step(self, batch: Batch, loss_of: Callable[[Batch], Tensor]) -> Tensor:
        """One step down the gradient of `loss_of`, which is told the batch where the model is."""
        placed = batch.to(self.device.place)
        with self.device.autocast():
            loss = loss_of(placed)
        if self.anchor:
            loss = loss + proximal_term(self.model, self.anchor, self.proximal_mu)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        longest = self.device.training.max_gradient_norm
        if longest is not None:
            clip_grad_norm_(list(self.parameters.values()), longest)
        self.optimizer.step()
        return loss.detach()

    def train_mode(self) -> None:
        self.model.train()
        if not any(parameter.requires_grad for parameter in self.model.representation.parameters()):
            # Frozen means its statistics too: BatchNorm in train mode would go on moving them.
            self.model.representation.eval()
