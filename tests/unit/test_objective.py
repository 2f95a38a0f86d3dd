"""The losses against their formulas, written out slowly (methods: losses)."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses.dice import DiceLoss
from torch import Tensor, nn

from segviz_exchange.sharing import SHARED_HEAD
from segviz_exchange.spec import Model, Norm, Objective
from segviz_trainer.model import SegNet
from segviz_trainer.objective import Marginal, PerOrganHead, build_loss, merge_unannotated, proximal_term
from segviz_trainer.sampling import Batch

ALL = ("kidneys", "liver", "pancreas", "spleen")
SIDE = 4
SMOOTH = 1e-5
CLAMP = 1e-4


class Given:
    """Stands for a network: its logits are the batch's image."""

    def features(self, image: Tensor) -> Tensor:
        return image

    def head(self, name: str, features: Tensor) -> Tensor:
        assert name == SHARED_HEAD
        return features


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def labels(high: int, rows: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, high + 1, (rows, 1, SIDE, SIDE, SIDE), dtype=torch.uint8, generator=generator)


def batch(image: Tensor, label: Tensor, *organs: set[int]) -> Batch:
    return Batch(image, label, tuple(frozenset(annotated) for annotated in organs))


def soft_dice(prediction: np.ndarray, truth: np.ndarray) -> float:
    """MONAI's: a mean over channels, smoothed above and below the line."""
    losses = []
    for p, y in zip(prediction, truth, strict=True):
        losses.append(1 - (2 * (p * y).sum() + SMOOTH) / (p.sum() + y.sum() + SMOOTH))
    return float(np.mean(losses))


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=0))
    return raised / raised.sum(axis=0)


def slow_marginal(
    logits: np.ndarray, label: np.ndarray, site_organs: tuple[str, ...], annotated: set[int]
) -> float:
    """Voxel by voxel: `logits` (1 + organs, X, Y, Z), `label` (X, Y, Z) in the site's own classes."""
    p = softmax(logits.astype(np.float64))
    known = {1 + index: 1 + ALL.index(site_organs[index]) for index in sorted(annotated)}
    merged = np.zeros((1 + len(known), *label.shape))
    truth = np.zeros_like(merged)
    entropy = 0.0
    for voxel in np.ndindex(label.shape):
        for channel in range(len(p)):
            place = 1 + list(known.values()).index(channel) if channel in known.values() else 0
            merged[(place, *voxel)] += p[(channel, *voxel)]
        right = 1 + list(known).index(label[voxel]) if label[voxel] in known else 0
        truth[(right, *voxel)] = 1
        entropy -= np.log(max(merged[(right, *voxel)], CLAMP))
    return soft_dice(merged, truth) + entropy / label.size


# --- Marginal -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 8.0], ids=["plain", "clamped"])
@pytest.mark.parametrize(
    ("site_organs", "annotated"),
    [
        (("spleen",), {0}),
        (("kidneys", "spleen"), {0, 1}),
        (("kidneys", "spleen"), {1}),
        (("liver", "pancreas", "spleen"), {0, 2}),
    ],
    ids=["one", "two", "the second of two", "two of three"],
)
def test_marginal_is_its_formula(site_organs: tuple[str, ...], annotated: set[int], scale: float) -> None:
    logits = scale * random(1, 5, SIDE, SIDE, SIDE)
    # Values of organs that this case does not annotate never occur in its label.
    label = labels(len(site_organs))
    label[~torch.isin(label, torch.tensor([0, *(1 + index for index in annotated)]))] = 0
    loss = Marginal(site_organs, ALL)(Given(), batch(logits, label, annotated))
    expected = slow_marginal(logits[0].numpy(), label[0, 0].numpy(), site_organs, annotated)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_a_voxel_that_is_surely_wrong_costs_no_more_than_the_clamp() -> None:
    logits = torch.zeros(1, 5, SIDE, SIDE, SIDE)
    logits[:, 4] = -100.0
    label = torch.ones(1, 1, SIDE, SIDE, SIDE, dtype=torch.uint8)
    loss = Marginal(("spleen",), ALL)(Given(), batch(logits, label, {0}))
    # Both channels of the Dice part are missed altogether.
    assert float(loss) == pytest.approx(1.0 + 4 * math.log(10), rel=1e-5)


