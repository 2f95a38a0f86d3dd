"""A finished model on disk: an exported folder, which is also a MONAI bundle, ready to predict."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segviz_exchange.contract import codec, spec
from segviz_exchange.contract.choices import Start
from segviz_exchange.contract.codec import Array, InvalidTensors
from segviz_exchange.contract.numbers import fault_of
from segviz_exchange.contract.records import Exported
from segviz_exchange.contract.sharing import GROUPS, decode_groups
from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.malformed import malformation
from segviz_trainer.inference.options import InferenceOptions
from segviz_trainer.inference.predictor import Placed, Predictor, to_native
from segviz_trainer.inference.windows import Report
from segviz_trainer.metrics.overlap import Mask
from segviz_trainer.models.exported import ORGANS, RECORD, WEIGHTS, as_evaluated, for_organ
from segviz_trainer.network import segnet as network
from segviz_trainer.network.device import Device
from segviz_trainer.network.segnet import SegNet
from segviz_trainer.network.tensors import load, to_tensors


@dataclass(frozen=True)
class TrainedModel:
    exported: Exported
    tensors: dict[str, Array]

    @classmethod
    def open(cls, folder: Path) -> "TrainedModel":
        """Raises Refusal, naming the file, for a folder that is no exported model or a damaged one."""
        if folder.name in (WEIGHTS, RECORD):
            folder = folder.parent
        for name in (WEIGHTS, RECORD):
            if not (folder / name).is_file():
                raise Refusal(
                    f"{folder}: has no {name}. Name the folder of an exported model, such as "
                    "runs/NAME/models/base."
                )
        try:
            exported = msgspec.json.decode((folder / RECORD).read_bytes(), type=Exported)
        except msgspec.DecodeError as error:
            raise Refusal(
                f"{folder / RECORD}: is not a model record: {malformation(error)}. Export it again."
            ) from error
        if not exported.organs:
            raise Refusal(
                f"{folder / RECORD}: lists no organs: the sites released too little to predict any. Train "
                "again with release: HeadsAndNorm in the SegVizSites; the default is None."
            )
        try:
            check_digest(folder / WEIGHTS, exported.blob)
            file = codec.open_tensors(folder / WEIGHTS)
            tensors = file.read_all()
            groups = decode_groups(file.metadata[GROUPS])
        except (InvalidTensors, KeyError) as error:
            raise Refusal(f"{folder / WEIGHTS}: is damaged: {error}. Copy or export it again.") from error
        for name, value in tensors.items():
            if fault := fault_of(name, [value]):
                raise Refusal(f"{folder / WEIGHTS}: {fault}: it predicts nothing. Export or train it again.")
        return cls(exported, as_evaluated(exported, tensors, groups))

    @property
    def organs(self) -> tuple[str, ...]:
        return self.exported.organs

    @property
    def passes(self) -> tuple[tuple[str, ...], ...]:
        """Organs by the state that predicts them: all at once, or, under FedBN, one after the other."""
        if any(name.startswith(ORGANS) for name in self.tensors):
            return tuple((organ,) for organ in self.organs)
        return (self.organs,)

    @property
    def label_of_channel(self) -> tuple[int, ...]:
        """Of the head for all organs; an organ that is not exported is background."""
        labels = {organ: label for label, organ in enumerate(self.organs, start=1)}
        return (0, *(labels.get(organ, 0) for organ in self.exported.all_organs))

    def network_of(self, organ: str) -> SegNet:
        """The network in the state that predicts `organ`."""
        net = network.build(self.exported.spec, self.exported.all_organs)
        load_organ(net, organ, self.tensors)
        return net.eval()


def load_organ(net: SegNet, organ: str, tensors: dict[str, Array]) -> None:
    state = for_organ(organ, tensors)
    load(net, to_tensors({name: state[name] for name in net.state_dict()}))


def check_digest(path: Path, digest: str) -> None:
    """Raises Refusal where the file is not the one that its record speaks of."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != digest.removeprefix("sha256:"):
        raise Refusal(
            f"{path}: is damaged, or not this model's: its SHA-256 is {found[:12]}…, {RECORD} says "
            f"{digest.removeprefix('sha256:')[:12]}…. Copy or export it again."
        )


@dataclass(frozen=True)
class Prediction:
    """On the grid of the image's file."""

    organs: tuple[str, ...]
    probabilities: NDArray[np.float32]
    """(organs, X, Y, Z)."""
    labels: NDArray[np.uint8]
    """(X, Y, Z): 0 background, 1 + i the i-th organ; no voxel has two."""
    overlap_rate: float
    """Of the voxels that some organ claims, the share that two or more claim."""


