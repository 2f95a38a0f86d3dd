"""The network is MONAI's UNet cut in two, and its first weights depend on the seed and each block alone."""

import math
import re

import msgspec
import pytest
import torch
from monai.networks.nets.unet import UNet
from torch import nn

from builders.rig import small_federation
from segviz_exchange.contract.choices import Norm, Objective
from segviz_exchange.contract.sharing import (
    COUNTER,
    NORM,
    PARAMETER,
    REPRESENTATION,
    SHARED_HEAD,
    TensorGroup,
)
from segviz_exchange.contract.spec import Model
from segviz_trainer.network.segnet import SegNet, build, groups_of, initialise

DEFAULT = Model((16, 32, 64, 128, 256), (2, 2, 2, 2), 2, Norm.BATCH, 1)
SMALL = Model((4, 8, 8, 16), (2, 2, 2), 2, Norm.BATCH, 1)
BATCH_NORM_TENSORS = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


def changed(model: Model, **fields: object) -> Model:
    return msgspec.structs.replace(model, **fields)


def monai_unet(model: Model, out_channels: int) -> UNet:
    return UNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=out_channels,
        channels=model.channels,
        strides=model.strides,
        num_res_units=model.residual_units,
        norm="batch" if model.norm is Norm.BATCH else ("instance", {"affine": True}),
    )


def monai_name(ours: str, levels: int, head_levels: int) -> str:
    """Where MONAI's nested Sequential keeps the tensor that we call `ours`."""
    block, rest = re.fullmatch(r"(representation\.(?:downs|bottom|ups)|heads\.\w+)\.(.*)", ours).groups()
    if block == "representation.bottom":
        return "model." + "1.submodule." * levels + rest
    level, rest = rest.split(".", 1)
    depth = int(level) + (head_levels if block == "representation.ups" else 0)
    return "model." + "1.submodule." * depth + ("0." if block == "representation.downs" else "2.") + rest


