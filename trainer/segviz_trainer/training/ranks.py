"""The processes of one Pod that train one model together, one for each device; rank 0 leads.

What a step computes is torch's DistributedDataParallel. Gradients are not reduced by its own ring, in which
who adds first depends on where a number lies, but gathered and summed in the order of ranks: the bytes are
the same however torch packs gradients, and so after a restart in the middle of a round, too.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import msgspec
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from segviz_exchange.contract.spec import FederationSpec
from segviz_trainer.batches.sampling import Batch
from segviz_trainer.network.segnet import SegNet
from segviz_trainer.objectives.by_name import Loss

# Between two rounds the others wait for their leader. If it dies, the launcher ends them.
_PATIENCE = timedelta(days=365)


class _Order(msgspec.Struct, frozen=True, tag=True):
    """What the leader says to the others."""


class Build(_Order, frozen=True):
    """Make a trainer; the model's tensors follow."""

    founding: FederationSpec
    """What the network is made for."""
    spec: FederationSpec
    site: str
    site_organs: tuple[str, ...]
    organs: tuple[str, ...]
    round: int
    trained: tuple[str, ...]
    """Names of the parameters that are not frozen."""


class Begin(_Order, frozen=True):
    """Train; the optimizer's state and FedProx's anchor follow."""

    proximal_mu: float


class Step(_Order, frozen=True):
    """One step; each rank's share of the batch follows."""

    rate: float
    """The learning rate."""
    shares: tuple["Share", ...]
    """By rank."""
    annotated: tuple[tuple[int, ...], ...]
    """Of each patch of the batch."""
    known: bool
    """Whether the batch has a mask of known voxels."""


class End(_Order, frozen=True):
    """No more steps of this trainer."""


class Over(_Order, frozen=True):
    """The process may end."""


Order = Build | Begin | Step | End | Over


class Share(msgspec.Struct, frozen=True):
    """Patches start:stop of a batch."""

    start: int
    stop: int
    weight: float
    """Of its mean loss in the mean over ranks, so that every patch counts alike."""

    def of(self, batch: Batch) -> Batch:
        rows = slice(self.start, self.stop)
        known = None if batch.known is None else batch.known[rows]
        return Batch(batch.image[rows], batch.label[rows], batch.annotated[rows], known)


class _Described(msgspec.Struct, frozen=True):
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Ranks:
    rank: int
    world: int

    @classmethod
    def join(cls) -> "Ranks":
        """Meet the others, whom the environment names as torch's launcher has set it."""
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=_PATIENCE)
        return cls(dist.get_rank(), dist.get_world_size())

    def leave(self) -> None:
        dist.destroy_process_group()

    def tell(self, order: Order) -> None:
        _broadcast_bytes(msgspec.json.encode(order))

    def hear(self) -> Order:
        order: Order = msgspec.json.decode(_broadcast_bytes(None), type=Order)
        return order

    def give(self, tensors: Mapping[str, Tensor]) -> None:
        """To all others; they `take` it."""
        named = sorted(tensors.items())
        described = {
            name: _Described(str(value.dtype).removeprefix("torch."), tuple(value.shape))
            for name, value in named
        }
        _broadcast_bytes(msgspec.json.encode(described))
        for _, value in named:
            dist.broadcast(value.detach().cpu().contiguous(), src=0)

    def take(self) -> dict[str, Tensor]:
        described = msgspec.json.decode(_broadcast_bytes(None), type=dict[str, _Described])
        tensors = {}
        for name, each in described.items():
            tensors[name] = torch.empty(each.shape, dtype=getattr(torch, each.dtype))
            dist.broadcast(tensors[name], src=0)
        return tensors

    def send_shares(self, batch: Batch, shares: tuple[Share, ...]) -> None:
        for rank in range(1, self.world):
            for tensor in _tensors(shares[rank].of(batch)):
                dist.send(tensor.contiguous(), rank)

    def receive_share(self, step: Step, patch: tuple[int, int, int]) -> Batch:
        own = step.shares[self.rank]
        annotated = tuple(frozenset(each) for each in step.annotated[own.start : own.stop])
        shape = (len(annotated), 1, *patch)
        image, label = torch.empty(shape), torch.empty(shape, dtype=torch.uint8)
        batch = Batch(image, label, annotated, torch.empty(shape) if step.known else None)
        for tensor in _tensors(batch):
            dist.recv(tensor, 0)
        return batch

    def mean(self, value: Tensor) -> Tensor:
        """Over ranks, summed in their order: the same at all of them."""
        return _summed_in_order(value.reshape(1), self.world)[0] / self.world


def distributed(model: SegNet, loss: Loss, world: int) -> DistributedDataParallel:
    """The loss of a batch, whose gradients are those of all ranks' mean. All ranks call this together.

    They start from rank 0's values, and BatchNorm's statistics are rank 0's before each step.
    """
    # A patch may lack an organ, and its head has no gradient then.
    module = DistributedDataParallel(_LossOf(model, loss), find_unused_parameters=True)
    module.register_comm_hook(world, _reduce)
    return module


class _LossOf(nn.Module):
    def __init__(self, model: SegNet, loss: Loss) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, batch: Batch) -> Tensor:
        return self.loss(self.model, batch)


def _reduce(
    world: int,
    bucket: dist.GradBucket,  # type: ignore[name-defined] # torch's own types forget it
) -> torch.futures.Future[Tensor]:
    done: torch.futures.Future[Tensor] = torch.futures.Future()
    done.set_result(_summed_in_order(bucket.buffer(), world).div_(world))
    return done


def _summed_in_order(value: Tensor, world: int) -> Tensor:
    parts = [torch.empty_like(value) for _ in range(world)]
    dist.all_gather(parts, value)
    total = parts[0]
    for part in parts[1:]:
        total += part
    return total


def shares_of(patches: int, world: int) -> tuple[Share, ...]:
    """As even as can be, the first ranks one more. Who is left without any computes the first for nothing."""
    shares, start = [], 0
    for rank in range(world):
        count = patches // world + (rank < patches % world)
        shares.append(Share(start, start + count, count * world / patches) if count else Share(0, 1, 0.0))
        start += count
    return tuple(shares)


def _tensors(batch: Batch) -> list[Tensor]:
    return [batch.image, batch.label, *([] if batch.known is None else [batch.known])]


def _broadcast_bytes(data: bytes | None) -> bytes:
    """From rank 0, which gives `data`, to all others."""
    size = torch.tensor([0 if data is None else len(data)])
    dist.broadcast(size, src=0)
    text = torch.empty(int(size), dtype=torch.uint8)
    if data is not None:
        text = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    dist.broadcast(text, src=0)
    return text.numpy().tobytes()
