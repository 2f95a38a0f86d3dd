"""A run of epochs that may be killed at any step and goes on as if it had not been."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from segviz_exchange.process.stopping import Stop, Stopped
from segviz_trainer.batches.sampling import Batch, steps_per_epoch
from segviz_trainer.data.cache import PreparedCase
from segviz_trainer.network.tensors import load, snapshot
from segviz_trainer.training.checkpoint import Checkpoint, Checkpoints, Position
from segviz_trainer.training.memory import naming_what_to_lower
from segviz_trainer.training.optimizer import optimizer_state, restore_optimizer
from segviz_trainer.training.trainer import Trainer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EpochSoFar:
    """What is told after each step."""

    steps: int
    """In the whole epoch."""
    steps_done: int
    losses: Tensor
    """Sum over the steps done, where the model is."""
    seconds: float
    samples_per_second: float

    @property
    def loss(self) -> float:
        """Mean over the steps done. To read it is to wait for the device, so not at every step."""
        return float(self.losses) / self.steps_done


@dataclass
class EpochRun:
    """The epochs of one attempt at one round, with a checkpoint after each and at a stop."""

    trainer: Trainer
    cases: Sequence[PreparedCase]
    checkpoints: Checkpoints
    round: int
    attempt: int
    epochs: int
    rate: Callable[[int], float]
    """Learning rate of an epoch of this run, counted from 0."""
    moments: Mapping[str, Tensor]
    """The optimizer's state at the start; empty for a fresh one."""
    stop: Stop
    on_progress: Callable[[Position, EpochSoFar], object]

    def finish(self, keep: tuple[Position, ...] = ()) -> Checkpoint:
        """Train what is left to train.

        Args:
            keep: positions whose checkpoints stay beside this run's newest.

        Returns:
            The checkpoint at the end of the last epoch; the model is in that state.

        Raises:
            Stopped: the process was asked to stop; the step that was running is in the checkpoint.
            Refusal: a step does not fit into the device's memory.
        """
        reached = self._resume()
        # One stream for all epochs: the next one's first batch is made during this one's last steps.
        made = self.trainer.batches(self.cases, reached.position, self.epochs)
        fits = naming_what_to_lower(self.trainer.device.training)
        with closing(made) as batches, self.trainer.gathered(), fits:
            while reached.position.epoch < self.epochs:
                reached = self._epoch(reached, batches)
                self.checkpoints.save(reached)
                self.checkpoints.keep(*keep, reached.position)
                at = reached.position
                log.info("round %d epoch %d/%d: loss %.4f", at.round, at.epoch, self.epochs, reached.loss)
        return reached

    def _resume(self) -> Checkpoint:
        reached = self.checkpoints.of(self.round, self.attempt)
        if reached is None:
            restore_optimizer(self.trainer.optimizer, self.trainer.parameters, self.moments)
            start = Position(self.round, self.attempt, epoch=0, step=0)
            return Checkpoint(start, {}, {}, loss=0.0, loss_sum=0.0, seconds=0.0)
        load(self.trainer.model, reached.model)
        restore_optimizer(self.trainer.optimizer, self.trainer.parameters, reached.optimizer)
        return reached

    def _epoch(self, start: Checkpoint, batches: Iterator[Batch]) -> Checkpoint:
        steps = steps_per_epoch(len(self.cases), self.trainer.device.training)
        began = time.monotonic()
        # Summed on the device: a loss read at every step would make the device wait for the next launch.
        losses = torch.tensor(start.loss_sum, dtype=torch.float64, device=self.trainer.device.place_at)
        patches = 0

        def on_step(at: Position, loss: Tensor, size: int) -> None:
            nonlocal patches
            losses.add_(loss)
            patches += size
            seconds = time.monotonic() - began
            self.on_progress(at, EpochSoFar(steps, at.step, losses, seconds, patches / seconds))
            if self.stop.requested:
                self.checkpoints.save(
                    self._checkpoint(at, start.loss, float(losses), start.seconds + seconds)
                )
                raise Stopped

        rest = islice(batches, steps - start.position.step)
        self.trainer.train_epoch(rest, start.position, self.rate(start.position.epoch), on_step=on_step)
        end = Position(self.round, self.attempt, start.position.epoch + 1, step=0)
        return self._checkpoint(end, float(losses) / steps, 0.0, start.seconds + time.monotonic() - began)

    def _checkpoint(self, at: Position, loss: float, loss_sum: float, seconds: float) -> Checkpoint:
        moments = optimizer_state(self.trainer.optimizer, self.trainer.parameters)
        return Checkpoint(at, snapshot(self.trainer.model), moments, loss, loss_sum, seconds)
