"""The presets are MONAI's networks cut in two; deep supervision sees what lies below the top."""

import msgspec
import pytest
import torch
from monai.networks.nets.dynunet import DynUNet
from torch import nn

from builders.rig import small_federation
from segviz_exchange.contract.choices import Norm, Objective, Preset
from segviz_exchange.contract.sharing import COUNTER, NORM, SHARED_HEAD
from segviz_exchange.contract.spec import Model
from segviz_trainer.network.segnet import SegNet, build, groups_of

CHANNELS, STRIDES = (4, 6, 8, 10), (2, 1, 2)
NEW = [Preset.PLAIN_UNET, Preset.RESIDUAL_ENCODER]


def model_of(preset: Preset, norm: Norm = Norm.BATCH, head_levels: int = 1, **fields: object) -> Model:
    return Model(CHANNELS, STRIDES, 2, norm, head_levels, preset=preset, **fields)


def dyn_unet(preset: Preset, norm: Norm) -> DynUNet:
    return DynUNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=2,
        kernel_size=[3] * len(CHANNELS),
        strides=[1, *STRIDES],
        upsample_kernel_size=list(STRIDES),
        filters=list(CHANNELS),
        norm_name="batch" if norm is Norm.BATCH else ("instance", {"affine": True}),
        res_block=preset is Preset.RESIDUAL_ENCODER,
    )


def filled(module: nn.Module) -> nn.Module:
    """With numbers that no initialisation gives, BatchNorm's statistics included."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in module.state_dict().values():
            if value.is_floating_point():
                value.copy_(0.1 + 0.3 * torch.rand(value.shape, generator=generator))
    return module


@pytest.mark.parametrize("norm", Norm)
@pytest.mark.parametrize("head_levels", [1, 2])
@pytest.mark.parametrize("preset", NEW)
def test_with_the_same_weights_it_is_monais_dyn_unet(preset: Preset, head_levels: int, norm: Norm) -> None:
    theirs = filled(dyn_unet(preset, norm)).eval()
    ours = SegNet(model_of(preset, norm, head_levels), {"liver": 2}, seed=0).eval()
    stages = [theirs.input_block, *theirs.downsamples, theirs.bottleneck]
    for mine, stage in zip([*ours.representation.downs, ours.representation.bottom], stages, strict=True):
        (mine[0] if preset is Preset.RESIDUAL_ENCODER else mine).load_state_dict(stage.state_dict())
    head = ours.heads["liver"]
    ups = [head.get_submodule(str(level)) for level in range(head_levels)] + list(ours.representation.ups)
    for level, (mine, up) in enumerate(zip(ups, reversed(theirs.upsamples), strict=True)):
        (mine if level else mine.up).load_state_dict(up.state_dict())
    ups[0].out.load_state_dict(theirs.output_block.state_dict())
    image = torch.randn(2, 1, 16, 24, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(ours(image)["liver"], theirs(image))


def test_a_residual_encoder_has_as_many_blocks_as_asked() -> None:
    net = SegNet(model_of(Preset.RESIDUAL_ENCODER, encoder_blocks=(1, 3, 2, 1)), {"liver": 2}, seed=0)
    stages = [*net.representation.downs, net.representation.bottom]
    assert [len(stage) for stage in stages] == [1, 3, 2, 1]
    with torch.no_grad():
        assert net(torch.zeros(1, 1, 16, 16, 16))["liver"].shape == (1, 2, 16, 16, 16)


@pytest.mark.parametrize("preset", Preset)
def test_each_axis_has_strides_of_its_own(preset: Preset) -> None:
    """16 × 16 × 8 voxels, 4 × 4 × 4 at the bottom; the network answers at the image's grid."""
    strides = ((2, 2, 1), (2, 1, 1), (1, 2, 2))
    net = SegNet(model_of(preset, axis_strides=strides, deep_supervision=True), {"liver": 2}, seed=0).eval()
    with torch.no_grad():
        features = net.features(torch.zeros(1, 1, 16, 16, 8))
        outputs = net.outputs("liver", features)
    assert features.decoded[-1].shape[2:] == (4, 4, 4)
    shapes = [tuple(each.shape[2:]) for each in outputs]
    # MONAI's UNet strides before its first convolution, so what lies below the top is one level coarser.
    assert shapes == [(16, 16, 8), (8, 8, 8), (4, 8, 8)]


