"""The levels of each preset's network, taken from MONAI's parts: encoder, bottom and decoder.

A level of the decoder takes what lies below it and the encoder's output of its own resolution.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from monai.networks.blocks.dynunet_block import UnetBasicBlock, UnetOutBlock, UnetResBlock, UnetUpBlock
from monai.networks.nets.unet import UNet
from torch import Tensor, nn

from segviz_exchange.contract import choices, spec

Triple = tuple[int, int, int]

_KERNEL: Triple = (3, 3, 3)
_ONE: Triple = (1, 1, 1)


@dataclass(frozen=True)
class Levels:
    downs: list[nn.Module]
    """From the top down, as the next two."""
    bottom: nn.Module
    ups: list[nn.Module]
    widths: tuple[int, ...]
    """Channels that each of `ups` gives; the top one's are the logits."""


class JoinedUp(nn.Sequential):
    """A level of MONAI's UNet, which takes both inputs as one. The names of its tensors are MONAI's."""

    def forward(self, hidden: Tensor, skip: Tensor) -> Tensor:  # type: ignore[override]
        joined = torch.cat([skip, hidden], dim=1)
        for layer in self:
            joined = layer(joined)
        return joined


class TopUp(nn.Module):
    """The top level of MONAI's DynUNet with its output layer: the two that belong to a head."""

    def __init__(self, up: nn.Module, out: nn.Module) -> None:
        super().__init__()
        self.up = up
        self.out = out

    def forward(self, hidden: Tensor, skip: Tensor) -> Tensor:
        logits: Tensor = self.out(self.up(hidden, skip))
        return logits


def build_levels(model: spec.Model, out_channels: int) -> Levels:
    return _PRESETS[model.preset](model, out_channels)


def _residual_unet(model: spec.Model, out_channels: int) -> Levels:
    """The paper's: MONAI's nested UNet as flat lists."""
    node: Tensor | nn.Module = UNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=out_channels,
        channels=model.channels,
        # Triples of them, too: each level hands its own on to the convolution.
        strides=model.axis_strides or model.strides,  # type: ignore[arg-type]
        num_res_units=model.residual_units,
        norm=_norm(model),
    ).model
    downs: list[nn.Module] = []
    ups: list[nn.Module] = []
    while isinstance(node, nn.Sequential) and len(node) == 3 and hasattr(node[1], "submodule"):
        downs.append(node[0])
        ups.append(JoinedUp(OrderedDict(node[2].named_children())))
        node = node[1].submodule
    assert isinstance(node, nn.Module)
    return Levels(downs, node, ups, (out_channels, *model.channels[: len(ups) - 1]))


def _plain_unet(model: spec.Model, out_channels: int) -> Levels:
    """nnU-Net's encoder and decoder (Isensee et al., 2021), of MONAI's DynUNet: two convolutions a level."""
    stages = [_block(UnetBasicBlock, model, *each) for each in _steps(model)]
    return _dyn_unet(model, stages, out_channels)


def _residual_encoder(model: spec.Model, out_channels: int) -> Levels:
    """Residual blocks on the way down, two convolutions on the way up (Isensee et al., 2024)."""
    counts = model.encoder_blocks or (1,) * len(model.channels)
    stages: list[nn.Module] = []
    for count, (inside, outside, kernel, stride) in zip(counts, _steps(model), strict=True):
        blocks = [_block(UnetResBlock, model, inside, outside, kernel, stride)]
        blocks += [_block(UnetResBlock, model, outside, outside, kernel, _ONE) for _ in range(count - 1)]
        stages.append(nn.Sequential(*blocks))
    return _dyn_unet(model, stages, out_channels)


def _dyn_unet(model: spec.Model, stages: list[nn.Module], out_channels: int) -> Levels:
    ups: list[nn.Module] = []
    for level, (stride, kernel) in enumerate(zip(model.steps, _kernels(model), strict=False)):
        above, below = model.channels[level], model.channels[level + 1]
        up = UnetUpBlock(3, below, above, kernel, stride, stride, _norm(model))
        ups.append(up if level else TopUp(up, UnetOutBlock(3, above, out_channels)))
    return Levels(stages[:-1], stages[-1], ups, (out_channels, *model.channels[1 : len(ups)]))


def _steps(model: spec.Model) -> list[tuple[int, int, Triple, Triple]]:
    """Channels in, channels out, kernel and stride of each level of the encoder, the bottom included."""
    inside = (1, *model.channels[:-1])
    return list(zip(inside, model.channels, _kernels(model), (_ONE, *model.steps), strict=True))


def _kernels(model: spec.Model) -> tuple[Triple, ...]:
    return model.kernels or (_KERNEL,) * len(model.channels)


def _block(
    kind: type[nn.Module], model: spec.Model, inside: int, outside: int, kernel: Triple, stride: Triple
) -> nn.Module:
    return kind(3, inside, outside, kernel, stride, _norm(model))


def _norm(model: spec.Model) -> str | tuple[str, dict[str, bool]]:
    return "batch" if model.norm is choices.Norm.BATCH else ("instance", {"affine": True})


_PRESETS: Mapping[choices.Preset, Callable[[spec.Model, int], Levels]] = {
    choices.Preset.RESIDUAL_UNET: _residual_unet,
    choices.Preset.PLAIN_UNET: _plain_unet,
    choices.Preset.RESIDUAL_ENCODER: _residual_encoder,
}