def filled(module: nn.Module) -> nn.Module:
    """With numbers that no initialisation gives, BatchNorm's statistics included."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in module.state_dict().values():
            if value.is_floating_point():
                value.copy_(0.1 + 0.3 * torch.rand(value.shape, generator=generator))
    return module


def organ_net(*organs: str, model: Model = SMALL, seed: int = 7) -> SegNet:
    return build(small_federation(model=model, seed=seed), organs)


# --- the function ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("norm", [Norm.BATCH, Norm.INSTANCE])
@pytest.mark.parametrize("head_levels", [1, 2])
def test_with_the_same_weights_it_is_monais_unet(head_levels: int, norm: Norm, training: bool) -> None:
    model = changed(SMALL, head_levels=head_levels, norm=norm)
    theirs = filled(monai_unet(model, out_channels=2)).train(training)
    ours = SegNet(model, {"liver": 2}, seed=0).train(training)
    source = theirs.state_dict()
    names = {name: monai_name(name, len(model.strides), head_levels) for name in ours.state_dict()}
    assert sorted(names.values()) == sorted(source)
    ours.load_state_dict({name: source[origin] for name, origin in names.items()})
    image = torch.randn(2, 1, 16, 24, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(ours(image)["liver"], theirs(image))


def test_the_default_network_has_the_papers_number_of_parameters() -> None:
    net = SegNet(DEFAULT, {"liver": 2}, seed=0)
    assert sum(parameter.numel() for parameter in net.parameters()) == 4_808_917


def test_a_head_of_the_default_network_has_1845_parameters() -> None:
    net = SegNet(DEFAULT, {"liver": 2}, seed=0)
    assert sum(parameter.numel() for parameter in net.heads["liver"].parameters()) == 1_845


def test_another_head_adds_its_own_parameters_alone() -> None:
    one, two = organ_net("liver"), organ_net("liver", "spleen")
    added = set(two.state_dict()) - set(one.state_dict())
    assert {name.split(".")[1] for name in added} == {"spleen"}


def test_the_multi_organ_head_has_a_channel_per_organ_and_one_for_background() -> None:
    net = build(small_federation(model=SMALL, objective=Objective.MARGINAL), ("spleen", "liver", "kidneys"))
    with torch.no_grad():
        logits = net(torch.zeros(1, 1, 16, 16, 16))
    assert {name: value.shape for name, value in logits.items()} == {SHARED_HEAD: (1, 4, 16, 16, 16)}


# --- groups ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [Norm.BATCH, Norm.INSTANCE])
@pytest.mark.parametrize("head_levels", [1, 2])
def test_every_name_of_the_state_dict_has_a_group(head_levels: int, norm: Norm) -> None:
    net = organ_net("liver", "spleen", model=changed(SMALL, head_levels=head_levels, norm=norm))
    assert groups_of(net).keys() == net.state_dict().keys()


def test_a_tensors_block_is_the_representation_or_its_head() -> None:
    groups = groups_of(organ_net("liver", "spleen"))
    for name, group in groups.items():
        assert group.block == (name.split(".")[1] if name.startswith("heads.") else REPRESENTATION), name
    assert {group.block for group in groups.values()} == {REPRESENTATION, "liver", "spleen"}


@pytest.mark.parametrize("block", [REPRESENTATION, "liver"])
def test_batchnorm_is_found_in_every_block(block: str) -> None:
    # MONAI calls every one of them `adn.N`, which no other layer is called.
    groups = groups_of(organ_net("liver"))
    kinds = {name: group.kind for name, group in groups.items() if group.block == block}
    norms = {name for name, kind in kinds.items() if kind == NORM}
    assert norms
    assert norms == {n for n in kinds if ".adn.N." in n and not n.endswith("num_batches_tracked")}


def test_counters_are_a_kind_of_their_own() -> None:
    groups = groups_of(organ_net("liver"))
    counters = {name for name, group in groups.items() if group.kind == COUNTER}
    assert counters
    assert counters == {name for name in groups if name.endswith("num_batches_tracked")}


def test_batchnorm_is_found_whatever_it_is_called() -> None:
    net = organ_net("liver")
    net.representation.bottom = nn.ModuleDict({"layer": nn.BatchNorm3d(3), "bn": nn.Linear(1, 1)})
    groups = groups_of(net)
    found = {name: groups[name] for name in groups if name.startswith("representation.bottom.")}
    own = dict.fromkeys(BATCH_NORM_TENSORS, NORM) | {"num_batches_tracked": COUNTER}
    expected = {f"layer.{name}": kind for name, kind in own.items()}
    expected |= {"bn.weight": PARAMETER, "bn.bias": PARAMETER}
    assert found == {
        f"representation.bottom.{name}": TensorGroup(REPRESENTATION, kind) for name, kind in expected.items()
    }


def test_instance_norm_belongs_to_the_parameters() -> None:
    groups = groups_of(organ_net("liver", model=changed(SMALL, norm=Norm.INSTANCE)))
    assert {group.kind for group in groups.values()} == {PARAMETER}


# --- first weights --------------------------------------------------------------------------------------


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_initial_model_does_not_depend_on_torchs_own_generator() -> None:
    torch.manual_seed(1)
    first = organ_net("liver", "spleen").state_dict()
    torch.manual_seed(2)
    assert equal(first, organ_net("liver", "spleen").state_dict())


def test_the_order_of_the_organs_does_not_matter() -> None:
    assert equal(organ_net("liver", "spleen").state_dict(), organ_net("spleen", "liver").state_dict())


@pytest.mark.parametrize("block", ["representation", "heads"])
def test_another_seed_gives_other_weights(block: str) -> None:
    one, other = organ_net("liver", seed=1).state_dict(), organ_net("liver", seed=2).state_dict()
    weights = [name for name in one if name.startswith(block) and name.endswith("conv.weight")]
    assert weights
    assert not any(torch.equal(one[name], other[name]) for name in weights)


def test_heads_of_different_organs_start_different() -> None:
    heads = organ_net("liver", "spleen").heads
    liver, spleen = heads["liver"].state_dict(), heads["spleen"].state_dict()
    weights = [name for name in liver if name.endswith("conv.weight")]
    assert weights
    assert not any(torch.equal(liver[name], spleen[name]) for name in weights)


def test_a_head_starts_the_same_whatever_the_other_organs_are() -> None:
    alone, among = organ_net("liver"), organ_net("kidneys", "liver", "spleen")
    assert equal(alone.heads["liver"].state_dict(), among.heads["liver"].state_dict())


def test_the_representation_starts_the_same_whatever_the_organs_are() -> None:
    one, other = organ_net("liver"), organ_net("kidneys", "spleen")
    assert equal(one.representation.state_dict(), other.representation.state_dict())


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        (nn.Conv3d(32, 64, 3), 32 * 27),
        (nn.Conv3d(512, 64, 1), 512),
        (nn.Conv3d(32, 64, 3, groups=4), 8 * 27),
        (nn.ConvTranspose3d(64, 32, 3, stride=2), 64 * 27 / 8),
        (nn.ConvTranspose3d(64, 32, (3, 3, 1), stride=(2, 2, 1)), 64 * 9 / 4),
    ],
    ids=["3x3x3", "1x1x1", "grouped", "transposed", "transposed, flat"],
)
def test_weights_are_lecun_normal(layer: nn.Module, inputs: float) -> None:
    initialise(layer, seed=0, block="block")
    weight = layer.weight.detach()
    std, n = math.sqrt(1 / inputs), weight.numel()
    # Five standard errors of a sample's standard deviation, and of its mean.
    assert abs(float(weight.std()) / std - 1) < 5 / math.sqrt(2 * n)
    assert abs(float(weight.mean())) < 5 * std / math.sqrt(n)


def test_biases_start_at_zero() -> None:
    biases = [value for name, value in organ_net("liver").state_dict().items() if name.endswith("conv.bias")]
    assert biases
    assert not any(bias.any() for bias in biases)
