"""A site's model between the bucket and its own disk: what is global, what is private, and both together."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch.nn.modules.batchnorm import _BatchNorm

from segviz_exchange.contract import codec, keys
from segviz_exchange.contract.codec import Array
from segviz_exchange.contract.ledger import read
from segviz_exchange.contract.records import Control, Round
from segviz_exchange.contract.sharing import shared_by
from segviz_exchange.stores.store import Store, download
from segviz_trainer.network import segnet as network
from segviz_trainer.network.segnet import SegNet
from segviz_trainer.network.tensors import State, load, save_whole, to_arrays, to_tensors


@dataclass
class FederatedModel:
    """The network of one site, and where its tensors come from.

    Under `private/` in the site's state lies, by round, what the site paired with that round's global model:
    its heads, and its BN under FedBN. It stays there until the best round is known.
    """

    store: Store
    site: str
    net: SegNet
    scratch: Path
    private: Path

    def __post_init__(self) -> None:
        self.groups = network.groups_of(self.net)
        self.private.mkdir(parents=True, exist_ok=True)
        self._blobs: dict[int, str] = {}
        self._seeded = {name: value.clone() for name, value in self.net.state_dict().items()}

    def shared_names(self, control: Control) -> tuple[str, ...]:
        return shared_by(self.site, self.groups, control)

    def load_initial(self) -> None:
        """Round 0's model, heads and BN included; a head for an organ that joined later keeps its seed."""
        load(self.net, self._seeded)
        self.load_global(read(self.store, keys.round_record(0), Round))

    def load_global(self, record: Round) -> set[str]:
        """Replace what a round's global model holds, and return what it does not."""
        path = download(self.store, keys.global_blob(record.blob), record.blob, self.scratch)
        file = codec.open_tensors(path)
        names = self.net.state_dict().keys() & file.infos.keys()
        load(self.net, to_tensors({name: file.read(name) for name in sorted(names)}))
        self._blobs[record.round] = record.blob
        kept = {self._blobs.get(0), record.blob}  # round 0 is read again for every round
        for old in self.scratch.iterdir():
            if old.name not in kept:
                old.unlink(missing_ok=True)
        return set(self.groups) - names

    def public_state(self, record: Round, names: Iterable[str]) -> dict[str, Array]:
        """What everybody knows of these tensors: this round's values, else round 0's, else zeros."""
        known: dict[str, Array] = {}
        for each in (read(self.store, keys.round_record(0), Round), record):
            path = download(self.store, keys.global_blob(each.blob), each.blob, self.scratch)
            file = codec.open_tensors(path)
            known |= {name: file.read(name) for name in names if name in file.infos}
        state = self.net.state_dict()
        return {name: known.get(name, np.zeros(tuple(state[name].shape), np.float32)) for name in names}

    @property
    def variances(self) -> frozenset[str]:
        """Tensors that are no model below zero."""
        return frozenset(
            f"{name}.running_var"
            for name, module in self.net.named_modules()
            if isinstance(module, _BatchNorm)
        )

    def save_private(self, round_: int, control: Control) -> None:
        shared = set(self.shared_names(control))
        own = {name: value for name, value in self.net.state_dict().items() if name not in shared}
        save_whole(self._private_file(round_), to_arrays(own))

    def forget(self) -> None:
        """Free the disk once the federation is over for this site."""
        for folder in (self.private, self.scratch):
            for file in folder.iterdir():
                file.unlink(missing_ok=True)

    def load_final(self, record: Round) -> set[str]:
        """A finished round's model, as it was when this site scored it; returns what of it is private."""
        self.load_initial()
        held = sorted(int(path.stem) for path in self.private.glob("*.safetensors"))
        # A site that missed this very round pairs it with what it had before, or else with its first.
        before = [round_ for round_ in held if round_ <= record.round]
        if held:
            nearest = before[-1] if before else held[0]
            load(self.net, to_tensors(codec.open_tensors(self._private_file(nearest)).read_all()))
        return self.load_global(record)

    def shared_state(self, control: Control) -> State:
        state = self.net.state_dict()
        return {name: state[name] for name in self.shared_names(control)}

    def _private_file(self, round_: int) -> Path:
        return self.private / f"{round_:04d}.safetensors"
