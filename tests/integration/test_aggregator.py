"""The whole loop on a folder store: rounds, deaths at every commit point, mistakes of sites, two at once."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from segviz_aggregator import reasons
from segviz_aggregator.loop import Aggregator, Step
from segviz_exchange import keys
from segviz_exchange.closing import NO_UPDATE, QUORUM_LOST, REJECTED
from segviz_exchange.codec import open_tensors
from segviz_exchange.folder import FolderStore
from segviz_exchange.records import (
    Closing,
    Control,
    Failure,
    Final,
    Phase,
    Progress,
    Rejection,
    Round,
    find,
    newest_round,
    read,
)
from segviz_exchange.spec import AlgorithmName
from segviz_exchange.store import AlreadyExists, Entry, Store
from synthetic import (
    BASEL,
    BERN,
    CHUR,
    ORGANS,
    control_of,
    deliver,
    deliver_initial,
    deliver_round,
    initial_metadata,
    model_of,
    score,
    shared_part,
    write_control,
)

ROUNDS = 3
CONTROL = control_of(rounds=ROUNDS)
TIMED = control_of(rounds=ROUNDS, min_sites=2, round_timeout="1h")


class Around:
    """A store around another, to be disturbed."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner

    def create(self, key: str, data: bytes) -> None:
        self.inner.create(key, data)

    def put(self, key: str, data: bytes) -> None:
        self.inner.put(key, data)

    def upload(self, key: str, path: Path) -> None:
        self.inner.upload(key, path)

    def get(self, key: str) -> bytes:
        return self.inner.get(key)

    def open(self, key: str) -> AbstractContextManager[BinaryIO]:
        return self.inner.open(key)

    def list(self, prefix: str) -> list[Entry]:
        return self.inner.list(prefix)

    def delete(self, key: str) -> None:
        self.inner.delete(key)

    def now(self) -> datetime:
        return self.inner.now()

    def scoped(self, prefix: str) -> Store:
        return self.inner.scoped(prefix)


class Killed(BaseException):
    """The process is gone."""


class Deadly(Around):
    """Kills the process before or after its nth write."""

    def __init__(self, inner: Store, nth: int, *, after: bool) -> None:
        super().__init__(inner)
        self.left = nth
        self.after = after
        self.writes: list[str] = []

    def create(self, key: str, data: bytes) -> None:
        self._die_around(key, lambda: self.inner.create(key, data))

    def put(self, key: str, data: bytes) -> None:
        self._die_around(key, lambda: self.inner.put(key, data))

    def upload(self, key: str, path: Path) -> None:
        self._die_around(key, lambda: self.inner.upload(key, path))

    def _die_around(self, key: str, write: Callable[[], None]) -> None:
        self.writes.append(key)
        self.left -= 1
        if self.left == 0 and not self.after:
            raise Killed(key)
        write()
        if self.left == 0:
            raise Killed(key)


class Forgetful(Around):
    """Loses the answer to every create: the client tries again and is told that the object exists."""

    def create(self, key: str, data: bytes) -> None:
        self.inner.create(key, data)
        raise AlreadyExists(key)


class Shifted(Around):
    """The store's clock, some time later."""

    later = timedelta(0)

    def now(self) -> datetime:
        return self.inner.now() + self.later


def play_sites(store: Store, control: Control) -> None:
    """What the sites would write next."""
    newest = newest_round(store)
    if newest is None:
        deliver_initial(store, control)
        return
    score(store, control, newest.round, dice=0.5 + 0.1 * (newest.round == 2))
    if newest.round < control.spec.rounds:
        deliver_round(store, control, newest.round + 1)


def finish(aggregator: Aggregator, store: Store, control: Control = CONTROL) -> None:
    for _ in range(100):
        step = aggregator.step()
        if step is Step.DONE:
            return
        if step is Step.WAITING:
            play_sites(store, control)
    raise AssertionError(f"not done: {read(store, keys.AGGREGATOR_PROGRESS, Progress)}")


def until_waiting(aggregator: Aggregator) -> None:
    while aggregator.step() is Step.MOVED:
        pass


def committed(store: Store) -> dict[str, bytes]:
    """Everything that is there for good."""
    return {
        entry.key: store.get(entry.key)
        for entry in store.list("global/")
        if entry.key != keys.AGGREGATOR_PROGRESS
    }


def started(folder: Path, control: Control = CONTROL) -> FolderStore:
    store = FolderStore(folder)
    write_control(store, control)
    return store


def after_round_0(folder: Path, control: Control = CONTROL) -> tuple[FolderStore, Aggregator]:
    store = started(folder / "store", control)
    deliver_initial(store, control)
    aggregator = Aggregator(store, folder / "scratch")
    until_waiting(aggregator)
    return store, aggregator


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


def commit_points() -> Iterator[tuple[int, bool]]:
    """Before and after each write of an undisturbed run; the test below says if there are more."""
    for nth in range(1, WRITES + 1):
        yield nth, False
        yield nth, True


