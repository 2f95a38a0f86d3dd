"""What takes a merged model as a direction, and not as the result: FedAvgM and FedAdam.

It runs after the merge, on three files of one model's size (the model before, the merged one, its own state
so far), chunk by chunk, so neither the sites nor the model's size show in its memory. The new state is a blob
that the round's record names: whoever takes over computes the same bytes from the same closing.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from segviz_exchange.contract.codec import NUMPY_TYPES, Array, TensorFile, TensorInfo, write_tensors
from segviz_exchange.stores.store import read_chunks

Numbers = NDArray[np.float64]
Stepped = tuple[Numbers, dict[str, Numbers]]


class ServerOptimizer(Protocol):
    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the numbers that are kept for each number of the model."""

    def initial(self, slot: str) -> float: ...

    def step(self, before: Numbers, merged: Numbers, state: Mapping[str, Numbers]) -> Stepped:
        """One chunk of one tensor: its new value, and the new state by slot."""


class Files(NamedTuple):
    previous: TensorFile
    merged: TensorFile
    state: TensorFile | None
    """None in the first round."""


def write_stepped(
    optimizer: ServerOptimizer,
    files: Files,
    parameters: Collection[str],
    moved: Collection[str],
    metadata: Mapping[str, str],
    target: Path,
    state_target: Path,
) -> tuple[str, str]:
    """Write the new global model and the optimiser's new state.

    Args:
        parameters: what has a state. What a BatchNorm owns has none, its mean is taken as it is: a step
            beyond the sites' variances could make a negative one.
        moved: what some site has contributed to; everything else stays, and so does its state.

    Returns:
        The sha256 of both files.
    """
    held = sorted(set(parameters) & files.merged.infos.keys())
    stepped = {name for name in held if name in moved and name in files.previous.infos}

    infos = {
        _key(slot, name): TensorInfo("F32", files.merged.infos[name].shape)
        for slot in optimizer.slots
        for name in held
    }
    with ExitStack() as stack:
        # A step gives a chunk of the model and of each slot at once; the state's file has slot after slot.
        spools = {
            slot: stack.enter_context(TemporaryFile(dir=state_target.parent))
            for slot in sorted(optimizer.slots)
        }

        def model() -> Iterator[Array]:
            for name in files.merged.infos:
                if name in stepped:
                    dtype = NUMPY_TYPES[files.merged.infos[name].dtype]
                    for value, new in _steps(optimizer, files, name):
                        for slot, spool in spools.items():
                            spool.write(new[slot].astype(np.float32).tobytes())
                        yield value.astype(dtype)
                    continue
                yield from files.merged.chunks(name)
                for slot, spool in spools.items() if name in parameters else ():
                    for chunk in _state_chunks(optimizer, files, slot, name):
                        spool.write(chunk.tobytes())

        digest = write_tensors(target, files.merged.infos, model(), metadata)
        return digest, write_tensors(state_target, infos, _spooled(spools.values()), metadata)


def _steps(optimizer: ServerOptimizer, files: Files, name: str) -> Iterator[Stepped]:
    states = {slot: _state_chunks(optimizer, files, slot, name) for slot in optimizer.slots}
    chunks = zip(files.previous.chunks(name), files.merged.chunks(name), strict=True)
    for before, merged in chunks:
        state = {slot: next(chunk).astype(np.float64) for slot, chunk in states.items()}
        yield optimizer.step(before.astype(np.float64), merged.astype(np.float64), state)


def _spooled(spools: Iterable[BinaryIO]) -> Iterator[Array]:
    for spool in spools:
        spool.seek(0)
        for data in read_chunks(spool):
            yield np.frombuffer(data, np.float32)


def _state_chunks(optimizer: ServerOptimizer, files: Files, slot: str, name: str) -> Iterator[Array]:
    key = _key(slot, name)
    if files.state is not None and key in files.state.infos:
        yield from files.state.chunks(key)
    else:
        for chunk in files.merged.chunks(name):
            yield np.full(chunk.shape, optimizer.initial(slot), np.float32)


def _key(slot: str, name: str) -> str:
    return f"{slot}/{name}"
