"""The whole loop on a folder store: every commit point killed and resumed, two at once, blobs changed."""

import threading
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from builders.disturbances import Deadly, Forgetful, Killed, Shifted
from builders.rounds import (
    CONTROL,
    ROUNDS,
    TIMED,
    after_round_0,
    committed,
    finish,
    play_sites,
    started,
    until_waiting,
)
from builders.synthetic import (
    BASEL,
    BERN,
    CHUR,
    ORGANS,
    control_of,
    deliver,
    deliver_round,
    initial_metadata,
    model_of,
    shared_part,
    write_control,
)
from segviz_aggregator import reasons
from segviz_aggregator.loop import Aggregator, Step
from segviz_exchange.contract import keys
from segviz_exchange.contract.choices import AlgorithmName
from segviz_exchange.contract.closing import NO_UPDATE
from segviz_exchange.contract.codec import open_tensors
from segviz_exchange.contract.ledger import find, read
from segviz_exchange.contract.progress import Phase, Progress
from segviz_exchange.contract.records import Closing, Failure, Final, Round


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    store = started(folder / "store")
    finish(Aggregator(store, folder / "scratch"), store)
    return committed(store)


def test_a_federation_runs_to_its_end(tmp_path: Path) -> None:
    store = started(tmp_path / "store")
    finish(Aggregator(store, tmp_path / "scratch"), store)
    rounds = [read(store, keys.round_record(number), Round) for number in range(ROUNDS + 1)]
    assert [record.participants for record in rounds] == [tuple(ORGANS)] * (ROUNDS + 1)
    assert read(store, keys.FINAL, Final) == Final(2, 1, {"liver": 0.6, "pancreas": 0.6, "spleen": 0.6})
    assert read(store, keys.AGGREGATOR_PROGRESS, Progress).phase is Phase.DONE
    # Round 0 is the first site's model, byte for byte; later ones hold what is shared.
    first = read(store, keys.closing(0), Closing).participants[0]
    assert store.get(keys.global_blob(rounds[0].blob)) == store.get(keys.site_blob(BASEL, first.blob))
    merged = open_tensors(store.root / keys.global_blob(rounds[1].blob)).read_all()
    assert merged.keys() == {"body.conv", "body.norm"}
    parts = [model_of(CONTROL, seed=100 + n)["body.conv"].astype(np.float64) for n in range(3)]
    np.testing.assert_array_equal(merged["body.conv"], (np.sum(parts, axis=0) / 3).astype(np.float32))


@pytest.mark.parametrize("algorithm", AlgorithmName)
def test_every_algorithm_finishes(algorithm: AlgorithmName, tmp_path: Path) -> None:
    control = control_of({BASEL: ("liver",), BERN: ("liver", "spleen")}, algorithm=algorithm)
    store = started(tmp_path / "store", control)
    finish(Aggregator(store, tmp_path / "scratch"), store, control)


@pytest.mark.parametrize("algorithm", AlgorithmName)
def test_under_every_algorithm_killed_again_and_again_the_bytes_are_the_same(
    algorithm: AlgorithmName, tmp_path: Path
) -> None:
    """No process survives its fourth write: heartbeat, two blobs and a record are the most of one step."""
    control = control_of(algorithm=algorithm, rounds=ROUNDS)
    calm, wild = started(tmp_path / "calm", control), started(tmp_path / "wild", control)
    finish(Aggregator(calm, tmp_path / "scratch"), calm, control)
    for _ in range(200):
        try:
            finish(Aggregator(Deadly(wild, 4, after=True), tmp_path / "scratch"), wild, control)
        except Killed:
            continue
        break
    assert committed(wild) == committed(calm)
    records = [read(calm, keys.round_record(number), Round) for number in range(ROUNDS + 1)]
    with_state = algorithm in (AlgorithmName.FED_AVG_M, AlgorithmName.FED_ADAM)
    assert [record.state is not None for record in records] == [False, *([with_state] * ROUNDS)]


FED_ADAM = control_of(algorithm=AlgorithmName.FED_ADAM, rounds=ROUNDS)
# As below, and a blob more a round from the first on.
ADAM_WRITES = 26