class Model:
    """A trained model on a device, alone or with others of its kind, whose probabilities are averaged."""

    def __init__(
        self,
        trained: TrainedModel,
        device: torch.device,
        threads: int | None = None,
        options: InferenceOptions | None = None,
        others: Sequence[TrainedModel] = (),
    ) -> None:
        """Left out, `options` are the manifest's. Raises Refusal for another model that does not fit."""
        for other in others:
            check_alike(trained, other)
        self.trained = trained
        self.members = (trained, *others)
        spec_ = trained.exported.spec
        training = spec_.training
        if threads is not None:
            training = msgspec.structs.replace(training, threads=threads)
        torch.set_num_threads(training.threads)
        self.device = Device(device, training)
        net = self.device.move(network.build(spec_, trained.exported.all_organs))
        options = options or InferenceOptions.of(spec_)
        self.predictor = Predictor(net, trained.exported.all_organs, self.device, options)

    @property
    def preprocessing(self) -> spec.Preprocessing:
        return self.trained.exported.spec.preprocessing

    @property
    def digest(self) -> str:
        """Of the model's file; of several, of their digests in the order they were named."""
        blobs = [member.exported.blob for member in self.members]
        return blobs[0] if len(blobs) == 1 else hashlib.sha256("\n".join(blobs).encode()).hexdigest()

    def masks(self, image: Tensor, placed: Placed, organs: tuple[str, ...]) -> Iterator[tuple[str, Mask]]:
        """Each organ by its own head's argmax, as tables of scores have it: organs may overlap."""
        for chosen, native in self._native(image, placed, organs, lambda done, windows: None):
            yield from self.predictor.claimed(native, chosen).items()

    def predict(
        self, image: Tensor, placed: Placed, report: Report = lambda done, windows: None
    ) -> Prediction:
        """All organs of an image (1, 1, X, Y, Z), in one label map."""
        organs = self.trained.organs
        probabilities = np.empty((len(organs), *placed.native.shape), np.float32)
        masks = np.empty(probabilities.shape, bool)
        for chosen, native in self._native(image, placed, organs, report):
            for organ, mask in self.predictor.claimed(native, chosen).items():
                row = organs.index(organ)
                probabilities[row] = native[self.predictor.channel(organ, chosen)]
                masks[row] = mask
        # What one softmax predicts all at once has a background of its own.
        exclusive = self.predictor.shared_head and len(self.trained.passes) == 1
        claims = masks.sum(axis=0)
        return Prediction(
            organs=organs,
            probabilities=probabilities,
            labels=numbered(masks) if exclusive else self._cleaned(resolve(probabilities)),
            overlap_rate=float((claims > 1).sum() / max((claims > 0).sum(), 1)),
        )

    def _native(
        self, image: Tensor, placed: Placed, organs: tuple[str, ...], report: Report
    ) -> Iterator[tuple[tuple[str, ...], NDArray[np.float32]]]:
        passes = [tuple(o for o in chosen if o in organs) for chosen in self.trained.passes]
        passes = [chosen for chosen in passes if chosen]
        runs = len(passes) * len(self.members)
        for number, chosen in enumerate(passes):
            total: Tensor | None = None
            for index, member in enumerate(self.members):
                load_organ(self.predictor.model, chosen[0], member.tensors)

                def told(done: int, windows: int, run: int = number * len(self.members) + index) -> None:
                    report(run * windows + done, runs * windows)

                found = self.predictor.probabilities(image, chosen, told)
                total = found if total is None else total + found
            assert total is not None
            if len(self.members) > 1:
                total = total / len(self.members)
            yield chosen, to_native(total, placed)

    def _cleaned(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What lies apart from an organ becomes background, where that is asked for."""
        for number, organ in enumerate(self.trained.organs, start=1):
            here = labels == number
            labels[here & ~self.predictor.cleaned(organ, here)] = 0
        return labels


def check_alike(one: TrainedModel, other: TrainedModel) -> None:
    """Raises Refusal where two models cannot be averaged: other organs, network, images or norms."""
    for what, first, second in (
        ("predicts other organs", one.organs, other.organs),
        ("has other channels", one.exported.all_organs, other.exported.all_organs),
        (
            "has one head for all organs, or a head per organ, where the first has the other",
            one.exported.spec.shared_head,
            other.exported.spec.shared_head,
        ),
        (
            "has a BatchNorm for each organ, or one for all, where the first has the other",
            one.passes,
            other.passes,
        ),
        (
            "has another network",
            msgspec.structs.replace(one.exported.spec.model, start=Start.SEEDED),
            msgspec.structs.replace(other.exported.spec.model, start=Start.SEEDED),
        ),
        ("prepares images otherwise", one.exported.spec.preprocessing, other.exported.spec.preprocessing),
        ("has another patch", one.exported.spec.training.patch, other.exported.spec.training.patch),
    ):
        if first != second:
            names = [each.exported.blob.removeprefix("sha256:")[:12] for each in (other, one)]
            raise Refusal(
                f"the model {names[0]}…: {what}, so its probabilities cannot be averaged with those of "
                f"{names[1]}…. Name models of one recipe, such as those of several seeds."
            )


def numbered(masks: Mask) -> NDArray[np.uint8]:
    """(organs, X, Y, Z), of which no two claim a voxel, to one label map."""
    labels = np.zeros(masks.shape[1:], np.uint8)
    for number, mask in enumerate(masks, start=1):
        labels[mask] = number
    return labels


def resolve(probabilities: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(organs, X, Y, Z) to one label map: background has Π(1 − p), then the most probable wins.

    For organs that a head each predicts, and knows nothing of the others; one softmax has its own background.
    """
    background = np.prod(1 - probabilities, axis=0)
    best = probabilities.argmax(axis=0)
    # Ties go to background, as an argmax over background first would have it.
    organ = np.take_along_axis(probabilities, best[None], axis=0)[0] > background
    labels: NDArray[np.uint8] = np.where(organ, best + 1, 0).astype(np.uint8)
    return labels
