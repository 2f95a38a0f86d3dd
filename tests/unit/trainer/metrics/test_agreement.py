"""Dice, HD95 and NSD against MONAI, and against every distance written out."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import compute_hausdorff_distance, compute_surface_dice

from segviz_trainer.metrics.agreement import Agreement, agreement, diagonal
from segviz_trainer.metrics.overlap import Mask, dice
from segviz_trainer.metrics.surfaces import bounding_box, surface, surface_distances
from segviz_trainer.metrics.tolerances import tolerance_of

SPACING = (0.7, 1.1, 2.5)


# --- the slow reference: neighbours and distances one by one --------------------------------------------


def slow_surface(mask: Mask) -> list[tuple[int, int, int]]:
    def inside(x: int, y: int, z: int) -> bool:
        within = all(0 <= i < n for i, n in zip((x, y, z), mask.shape, strict=True))
        return within and bool(mask[x, y, z])

    steps = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
    return [
        (x, y, z)
        for x, y, z in np.argwhere(mask).tolist()
        if not all(inside(x + i, y + j, z + k) for i, j, k in steps)
    ]


def slow_agreement(prediction: Mask, truth: Mask, spacing: tuple[float, ...], tolerance: float) -> Agreement:
    """Of two masks that are not empty."""
    there, found = (np.array(slow_surface(mask)) * np.array(spacing) for mask in (truth, prediction))
    every = np.sqrt(((found[:, None] - there[None]) ** 2).sum(axis=2))
    one_way, other_way = every.min(axis=1).astype(np.float32), every.min(axis=0).astype(np.float32)
    within = (one_way <= np.float32(tolerance)).sum() + (other_way <= np.float32(tolerance)).sum()
    both = int((prediction & truth).sum())
    return Agreement(
        dice=2 * both / int(prediction.sum() + truth.sum()),
        hd95=float(max(np.quantile(one_way, 0.95), np.quantile(other_way, 0.95))),
        nsd=int(within) / (len(one_way) + len(other_way)),
        missed=False,
    )


def monai(prediction: Mask, truth: Mask, spacing: tuple[float, ...], tolerance: float) -> tuple[float, float]:
    p, t = (torch.from_numpy(mask)[None, None] for mask in (prediction, truth))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hd95 = compute_hausdorff_distance(p, t, include_background=True, percentile=95, spacing=spacing)
        nsd = compute_surface_dice(p, t, [tolerance], include_background=True, spacing=spacing)
    return float(hd95), float(nsd)


SIDES = st.tuples(*[st.integers(1, 7)] * 3)
SPACINGS = st.tuples(*[st.sampled_from([0.5, 0.6, 0.7, 1.0, 1.5, 3.0, 5.0])] * 3)
TOLERANCES = st.sampled_from([0.0, 0.5, 0.6, 1.0, 1.2, 3.0, 5.0])


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Mask, Mask]:
    """Two masks of one shape, neither empty: scattered, full, single voxels, at the border."""
    shape = draw(SIDES)
    masks = []
    for _ in range(2):
        mask = draw(arrays(bool, shape, fill=st.booleans()))
        if not mask.any():
            mask = mask.copy()
            mask.flat[draw(st.integers(0, mask.size - 1))] = True
        masks.append(mask)
    return masks[0], masks[1]


@settings(max_examples=settings().max_examples * 2)
@given(pairs(), SPACINGS, TOLERANCES)
def test_any_two_masks_score_what_the_definition_says(
    masks: tuple[Mask, Mask], spacing: tuple[float, ...], tolerance: float
) -> None:
    ours, slow = agreement(*masks, spacing, tolerance), slow_agreement(*masks, spacing, tolerance)
    assert ours.dice == pytest.approx(slow.dice, abs=1e-12)
    assert ours.hd95 == pytest.approx(slow.hd95, rel=1e-6, abs=1e-6)
    assert ours.nsd == pytest.approx(slow.nsd, abs=1e-12)
    assert not ours.missed


def carved() -> tuple[Mask, Mask]:
    """A full cube, and one with seven holes in a row: the 95th percentile falls into a gap."""
    truth = np.ones((7, 7, 7), bool)
    prediction = truth.copy()
    prediction[1, 1, 1:6] = prediction[1, 2, 1:3] = False
    return prediction, truth


@given(pairs(), SPACINGS, TOLERANCES)
@example(carved(), (0.6, 0.6, 0.6), 0.0)
def test_any_two_masks_score_what_monai_says(
    masks: tuple[Mask, Mask], spacing: tuple[float, ...], tolerance: float
) -> None:
    ours = agreement(*masks, spacing, tolerance)
    hd95, nsd = monai(*masks, spacing, tolerance)
    assert ours.hd95 == pytest.approx(hd95, rel=1e-6, abs=1e-6 + rank_error(*masks, spacing))
    assert ours.nsd == pytest.approx(nsd, abs=1e-6)


def rank_error(prediction: Mask, truth: Mask, spacing: tuple[float, ...]) -> float:
    """How far torch.quantile may be off: it rounds the rank 0.95 (n - 1) to float32, and so where
    between two neighbours it looks. It shows where few distances leave wide gaps."""
    found = 0.0
    for distances in surface_distances(prediction, truth, spacing):
        rank = 0.95 * (len(distances) - 1)
        low, high = np.sort(distances)[[int(np.floor(rank)), int(np.ceil(rank))]]
        found = max(found, float(high - low) * rank * float(np.finfo(np.float32).eps))
    return found


def organ(seed: int, shape: tuple[int, int, int] = (60, 50, 24)) -> tuple[Mask, Mask]:
    """A lumpy body, and one that is off by a little and has a stray piece."""
    chance = np.random.default_rng(seed)
    at = np.indices(shape).reshape(3, -1).T
    centre, radii = (
        np.array(shape) / 2 + chance.normal(0, 2, 3),
        np.array(shape) * chance.uniform(0.2, 0.4, 3),
    )
    level = (1 - (((at - centre) / radii) ** 2).sum(axis=1)).reshape(shape)
    wave = np.sin(at @ chance.normal(0, 0.3, 3)).reshape(shape)
    truth, prediction = level + 0.2 * wave > 0, level + 0.2 * wave + 0.1 * np.roll(wave, 3, 0) > 0
    prediction[1:3, 1:3, 1:3] = True
    return prediction, truth


@pytest.mark.parametrize("seed", range(5))
def test_bodies_score_what_monai_says(seed: int) -> None:
    prediction, truth = organ(seed)
    ours = agreement(prediction, truth, SPACING, 3.0)
    hd95, nsd = monai(prediction, truth, SPACING, 3.0)
    assert ours.hd95 == pytest.approx(hd95, rel=1e-6)
    assert ours.nsd == pytest.approx(nsd, abs=1e-6)
    assert 0.5 < ours.dice < 1


# --- empty masks ----------------------------------------------------------------------------------------

EMPTY, THERE = np.zeros((6, 5, 4), bool), np.zeros((6, 5, 4), bool)
THERE[2:4, 2, 1] = True
DIAGONAL = float(np.sqrt((6 * 0.7) ** 2 + (5 * 1.1) ** 2 + (4 * 2.5) ** 2))


def test_an_empty_prediction_scores_the_worst_and_is_a_miss() -> None:
    assert agreement(EMPTY, THERE, SPACING, 3.0) == Agreement(0.0, pytest.approx(DIAGONAL), 0.0, missed=True)


def test_a_prediction_where_nothing_is_scores_the_worst_and_is_no_miss() -> None:
    assert agreement(THERE, EMPTY, SPACING, 3.0) == Agreement(0.0, pytest.approx(DIAGONAL), 0.0, missed=False)


def test_nothing_found_where_nothing_is_scores_the_best() -> None:
    assert agreement(EMPTY, EMPTY, SPACING, 3.0) == Agreement(1.0, 0.0, 1.0, missed=False)


def test_no_two_surfaces_are_further_apart_than_the_diagonal() -> None:
    one, other = EMPTY.copy(), EMPTY.copy()
    one[0, 0, 0] = other[-1, -1, -1] = True
    assert agreement(one, other, SPACING, 3.0).hd95 < diagonal(one.shape, SPACING)


# --- parts ----------------------------------------------------------------------------------------------


def test_equal_masks_agree_wholly() -> None:
    assert agreement(THERE, THERE.copy(), SPACING, 0.0) == Agreement(1.0, 0.0, 1.0, missed=False)


def test_a_distance_that_equals_the_tolerance_is_within_it() -> None:
    one, other = np.zeros((12, 3, 3), bool), np.zeros((12, 3, 3), bool)
    one[1, 1, 1] = other[6, 1, 1] = True
    assert agreement(one, other, (0.6, 1.0, 1.0), 3.0).nsd == 1.0
    assert agreement(one, other, (0.6, 1.0, 1.0), 2.99).nsd == 0.0


def test_masks_of_two_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"different shapes, \(6, 5, 4\) and \(5, 5, 4\)"):
        agreement(EMPTY, THERE[1:], SPACING, 3.0)


def test_swapping_prediction_and_truth_changes_nothing_else() -> None:
    prediction, truth = organ(7)
    assert agreement(prediction, truth, SPACING, 2.0) == agreement(truth, prediction, SPACING, 2.0)


@given(arrays(bool, SIDES, fill=st.booleans()))
def test_the_surface_is_what_has_a_neighbour_outside(mask: Mask) -> None:
    assert list(map(tuple, np.argwhere(surface(mask)).tolist())) == slow_surface(mask)


@given(arrays(bool, SIDES, fill=st.booleans()))
def test_the_bounding_box_is_the_smallest(mask: Mask) -> None:
    box, set_voxels = bounding_box(mask), np.argwhere(mask)
    if not len(set_voxels):
        assert box is None
        return
    assert box is not None
    assert [side.start for side in box] == set_voxels.min(axis=0).tolist()
    assert [side.stop - 1 for side in box] == set_voxels.max(axis=0).tolist()


def test_every_surface_voxel_has_its_distance() -> None:
    prediction, truth = organ(3)
    one_way, other_way = surface_distances(prediction, truth, SPACING)
    assert (len(one_way), len(other_way)) == (surface(prediction).sum(), surface(truth).sum())


def test_masks_in_another_memory_order_score_the_same() -> None:
    prediction, truth = organ(4)
    assert agreement(np.asfortranarray(prediction), truth[:, :, :], SPACING, 3.0) == agreement(
        prediction, np.asfortranarray(truth), SPACING, 3.0
    )
    assert dice(np.asfortranarray(prediction), truth) == dice(prediction, truth)


def test_tolerances_are_the_manifests_or_the_usual() -> None:
    assert tolerance_of("liver", {}) == tolerance_of("pancreas", {}) == 5.0
    assert (
        tolerance_of("spleen", {}) == tolerance_of("kidneys", {}) == tolerance_of("gall-bladder", {}) == 3.0
    )
    assert tolerance_of("liver", {"liver": 2.0}) == 2.0


def test_distances_are_float32_so_that_a_distance_meets_its_tolerance() -> None:
    """0.1 + 0.2 is above 0.3 in float64, and equal to it in float32."""
    prediction, truth = np.zeros((4, 1, 1), bool), np.zeros((4, 1, 1), bool)
    prediction[0], truth[3] = True, True
    assert [distances.dtype for distances in surface_distances(prediction, truth, (0.1, 1, 1))] == [
        np.float32
    ] * 2
