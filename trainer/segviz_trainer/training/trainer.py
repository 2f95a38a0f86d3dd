"""Local training: Adam, one cosine over all epochs of the federation, one visible loop."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from segviz_exchange.contract import choices, spec
from segviz_exchange.contract.records import Environment
from segviz_trainer.batches.sampling import Batch, epoch_batches
from segviz_trainer.data.cache import PreparedCase
from segviz_trainer.network.segnet import SegNet
from segviz_trainer.objectives.by_name import Loss
from segviz_trainer.objectives.proximal import proximal_term
from segviz_trainer.process.pulse import Pulse
from segviz_trainer.training.checkpoint import Position

MINIMUM_SHARE = 0.01
"""The cosine ends at this share of the first learning rate: an epoch at zero would only move statistics."""


@dataclass(frozen=True)
class Device:
    """Where and how the arithmetic runs: part of what an update's bits depend on."""

    place_at: torch.device
    training: spec.Training

    @classmethod
    def choose(cls, training: spec.Training) -> "Device":
        torch.set_num_threads(training.threads)
        torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
        # A debugging aid of that mode: it fills fresh memory with NaN, a tenth of a step (bench/train.py).
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        return cls(torch.device("cuda" if torch.cuda.is_available() else "cpu"), training)

    @property
    def memory_format(self) -> torch.memory_format:
        channels_last = self.training.memory_format is choices.MemoryFormat.CHANNELS_LAST_3D
        return torch.channels_last_3d if channels_last else torch.contiguous_format

    def autocast(self) -> torch.autocast:
        bf16 = self.training.precision is choices.Precision.BF16
        return torch.autocast(self.place_at.type, dtype=torch.bfloat16, enabled=bf16)

    def move(self, net: SegNet) -> SegNet:
        return net.to(self.place_at).to(memory_format=self.memory_format)

    def place(self, image: Tensor) -> Tensor:
        return image.to(self.place_at).contiguous(memory_format=self.memory_format)

    def environment(self) -> Environment:
        return Environment(
            torch=str(torch.__version__),
            device=torch.cuda.get_device_name() if self.place_at.type == "cuda" else "cpu",
            precision=self.training.precision,
            memory_format=self.training.memory_format,
            threads=self.training.threads,
        )


def learning_rate(first: float, epoch: int, epochs: int) -> float:
    """Cosine annealing (Loshchilov and Hutter, 2017, eq. 5) from `first` to a minimum at the last.

    A function of the position alone, so that no scheduler state can be lost or stepped wrongly.
    """
    minimum = first * MINIMUM_SHARE
    if epochs <= 1:
        return first
    return minimum + (first - minimum) * (1 + math.cos(math.pi * epoch / (epochs - 1))) / 2


def build_optimizer(parameters: Mapping[str, Tensor]) -> torch.optim.Adam:
    """Adam over named parameters; its groups' learning rate is set at every epoch."""
    return torch.optim.Adam(parameters.values(), fused=True)


def optimizer_state(optimizer: torch.optim.Adam, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        f"{key}/{name}": value.detach().clone()
        for name, parameter in parameters.items()
        for key, value in optimizer.state[parameter].items()
    }


def restore_optimizer(
    optimizer: torch.optim.Adam, parameters: Mapping[str, Tensor], saved: Mapping[str, Tensor]
) -> None:
    """Put saved moments back, in each parameter's own memory layout: fused Adam walks them together."""
    for name, parameter in parameters.items():
        if f"step/{name}" not in saved:
            continue
        optimizer.state[parameter] = {
            # A copy: Adam counts in place, and `saved` may be started from again.
            "step": saved[f"step/{name}"].to(parameter.device, copy=True),
            "exp_avg": torch.empty_like(parameter).copy_(saved[f"exp_avg/{name}"]),
            "exp_avg_sq": torch.empty_like(parameter).copy_(saved[f"exp_avg_sq/{name}"]),
        }


@dataclass
class Trainer:
    """A model under local training, and everything that its epochs depend on."""

    model: SegNet
    parameters: Mapping[str, Tensor]
    """What Adam moves; the rest is frozen."""
    optimizer: torch.optim.Adam
    loss: Loss
    device: Device
    site: str
    seed: int
    anchor: Mapping[str, Tensor] = field(default_factory=dict)
    """FedProx's global parameters, by name; empty for every other algorithm."""
    proximal_mu: float = 0.0
    pulse: Pulse = field(default_factory=Pulse)

    def train_epoch(
        self,
        cases: Sequence[PreparedCase],
        start: Position,
        rate: float,
        *,
        on_step: Callable[[Position, float, int], None],
    ) -> None:
        """Run the steps of one epoch from `start.step` on.

        Args:
            start: the epoch, and how many of its steps are already in the model.
            rate: the epoch's learning rate.
            on_step: told after each step what has been done, the step's loss and its patches; may raise.
        """
        self._train_mode()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batches = epoch_batches(
            cases,
            self.device.training,
            self.seed,
            self.site,
            start.round,
            start.epoch,
            start.attempt,
            start.step,
        )
        for step, batch in enumerate(self.pulse.timed(batches), start=start.step + 1):
            loss = self._step(batch)
            self.pulse.samples += len(batch.image)
            on_step(Position(start.round, start.attempt, start.epoch, step), loss, len(batch.image))

    def _step(self, batch: Batch) -> float:
        placed = batch.to(self.device.place)
        with self.device.autocast():
            loss = self.loss(self.model, placed)
        if self.anchor:
            loss = loss + proximal_term(self.model, self.anchor, self.proximal_mu)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return float(loss.detach())

    def _train_mode(self) -> None:
        self.model.train()
        if not any(parameter.requires_grad for parameter in self.model.representation.parameters()):
            # Frozen means its statistics too: BatchNorm in train mode would go on moving them.
            self.model.representation.eval()
