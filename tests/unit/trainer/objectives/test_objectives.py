"""The losses against their formulas, written out slowly (methods: losses)."""

import math
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses.dice import DiceLoss
from torch import Tensor, nn

from builders.rig import algorithm, small_federation
from segviz_exchange.contract.choices import AlgorithmName, HeadLoss, Norm, Objective
from segviz_exchange.contract.sharing import SHARED_HEAD
from segviz_exchange.contract.spec import Distillation, Model
from segviz_trainer.batches.sampling import Batch
from segviz_trainer.network.segnet import SegNet, build
from segviz_trainer.objectives.by_name import Setting, build_loss
from segviz_trainer.objectives.conditional_distillation import (
    ConditionalDistillation,
    conditioned,
    distillation_loss,
    distillation_weight,
)
from segviz_trainer.objectives.head_loss import dice_cross_entropy
from segviz_trainer.objectives.marginal import Marginal, marginal_loss
from segviz_trainer.objectives.marginal_exclusion import MarginalExclusion, exclusion_loss
from segviz_trainer.objectives.partial_labels import merge_unannotated
from segviz_trainer.objectives.per_organ_head import PerOrganHead
from segviz_trainer.objectives.pooled import Pooled
from segviz_trainer.objectives.proximal import proximal_term
from segviz_trainer.objectives.pseudo_labels import PseudoLabels, completed, pseudo_loss
from segviz_trainer.objectives.soft_dice import dice_coefficient
from segviz_trainer.objectives.soft_dice import soft_dice as fast_soft_dice

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

    def outputs(self, name: str, features: Tensor) -> list[Tensor]:
        return [self.head(name, features)]


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