def test_each_case_of_a_batch_is_merged_by_its_own_organs() -> None:
    site_organs = ("kidneys", "spleen")
    logits, label = random(2, 5, SIDE, SIDE, SIDE), labels(1, rows=2)
    label[1] *= 2
    loss = Marginal(site_organs, ALL)(Given(), batch(logits, label, {0}, {1}))
    expected = [
        slow_marginal(logits[row].numpy(), label[row, 0].numpy(), site_organs, {row}) for row in (0, 1)
    ]
    assert float(loss) == pytest.approx(np.mean(expected), rel=1e-5)


def test_with_all_organs_annotated_marginal_is_dice_and_cross_entropy() -> None:
    logits, label = random(2, 5, SIDE, SIDE, SIDE), labels(4, rows=2)
    loss = Marginal(ALL, ALL)(Given(), batch(logits, label, {0, 1, 2, 3}, {0, 1, 2, 3}))
    plain = DiceLoss(softmax=True, to_onehot_y=True)(logits, label)
    plain = plain + nn.CrossEntropyLoss()(logits, label[:, 0].long())
    torch.testing.assert_close(loss, plain)


SHARES = st.lists(st.floats(0.001, 1.0), min_size=4, max_size=4)


@settings(max_examples=40, deadline=None)
@given(before=SHARES, after=SHARES, seed=st.integers(0, 100))
def test_probability_moved_among_background_and_unannotated_organs_changes_nothing(
    before: list[float], after: list[float], seed: int
) -> None:
    label = labels(1, seed=seed)
    spleen = torch.sigmoid(random(1, 1, SIDE, SIDE, SIDE, seed=seed))
    losses = []
    for shares in (before, after):
        rest = torch.tensor(shares).reshape(1, 4, 1, 1, 1) / sum(shares) * (1 - spleen)
        logits = torch.cat([rest, spleen], dim=1).log()  # spleen is the last channel
        losses.append(Marginal(("spleen",), ALL)(Given(), batch(logits, label, {0})))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-5)


def test_probability_moved_to_an_annotated_organ_changes_the_loss() -> None:
    logits, label = torch.zeros(1, 5, SIDE, SIDE, SIDE), labels(1)
    moved = logits.clone()
    moved[:, 4] += 1
    loss = Marginal(("spleen",), ALL)
    assert float(loss(Given(), batch(logits, label, {0}))) != float(loss(Given(), batch(moved, label, {0})))


def test_merged_probabilities_and_truth_still_sum_to_one() -> None:
    probabilities = torch.softmax(random(5, SIDE, SIDE, SIDE), dim=0)
    merged, truth = merge_unannotated(probabilities, labels(2)[0, 0], {1: 3, 2: 1})
    torch.testing.assert_close(merged.sum(dim=0), torch.ones(SIDE, SIDE, SIDE))
    assert torch.equal(truth.sum(dim=0), torch.ones(SIDE, SIDE, SIDE))


def double_logits() -> Tensor:
    return random(5, 2, 2, 2).double().requires_grad_()


def test_the_gradient_of_marginal_is_right() -> None:
    loss, label = Marginal(("liver", "spleen"), ALL), labels(2)[0, 0, :2, :2, :2]

    def of(logits: Tensor) -> Tensor:
        return loss._of_case(torch.softmax(logits, dim=0), label, frozenset({0, 1}))

    assert torch.autograd.gradcheck(of, double_logits())


