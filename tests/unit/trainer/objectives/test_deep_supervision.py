"""The loss over several resolutions against its definition, written out."""

import numpy as np
import pytest
import torch
from torch import Tensor

from segviz_exchange.contract.choices import Norm, Preset
from segviz_exchange.contract.sharing import SHARED_HEAD
from segviz_exchange.contract.spec import Model
from segviz_trainer.batches.sampling import Batch
from segviz_trainer.network.segnet import SegNet
from segviz_trainer.objectives.conditional_distillation import ConditionalDistillation
from segviz_trainer.objectives.deep_supervision import coarser, supervised
from segviz_trainer.objectives.marginal import Marginal
from segviz_trainer.objectives.marginal_exclusion import MarginalExclusion
from segviz_trainer.objectives.per_organ_head import PerOrganHead
from segviz_trainer.objectives.pooled import Pooled

ORGANS = ("liver", "spleen")
SIDE = 16
MODEL = Model((2, 3, 4), (2, 2), 2, Norm.INSTANCE, 1, preset=Preset.PLAIN_UNET, deep_supervision=True)


def batch() -> Batch:
    chance = torch.Generator().manual_seed(0)
    label = torch.randint(0, 3, (2, 1, SIDE, SIDE, SIDE), dtype=torch.uint8, generator=chance)
    known = (torch.rand(label.shape, generator=chance) > 0.3).float()
    image = torch.randn(label.shape, generator=chance)
    return Batch(image, label, (frozenset({0, 1}), frozenset({1})), known)


def test_a_coarser_label_has_every_second_voxel() -> None:
    whole = batch()
    half = coarser(whole, (2, 3, SIDE // 2, SIDE // 4, SIDE))
    for x, y, z in np.ndindex(SIDE // 2, SIDE // 4, SIDE):
        assert half.label[1, 0, x, y, z] == whole.label[1, 0, 2 * x, 4 * y, z]
        assert half.known[1, 0, x, y, z] == whole.known[1, 0, 2 * x, 4 * y, z]


def test_weights_are_one_a_half_and_a_quarter_of_their_sum() -> None:
    outputs = [
        torch.full((1, 2, side, side, side), value) for side, value in ((16, 7.0), (8, 14.0), (4, 28.0))
    ]
    seen = []

    def loss(logits: Tensor, given: Batch) -> Tensor:
        seen.append(tuple(given.label.shape[2:]))
        return logits.mean()

    assert float(supervised(outputs, batch(), loss)) == pytest.approx((7 + 14 / 2 + 28 / 4) / 1.75)
    assert seen == [(16,) * 3, (8,) * 3, (4,) * 3]


def test_one_output_is_the_plain_loss_bit_for_bit() -> None:
    logits = torch.randn(2, 3, SIDE, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    loss = Marginal(ORGANS, ORGANS).of_logits
    assert torch.equal(supervised([logits], batch(), loss), loss(logits, batch()))


SHARED = {
    "Marginal": Marginal(ORGANS, ORGANS),
    "MarginalExclusion": MarginalExclusion(ORGANS, ORGANS),
    "Pooled": Pooled(ORGANS, ORGANS),
}


@pytest.mark.parametrize("loss", SHARED.values(), ids=SHARED)
def test_one_head_for_all_is_supervised_at_every_resolution(loss) -> None:
    net, given = SegNet(MODEL, {SHARED_HEAD: 3}, seed=0), batch()
    with torch.no_grad():
        outputs = net.outputs(SHARED_HEAD, net.features(given.image))
        levels = [float(loss.of_logits(each, coarser(given, each.shape))) for each in outputs]
        assert float(loss(net, given)) == pytest.approx((levels[0] + levels[1] / 2) / 1.5, rel=1e-5)


def test_each_organs_head_is_supervised_over_its_own_rows() -> None:
    net, given = SegNet(MODEL, dict.fromkeys(ORGANS, 2), seed=0), batch()
    with torch.no_grad():
        found = PerOrganHead(ORGANS)(net, given)
        of_organs = []
        for index, rows in ((0, [0]), (1, [0, 1])):
            features = net.features(given.image[rows])
            seen = Batch(
                given.image[rows], given.label[rows], (frozenset({index}),) * len(rows), given.known[rows]
            )
            outputs = net.outputs(ORGANS[index], features)
            levels = []
            for logits in outputs:
                few = coarser(seen, logits.shape)
                p = torch.softmax(logits, dim=1).numpy() * few.known.numpy()
                inside = few.label.numpy() == index + 1
                y = np.concatenate([~inside, inside], axis=1) * few.known.numpy()
                axes = (2, 3, 4)
                dice = (2 * (p * y).sum(axes) + 1e-5) / (p.sum(axes) + y.sum(axes) + 1e-5)
                levels.append(float((1 - dice).mean()))
            of_organs.append((levels[0] + levels[1] / 2) / 1.5)
    assert float(found) == pytest.approx(np.mean(of_organs), rel=1e-4)


def test_the_teacher_is_asked_at_full_resolution_alone() -> None:
    net, teacher = (SegNet(MODEL, {SHARED_HEAD: 3}, seed=seed).eval() for seed in (0, 1))
    given, losses = batch(), []
    with torch.no_grad():
        for weight in (0.0, 1.0):
            losses.append(float(ConditionalDistillation(ORGANS, ORGANS, teacher, weight)(net, given)))
        assert losses[0] == pytest.approx(float(Marginal(ORGANS, ORGANS)(net, given)), rel=1e-6)
        assert losses[1] > losses[0]


def test_every_parameter_of_a_supervised_head_is_trained() -> None:
    net = SegNet(MODEL, dict.fromkeys(ORGANS, 2), seed=0)
    PerOrganHead(ORGANS)(net, batch()).backward()
    idle = [name for name, value in net.named_parameters() if value.grad is None or not value.grad.any()]
    # A bias before InstanceNorm moves nothing; MONAI's blocks have none.
    assert idle == []
