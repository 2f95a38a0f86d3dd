"""Median, trimmed mean and the server optimisers, with numbers checked by hand."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from builders.algorithms import build_algorithm
from segviz_aggregator.algorithms.by_name import merge_of, optimizer_of
from segviz_aggregator.algorithms.fed_adam import FedAdam
from segviz_aggregator.algorithms.fed_avg_m import FedAvgM
from segviz_aggregator.algorithms.mean import mean
from segviz_aggregator.algorithms.median import median
from segviz_aggregator.algorithms.server_optimizer import Files, ServerOptimizer, write_stepped
from segviz_aggregator.algorithms.trimmed_mean import TrimmedMean
from segviz_exchange.contract import codec
from segviz_exchange.contract.choices import AlgorithmName, Weights
from segviz_exchange.contract.codec import Array, TensorFile, open_tensors, save
from segviz_exchange.contract.spec import Algorithm

FLOATS = arrays(np.float32, 5, elements=st.floats(-1e6, 1e6, width=32))
MODELS = st.lists(FLOATS, min_size=1, max_size=9)
ROBUST: dict[str, Callable[[Iterable[Array], Sequence[int]], Array]] = {
    "median": median,
    "a fifth trimmed": TrimmedMean(0.2),
    "nearly all trimmed": TrimmedMean(0.49),
}


def rows(*values: float) -> list[Array]:
    return [np.float32([value]) for value in values]


def weights_of(values: Sequence[Array]) -> list[int]:
    return [1] * len(values)


# --- every algorithm ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", AlgorithmName)
def test_every_algorithm_merges_equal_models_to_themselves(name: AlgorithmName) -> None:
    merge = merge_of(build_algorithm(name))
    value = np.float32([0.1, -0.0, 0.0, 1e-30, -7e20])
    assert merge([value] * 3, [1, 1, 1]).tobytes() == value.tobytes()


def test_only_two_have_a_server_optimiser() -> None:
    found = {name for name in AlgorithmName if optimizer_of(build_algorithm(name))}
    assert found == {AlgorithmName.FED_AVG_M, AlgorithmName.FED_ADAM}


MEANS = set(AlgorithmName) - {AlgorithmName.MEDIAN, AlgorithmName.TRIMMED_MEAN}


@pytest.mark.parametrize("name", sorted(MEANS))
def test_whatever_is_not_robust_is_the_weighted_mean(name: AlgorithmName) -> None:
    merge = merge_of(Algorithm(name, Weights.CASES))
    # (3·1 + 1·2 + 1·20) / 5; the median is 2.
    assert merge(rows(1, 2, 20), [3, 1, 1]).tolist() == [5]


def test_the_mean_wants_as_many_weights_as_values() -> None:
    with pytest.raises(ValueError, match="shorter"):
        mean(rows(1, 2, 3), [1, 1])


# --- robust merges --------------------------------------------------------------------------------------


def test_the_median_by_hand() -> None:
    assert median(rows(9, 1, 2), [1, 1, 1]).tolist() == [2]
    assert median(rows(9, 1, 2, 4), [1, 1, 1, 1]).tolist() == [3]


@pytest.mark.parametrize(
    ("values", "middle"), [((5,), 5), ((1, 4), 2.5), ((1, 2, 9, 30, 31), 9), ((6, 1, 2, 9, 3, 30), 4.5)]
)
def test_the_middle_of_odd_and_of_even_numbers(values: tuple[float, ...], middle: float) -> None:
    assert median(rows(*values), [1] * len(values)).tolist() == [middle]


def test_the_two_middle_ones_do_not_overflow() -> None:
    assert median(rows(3e38, 3e38), [1, 1]).tolist() == [np.float32(3e38)]


def test_each_number_has_a_middle_of_its_own() -> None:
    assert median([np.float32([1, 9]), np.float32([2, 8]), np.float32([3, 7])], [1] * 3).tolist() == [2, 8]


@pytest.mark.parametrize("merge", ROBUST.values(), ids=ROBUST)
def test_sites_count_alike_in_a_robust_merge(merge) -> None:
    values = rows(1, 2, 9, 30, 1000)
    assert merge(values, [1, 1, 1, 1, 1000]).tolist() == merge(values, [1] * 5).tolist()


def test_the_trimmed_mean_by_hand() -> None:
    # Without 1 and 900: (2 + 3 + 7) / 3.
    assert TrimmedMean(0.2)(rows(900, 2, 1, 7, 3), [1] * 5).tolist() == [4]
    # A fifth of four sites is none.
    assert TrimmedMean(0.2)(rows(900, 2, 1, 5), [1] * 4).tolist() == [227]


@pytest.mark.parametrize(("fraction", "sites", "left_out"), [(0.29, 100, 29), (0.1, 10, 1), (0.49, 3, 1)])
def test_a_fraction_leaves_out_what_it_says(fraction: float, sites: int, left_out: int) -> None:
    assert TrimmedMean(fraction).left_out(sites) == left_out


@pytest.mark.parametrize("merge", ROBUST.values(), ids=ROBUST)
@given(drawn=MODELS.flatmap(lambda models: st.tuples(st.just(models), st.permutations(models))))
def test_a_robust_merge_does_not_know_who_is_who(merge, drawn: tuple[list[Array], list[Array]]) -> None:
    one, other = (merge(models, weights_of(models)) for models in drawn)
    assert np.array_equal(one, other)


@pytest.mark.parametrize("merge", ROBUST.values(), ids=ROBUST)
@given(models=MODELS)
def test_a_robust_merge_lies_between_the_least_and_the_most(merge, models: list[Array]) -> None:
    result = merge(models, weights_of(models))
    assert (np.min(models, axis=0) <= result).all()
    assert (result <= np.max(models, axis=0)).all()
    assert result.dtype == np.float32


@pytest.mark.parametrize("merge", ROBUST.values(), ids=ROBUST)
@given(value=FLOATS, count=st.integers(1, 9))
def test_equal_models_come_back_bit_for_bit(merge, value: Array, count: int) -> None:
    assert merge([value] * count, [1] * count).tobytes() == value.tobytes()


@given(models=st.lists(FLOATS, min_size=3, max_size=9), wild=FLOATS)
def test_one_wild_site_cannot_take_the_median_beyond_the_others(models: list[Array], wild: Array) -> None:
    result = median([*models, wild * np.float32(1e20)], weights_of([*models, wild]))
    assert (np.min(models, axis=0) <= result).all()
    assert (result <= np.max(models, axis=0)).all()


def test_trimming_nothing_is_the_mean() -> None:
    models = rows(1, 2, 9)
    assert TrimmedMean(0.1)(models, [1, 1, 1]).tobytes() == mean(models, [1, 1, 1]).tobytes()


# --- server optimisers ----------------------------------------------------------------------------------


def write(path: Path, tensors: dict[str, Array]) -> TensorFile:
    save(path, tensors)
    return open_tensors(path)


def step(
    folder: Path,
    optimizer: ServerOptimizer,
    previous: dict[str, Array],
    merged: dict[str, Array],
    state: dict[str, Array] | None = None,
    moved: tuple[str, ...] | None = None,
) -> tuple[dict[str, Array], dict[str, Array]]:
    folder.mkdir(exist_ok=True)
    files = Files(
        write(folder / "previous", previous),
        write(folder / "merged", merged),
        None if state is None else write(folder / "before", state),
    )
    names = [name for name in merged if name != "norm"]
    write_stepped(
        optimizer,
        files,
        names,
        names if moved is None else moved,
        {"round": "1"},
        folder / "model",
        folder / "state",
    )
    return open_tensors(folder / "model").read_all(), open_tensors(folder / "state").read_all()


def test_fed_avg_m_by_hand(tmp_path: Path) -> None:
    optimizer = FedAvgM(rate=0.5, momentum=0.5)
    # Δ = 4: v = 4, w = 0 + 2. Then Δ = 8 − 2: v = 2 + 6, w = 2 + 4.
    model, state = step(tmp_path, optimizer, {"w": np.float32([0])}, {"w": np.float32([4])})
    assert (model["w"].tolist(), state["velocity/w"].tolist()) == ([2], [4])
    model, state = step(tmp_path, optimizer, model, {"w": np.float32([8])}, state)
    assert (model["w"].tolist(), state["velocity/w"].tolist()) == ([6], [8])


def test_fed_adam_by_hand(tmp_path: Path) -> None:
    optimizer = FedAdam(rate=0.5, beta1=0.5, beta2=0.75, tau=1.0)
    # Δ = 2: m = 1, v = 0.75·1 + 0.25·4 = 1.75, w = 0.5·1 / (√1.75 + 1).
    model, state = step(tmp_path, optimizer, {"w": np.float32([0])}, {"w": np.float32([2])})
    first = np.float32(0.5 / (np.sqrt(1.75) + 1))
    assert model["w"].tolist() == [first]
    assert (state["mean/w"].tolist(), state["square/w"].tolist()) == ([1], [1.75])
    # Δ = −w: m = 0.5 − w/2, v = 0.75·1.75 + w²/4.
    model, state = step(tmp_path, optimizer, model, {"w": np.float32([0])}, state)
    delta = -float(first)
    m, v = 0.5 + 0.5 * delta, 0.75 * 1.75 + 0.25 * delta**2
    assert model["w"][0] == pytest.approx(float(first) + 0.5 * m / (np.sqrt(v) + 1), rel=1e-6)
    assert state["square/w"][0] == pytest.approx(v, rel=1e-6)


@given(previous=FLOATS, merged=FLOATS)
def test_fed_avg_m_without_momentum_is_fed_avg(previous: Array, merged: Array) -> None:
    before, after = previous.astype(np.float64), merged.astype(np.float64)
    value, _ = FedAvgM(rate=1.0, momentum=0.0).step(before, after, {"velocity": np.zeros(5)})
    np.testing.assert_allclose(value, after, rtol=1e-9, atol=1e-9)


def test_left_out_settings_are_those_of_the_papers() -> None:
    assert FedAvgM() == FedAvgM(rate=1.0, momentum=0.9)
    assert FedAvgM.of(build_algorithm(AlgorithmName.FED_AVG_M)) == FedAvgM()
    assert FedAdam() == FedAdam(rate=0.01, beta1=0.9, beta2=0.99, tau=0.001)


def test_fed_adam_starts_from_tau_squared_and_no_mean() -> None:
    assert (FedAdam(tau=0.5).initial("square"), FedAdam(tau=0.5).initial("mean")) == (0.25, 0.0)


def test_one_step_of_fed_adam_with_numbers_that_tell_its_terms_apart() -> None:
    optimizer = FedAdam(rate=0.5, beta1=0.25, beta2=0.75, tau=2.0)
    state = {"mean": np.array([8.0]), "square": np.array([16.0])}
    # Δ = 4: m = 0.25·8 + 0.75·4 = 5, v = 0.75·16 + 0.25·16 = 16, w = 3 + 0.5·5 / (4 + 2).
    value, after = optimizer.step(np.array([3.0]), np.array([7.0]), state)
    assert value == pytest.approx(3 + 2.5 / 6)
    assert (after["mean"].tolist(), after["square"].tolist()) == ([5.0], [16.0])


def test_one_step_of_fed_avg_m_with_numbers_that_tell_its_terms_apart() -> None:
    # v = 0.25·8 + (7 − 3) = 6, w = 3 + 0.5·6.
    value, after = FedAvgM(rate=0.5, momentum=0.25).step(
        np.array([3.0]), np.array([7.0]), {"velocity": np.array([8.0])}
    )
    assert (value.tolist(), after["velocity"].tolist()) == ([6.0], [6.0])


class Backwards:
    """Keeps what it was given, in slots that are not sorted."""

    slots = ("z", "a")

    def __init__(self) -> None:
        self.steps = 0

    def initial(self, slot: str) -> float:
        return {"z": 26.0, "a": 1.0}[slot]

    def step(self, before, merged, state):
        self.steps += 1
        return merged, {slot: value + 0.5 for slot, value in state.items()}


def test_every_slot_keeps_its_own_numbers_whatever_their_order(tmp_path: Path) -> None:
    tensors = {"v": np.float32([1, 1]), "w": np.float32([2]), "norm": np.float32([3])}
    state = {"a/w": np.float32([7])}
    _, after = step(tmp_path, Backwards(), tensors, tensors, state, moved=("w",))
    assert {name: value.tolist() for name, value in after.items()} == {
        "a/v": [1, 1],
        "a/w": [7.5],
        "z/v": [26, 26],
        "z/w": [26.5],
    }


def test_each_chunk_is_stepped_once(tmp_path: Path) -> None:
    optimizer = Backwards()
    tensors = {"v": np.float32([1]), "w": np.float32([2])}
    step(tmp_path, optimizer, tensors, tensors)
    assert optimizer.steps == 2


def test_model_and_state_say_which_round_they_are_of(tmp_path: Path) -> None:
    step(tmp_path, FedAvgM(), {"w": np.float32([1])}, {"w": np.float32([2])})
    assert open_tensors(tmp_path / "model").metadata == {"round": "1"}
    assert open_tensors(tmp_path / "state").metadata == {"round": "1"}


def test_the_state_is_float32_whatever_the_model(tmp_path: Path) -> None:
    model, state = step(tmp_path, FedAvgM(), {"w": np.float64([1])}, {"w": np.float64([2])})
    assert (model["w"].dtype, state["velocity/w"].dtype) == (np.float64, np.float32)


def test_what_is_not_a_parameter_is_averaged(tmp_path: Path) -> None:
    previous = {"norm": np.float32([1]), "w": np.float32([1])}
    merged = {"norm": np.float32([3]), "w": np.float32([3])}
    model, state = step(tmp_path, FedAvgM(rate=0.5), previous, merged)
    assert (model["norm"].tolist(), model["w"].tolist()) == ([3], [2])
    assert state.keys() == {"velocity/w"}


def test_what_nobody_contributed_to_stays_with_its_state(tmp_path: Path) -> None:
    tensors = {"w": np.float32([1])}
    state = {"velocity/w": np.float32([5])}
    model, after = step(tmp_path, FedAvgM(), tensors, tensors, state, moved=())
    assert (model["w"].tolist(), after["velocity/w"].tolist()) == ([1], [5])


def test_what_is_shared_for_the_first_time_is_taken_as_it_is(tmp_path: Path) -> None:
    model, state = step(tmp_path, FedAdam(), {}, {"w": np.float32([7])})
    assert model["w"].tolist() == [7]
    assert state["square/w"].tolist() == [np.float32(0.001**2)]


def test_chunks_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = np.random.default_rng(0)
    draw = [{"w": chance.standard_normal(11).astype(np.float32)} for _ in range(2)]
    whole = step(tmp_path / "whole", FedAdam(), *draw)
    monkeypatch.setattr(codec, "CHUNK_ELEMENTS", 3)
    parts = step(tmp_path / "parts", FedAdam(), *draw)
    for one, other in zip(whole, parts, strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_a_manifest_overrides_what_it_names() -> None:
    asked = Algorithm(AlgorithmName.FED_ADAM, Weights.UNIFORM, server_learning_rate=0.5, tau=0.25)
    assert optimizer_of(asked) == FedAdam(rate=0.5, tau=0.25)
    still = Algorithm(AlgorithmName.FED_AVG_M, Weights.UNIFORM, momentum=0.0)
    assert optimizer_of(still) == FedAvgM(rate=1.0, momentum=0.0)


def test_every_setting_of_a_manifest_reaches_its_own_place() -> None:
    adam = Algorithm(
        AlgorithmName.FED_ADAM, Weights.UNIFORM, server_learning_rate=0.1, beta1=0.0, beta2=0.3, tau=0.4
    )
    assert optimizer_of(adam) == FedAdam(rate=0.1, beta1=0.0, beta2=0.3, tau=0.4)
    momentum = Algorithm(AlgorithmName.FED_AVG_M, Weights.UNIFORM, server_learning_rate=0.1, momentum=0.2)
    assert optimizer_of(momentum) == FedAvgM(rate=0.1, momentum=0.2)


# --- where rounds lead ----------------------------------------------------------------------------------

OPTIMA = (1.0, 2.0, 6.0)
"""Of three sites; each goes half the way to its own in a round."""
FIXED_POINTS = {
    AlgorithmName.FED_AVG: ({}, 3.0),
    AlgorithmName.FED_AVG_M: ({"momentum": 0.5}, 3.0),
    AlgorithmName.FED_ADAM: ({"server_learning_rate": 0.02}, 3.0),
    AlgorithmName.MEDIAN: ({}, 2.0),
    AlgorithmName.TRIMMED_MEAN: ({"trim_fraction": 0.34}, 2.0),
}


@pytest.mark.parametrize("name", FIXED_POINTS)
def test_rounds_lead_to_the_mean_or_the_middle_of_what_sites_want(name: AlgorithmName) -> None:
    parameters, wanted = FIXED_POINTS[name]
    asked = Algorithm(name, Weights.UNIFORM, **parameters)
    merge, optimizer = merge_of(asked), optimizer_of(asked)
    value = np.zeros(1)
    slots = optimizer.slots if optimizer else ()
    state = {slot: np.full(1, optimizer.initial(slot)) for slot in slots}
    for _ in range(1000):
        merged = merge([value + 0.5 * (optimum - value) for optimum in OPTIMA], [1, 1, 1])
        value, state = optimizer.step(value, merged, state) if optimizer else (merged, state)
    assert value[0] == pytest.approx(wanted, abs=0.05)
