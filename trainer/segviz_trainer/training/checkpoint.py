"""A site's private state between two steps, on its own disk: model, moments, and where training is.

Safetensors, never a pickle. A file is complete or absent, so a process may die at any moment; training goes
on from the newest one and gives the bits of an uninterrupted run, because learning rate and random numbers
are functions of the position alone.
"""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from segviz_exchange.contract import codec
from segviz_trainer.network.tensors import save_whole, to_arrays, to_tensors

_SUFFIX = ".safetensors"


@dataclass(frozen=True, order=True)
class Position:
    """What has been done: `step` steps of epoch `epoch` (from 0) of this attempt at this round."""

    round: int
    attempt: int
    epoch: int
    step: int

    @property
    def file_name(self) -> str:
        return f"{self.round:04d}-{self.attempt}-{self.epoch:04d}-{self.step:06d}{_SUFFIX}"


@dataclass(frozen=True)
class Checkpoint:
    position: Position
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    """Adam's `exp_avg/<parameter>`, `exp_avg_sq/<parameter>`, `step/<parameter>`, or SGD's momentum."""
    loss: float
    """Mean loss of the last complete epoch."""
    loss_sum: float
    """Over the steps of the unfinished epoch."""
    seconds: float
    """Spent on this attempt so far."""


class Checkpoints:
    """The files of one site, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, checkpoint: Checkpoint) -> None:
        tensors = {f"model/{name}": value for name, value in checkpoint.model.items()}
        tensors |= {f"optimizer/{name}": value for name, value in checkpoint.optimizer.items()}
        numbers = {"loss": checkpoint.loss, "loss_sum": checkpoint.loss_sum, "seconds": checkpoint.seconds}
        metadata = {name: repr(value) for name, value in numbers.items()}
        save_whole(self.folder / checkpoint.position.file_name, to_arrays(tensors), metadata)

    def before(self, round_: int) -> Checkpoint | None:
        """The newest checkpoint of an earlier round: where an attempt at this one starts from.

        Not from one that has diverged, as its update may have come too late to be rejected.
        """
        earlier = (self._load(at) for at in reversed(self.positions()) if at.round < round_)
        return next((each for each in earlier if _is_finite(each.model)), None)

    def of(self, round_: int, attempt: int) -> Checkpoint | None:
        """How far this very attempt has come, if it has begun."""
        return self._newest([at for at in self.positions() if (at.round, at.attempt) == (round_, attempt)])

    def positions(self) -> list[Position]:
        return sorted(_parse(path.name) for path in self.folder.glob(f"*{_SUFFIX}"))

    def keep(self, *kept: Position) -> None:
        """Remove all others."""
        for position in self.positions():
            if position not in kept:
                (self.folder / position.file_name).unlink(missing_ok=True)

    def drop(self, round_: int, attempts: int) -> None:
        """Remove the first so many attempts at a round."""
        self.keep(*(at for at in self.positions() if at.round != round_ or at.attempt > attempts))

    def _newest(self, positions: list[Position]) -> Checkpoint | None:
        return self._load(max(positions)) if positions else None

    def _load(self, position: Position) -> Checkpoint:
        file = codec.open_tensors(self.folder / position.file_name)
        tensors = to_tensors(file.read_all())
        return Checkpoint(
            position=position,
            model=_below("model/", tensors),
            optimizer=_below("optimizer/", tensors),
            loss=float(file.metadata["loss"]),
            loss_sum=float(file.metadata["loss_sum"]),
            seconds=float(file.metadata["seconds"]),
        )


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _is_finite(model: dict[str, Tensor]) -> bool:
    return all(bool(value.isfinite().all()) for value in model.values())


def _parse(file_name: str) -> Position:
    return Position(*(int(part) for part in file_name.removesuffix(_SUFFIX).split("-")))