@pytest.mark.parametrize("preset", Preset)
def test_triples_of_one_number_are_that_number(preset: Preset) -> None:
    """The same weights from the same seed, to the byte."""
    triples = tuple((each,) * 3 for each in STRIDES)
    plain, by_axis = (
        SegNet(model, {"liver": 2}, seed=5).state_dict()
        for model in (model_of(preset), model_of(preset, axis_strides=triples))
    )
    assert plain.keys() == by_axis.keys()
    assert all(torch.equal(value, by_axis[name]) for name, value in plain.items())


@pytest.mark.parametrize("preset", NEW)
def test_each_level_has_kernels_of_its_own(preset: Preset) -> None:
    """On the way up a level has those that it has on the way down."""
    kernels = ((3, 3, 1), (3, 3, 1), (3, 3, 3), (3, 3, 3))
    net = SegNet(model_of(preset, kernels=kernels), {"liver": 2}, seed=0)
    downs = [*net.representation.downs, net.representation.bottom]
    ups = [net.heads["liver"].get_submodule("0").up, *net.representation.ups]
    for levels, wanted in ((downs, kernels), ([up.conv_block for up in ups], kernels[:-1])):
        for level, kernel in zip(levels, wanted, strict=True):
            convolutions = [each for each in level.modules() if isinstance(each, nn.Conv3d)]
            assert {each.kernel_size for each in convolutions} - {(1, 1, 1)} == {kernel}
    with torch.no_grad():
        assert net(torch.zeros(1, 1, 16, 16, 16))["liver"].shape == (1, 2, 16, 16, 16)


@pytest.mark.parametrize("preset", Preset)
def test_every_tensor_has_a_group_and_batchnorm_is_found_in_every_block(preset: Preset) -> None:
    net = build(small_federation(model=model_of(preset, deep_supervision=True)), ("liver", "spleen"))
    groups = groups_of(net)
    assert groups.keys() == net.state_dict().keys()
    counters = {name for name, group in groups.items() if group.kind == COUNTER}
    assert counters == {name for name in groups if name.endswith("num_batches_tracked")}
    moving = {name.rsplit(".", 1)[0] for name in groups if name.endswith("running_mean")}
    norms = {name.rsplit(".", 1)[0] for name, group in groups.items() if group.kind == NORM}
    assert norms == moving
    assert {groups[f"{name}.weight"].block for name in norms} == {"representation", "liver", "spleen"}


@pytest.mark.parametrize("preset", Preset)
@pytest.mark.parametrize("head_levels", [1, 2, 3])
def test_deep_supervision_adds_logits_of_coarser_resolutions(preset: Preset, head_levels: int) -> None:
    model = model_of(preset, head_levels=head_levels, deep_supervision=True)
    net = build(small_federation(model=model, objective=Objective.MARGINAL), ("liver", "spleen")).eval()
    image = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = net.features(image)
        outputs = net.outputs(SHARED_HEAD, features)
        # The strides from the top are 2 and 1.
        assert [tuple(each.shape) for each in outputs] == [(1, 3, side, side, side) for side in (16, 8, 8)]
        assert torch.equal(outputs[0], net.head(SHARED_HEAD, features))


@pytest.mark.parametrize("preset", Preset)
def test_deep_supervision_leaves_the_first_weights_of_the_rest_as_they_are(preset: Preset) -> None:
    plain, deep = (
        SegNet(model_of(preset, deep_supervision=each), {"liver": 2}, seed=5).state_dict()
        for each in (False, True)
    )
    assert {name for name in deep if name not in plain} == {
        f"heads.liver.deep.{level}.{kind}" for level in (0, 1) for kind in ("weight", "bias")
    }
    assert all(torch.equal(value, deep[name]) for name, value in plain.items())


def test_without_it_there_is_one_output() -> None:
    net = SegNet(msgspec.structs.replace(model_of(Preset.PLAIN_UNET)), {"liver": 2}, seed=5)
    assert len(net.outputs("liver", net.features(torch.zeros(2, 1, 16, 16, 16)))) == 1