@pytest.fixture(scope="module")
def undisturbed_adam(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("adam")
    store = Deadly(started(folder / "store", FED_ADAM), 0, after=False)
    finish(Aggregator(store, folder / "scratch"), store.inner, FED_ADAM)
    assert len(store.writes) == ADAM_WRITES
    return committed(store.inner)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("nth", range(1, ADAM_WRITES + 1))
def test_under_fedadam_killed_at_any_write_the_bytes_are_the_same(
    nth: int, after: bool, undisturbed_adam: dict[str, bytes], tmp_path: Path
) -> None:
    store = started(tmp_path / "store", FED_ADAM)
    with pytest.raises(Killed):
        finish(Aggregator(Deadly(store, nth, after=after), tmp_path / "scratch"), store, FED_ADAM)
    finish(Aggregator(store, tmp_path / "elsewhere"), store, FED_ADAM)
    assert committed(store) == undisturbed_adam


def test_under_fedadam_a_lost_state_fails_the_round_and_says_so(tmp_path: Path) -> None:
    control = control_of(algorithm=AlgorithmName.FED_ADAM, rounds=ROUNDS)
    store, aggregator = after_round_0(tmp_path, control)
    deliver_round(store, control, 1)
    until_waiting(aggregator)
    state = read(store, keys.round_record(1), Round).state
    store.delete(keys.global_blob(state))
    deliver_round(store, control, 2)
    until_waiting(Aggregator(store, tmp_path / "elsewhere"))
    failure = read(store, keys.failure(2, 1), Failure)
    assert failure.reason == reasons.BLOB_MISSING
    assert state in failure.message


# Heartbeats, and per round closing, blob and record; the final record.
WRITES = 23
# Before and after each write of an undisturbed run; the test below says if there are more.
COMMIT_POINTS = [(nth, after) for nth in range(1, WRITES + 1) for after in (False, True)]


def test_the_commit_points_are_all_there(tmp_path: Path) -> None:
    store = Deadly(started(tmp_path / "store"), 0, after=False)
    finish(Aggregator(store, tmp_path / "scratch"), store.inner)
    assert len(store.writes) == WRITES
    names = [key for key in store.writes if key != keys.AGGREGATOR_PROGRESS]
    assert len(names) == 3 * (ROUNDS + 1) + 1


@pytest.mark.parametrize(("nth", "after"), COMMIT_POINTS)
def test_killed_anywhere_the_bytes_are_the_same(
    nth: int, after: bool, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    store = started(tmp_path / "store")
    deadly = Deadly(store, nth, after=after)
    try:
        finish(Aggregator(deadly, tmp_path / "scratch"), store)
    except Killed:
        finish(Aggregator(store, tmp_path / "scratch"), store)
    assert committed(store) == undisturbed


def test_killed_again_and_again_it_gets_there(undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    """No process survives its third write: heartbeat, blob, record are the most that one step needs."""
    store = started(tmp_path / "store")
    for _ in range(200):
        try:
            finish(Aggregator(Deadly(store, 3, after=True), tmp_path / "scratch"), store)
        except Killed:
            continue
        break
    assert committed(store) == undisturbed


def test_lost_answers_change_nothing(undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    store = started(tmp_path / "store")
    finish(Aggregator(Forgetful(store), tmp_path / "scratch"), store)
    assert committed(store) == undisturbed


def test_two_at_once_write_one_history(undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    store = started(tmp_path / "store")
    errors: list[BaseException] = []

    def work(name: str) -> None:
        aggregator = Aggregator(store, tmp_path / name)
        try:
            while (step := aggregator.step()) is not Step.DONE:
                if step is Step.WAITING:
                    time.sleep(0.002)
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=work, args=(name,)) for name in ("one", "other")]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) and not errors:
        play_sites(store, CONTROL)
        time.sleep(0.002)
    for thread in threads:
        thread.join()
    assert not errors
    assert committed(store) == undisturbed


def test_the_order_of_delivery_does_not_show(undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    store = started(tmp_path / "store")
    aggregator = Aggregator(store, tmp_path / "scratch")
    for site in reversed(CONTROL.active):
        until_waiting(aggregator)
        deliver(store, site, 0, model_of(CONTROL), initial_metadata(CONTROL))
    finish(aggregator, store)
    assert committed(store) == undisturbed


def test_late_updates_and_duplicates_change_nothing(tmp_path: Path) -> None:
    store, _ = after_round_0(tmp_path, TIMED)
    shifted = Shifted(store)
    aggregator = Aggregator(shifted, tmp_path / "scratch")
    for site in (BASEL, BERN):
        deliver(store, site, 1, shared_part(model_of(TIMED, seed=1), site, TIMED))
    until_waiting(aggregator)
    assert find(store, keys.closing(1), Closing) is None
    shifted.later = timedelta(hours=2)
    until_waiting(aggregator)
    assert [part.site for part in read(store, keys.closing(1), Closing).participants] == [BASEL, BERN]
    assert [(out.site, out.reason) for out in read(store, keys.closing(1), Closing).exclusions] == [
        (CHUR, NO_UPDATE)
    ]
    before = committed(store)
    deliver(store, CHUR, 1, shared_part(model_of(TIMED, seed=9), CHUR, TIMED))
    deliver(store, BASEL, 1, shared_part(model_of(TIMED, seed=9), BASEL, TIMED), attempt=2)
    shifted.later = timedelta(0)
    until_waiting(aggregator)
    assert committed(store) == before


def test_a_blob_overwritten_after_the_closing_is_detected(tmp_path: Path) -> None:
    store, _ = after_round_0(tmp_path)
    deliver_round(store, CONTROL, 1)
    deadly = Deadly(store, 1, after=True)
    with pytest.raises(Killed, match=keys.closing(1)):
        until_waiting(Aggregator(deadly, tmp_path / "scratch"))
    blob = store.root / keys.site_blob(BERN, read(store, keys.closing(1), Closing).participants[1].blob)
    good = blob.read_bytes()
    blob.write_bytes(good[:-1] + b"\x00")
    aggregator = Aggregator(store, tmp_path / "scratch")
    until_waiting(aggregator)
    assert find(store, keys.round_record(1), Round) is None
    assert read(store, keys.failure(1, 1), Failure).reason == reasons.BLOB_CORRUPT
    blob.write_bytes(good)
    write_control(store, control_of(rounds=ROUNDS, number=2))
    until_waiting(aggregator)
    assert read(store, keys.round_record(1), Round).participants == (BASEL, BERN, CHUR)


def test_scratch_keeps_one_model_between_rounds_and_nobody_elses_files(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (scratch / "thesis.txt").write_text("mine", encoding="utf-8")
    store, aggregator = after_round_0(tmp_path)
    deliver_round(store, CONTROL, 1)
    until_waiting(aggregator)
    assert {path.name for path in scratch.iterdir()} == {
        "thesis.txt",
        read(store, keys.round_record(1), Round).blob,
    }