# Heartbeats, and per round closing, blob and record; the final record.
WRITES = 28


def test_the_commit_points_are_all_there(tmp_path: Path) -> None:
    store = Deadly(started(tmp_path / "store"), 0, after=False)
    finish(Aggregator(store, tmp_path / "scratch"), store.inner)
    assert len(store.writes) <= WRITES
    names = [key for key in store.writes if key != keys.AGGREGATOR_PROGRESS]
    assert len(names) == 3 * (ROUNDS + 1) + 1


@pytest.mark.parametrize(("nth", "after"), commit_points())
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


def test_killed_at_every_single_write_in_turn(undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    """A process that never survives its second write still gets there."""
    store = started(tmp_path / "store")
    for _ in range(200):
        try:
            finish(Aggregator(Deadly(store, 2, after=True), tmp_path / "scratch"), store)
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


def test_suspension_stops_the_clock(tmp_path: Path) -> None:
    store, _ = after_round_0(tmp_path, TIMED)
    for site in (BASEL, BERN):
        deliver(store, site, 1, shared_part(model_of(TIMED, seed=1), site, TIMED))
    changes = {"rounds": ROUNDS, "min_sites": 2, "round_timeout": "1h"}
    write_control(store, control_of(number=2, suspend=True, **changes))
    shifted = Shifted(store)
    shifted.later = timedelta(hours=9)
    aggregator = Aggregator(shifted, tmp_path / "scratch")
    until_waiting(aggregator)
    assert read(store, keys.AGGREGATOR_PROGRESS, Progress).message == "suspended"
    assert find(store, keys.closing(1), Closing) is None
    # It goes on at once: those nine hours are over for nobody, by the store's own times.
    write_control(store, control_of(number=3, **changes))
    shifted.later = timedelta(minutes=30)
    until_waiting(aggregator)
    assert "waiting for chur" in read(store, keys.AGGREGATOR_PROGRESS, Progress).message
    shifted.later = timedelta(hours=2)
    until_waiting(aggregator)
    assert read(store, keys.closing(1), Closing).control == 3


def test_nan_is_rejected_and_the_next_attempt_closes_the_round(tmp_path: Path) -> None:
    store, aggregator = after_round_0(tmp_path)
    deliver_round_but(store, BERN)
    good = shared_part(model_of(CONTROL, seed=101), BERN, CONTROL)
    deliver(store, BERN, 1, {**good, "body.conv": np.full(4, np.nan, np.float32)})
    until_waiting(aggregator)
    rejection = read(store, keys.rejection(BERN, 1, 1), Rejection)
    assert rejection.reason == reasons.NOT_FINITE
    assert "bern's attempt 1 was rejected" in read(store, keys.AGGREGATOR_PROGRESS, Progress).message
    assert find(store, keys.closing(1), Closing) is None
    deliver(store, BERN, 1, good, attempt=2)
    until_waiting(aggregator)
    assert [part.attempt for part in read(store, keys.closing(1), Closing).participants] == [1, 2, 1]
    assert find(store, keys.round_record(1), Round) is not None


def test_an_attempt_before_its_turn_is_not_looked_at(tmp_path: Path) -> None:
    store, aggregator = after_round_0(tmp_path)
    deliver_round_but(store, BERN)
    deliver(store, BERN, 1, shared_part(model_of(CONTROL, seed=101), BERN, CONTROL), attempt=2)
    until_waiting(aggregator)
    assert find(store, keys.closing(1), Closing) is None
    assert store.list(keys.rejections(BERN, 1)) == []


def test_an_unreadable_record_costs_its_site_an_attempt(tmp_path: Path) -> None:
    store, aggregator = after_round_0(tmp_path)
    store.create(keys.update(BERN, 1, 1), b'{"site": "bern", "blob": "../../x"}')
    until_waiting(aggregator)
    assert read(store, keys.rejection(BERN, 1, 1), Rejection).reason == reasons.INVALID_RECORD


def test_three_bad_updates_fail_the_round_until_people_mend_it(tmp_path: Path) -> None:
    store, aggregator = after_round_0(tmp_path)
    deliver_round_but(store, BERN)
    bad = {"body.conv": np.zeros(4, np.float32)}
    for attempt in (1, 2, 3):
        deliver(store, BERN, 1, bad, attempt=attempt)
    until_waiting(aggregator)
    failure = read(store, keys.failure(1, 1), Failure)
    assert failure.reason == QUORUM_LOST
    assert "'body.norm' is missing" in failure.message
    until_waiting(Aggregator(store, tmp_path / "scratch"))  # a restart changes nothing
    assert read(store, keys.AGGREGATOR_PROGRESS, Progress).phase is Phase.FAILED
    write_control(store, control_of(rounds=ROUNDS, number=2, min_sites=2))
    until_waiting(aggregator)
    closing = read(store, keys.closing(1), Closing)
    assert closing.control == 2
    assert [(exclusion.site, exclusion.reason) for exclusion in closing.exclusions] == [(BERN, REJECTED)]


def test_a_site_that_leaves_is_not_waited_for(tmp_path: Path) -> None:
    store, aggregator = after_round_0(tmp_path)
    deliver_round_but(store, CHUR)
    until_waiting(aggregator)
    write_control(store, control_of({BASEL: ("liver",), BERN: ("spleen",)}, number=2, rounds=ROUNDS))
    until_waiting(aggregator)
    assert read(store, keys.round_record(1), Round).participants == (BASEL, BERN)


def test_a_site_joins_with_a_new_organ(tmp_path: Path) -> None:
    store, aggregator = after_round_0(tmp_path)
    four = control_of({**ORGANS, "davos": ("kidneys", "liver")}, number=2, rounds=ROUNDS)
    deliver_round_but(store, CHUR)
    write_control(store, four)
    deliver(store, CHUR, 1, shared_part(model_of(CONTROL, seed=3), CHUR, CONTROL))
    until_waiting(aggregator)
    assert read(store, keys.round_record(1), Round).participants == (BASEL, BERN, CHUR)
    deliver_round(store, four, 2)
    until_waiting(aggregator)
    record = read(store, keys.round_record(2), Round)
    assert record.participants == (BASEL, BERN, CHUR, "davos")
    # Liver has two owners now, so its head is shared; kidneys' one owner keeps that head.
    merged = open_tensors(store.root / keys.global_blob(record.blob)).infos
    assert merged.keys() == {"body.conv", "body.norm", "heads.liver.conv", "heads.liver.norm"}


def test_another_schema_in_round_0_refuses_the_site(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = started(tmp_path / "store")
    aggregator = Aggregator(store, tmp_path / "scratch")
    deliver(store, BERN, 0, model_of(CONTROL, elements=5), initial_metadata(CONTROL))
    deliver(store, CHUR, 0, model_of(CONTROL, seed=1), initial_metadata(CONTROL))
    until_waiting(aggregator)
    assert store.list("global/rejections/") == []  # basel, the first, says what a model is
    deliver(store, BASEL, 0, model_of(CONTROL), initial_metadata(CONTROL))
    until_waiting(aggregator)
    rejection = read(store, keys.rejection(BERN, 0, 1), Rejection)
    assert rejection.reason == reasons.SCHEMA_DIFFERS
    assert "'body.conv' is F32 [5]" in rejection.message
    assert caplog.text.count("chur starts from other values than basel") == 1
    deliver(store, BERN, 0, model_of(CONTROL), initial_metadata(CONTROL), attempt=2)
    until_waiting(aggregator)
    assert read(store, keys.round_record(0), Round).participants == (BASEL, BERN, CHUR)


def test_a_site_that_brings_an_organ_during_round_0_is_no_other_schema(tmp_path: Path) -> None:
    store = started(tmp_path / "store")
    deliver_round_0_but(store, CHUR)
    four = control_of({**ORGANS, "davos": ("kidneys",)}, number=2, rounds=ROUNDS)
    write_control(store, four)
    for site in (CHUR, "davos"):
        deliver(store, site, 0, model_of(four), initial_metadata(four), control=2)
    until_waiting(Aggregator(store, tmp_path / "scratch"))
    assert store.list("global/rejections/") == []
    assert len(read(store, keys.round_record(0), Round).participants) == 4


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


def test_the_end_waits_for_scores_until_the_deadline(tmp_path: Path) -> None:
    control = control_of(rounds=1, round_timeout="1h")
    store, _ = after_round_0(tmp_path, control)
    shifted = Shifted(store)
    aggregator = Aggregator(shifted, tmp_path / "scratch")
    deliver_round(store, control, 1)
    until_waiting(aggregator)
    progress = read(store, keys.AGGREGATOR_PROGRESS, Progress)
    assert progress.phase is Phase.SCORING
    assert "waiting for basel, bern, chur" in progress.message
    shifted.later = timedelta(hours=2)
    assert aggregator.step() is Step.MOVED
    assert aggregator.step() is Step.DONE
    assert read(store, keys.FINAL, Final) == Final(1, 1, {})


def test_scratch_keeps_one_model_between_rounds_and_nobody_elses_files(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (scratch / "thesis.txt").write_text("mine")
    store, aggregator = after_round_0(tmp_path)
    deliver_round(store, CONTROL, 1)
    until_waiting(aggregator)
    assert {path.name for path in scratch.iterdir()} == {
        "thesis.txt",
        read(store, keys.round_record(1), Round).blob,
    }


def deliver_round_but(store: Store, absent: str) -> None:
    for position, site in enumerate(CONTROL.active):
        if site != absent:
            deliver(store, site, 1, shared_part(model_of(CONTROL, seed=100 + position), site, CONTROL))


def deliver_round_0_but(store: Store, absent: str) -> None:
    for site in CONTROL.active:
        if site != absent:
            deliver(store, site, 0, model_of(CONTROL), initial_metadata(CONTROL))
