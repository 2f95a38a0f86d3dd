"""The arithmetic of a round, with numbers checked by hand."""

import hashlib
import threading
import tracemalloc
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from builders.synthetic import BASEL, BERN, CHUR, ORGANS, control_of, groups_of, model_of, shared_part
from segviz_aggregator import merge
from segviz_aggregator.algorithms.fed_adam import FedAdam
from segviz_aggregator.algorithms.mean import mean
from segviz_aggregator.algorithms.server_optimizer import Files, write_stepped
from segviz_aggregator.merge import merge_round
from segviz_aggregator.schema import Schema
from segviz_exchange.contract import codec
from segviz_exchange.contract.choices import AlgorithmName, Objective
from segviz_exchange.contract.codec import Array, InvalidTensors, TensorFile, info_of, open_tensors, save
from segviz_exchange.contract.records import Closing, Control, Participant
from segviz_exchange.contract.sharing import NORM, PARAMETER, REPRESENTATION, TensorGroup

FLOATS = arrays(np.float32, 5, elements=st.floats(-1e6, 1e6, width=32))
CO_OWNED = {BASEL: ("liver",), BERN: ("liver",), CHUR: ("spleen",)}


def write(folder: Path, name: str, tensors: Mapping[str, Array]) -> TensorFile:
    path = folder / name
    save(path, tensors)
    return open_tensors(path)


def closing_of(weights: Mapping[str, int]) -> Closing:
    participants = tuple(Participant(site, 1, "0" * 64, weight) for site, weight in sorted(weights.items()))
    return Closing(1, 1, participants, ())


def merged(
    folder: Path,
    control: Control,
    updates: Mapping[str, Mapping[str, Array]],
    previous: Mapping[str, Array],
    weights: Mapping[str, int] | None = None,
) -> dict[str, Array]:
    initial = model_of(control)
    schema = Schema({name: info_of(value) for name, value in initial.items()}, groups_of(control))
    files = {site: write(folder, site, tensors) for site, tensors in updates.items()}
    closing = closing_of(weights or dict.fromkeys(updates, 1))
    target = folder / "merged"
    merge_round(control, closing, schema, files, write(folder, "previous", previous), target)
    return open_tensors(target).read_all()


def whole_round(folder: Path, control: Control) -> tuple[dict[str, Array], dict[str, Array]]:
    """Round 0's model, and what every site's update of round 1 makes of it."""
    initial = model_of(control)
    updates = {
        site: shared_part(model_of(control, seed), site, control)
        for seed, site in enumerate(control.active, start=1)
    }
    return initial, merged(folder, control, updates, initial)


def test_the_mean_of_two_by_hand() -> None:
    result = mean([np.float32([1, 2, -4]), np.float32([3, 6, 4])], [1, 1])
    assert result.tolist() == [2, 4, 0]
    assert result.dtype == np.float32


def test_weights_count_as_often_as_they_say() -> None:
    # (1·8 + 3·0 + 4·2) / 8 = 2
    assert mean([np.float32([8]), np.float32([0]), np.float32([2])], [1, 3, 4]).tolist() == [2]


def test_sums_do_not_run_in_the_dtype_of_the_values() -> None:
    # In float32, 2**24 + 1 is 2**24.
    assert mean([np.float32([2**24]), np.float32([1]), np.float32([1])], [1, 1, 1]).tolist() == [
        np.float32((2**24 + 2) / 3)
    ]


@given(value=FLOATS, weights=st.lists(st.integers(1, 1_000_000), min_size=1, max_size=64))
def test_equal_models_come_back_bit_for_bit(value: Array, weights: Sequence[int]) -> None:
    assert mean([value] * len(weights), weights).tobytes() == value.tobytes()


def test_the_sign_of_zero_survives() -> None:
    value = np.float32([-0.0, 0.0])
    assert mean([value, value, value], [1, 1, 1]).tobytes() == value.tobytes()


@given(
    pairs=st.lists(st.tuples(FLOATS, st.integers(1, 1000)), min_size=1, max_size=6).flatmap(
        lambda drawn: st.tuples(st.just(drawn), st.permutations(drawn))
    )
)
def test_order_does_not_matter(pairs: tuple[list[tuple[Array, int]], list[tuple[Array, int]]]) -> None:
    one, other = (mean([value for value, _ in pair], [weight for _, weight in pair]) for pair in pairs)
    np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


