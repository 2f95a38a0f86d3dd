"""A finished model as TorchScript: one file that needs torch and nothing of ours."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data.torchscript_utils import save_net_with_metadata
from torch import Tensor, nn

from segviz_exchange.contract.sharing import SHARED_HEAD
from segviz_exchange.process.errors import Refusal
from segviz_trainer.inference.options import InferenceOptions
from segviz_trainer.models.exported import organ_prefix
from segviz_trainer.models.trained import TrainedModel
from segviz_trainer.network.segnet import SegNet

_TOLERANCE = 1e-5


class Probabilities(nn.Module):
    """An image patch (B, 1, X, Y, Z) to probabilities (B, C, X, Y, Z).

    With a head per organ, C are the organs; under FedBN each organ has a network with BN of its own. With one
    head for all, C are background and the organs. It is the mean over `flips`, of which the first is none.
    """

    def __init__(
        self,
        nets: Sequence[SegNet],
        passes: Sequence[tuple[str, ...]],
        channels: int,
        flips: Sequence[tuple[int, ...]] = ((),),
    ) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)
        self.passes = tuple(passes)
        self.channels = channels
        """Of the head for all organs; 0 where each has its own."""
        self.flips = tuple(flips)

    def forward(self, patch: Tensor) -> Tensor:
        total = self._seen(patch)
        for axes in self.flips[1:]:
            along = [2 + axis for axis in axes]
            total = total + self._seen(patch.flip(along)).flip(along)
        return total / len(self.flips) if len(self.flips) > 1 else total

    def _seen(self, patch: Tensor) -> Tensor:
        found = []
        for net, organs in zip(self.nets, self.passes, strict=True):
            assert isinstance(net, SegNet)
            features = net.features(patch)
            if self.channels:
                found.append(torch.softmax(net.head(SHARED_HEAD, features), dim=1))
            else:
                found += [torch.softmax(net.head(organ, features), dim=1)[:, 1:] for organ in organs]
        return torch.cat(found, dim=1)


def probabilities_of(trained: TrainedModel) -> Probabilities | None:
    """None for a head for all organs that each organ has its own copy of: their softmaxes do not add up."""
    shared = trained.exported.spec.shared_head
    passes = trained.passes
    if shared and len(passes) > 1:
        return None
    nets = [trained.network_of(organs[0]) for organs in passes]
    for net, organs in zip(nets, passes, strict=True):
        if not shared:
            net.heads = nn.ModuleDict({organ: net.heads[organ] for organ in organs})
    # What all organs have in common is held, and written, once.
    common = dict(nets[0].named_parameters())
    for net in nets[1:]:
        for name, parameter in net.named_parameters():
            own = any(organ_prefix(organ) + name in trained.tensors for organ in trained.organs)
            if name in common and not own:
                parameter.data = common[name].data
    channels = len(trained.exported.all_organs) + 1 if shared else 0
    flips = InferenceOptions.of(trained.exported.spec).flips
    return Probabilities(nets, passes, channels, flips).eval()


def write_script(
    model: Probabilities, patch: tuple[int, int, int], path: Path, metadata: Mapping[str, Any]
) -> None:
    """Trace, save, load again, and compare on another patch.

    Raises:
        Refusal: what was saved does not say what the model says.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    chance = torch.Generator().manual_seed(0)
    with torch.no_grad():
        example = torch.rand(1, 1, *patch, generator=chance)
        traced = torch.jit.trace(model, example, check_trace=False)  # type: ignore[no-untyped-call]
        save_net_with_metadata(traced, str(path), include_config_vals=False, meta_values=dict(metadata))
        other = torch.rand(1, 1, *patch, generator=chance)
        again = torch.jit.load(path)  # type: ignore[no-untyped-call]
        difference = float((again(other) - model(other)).abs().max())
    if difference > _TOLERANCE:
        raise Refusal(f"{path}: differs from the model it was made from by {difference:.1e}. Report this.")