def test_the_gradient_of_marginals_dice_is_right() -> None:
    loss, label = Marginal(("liver", "spleen"), ALL), labels(2)[0, 0, :2, :2, :2]

    def of(logits: Tensor) -> Tensor:
        merged, truth = merge_unannotated(torch.softmax(logits, dim=0), label, {1: 2, 2: 4})
        return loss.dice(merged[None], truth[None])

    assert torch.autograd.gradcheck(of, double_logits())


# --- PerOrganHead ---------------------------------------------------------------------------------------


@pytest.fixture
def net() -> SegNet:
    return SegNet(Model((2, 4), (2,), 1, Norm.BATCH, 1), {"liver": 2, "spleen": 2}, seed=0).eval()


def test_per_organ_head_is_the_mean_of_the_organs_soft_dice(net: SegNet) -> None:
    image, label = random(1, 1, SIDE, SIDE, SIDE), labels(2)
    loss = PerOrganHead(("liver", "spleen"))(net, batch(image, label, {0, 1}))
    expected = []
    for value, organ in ((1, "liver"), (2, "spleen")):
        p = softmax(net(image)[organ][0].detach().double().numpy())
        truth = label[0, 0].numpy() == value
        expected.append(soft_dice(p, np.stack([~truth, truth])))
    assert float(loss.detach()) == pytest.approx(np.mean(expected), rel=1e-5)


def gradients(module: nn.Module) -> Iterator[Tensor | None]:
    return (parameter.grad for parameter in module.parameters())


def test_an_organ_absent_from_every_case_gives_its_head_no_gradient(net: SegNet) -> None:
    image, label = random(2, 1, SIDE, SIDE, SIDE), labels(1, rows=2)
    PerOrganHead(("liver", "spleen"))(net, batch(image, label, {0}, {0})).backward()
    assert all(gradient is None for gradient in gradients(net.heads["spleen"]))
    assert all(gradient is not None for gradient in gradients(net.heads["liver"]))


def test_a_case_that_does_not_annotate_an_organ_does_not_touch_its_head(net: SegNet) -> None:
    image, label = random(2, 1, SIDE, SIDE, SIDE), labels(1, rows=2)
    label[1] *= 2  # the second case annotates the spleen, the first the liver
    PerOrganHead(("liver", "spleen"))(net, batch(image, label, {0}, {1})).backward()
    mixed = [gradient.clone() for gradient in gradients(net.heads["liver"])]
    net.zero_grad()
    PerOrganHead(("liver", "spleen"))(net, batch(image[:1], label[:1], {0})).backward()
    for together, alone in zip(mixed, gradients(net.heads["liver"]), strict=True):
        torch.testing.assert_close(together, alone / 2)  # a mean over two organs


# --- the rest -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objective", "kind"), [(Objective.PER_ORGAN_HEAD, PerOrganHead), (Objective.MARGINAL, Marginal)]
)
def test_every_objective_has_its_loss(objective: Objective, kind: type) -> None:
    assert isinstance(build_loss(objective, ("liver",), ALL), kind)


@pytest.fixture
def line() -> nn.Linear:
    layer = nn.Linear(2, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -2.0]]))
        layer.bias.fill_(3.0)
    return layer


def test_the_proximal_term_is_half_mu_times_the_squared_distance(line: nn.Linear) -> None:
    anchor = {"weight": torch.tensor([[0.0, 2.0]]), "bias": torch.tensor([1.0])}
    assert proximal_term(line, anchor, mu=0.5).item() == 0.25 * (1 + 16 + 4)


def test_the_proximal_term_leaves_out_what_is_not_shared(line: nn.Linear) -> None:
    assert proximal_term(line, {"bias": torch.tensor([1.0])}, mu=0.5).item() == 0.25 * 4


def test_the_proximal_term_pulls_towards_the_anchor(line: nn.Linear) -> None:
    proximal_term(line, {"weight": torch.tensor([[0.0, 2.0]])}, mu=0.5).backward()
    assert line.weight.grad.tolist() == [[0.5, -2.0]]  # mu (w - anchor)