def test_order_of_arrival_does_not_show_in_the_bytes(tmp_path: Path) -> None:
    control = control_of()
    initial = model_of(control)
    updates = {site: shared_part(model_of(control, n), site, control) for n, site in enumerate(ORGANS)}
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
    merged(tmp_path / "one", control, updates, initial)
    merged(tmp_path / "other", control, dict(reversed(updates.items())), initial)
    assert (tmp_path / "one" / "merged").read_bytes() == (tmp_path / "other" / "merged").read_bytes()


def test_fed_avg_moves_all_that_is_shared_and_sends_no_single_head(tmp_path: Path) -> None:
    initial, result = whole_round(tmp_path, control_of())
    assert result.keys() == {"body.conv", "body.norm"}
    assert not any(np.array_equal(result[name], initial[name]) for name in result)


def test_fed_bn_moves_no_batch_norm_and_everything_else(tmp_path: Path) -> None:
    control = control_of(CO_OWNED, algorithm=AlgorithmName.FED_BN)
    initial, result = whole_round(tmp_path, control)
    assert result.keys() == {"body.conv", "heads.liver.conv"}
    assert not any(np.array_equal(result[name], initial[name]) for name in result)


def test_local_shares_an_empty_model(tmp_path: Path) -> None:
    assert whole_round(tmp_path, control_of(algorithm=AlgorithmName.LOCAL))[1] == {}


def test_a_multi_organ_head_is_averaged_over_all(tmp_path: Path) -> None:
    _, result = whole_round(tmp_path, control_of(objective=Objective.MARGINAL))
    assert result.keys() == {"body.conv", "body.norm", "heads._all.conv", "heads._all.norm"}


def test_a_co_owned_head_is_averaged_over_its_owners_alone(tmp_path: Path) -> None:
    control = control_of(CO_OWNED)
    updates = {
        site: {name: np.full(4, value, np.float32) for name in shared_part(model_of(control), site, control)}
        for site, value in ((BASEL, 1), (BERN, 3), (CHUR, 8))
    }
    result = merged(tmp_path, control, updates, model_of(control), {BASEL: 1, BERN: 3, CHUR: 4})
    # Owners: (1·1 + 3·3) / 4; all: (1·1 + 3·3 + 4·8) / 8.
    assert result["heads.liver.conv"].tolist() == [2.5] * 4
    assert result["body.conv"].tolist() == [5.25] * 4


def test_a_tensor_without_a_contributor_keeps_its_global_value(tmp_path: Path) -> None:
    control = control_of(CO_OWNED)
    previous = model_of(control, seed=7)
    chur = shared_part(model_of(control, seed=1), CHUR, control)
    result = merged(tmp_path, control, {CHUR: chur}, previous)
    assert result["heads.liver.conv"].tobytes() == previous["heads.liver.conv"].tobytes()
    assert result["body.conv"].tobytes() == chur["body.conv"].tobytes()


def test_an_update_from_before_a_head_was_shared_does_not_count_for_it(tmp_path: Path) -> None:
    """Bern joined with liver while basel was training: basel's update still lacks its head."""
    control = control_of({BASEL: ("liver",), BERN: ("liver",)}, number=2)
    alone = control_of({BASEL: ("liver",)})
    basel = shared_part(model_of(alone, seed=1), BASEL, alone)
    body = {name: value for name, value in model_of(control).items() if name.startswith("body.")}
    result = merged(tmp_path, control, {BASEL: basel}, body)
    assert result.keys() == {"body.conv", "body.norm"}


def test_tensors_longer_than_a_chunk_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "CHUNK_ELEMENTS", 3)
    control = control_of()
    updates = {
        site: shared_part(model_of(control, n, elements=10), site, control) for n, site in enumerate(ORGANS)
    }
    schema = Schema(
        {name: info_of(value) for name, value in model_of(control, elements=10).items()}, groups_of(control)
    )
    files = {site: write(tmp_path, site, tensors) for site, tensors in updates.items()}
    previous = write(tmp_path, "previous", {})
    merge_round(control, closing_of(dict.fromkeys(files, 1)), schema, files, previous, tmp_path / "merged")
    expected = np.mean([updates[site]["body.conv"].astype(np.float64) for site in ORGANS], axis=0)
    result = open_tensors(tmp_path / "merged").read("body.conv")
    np.testing.assert_array_equal(result, expected.astype(np.float32))


