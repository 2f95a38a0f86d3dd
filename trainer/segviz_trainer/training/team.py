"""A site's training on several devices: rank 0 leads its trainer's steps, the others take part in them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from segviz_trainer.batches.sampling import Batch
from segviz_trainer.network.segnet import SegNet
from segviz_trainer.network.tensors import snapshot
from segviz_trainer.objectives.by_name import Loss
from segviz_trainer.training.ranks import Begin, Build, End, Over, Ranks, Step, distributed, shares_of


class Led(Protocol):
    """The trainer of a leader, as far as the others need it."""

    model: SegNet
    loss: Loss
    anchor: Mapping[str, Tensor]
    proximal_mu: float

    def moments(self) -> Mapping[str, Tensor]:
        """The optimizer's state."""


@dataclass
class Team:
    """What rank 0 does beside its own share of the work."""

    ranks: Ranks
    _module: DistributedDataParallel | None = field(default=None, init=False)
    _weight: float = field(default=1.0, init=False)
    _between_steps: bool = field(default=True, init=False)
    """In the middle of a step the others wait for gradients, and would not understand an order."""

    def build(self, order: Build, model: SegNet) -> None:
        """Have the others make the same trainer; `model` holds the round's global model."""
        self.ranks.tell(order)
        self.ranks.give(snapshot(model))

    @contextmanager
    def gathered(self, trainer: Led) -> Iterator[None]:
        """All ranks take part in the steps of `trainer` meanwhile, and have its state at the beginning."""
        self.ranks.tell(Begin(trainer.proximal_mu))
        self.ranks.give(trainer.moments())
        self.ranks.give(trainer.anchor)
        self._module = distributed(trainer.model, trainer.loss, self.ranks.world)
        try:
            yield
        finally:
            self._module = None
            if self._between_steps:
                self.ranks.tell(End())

    def share(self, batch: Batch, rate: float) -> Batch:
        """Begin a step: hand out the batch, and return one's own part."""
        shares = shares_of(len(batch.image), self.ranks.world)
        annotated = tuple(tuple(sorted(each)) for each in batch.annotated)
        self._between_steps = False
        self.ranks.tell(Step(rate, shares, annotated, batch.known is not None))
        self.ranks.send_shares(batch, shares)
        self._weight = shares[0].weight
        return shares[0].of(batch)

    def loss(self, batch: Batch) -> Tensor:
        assert self._module is not None, "within `gathered`"
        loss: Tensor = self._module(batch)
        return loss * self._weight

    def mean(self, loss: Tensor) -> Tensor:
        """End a step: the whole batch's loss."""
        mean = self.ranks.mean(loss)
        self._between_steps = True
        return mean

    def dismiss(self) -> None:
        if self._between_steps:
            with suppress(RuntimeError):  # one of them has died, and the launcher ends the others
                self.ranks.tell(Over())
                self.ranks.leave()
