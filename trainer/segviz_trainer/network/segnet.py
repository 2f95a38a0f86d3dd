"""The network: one shared representation and a head per organ, or one head for all of them.

An encoder and decoder, taken apart at the levels of its decoder: a head is the network's top `headLevels`
up-layers (of the paper's network, one level is its two layers: a transposed convolution and a residual unit),
everything else is the representation.
"""

import hashlib
from collections.abc import Iterable
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from segviz_exchange.contract import spec
from segviz_exchange.contract.sharing import (
    COUNTER,
    NORM,
    PARAMETER,
    REPRESENTATION,
    SHARED_HEAD,
    TensorGroup,
)
from segviz_trainer.network.levels import Levels, build_levels

_RESOLUTIONS = 3
"""That deep supervision looks at, the finest included."""


class Features(NamedTuple):
    """What the heads see of an image."""

    skips: list[Tensor]
    """Encoder outputs of the head's levels, top first."""
    decoded: list[Tensor]
    """Outputs of the decoder's levels below the heads, top first, and of the bottom."""


class SegNet(nn.Module):
    """Encoder and decoder shared by all organs, and `heads` by name."""

    def __init__(self, model: spec.Model, head_channels: dict[str, int], seed: int) -> None:
        super().__init__()
        levels = build_levels(model, out_channels=2)
        self.head_levels = model.head_levels
        self.representation = Representation(levels, self.head_levels)
        initialise(self.representation, seed, REPRESENTATION)
        self.heads = nn.ModuleDict()
        for name, channels in sorted(head_channels.items()):
            head = Head(build_levels(model, channels), model, channels)
            # Every head has a seed of its own. Heads that start equal force look-alike organs into the same
            # features, and the average of two such representations serves neither
            # (docs/explanation/results.md).
            initialise(head, seed, f"head/{name}")
            self.heads[name] = head

    def features(self, image: Tensor) -> Features:
        """Run the representation on an image (B, 1, X, Y, Z)."""
        features: Features = self.representation(image)
        return features

    def head(self, name: str, features: Features) -> Tensor:
        """Logits of one head, (B, channels, X, Y, Z)."""
        return self._head(name).climb(features)[0]

    def outputs(self, name: str, features: Features) -> list[Tensor]:
        """The same, and with deep supervision also logits at half and a quarter of the resolution."""
        return self._head(name).outputs(features)

    def _head(self, name: str) -> "Head":
        head = self.heads[name]
        assert isinstance(head, Head)
        return head

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Logits of every head, by name."""
        features = self.features(image)
        return {name: self.head(name, features) for name in self.heads}


class Head(nn.Module):
    """The decoder's top levels for one head, and logits of coarser levels where those are supervised."""

    def __init__(self, levels: Levels, model: spec.Model, channels: int) -> None:
        super().__init__()
        self.count = model.head_levels
        for number, level in enumerate(levels.ups[: self.count]):
            self.add_module(str(number), level)
        widths = levels.widths[1:_RESOLUTIONS] if model.deep_supervision else ()
        self.deep = nn.ModuleList(nn.Conv3d(width, channels, kernel_size=1) for width in widths)

    def climb(self, features: Features) -> list[Tensor]:
        """Outputs of the decoder's levels, the head's own and those below it, top first."""
        levels = [self.get_submodule(str(number)) for number in range(self.count)]
        return climb(levels, features.skips, features.decoded)

    def outputs(self, features: Features) -> list[Tensor]:
        logits, *below = self.climb(features)
        # The bottom, which is last, is not asked.
        return [logits, *(conv(hidden) for conv, hidden in zip(self.deep, below, strict=False))]


class Representation(nn.Module):
    """The encoder, and the decoder below the heads."""

    def __init__(self, levels: Levels, head_levels: int) -> None:
        super().__init__()
        self.downs = nn.ModuleList(levels.downs)
        self.bottom = levels.bottom
        self.ups = nn.ModuleList(levels.ups[head_levels:])

    def forward(self, image: Tensor) -> Features:
        skips = []
        hidden = image
        for down in self.downs:
            hidden = down(hidden)
            skips.append(hidden)
        above = len(skips) - len(self.ups)
        return Features(skips[:above], climb(list(self.ups), skips[above:], [self.bottom(hidden)]))


def climb(levels: list[nn.Module], skips: list[Tensor], decoded: list[Tensor]) -> list[Tensor]:
    """Outputs of decoder levels, top first, above those that are there.

    Each level sees the encoder's output of its own resolution beside what is below it.
    """
    for level, skip in zip(reversed(levels), reversed(skips), strict=True):
        decoded = [level(decoded[0], skip), *decoded]
    return decoded


def build(federation: spec.FederationSpec, organs: Iterable[str]) -> SegNet:
    """The seeded initial model for a federation's organs: equal wherever it is built with one torch build."""
    organs = sorted(organs)
    heads = {SHARED_HEAD: len(organs) + 1} if federation.shared_head else dict.fromkeys(organs, 2)
    return SegNet(federation.model, heads, federation.seed)


def groups_of(model: SegNet) -> dict[str, TensorGroup]:
    """Block and kind of every tensor of the state dict; BatchNorm is recognised by module type."""
    groups = {}
    for module_name, module in model.named_modules():
        prefix = f"{module_name}." if module_name else ""
        block = module_name.split(".")[1] if module_name.startswith("heads.") else REPRESENTATION
        own = [name for name, _ in module.named_parameters(recurse=False)]
        own += [name for name, _ in module.named_buffers(recurse=False)]
        for name in own:
            kind = PARAMETER
            if isinstance(module, _BatchNorm):
                kind = COUNTER if name == "num_batches_tracked" else NORM
            groups[prefix + name] = TensorGroup(block, kind)
    return groups


def initialise(module: nn.Module, seed: int, block: str) -> None:
    """LeCun-normal weights (variance 1 / fan-in), zero biases, keyed by (seed, block)."""
    digest = hashlib.sha256(f"{seed}/{block}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    for layer in module.modules():
        if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d):
            std = _fan_in(layer) ** -0.5
            with torch.no_grad():
                layer.weight.normal_(0.0, std, generator=generator)
                if layer.bias is not None:
                    layer.bias.zero_()


def _fan_in(layer: nn.Conv3d | nn.ConvTranspose3d) -> float:
    """How many inputs reach one output; a strided transposed convolution spreads each over several."""
    taps = layer.in_channels / layer.groups * prod(layer.kernel_size)
    return taps / prod(layer.stride) if isinstance(layer, nn.ConvTranspose3d) else taps