def large(
    folder: Path, sites: list[str], algorithm: AlgorithmName
) -> tuple[Control, Schema, TensorFile, int]:
    control = control_of({site: (f"organ-{site}",) for site in sites}, algorithm=algorithm)
    elements = 1 << 22
    tensors = {"w": np.ones(elements, np.float32), "b": np.ones(3, np.float32)}
    groups = {"w": TensorGroup(REPRESENTATION, PARAMETER), "b": TensorGroup(REPRESENTATION, NORM)}
    schema = Schema({name: info_of(value) for name, value in tensors.items()}, groups)
    return control, schema, write(folder, "update", tensors), elements * 4


# A few chunks, beside 16 models of 16 MiB; a robust merge sorts one of each site, so twice 16 chunks.
PEAKS = {AlgorithmName.FED_AVG: 0.25, AlgorithmName.MEDIAN: 0.75, AlgorithmName.TRIMMED_MEAN: 0.75}


@pytest.mark.parametrize(("algorithm", "models"), PEAKS.items(), ids=lambda each: str(each))
def test_memory_does_not_grow_with_the_model(tmp_path: Path, algorithm: AlgorithmName, models: float) -> None:
    sites = [f"site-{n:02}" for n in range(16)]
    control, schema, file, model_bytes = large(tmp_path, sites, algorithm)
    files, closing = dict.fromkeys(sites, file), closing_of(dict.fromkeys(sites, 1))
    tracemalloc.start()
    merge_round(control, closing, schema, files, file, tmp_path / "merged")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < models * model_bytes


def test_a_server_optimiser_holds_a_few_chunks(tmp_path: Path) -> None:
    _, _, file, model_bytes = large(tmp_path, [BASEL], AlgorithmName.FED_ADAM)
    places = (tmp_path / "model", tmp_path / "state")
    tracemalloc.start()
    write_stepped(FedAdam(), Files(file, file, None), ["w"], ["w"], {}, *places)
    write_stepped(
        FedAdam(), Files(file, file, open_tensors(places[1])), ["w"], ["w"], {}, places[0], tmp_path / "next"
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.5 * model_bytes


@pytest.mark.parametrize("algorithm", [AlgorithmName.FED_AVG, AlgorithmName.MEDIAN], ids=str)
def test_cores_do_not_show_in_the_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: AlgorithmName
) -> None:
    monkeypatch.setattr(codec, "CHUNK_ELEMENTS", 3)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    control = control_of(CO_OWNED, algorithm=algorithm)
    sizes = {site: model_of(control, n, elements=100) for n, site in enumerate(ORGANS)}
    schema = Schema({name: info_of(value) for name, value in sizes[BASEL].items()}, groups_of(control))
    files = {
        site: write(tmp_path, site, shared_part(model, site, control))
        for site, model in sizes.items()
        if site != BERN  # who owns a head with Basel
    }
    previous = write(tmp_path, "previous", sizes[BERN])
    digests = []
    for workers in (1, 2, 7):
        monkeypatch.setattr(merge, "MOST_WORKERS", workers)
        target = tmp_path / f"merged-{workers}"
        closing = closing_of({BASEL: 3, CHUR: 5})
        digests.append(merge_round(control, closing, schema, files, previous, target))
        assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("merging")]
    assert len(set(digests)) == 1
    assert {hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.glob("merged-*")} == set(
        digests
    )


def test_an_error_while_merging_is_raised_and_leaves_no_thread(tmp_path: Path) -> None:
    control = control_of()
    model = model_of(control, elements=100)
    schema = Schema({name: info_of(value) for name, value in model.items()}, groups_of(control))
    files = {site: write(tmp_path, site, shared_part(model, site, control)) for site in ORGANS}
    truncated = files[CHUR].path
    truncated.write_bytes(truncated.read_bytes()[:-8])  # after it was opened
    with pytest.raises(InvalidTensors, match="ends inside tensor"):
        merge_round(
            control, closing_of(dict.fromkeys(files, 1)), schema, files, files[BASEL], tmp_path / "merged"
        )
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("merging")]
