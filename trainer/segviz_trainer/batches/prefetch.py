"""Batches made ahead of the step that asks for them, in their order, by a few threads."""

import os
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch

from segviz_exchange.process.ahead import made_ahead

_Item = TypeVar("_Item")

_MOST_WORKERS = 4


@dataclass(frozen=True)
class Prefetch:
    workers: int
    ahead: int
    """How many may be made, or in the making, that nobody has asked for yet: a bound on memory."""

    @classmethod
    def beside(cls, device: torch.device) -> "Prefetch":
        """On a CPU a step takes longer than its batch, and every core more is taken from the step."""
        if device.type == "cpu":
            return cls(workers=1, ahead=1)
        workers = min(_MOST_WORKERS, os.cpu_count() or 1)
        # Batches differ in cost with their share of turned crops.
        return cls(workers, ahead=2 * workers)

    def run(self, makers: Iterable[Callable[[], _Item]]) -> Generator[_Item, None, None]:
        """As `made_ahead`: close it if it may be left early."""
        return made_ahead(makers, workers=self.workers, ahead=self.ahead, name="batches")
