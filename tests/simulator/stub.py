"""A few numbers in place of the network, arithmetic in place of training; all else is the trainer's own."""

import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from unittest.mock import patch

import torch
from torch import Tensor, nn

from segviz_exchange.contract.records import CaseScore
from segviz_exchange.contract.sharing import SHARED_HEAD
from segviz_exchange.contract.spec import FederationSpec
from segviz_trainer.data.dataset import SiteData
from segviz_trainer.network import segnet
from segviz_trainer.network.device import Device
from segviz_trainer.participation import outcome, participant, rounds
from segviz_trainer.participation.participant import Participant
from segviz_trainer.process.chance import build_generator
from segviz_trainer.training.checkpoint import Position

SECRET = "PATIENT"
"""Is in the name of every case."""


class Numbers(nn.Module):
    """Named as SegNet's tensors are."""

    def __init__(self, organs: Sequence[str], seed: int, *, shared: bool) -> None:
        super().__init__()
        self.representation = nn.Sequential(_linear(), nn.BatchNorm1d(3))
        heads = {SHARED_HEAD: None} if shared else dict.fromkeys(sorted(organs))
        self.heads = nn.ModuleDict({name: nn.Sequential(_linear(), nn.BatchNorm1d(3)) for name in heads})
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(drawn(parameter.shape, "seed", seed, name))


def _linear() -> nn.Linear:
    with torch.device("meta"):
        made = nn.Linear(2, 3)
    return made.to_empty(device="cpu")


def drawn(shape: torch.Size, *key: str | int) -> Tensor:
    return torch.from_numpy(build_generator(*key).standard_normal(tuple(shape))).float()


def build(federation: FederationSpec, organs: Iterable[str]) -> Numbers:
    return Numbers(tuple(organs), federation.seed, shared=federation.shared_head)


@dataclass(frozen=True)
class Case:
    id: str
    data_set: str
    organs: tuple[str, ...]


def data_of(alias: str, organs: tuple[str, ...]) -> SiteData:
    cases = [Case(f"{SECRET}-{alias}-{number}", "ct", organs) for number in range(4)]
    return SiteData(tuple(cases[:2]), (cases[2],), (cases[3],))  # type: ignore[arg-type]


@dataclass
class Arithmetic:
    """In place of `Trainer`: what a step adds follows from where it is, and from the moments so far."""

    model: Numbers
    parameters: Mapping[str, Tensor]
    site: str
    device: Device
    on_work: Callable[[], None]
    anchor: Mapping[str, Tensor] = field(default_factory=dict)
    proximal_mu: float = 0.0

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.SGD(list(self.parameters.values()), lr=0.1)

    def batches(self, cases: Sequence[Case], start: Position, epochs: int) -> Generator[int, None, None]:
        yield from range(1000)

    def gathered(self) -> AbstractContextManager[None]:
        return nullcontext()

    def train_epoch(
        self,
        batches: Iterable[int],
        start: Position,
        rate: float,
        *,
        on_step: Callable[[Position, Tensor, int], None],
    ) -> None:
        self.model.train()
        for step, _ in enumerate(batches, start=start.step + 1):
            at = Position(start.round, start.attempt, start.epoch, step)
            with torch.no_grad():
                self._step(at)
            self.on_work()
            on_step(at, torch.tensor(1.0 / step), 1)

    def _step(self, at: Position) -> None:
        place = (self.site, at.round, at.attempt, at.epoch, at.step)
        for name, parameter in self.parameters.items():
            state = self.optimizer.state[parameter]
            noise = drawn(parameter.shape, *place, name)
            state["step"] = state.get("step", torch.tensor(0.0)) + 1
            state["exp_avg"] = 0.5 * state.get("exp_avg", torch.zeros_like(parameter)) + 0.5 * noise
            state["exp_avg_sq"] = torch.zeros_like(parameter)
            parameter.mul_(0.9).add_(state["exp_avg"], alpha=0.1)
        for name, buffer in self.model.named_buffers():
            if name.endswith("num_batches_tracked"):
                buffer.add_(1)
            elif not name.startswith("representation.") or self.model.representation[1].weight.requires_grad:
                buffer.mul_(0.9).add_(drawn(buffer.shape, *place, name).abs(), alpha=0.1)


def build_trainer(
    me: Participant, spec: FederationSpec, round_: int, *, on_work: Callable[[], None]
) -> Arithmetic:
    named = sorted(me.model.net.named_parameters())
    parameters = {name: value for name, value in named if value.requires_grad}
    return Arithmetic(me.model.net, parameters, me.alias, me.device, on_work)


class Guess:
    """In place of `Predictor`."""

    def __init__(self, model: Numbers, *_: object) -> None:
        self.model = model

    def reestimate_norm(self, cases: Sequence[Case]) -> None:
        with torch.no_grad():
            for name, buffer in self.model.named_buffers():
                if name.endswith("running_mean"):
                    buffer.fill_(float(len(cases)))


def score(
    predictor: Guess,
    cases: Sequence[Case],
    site_organs: tuple[str, ...],
    organs: tuple[str, ...],
    on_case: Callable[[int], object] = lambda done: None,
    tolerances: object = None,
) -> tuple[CaseScore, ...]:
    total = hashlib.sha256()
    for _, value in sorted(predictor.model.state_dict().items()):
        total.update(value.numpy().tobytes())
    dice = int.from_bytes(total.digest()[:4], "little") / 2**32
    on_case(len(cases))
    return tuple(CaseScore(case.id, organ, dice) for case in cases for organ in organs)


@contextmanager
def instead(on_work: Callable[[], None]) -> Iterator[None]:
    """Put all of this in the network's place.

    Args:
        on_work: called after each step, to spend its time.
    """
    with ExitStack() as patches:
        for where, name, made in (
            (segnet, "build", build),
            (participant, "Predictor", Guess),
            (rounds, "score", score),
            (outcome, "score", score),
            (Participant, "build_trainer", _method(on_work)),
        ):
            patches.enter_context(patch.object(where, name, made))
        yield


def _method(on_work: Callable[[], None]) -> Callable[..., Arithmetic]:
    def build_one(me: Participant, spec: FederationSpec, round_: int) -> Arithmetic:
        return partial(build_trainer, on_work=on_work)(me, spec, round_)

    return build_one
