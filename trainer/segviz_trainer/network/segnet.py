"""The network: one shared representation and a head per organ, or one head for all of them.

MONAI's UNet, taken apart at the levels of its decoder: a head is the network's top `headLevels` up-layers
(one level is the paper's two layers: a transposed convolution and a residual unit), everything else is the
representation.
"""

import hashlib
from collections.abc import Iterable
from math import prod

import torch
from monai.networks.nets.unet import UNet
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from segviz_exchange.contract import choices, spec
from segviz_exchange.contract.sharing import (
    COUNTER,
    NORM,
    PARAMETER,
    REPRESENTATION,
    SHARED_HEAD,
    TensorGroup,
)

Features = tuple[list[Tensor], Tensor]


class SegNet(nn.Module):
    """Encoder and decoder shared by all organs, and `heads` by name."""

    def __init__(self, model: spec.Model, head_channels: dict[str, int], seed: int) -> None:
        super().__init__()
        downs, bottom, ups = _levels(model, out_channels=2)
        self.head_levels = model.head_levels
        self.representation = Representation(downs, bottom, ups[self.head_levels :])
        initialise(self.representation, seed, REPRESENTATION)
        self.heads = nn.ModuleDict()
        for name, channels in sorted(head_channels.items()):
            head = nn.ModuleList(_levels(model, channels)[2][: self.head_levels])
            # Every head has a seed of its own. Heads that start equal force look-alike organs into the same
            # features, and the average of two such representations serves neither
            # (docs/explanation/results.md).
            initialise(head, seed, f"head/{name}")
            self.heads[name] = head

    def features(self, image: Tensor) -> Features:
        """Run the representation.

        Args:
            image: (B, 1, X, Y, Z).

        Returns:
            Encoder outputs of the head's levels, top first, and the decoder's output below them.
        """
        features: Features = self.representation(image)
        return features

    def head(self, name: str, features: Features) -> Tensor:
        """Logits of one head, (B, channels, X, Y, Z)."""
        skips, hidden = features
        ups = self.heads[name]
        assert isinstance(ups, nn.ModuleList)
        return up(ups, skips, hidden)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Logits of every head, by name."""
        features = self.features(image)
        return {name: self.head(name, features) for name in self.heads}


class Representation(nn.Module):
    """The encoder, and the decoder below the heads."""

    def __init__(self, downs: list[nn.Module], bottom: nn.Module, ups: list[nn.Module]) -> None:
        super().__init__()
        self.downs = nn.ModuleList(downs)
        self.bottom = bottom
        self.ups = nn.ModuleList(ups)

    def forward(self, image: Tensor) -> Features:
        skips = []
        hidden = image
        for down in self.downs:
            hidden = down(hidden)
            skips.append(hidden)
        above = len(skips) - len(self.ups)
        return skips[:above], up(self.ups, skips[above:], self.bottom(hidden))


def up(levels: nn.ModuleList, skips: list[Tensor], hidden: Tensor) -> Tensor:
    """Climb decoder levels, the lowest first; each sees the encoder's output of its level beside `hidden`."""
    for level, skip in zip(reversed(levels), reversed(skips), strict=True):
        hidden = level(torch.cat([skip, hidden], dim=1))
    return hidden


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


def _levels(model: spec.Model, out_channels: int) -> tuple[list[nn.Module], nn.Module, list[nn.Module]]:
    """MONAI's nested UNet as flat lists: down-layers and up-layers from the top, and the bottom."""
    norm: str | tuple[str, dict[str, bool]] = (
        "batch" if model.norm is choices.Norm.BATCH else ("instance", {"affine": True})
    )
    node: Tensor | nn.Module = UNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=out_channels,
        channels=model.channels,
        strides=model.strides,
        num_res_units=model.residual_units,
        norm=norm,
    ).model
    downs: list[nn.Module] = []
    ups: list[nn.Module] = []
    while isinstance(node, nn.Sequential) and len(node) == 3 and hasattr(node[1], "submodule"):
        downs.append(node[0])
        ups.append(node[2])
        node = node[1].submodule
    assert isinstance(node, nn.Module)
    return downs, node, ups