@settings(max_examples=settings().max_examples // 2)
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
    label = labels(2)[0, 0, :2, :2, :2]

    def of(logits: Tensor) -> Tensor:
        return marginal_loss(torch.softmax(logits, dim=0), label, {1: 2, 2: 4})

    assert torch.autograd.gradcheck(of, double_logits())


def test_the_gradient_of_marginals_dice_is_right() -> None:
    label = labels(2)[0, 0, :2, :2, :2]

    def of(logits: Tensor) -> Tensor:
        merged, truth = merge_unannotated(torch.softmax(logits, dim=0), label, {1: 2, 2: 4})
        return fast_soft_dice(merged[None], truth[None])

    assert torch.autograd.gradcheck(of, double_logits())


def half_known() -> Tensor:
    """(1, 1, SIDE, SIDE, SIDE), and what lies under the zeros must not matter."""
    known = torch.ones(1, 1, SIDE, SIDE, SIDE)
    known[..., SIDE // 2 :] = 0
    return known


OBJECTIVES = {
    "Marginal": lambda: Marginal(("liver", "spleen"), ALL),
    "MarginalExclusion": lambda: MarginalExclusion(("liver", "spleen"), ALL),
    "Pooled": lambda: Pooled(("liver", "spleen"), ALL),
    "ConditionalDistillation": lambda: ConditionalDistillation(("liver", "spleen"), ALL, Taught(), 1.0),
    "PseudoLabels": lambda: PseudoLabels(("liver", "spleen"), ALL, Taught(), 1.0, 0.5),
}


class Taught:
    """A teacher with logits of its own, whatever it sees."""

    def features(self, image: Tensor) -> Tensor:
        return random(*image.shape, seed=9)

    def head(self, name: str, features: Tensor) -> Tensor:
        return features


@pytest.mark.parametrize("build", OBJECTIVES.values(), ids=OBJECTIVES)
def test_what_lies_in_ignored_voxels_changes_nothing(build) -> None:
    known = half_known()
    losses = []
    for seed in (1, 2):
        hidden = known == 0
        logits, label = random(1, 5, SIDE, SIDE, SIDE), labels(2)
        logits = torch.where(hidden, random(1, 5, SIDE, SIDE, SIDE, seed=seed), logits)
        label[hidden] = 0
        losses.append(build()(Given(), Batch(logits, label, (frozenset({0, 1}),), known)))
    torch.testing.assert_close(losses[0], losses[1])


@pytest.mark.parametrize("build", OBJECTIVES.values(), ids=OBJECTIVES)
def test_a_mask_of_ones_is_no_mask(build) -> None:
    logits, label = random(2, 5, SIDE, SIDE, SIDE), labels(2, rows=2)
    organs = (frozenset({0, 1}), frozenset({0, 1}))
    ones = torch.ones(2, 1, SIDE, SIDE, SIDE)
    plain, masked = (build()(Given(), Batch(logits, label, organs, known)) for known in (None, ones))
    torch.testing.assert_close(plain, masked)


class Turned:
    """A teacher that takes each organ for the next one."""

    def features(self, image: Tensor) -> Tensor:
        return image.roll(1, dims=1)

    def head(self, name: str, features: Tensor) -> Tensor:
        return features


PER_CASE = OBJECTIVES | {
    "ConditionalDistillation": lambda: ConditionalDistillation(("liver", "spleen"), ALL, Turned(), 0.5),
    "PseudoLabels": lambda: PseudoLabels(("liver", "spleen"), ALL, Turned(), 0.5, 0.5),
}


@pytest.mark.parametrize("masked", [False, True], ids=["all known", "half known"])
@pytest.mark.parametrize("build", PER_CASE.values(), ids=PER_CASE)
def test_the_loss_of_a_batch_is_the_mean_of_its_cases(build, masked: bool) -> None:
    logits, label = random(3, 5, SIDE, SIDE, SIDE), labels(2, rows=3)
    known = None if not masked else half_known().repeat(3, 1, 1, 1, 1)
    if known is not None:
        label[known == 0] = 0
        known[0] = 1
    whole = Batch(logits, label, (frozenset({0, 1}),) * 3, known)
    single = [
        Batch(
            logits[row][None],
            label[row][None],
            (frozenset({0, 1}),),
            None if known is None else known[row][None],
        )
        for row in range(3)
    ]
    loss = build()
    expected = torch.stack([loss(Given(), each) for each in single]).mean()
    torch.testing.assert_close(loss(Given(), whole), expected)


def test_cross_entropy_is_a_mean_over_known_voxels_alone() -> None:
    """One voxel of two is known, and there p = (3/4, 1/4): Dice (1/2·(1 − 6/7) + 1/2·1), and −log 3/4."""
    probabilities = torch.tensor([[0.75, 0.5], [0.25, 0.5]]).double().reshape(2, 2, 1, 1)
    label, known = torch.zeros(2, 1, 1), torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)
    found = float(marginal_loss(probabilities, label, {1: 1}, known))
    assert found == pytest.approx((1 / 7 + 1) / 2 - math.log(0.75), abs=1e-4)


def test_where_nothing_is_known_marginal_costs_nothing() -> None:
    probabilities = torch.full((2, 2, 1, 1), 0.5)
    assert float(marginal_loss(probabilities, torch.zeros(2, 1, 1), {1: 1}, torch.zeros(1, 2, 1, 1))) == 0.0


# --- MarginalExclusion ----------------------------------------------------------------------------------


def slow_exclusion(logits: np.ndarray, label: np.ndarray, excluded: list[int]) -> float:
    """mean_c DiceCoef(p_c, E) + mean_c Σ E·log(p_c + 1)/ΣE, voxel by voxel."""
    p = softmax(logits.astype(np.float64))
    dice, spilled = [], []
    for channel in excluded:
        both = one = drawn = logs = 0.0
        for voxel in np.ndindex(label.shape):
            inside = 1.0 if label[voxel] > 0 else 0.0
            both += p[(channel, *voxel)] * inside
            one += p[(channel, *voxel)]
            drawn += inside
            logs += inside * math.log(p[(channel, *voxel)] + 1)
        dice.append((2 * both + SMOOTH) / (one + drawn + SMOOTH))
        spilled.append(logs / drawn if drawn else 0.0)
    return float(np.mean(dice) + np.mean(spilled))


@pytest.mark.parametrize("annotated", [{0}, {1}, {0, 1}], ids=["the first", "the second", "both"])
def test_marginal_exclusion_is_its_formula(annotated: set[int]) -> None:
    site_organs = ("kidneys", "spleen")
    logits, label = random(1, 5, SIDE, SIDE, SIDE), labels(2)
    label[~torch.isin(label, torch.tensor([0, *(1 + index for index in annotated)]))] = 0
    loss = MarginalExclusion(site_organs, ALL)(Given(), batch(logits, label, annotated))
    drawn = {1 + ALL.index(site_organs[index]) for index in annotated}
    excluded = [channel for channel in range(5) if channel not in drawn]
    expected = slow_marginal(logits[0].numpy(), label[0, 0].numpy(), site_organs, annotated)
    expected += slow_exclusion(logits[0].numpy(), label[0, 0].numpy(), excluded)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_exclusion_by_hand() -> None:
    """Two voxels, the first is drawn; one excluded channel with p = 0.5 and 0.25."""
    probabilities = torch.tensor([[0.5, 0.25], [0.5, 0.75]]).reshape(2, 2, 1, 1)
    label = torch.tensor([1, 0]).reshape(1, 2, 1, 1)
    # Dice: 2·0.5 / (0.75 + 1); log(1.5) / 1.
    expected = 1.0 / 1.75 + math.log(1.5)
    assert float(exclusion_loss(probabilities, label, [0])) == pytest.approx(expected, rel=1e-4)


def test_a_patch_without_an_organ_excludes_nothing() -> None:
    probabilities = torch.softmax(random(5, SIDE, SIDE, SIDE), dim=0)
    label = torch.zeros(1, SIDE, SIDE, SIDE, dtype=torch.uint8)
    assert float(exclusion_loss(probabilities, label, [0, 1, 2])) == pytest.approx(0.0, abs=1e-5)


def test_exclusion_grows_with_another_organs_probability_where_an_organ_is_drawn() -> None:
    label = torch.zeros(1, SIDE, SIDE, SIDE, dtype=torch.uint8)
    label[:, :2] = 1
    losses = []
    for height in (-2.0, 0.0, 2.0):
        logits = torch.zeros(5, SIDE, SIDE, SIDE)
        logits[1, :2] = height  # not annotated
        losses.append(float(exclusion_loss(torch.softmax(logits, dim=0), label, [1])))
    assert losses == sorted(losses)
    assert losses[0] < losses[-1]


def test_exclusion_looks_at_known_voxels_alone() -> None:
    """As by hand, after a third voxel, drawn and all the other's, that nobody knows."""
    probabilities = torch.tensor([[0.5, 0.25, 0.9], [0.5, 0.75, 0.1]]).reshape(2, 3, 1, 1)
    label, known = torch.tensor([1, 0, 1]).reshape(1, 3, 1, 1), torch.tensor([1.0, 1, 0]).reshape(1, 3, 1, 1)
    expected = 1.0 / 1.75 + math.log(1.5)
    assert float(exclusion_loss(probabilities, label, [0], known)) == pytest.approx(expected, rel=1e-4)


def test_the_gradient_of_exclusion_is_right() -> None:
    label = labels(2)[0, :, :2, :2, :2]

    def of(logits: Tensor) -> Tensor:
        return exclusion_loss(torch.softmax(logits, dim=0), label, [0, 1, 3])

    assert torch.autograd.gradcheck(of, double_logits())


# --- ConditionalDistillation ----------------------------------------------------------------------------


def slow_distillation(
    logits: np.ndarray, taught: np.ndarray, label: np.ndarray, channels: dict[int, int], temperature: float
) -> float:
    """Voxel by voxel: condition both on U, mask, soft Dice over {0} and each organ of U."""
    groups = [channel for channel in range(len(logits)) if channel not in channels.values()]
    learnt, teacher = np.zeros((2, len(groups), *label.shape))
    for voxel in np.ndindex(label.shape):
        at = (slice(None), *voxel)
        free = int(taught[at].argmax()) not in channels.values() and label[voxel] not in channels
        for result, raw in ((learnt, logits), (teacher, taught)):
            q = softmax(raw[at].astype(np.float64) / temperature)
            rest = 1 - sum(q[channel] for channel in channels.values()) + 1e-5
            for place, channel in enumerate(groups):
                result[(place, *voxel)] = q[channel] / rest if free else 0.0
    return soft_dice(learnt, teacher)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("annotated", [{0}, {0, 1}], ids=["one", "two"])
def test_conditional_distillation_is_its_formula(annotated: set[int], temperature: float) -> None:
    site_organs = ("kidneys", "spleen")
    logits, label = 3 * random(1, 5, SIDE, SIDE, SIDE), labels(2)
    label[~torch.isin(label, torch.tensor([0, *(1 + index for index in annotated)]))] = 0
    taught = Taught().features(logits)
    loss = ConditionalDistillation(site_organs, ALL, Taught(), 0.3, temperature)
    channels = {1 + index: 1 + ALL.index(site_organs[index]) for index in annotated}
    arrays = logits[0].numpy(), taught[0].numpy(), label[0, 0].numpy()
    expected = slow_marginal(arrays[0], arrays[2], site_organs, annotated)
    expected += 0.3 * slow_distillation(*arrays, channels, temperature)
    assert float(loss(Given(), batch(logits, label, annotated))) == pytest.approx(expected, rel=1e-5)


def test_distillation_by_hand() -> None:
    """One free voxel, one organ in U (channel 2), τ = 1: q = (1/4, 1/2, 1/4), t = (1/2, 1/8, 3/8)."""
    logits = torch.tensor([0.25, 0.5, 0.25]).log().reshape(3, 1, 1, 1)
    taught = torch.tensor([0.5, 0.125, 0.375]).log().reshape(3, 1, 1, 1)
    label = torch.zeros(1, 1, 1, 1, dtype=torch.uint8)
    # Given "not organ 1": q̂ = (1/2, 1/2), t̂ = (4/7, 3/7); Dice of each: 2·qt / (q + t).
    expected = 1 - ((2 / 2 * 4 / 7) / (1 / 2 + 4 / 7) + (2 / 2 * 3 / 7) / (1 / 2 + 3 / 7)) / 2
    assert float(distillation_loss(logits, taught, label, {1: 1}, 1.0)) == pytest.approx(expected, rel=1e-3)


def test_conditioned_probabilities_sum_to_one_nearly() -> None:
    given_rest = conditioned(torch.softmax(random(5, SIDE, SIDE, SIDE), dim=0), [2, 4])
    torch.testing.assert_close(given_rest.sum(dim=0), torch.ones(SIDE, SIDE, SIDE), rtol=0, atol=1e-3)


def test_where_an_annotated_organ_is_all_but_sure_the_rest_is_smoothed() -> None:
    """The rest has 1e-5 in all: 1e-5 / (1e-5 + 1e-5)."""
    probabilities = torch.tensor([1e-5, 1 - 1e-5], dtype=torch.float64).reshape(2, 1, 1, 1)
    assert float(conditioned(probabilities, [1])) == pytest.approx(0.5)


def test_the_temperature_is_the_manifests_or_two() -> None:
    federation = small_federation(objective=Objective.CONDITIONAL_DISTILLATION)
    warm = msgspec.structs.replace(federation, distillation=Distillation(temperature=3.0))
    losses = [build_loss(Setting(each, ("spleen",), ALL, 0, build(each, ALL))) for each in (federation, warm)]
    assert [loss.temperature for loss in losses] == [2.0, 3.0]
    assert ConditionalDistillation(("spleen",), ALL, Taught(), 1.0).temperature == 2.0


def slow_pseudo(
    logits: np.ndarray, taught: np.ndarray, label: np.ndarray, channels: dict[int, int], confidence: float
) -> float:
    """Voxel by voxel: what counts, its class, and both losses."""
    p, t = softmax(logits.astype(np.float64)), softmax(taught.astype(np.float64))
    truth, counts, entropy = np.zeros_like(p), np.zeros(label.shape), 0.0
    for voxel in np.ndindex(label.shape):
        if label[voxel] in channels:
            right = channels[label[voxel]]
        else:
            right = int(np.argmax(t[(slice(None), *voxel)]))
            if t[(right, *voxel)] < confidence or right in channels.values():
                continue
        counts[voxel] = 1
        truth[(right, *voxel)] = 1
        entropy -= np.log(p[(right, *voxel)])
    return soft_dice(p * counts, truth) + entropy / max(counts.sum(), 1)


@pytest.mark.parametrize("confidence", [0.5, 0.7, 0.9])
@pytest.mark.parametrize("annotated", [{0}, {0, 1}], ids=["one organ", "two organs"])
def test_pseudo_labels_are_their_formula(annotated: set[int], confidence: float) -> None:
    site_organs = ("liver", "spleen")
    logits, taught = random(1, 5, SIDE, SIDE, SIDE), 3 * random(1, 5, SIDE, SIDE, SIDE, seed=4)
    label = labels(len(annotated))
    channels = {1 + index: 1 + ALL.index(site_organs[index]) for index in annotated}
    arrays = logits[0].numpy(), taught[0].numpy(), label[0, 0].numpy()
    target, counts = completed(taught[0], label[0, 0], channels, confidence)
    assert 0 < float(counts.mean()) < 1
    expected = slow_pseudo(*arrays, channels, confidence)
    assert float(pseudo_loss(logits[0], target, counts)) == pytest.approx(expected, rel=1e-5)

    class Teacher(Taught):
        def features(self, image: Tensor) -> Tensor:
            return taught

    loss = PseudoLabels(site_organs, ALL, Teacher(), 0.3, confidence)(
        Given(), batch(logits, label, annotated)
    )
    marginal = slow_marginal(arrays[0], arrays[2], site_organs, annotated)
    assert float(loss) == pytest.approx(marginal + 0.3 * expected, rel=1e-5)


def test_voxels_of_which_the_teacher_is_unsure_have_no_gradient() -> None:
    """Nor those that it takes for an organ which the site would have drawn; what the site drew has one."""
    label = torch.zeros(SIDE, SIDE, SIDE, dtype=torch.uint8)
    taught = torch.zeros(5, SIDE, SIDE, SIDE)
    label[0] = 1  # drawn by the site, channel 4
    taught[2, 1] = 9.0  # surely another site's organ
    taught[2, 2] = 1.0  # perhaps
    taught[4, 3] = 9.0  # surely the site's own, which did not draw it
    target, counts = completed(taught, label, {1: 4}, 0.9)
    assert counts.flatten(1).mean(1).tolist() == [1.0, 1.0, 0.0, 0.0]
    assert (int(target[0, 0, 0]), int(target[1, 0, 0])) == (4, 2)
    logits = random(5, SIDE, SIDE, SIDE).requires_grad_()
    pseudo_loss(logits, target, counts).backward()
    assert logits.grad[:, :2].any()
    assert not logits.grad[:, 2:].any()


def test_pseudo_labels_have_the_right_gradient() -> None:
    target, counts = completed(3 * random(3, 2, 2, 2), labels(1)[0, 0, :2, :2, :2], {1: 2}, 0.5)
    logits = random(3, 2, 2, 2, seed=2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda given: pseudo_loss(given, target, counts.double()), logits)


def test_an_unsure_teacher_alone_teaches_nothing() -> None:
    target, counts = completed(torch.zeros(5, 2, 2, 2), torch.zeros(2, 2, 2), {1: 4}, 0.9)
    loss = pseudo_loss(random(5, 2, 2, 2).requires_grad_(), target, counts)
    assert float(loss.detach()) == 0.0


def test_where_label_or_teacher_say_organ_nothing_is_distilled() -> None:
    label = torch.zeros(1, SIDE, SIDE, SIDE, dtype=torch.uint8)
    taught = torch.zeros(5, SIDE, SIDE, SIDE)
    label[:, :2] = 1  # annotated by the site
    taught[4, 2:] = 9.0  # an annotated organ, says the teacher
    logits = random(5, SIDE, SIDE, SIDE).requires_grad_()
    loss = distillation_loss(logits, taught, label, {1: 4}, 2.0)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert not logits.grad.any()


def test_the_gradient_of_distillation_is_right_and_none_reaches_the_teacher() -> None:
    label, taught = labels(1)[0, :, :2, :2, :2], random(5, 2, 2, 2, seed=4).double()

    def of(logits: Tensor) -> Tensor:
        return distillation_loss(logits, taught, label, {1: 2}, 2.0)

    assert torch.autograd.gradcheck(of, double_logits())


def test_the_weight_of_distillation_grows_from_a_hundredth_to_one() -> None:
    assert [distillation_weight(round_, 4) for round_ in range(4)] == pytest.approx([0.01, 0.34, 0.67, 1.0])
    assert distillation_weight(0, 1) == 1.0
    assert distillation_weight(2, 2) == 1.0  # fine-tuning the last round's model


def test_the_teacher_is_a_frozen_copy_of_the_global_model() -> None:
    federation = small_federation(objective=Objective.CONDITIONAL_DISTILLATION, rounds=3)
    net = build(federation, ALL).train()
    loss = build_loss(Setting(federation, ("spleen",), ALL, 1, net))
    assert isinstance(loss, ConditionalDistillation)
    assert loss.weight == distillation_weight(1, 3)
    before = {name: value.clone() for name, value in loss.teacher.state_dict().items()}
    image = random(2, 1, 16, 16, 16)
    label = torch.zeros(2, 1, 16, 16, 16, dtype=torch.uint8)
    label[:, :, :4] = 1
    loss(net, batch(image, label, {0}, {0})).backward()
    with torch.no_grad():
        for parameter in net.parameters():
            assert parameter.grad is not None
            parameter -= parameter.grad
    assert not loss.teacher.training
    assert all(parameter.grad is None for parameter in loss.teacher.parameters())
    assert all(torch.equal(before[name], value) for name, value in loss.teacher.state_dict().items())


# --- Central's ------------------------------------------------------------------------------------------


def test_pooled_takes_what_a_case_does_not_annotate_for_background() -> None:
    logits, label = random(2, 5, SIDE, SIDE, SIDE), labels(1, rows=2)
    label[1] *= 4  # each case has one organ, of different data sets
    loss = Pooled(ALL, ALL)(Given(), batch(logits, label, {0}, {3}))
    torch.testing.assert_close(loss, DiceLoss(softmax=True, to_onehot_y=True)(logits, label))


def test_the_gradient_of_pooled_is_right() -> None:
    label = labels(4)[0, 0, :2, :2, :2]

    def of(logits: Tensor) -> Tensor:
        merged, truth = merge_unannotated(torch.softmax(logits, dim=0), label, {1: 1, 2: 2, 3: 3, 4: 4})
        return fast_soft_dice(merged[None], truth[None])

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


def test_per_organ_head_looks_at_known_voxels_of_each_organs_own_cases(net: SegNet) -> None:
    image, label = random(2, 1, SIDE, SIDE, SIDE), labels(2, rows=2)
    known = torch.cat([half_known(), 1 - half_known()])
    seen = Batch(image, label, (frozenset({0}), frozenset({0, 1})), known)
    loss = PerOrganHead(("liver", "spleen"))(net, seen)
    expected = []
    for value, organ, rows in ((1, "liver", (0, 1)), (2, "spleen", (1,))):
        of_rows = []
        for row in rows:
            p = softmax(net(image[row][None])[organ][0].detach().double().numpy())
            inside = label[row, 0].numpy() == value
            here = known[row].numpy()
            of_rows.append(soft_dice(p * here, np.stack([~inside, inside]) * here))
        expected.append(np.mean(of_rows))
    assert float(loss.detach()) == pytest.approx(np.mean(expected), rel=1e-5)


def slow_dice_cross_entropy(logits: np.ndarray, inside: np.ndarray, known: np.ndarray) -> float:
    """Of one case, voxel by voxel: `logits` (2, X, Y, Z), `inside` and `known` (X, Y, Z)."""
    p = softmax(logits.astype(np.float64))
    entropy = 0.0
    for voxel in np.ndindex(inside.shape):
        entropy -= known[voxel] * math.log(p[(int(inside[voxel]), *voxel)])
    return soft_dice(p * known, np.stack([~inside, inside]) * known) + entropy / known.sum()


@pytest.mark.parametrize("known", [None, "half"], ids=["all known", "half known"])
@pytest.mark.parametrize("scale", [1.0, 30.0], ids=["plain", "sure"])
def test_dice_and_cross_entropy_of_a_head_is_its_formula(scale: float, known: str | None) -> None:
    logits, label = scale * random(1, 2, SIDE, SIDE, SIDE), labels(1)
    mask = None if known is None else half_known()
    inside = (label == 1).float()
    loss = dice_cross_entropy(logits, torch.cat([1 - inside, inside], dim=1), mask)
    counted = np.ones((SIDE, SIDE, SIDE)) if mask is None else mask[0, 0].double().numpy()
    expected = slow_dice_cross_entropy(logits[0].numpy(), label[0, 0].numpy() == 1, counted)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_the_gradient_of_dice_and_cross_entropy_is_right() -> None:
    inside = (labels(1)[:, :, :2, :2, :2] == 1).double()
    truth = torch.cat([1 - inside, inside], dim=1)
    known = half_known()[:, :, :2, :2, 1:3].double()
    logits = random(1, 2, 2, 2, 2).double().requires_grad_()
    # The loss computes in float32, whatever it is given: hence the wide step and the tolerance.
    assert torch.autograd.gradcheck(
        lambda given: dice_cross_entropy(given, truth, known).double(), logits, eps=1e-2, atol=1e-3, rtol=1e-2
    )


def test_a_manifest_chooses_the_loss_of_a_head(net: SegNet) -> None:
    image, label = random(1, 1, SIDE, SIDE, SIDE), labels(2)
    seen, losses = batch(image, label, {0, 1}), {}
    for loss in HeadLoss:
        federation = small_federation()
        training = msgspec.structs.replace(federation.training, loss=loss)
        federation = msgspec.structs.replace(federation, training=training)
        built = build_loss(Setting(federation, ("liver", "spleen"), ("liver", "spleen"), 0, net))
        losses[loss] = float(built(net, seen).detach())
    assert losses[HeadLoss.DICE] == float(PerOrganHead(("liver", "spleen"))(net, seen).detach())
    assert losses[HeadLoss.DICE_CROSS_ENTROPY] > losses[HeadLoss.DICE] + 0.1


def gradients(module: nn.Module) -> Iterator[Tensor | None]:
    return (parameter.grad for parameter in module.parameters())


def test_an_organ_absent_from_every_case_gives_its_head_no_gradient(net: SegNet) -> None:
    image, label = random(2, 1, SIDE, SIDE, SIDE), labels(1, rows=2)
    PerOrganHead(("liver", "spleen"))(net, batch(image, label, {0}, {0})).backward()
    assert all(gradient is None for gradient in gradients(net.heads["spleen"]))
    assert all(gradient is not None for gradient in gradients(net.heads["liver"]))


def test_an_organ_after_one_that_no_case_annotates_trains_all_the_same(net: SegNet) -> None:
    image, label = random(2, 1, SIDE, SIDE, SIDE), labels(2, rows=2)
    PerOrganHead(("liver", "spleen"))(net, batch(image, label, {1}, {1})).backward()
    assert all(gradient is None for gradient in gradients(net.heads["liver"]))
    assert all(gradient is not None for gradient in gradients(net.heads["spleen"]))


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


KINDS = {
    (AlgorithmName.FED_AVG, Objective.PER_ORGAN_HEAD): PerOrganHead,
    (AlgorithmName.FED_AVG, Objective.MARGINAL): Marginal,
    (AlgorithmName.FED_AVG, Objective.MARGINAL_EXCLUSION): MarginalExclusion,
    (AlgorithmName.FED_AVG, Objective.CONDITIONAL_DISTILLATION): ConditionalDistillation,
    (AlgorithmName.FED_AVG, Objective.PSEUDO_LABELS): PseudoLabels,
    (AlgorithmName.CENTRAL, Objective.PER_ORGAN_HEAD): Pooled,
    (AlgorithmName.CENTRAL_MARGINAL, Objective.PER_ORGAN_HEAD): Marginal,
}


@pytest.mark.parametrize(("asked", "kind"), KINDS.items(), ids=lambda each: str(each))
def test_every_objective_has_its_loss(asked: tuple[AlgorithmName, Objective], kind: type) -> None:
    federation = small_federation(algorithm=algorithm(asked[0]), objective=asked[1])
    net = build(federation, ALL)
    assert isinstance(build_loss(Setting(federation, ("liver",), ALL, 0, net)), kind)


def test_no_objective_is_left_out() -> None:
    assert {objective for _, objective in KINDS} == set(Objective)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3)], ids=str)
