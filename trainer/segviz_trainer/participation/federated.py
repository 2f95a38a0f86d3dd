"""A site's model between the bucket and its own disk: what is global, what is private, and both together."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from segviz_exchange.contract import codec, keys
from segviz_exchange.contract.codec import Array, TensorFile
from segviz_exchange.contract.numbers import START_TOLERANCE, farthest
from segviz_exchange.contract.records import Control, Round
from segviz_exchange.contract.sharing import PARAMETER, shared_by
from segviz_exchange.stores.store import Store, download
from segviz_trainer.network import segnet as network
from segviz_trainer.network.segnet import SegNet
from segviz_trainer.network.tensors import State, save_whole, snapshot, to_arrays, to_tensors


@dataclass
class FederatedModel:
    """The network of one site, and where its tensors come from.

    Under `private/` in the site's state lies, by round, what the site paired with that round's global model:
    its heads, and its BN under FedBN. It stays there until the best round is known.
    """

    store: Store
    site: str
    net: SegNet
    """As it is seeded."""
    initial: Round
    """The record of round 0."""
    scratch: Path
    private: Path

    def __post_init__(self) -> None:
        self.groups = network.groups_of(self.net)
        self.private.mkdir(parents=True, exist_ok=True)
        self._seeded = snapshot(self.net)
        self._files: dict[str, TensorFile] = {}
        """Global models on disk that this process has verified, by digest."""

    def shared_names(self, control: Control) -> tuple[str, ...]:
        return shared_by(self.site, self.groups, control)

    def load(self, record: Round, own: Mapping[str, Tensor]) -> set[str]:
        """Put a round's whole model together and load it.

        Args:
            record: the round whose global model goes before everything else.
            own: what this site holds of the rest. What is missing there too is round 0's, and a head for an
                organ that joined later has its seed.

        Returns:
            The names that the global model does not hold.
        """
        shared = self._global(record)
        # One of each tensor is copied, the one that counts.
        first = {name: value for name, value in self._first.items() if name not in {*own, *shared}}
        known = {**to_tensors(first), **own, **to_tensors(shared)}
        self.net.load_state_dict({**self._seeded, **known})
        kept = {self.initial.blob, record.blob}  # the next process starts from round 0 again
        for old in self.scratch.iterdir():
            if old.name not in kept:
                old.unlink(missing_ok=True)
                self._files.pop(old.name, None)
        return set(self.groups) - shared.keys()

    def public_state(self, record: Round, names: Iterable[str]) -> dict[str, Array]:
        """What everybody knows of these tensors: this round's values, else round 0's, else zeros."""
        known = self._first | self._global(record)
        state = self.net.state_dict()
        return {name: known.get(name, np.zeros(tuple(state[name].shape), np.float32)) for name in names}

    def round_model(self, record: Round) -> dict[str, Array]:
        """What a round's global model holds of this network."""
        return self._global(record)

    @property
    def parameters(self) -> frozenset[str]:
        """Tensors that are no BatchNorm's."""
        return frozenset(name for name, group in self.groups.items() if group.kind == PARAMETER)

    @property
    def variances(self) -> frozenset[str]:
        """Tensors that are no model below zero."""
        return frozenset(
            f"{name}.running_var"
            for name, module in self.net.named_modules()
            if isinstance(module, _BatchNorm)
        )

    def start_difference(self, seeded: Mapping[str, Tensor] | None = None) -> str | None:
        """How round 0's model differs from the seeded one, in the first tensor of both that does."""
        for name, value in sorted(to_arrays(seeded or self._seeded).items()):
            first = self._first.get(name, value)
            if first.shape != value.shape:
                return f"tensor {name!r} has the shape {list(first.shape)}, not {list(value.shape)}"
            if not (far := farthest([first], [value])) <= START_TOLERANCE:
                return f"tensor {name!r} differs by up to {far:.3g}"
        return None

    def save_private(self, round_: int, control: Control) -> None:
        shared = set(self.shared_names(control))
        own = {name: value for name, value in self.net.state_dict().items() if name not in shared}
        save_whole(self._private_file(round_), to_arrays(own))

    def forget(self) -> None:
        """Free the disk once the federation is over for this site."""
        for folder in (self.private, self.scratch):
            for file in folder.iterdir():
                file.unlink(missing_ok=True)
        self._files.clear()

    def load_final(self, record: Round) -> set[str]:
        """A finished round's model, as it was when this site scored it; returns what of it is private."""
        held = sorted(int(path.stem) for path in self.private.glob("*.safetensors"))
        if not held:
            return self.load(record, {})
        # A site that missed this very round pairs it with what it had before, or else with its first.
        nearest = max((round_ for round_ in held if round_ <= record.round), default=held[0])
        return self.load(record, to_tensors(codec.open_tensors(self._private_file(nearest)).read_all()))

    def shared_state(self, control: Control) -> State:
        state = self.net.state_dict()
        return {name: state[name] for name in self.shared_names(control)}

    @cached_property
    def _first(self) -> dict[str, Array]:
        """Round 0's global model, read and verified once."""
        return self._read(self.initial)

    def _global(self, record: Round) -> dict[str, Array]:
        return self._first if record.round == 0 else self._read(record)

    def _read(self, record: Round) -> dict[str, Array]:
        """The tensors of this network that a round's global model holds."""
        file = self._files.get(record.blob)
        if file is None:
            path = download(self.store, keys.global_blob(record.blob), record.blob, self.scratch)
            file = self._files[record.blob] = codec.open_tensors(path)
        return {name: file.read(name) for name in sorted(self.groups.keys() & file.infos.keys())}

    def _private_file(self, round_: int) -> Path:
        return self.private / f"{round_:04d}.safetensors"