def test_soft_dice_is_monais(shape: tuple[int, int]) -> None:
    prediction, truth = torch.sigmoid(random(*shape, 4, 4, 4)), (random(*shape, 4, 4, 4, seed=1) > 0).float()
    torch.testing.assert_close(fast_soft_dice(prediction, truth), DiceLoss()(prediction, truth))


def test_soft_dice_is_smoothed_above_and_below_the_line() -> None:
    """Nothing is there, and 3e-5 is found: 1e-5 / (3e-5 + 1e-5)."""
    prediction = torch.full((1, 1, 1, 1, 3), 1e-5, dtype=torch.float64)
    coefficient = dice_coefficient(prediction, torch.zeros_like(prediction))
    assert coefficient.shape == (1, 1)
    assert float(coefficient) == pytest.approx(0.25)


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


@pytest.mark.parametrize("asked", KINDS, ids=lambda each: "-".join(each))
def test_under_bf16_a_loss_is_float32_and_every_gradient_finite(
    asked: tuple[AlgorithmName, Objective],
) -> None:
    federation = small_federation(algorithm=algorithm(asked[0]), objective=asked[1])
    net = build(federation, ALL).to(memory_format=torch.channels_last_3d).train()
    loss = build_loss(Setting(federation, ("kidneys", "spleen"), ALL, 0, net))
    label = torch.zeros(2, 1, 16, 16, 16, dtype=torch.uint8)
    label[0, :, :4], label[1, :, 8:] = 1, 2
    known = torch.ones(2, 1, 16, 16, 16)
    known[..., :2] = 0
    seen = Batch(random(2, 1, 16, 16, 16), label, (frozenset({0}), frozenset({1})), known)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(net, seen)
    assert value.dtype == torch.float32
    value.backward()
    found = [parameter.grad for parameter in net.parameters() if parameter.grad is not None]
    assert found
    assert all(bool(gradient.isfinite().all()) for gradient in found)
