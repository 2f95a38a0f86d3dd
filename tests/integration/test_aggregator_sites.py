"""What the aggregator makes of sites: their mistakes, and their coming and going."""

import os
from datetime import timedelta
from pathlib import Path

import numpy as np

from builders.disturbances import Shifted
from builders.rounds import (
    CONTROL,
    ROUNDS,
    TIMED,
    after_round_0,
    deliver_round_0_but,
    deliver_round_but,
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
    score,
    scores_of,
    shared_part,
    write_control,
)
from segviz_aggregator import reasons
from segviz_aggregator.loop import Aggregator, Step
from segviz_exchange.contract import keys
from segviz_exchange.contract.closing import QUORUM_LOST, REJECTED
from segviz_exchange.contract.codec import open_tensors
from segviz_exchange.contract.ledger import commit, find, read
from segviz_exchange.contract.progress import Phase, Progress
from segviz_exchange.contract.records import Closing, Failure, Final, Rejection, Round


def test_suspension_stops_the_clock(tmp_path: Path) -> None:
    store, _ = after_round_0(tmp_path, TIMED)
    for site in (BASEL, BERN):
        deliver(store, site, 1, shared_part(model_of(TIMED, seed=1), site, TIMED))
    changes = {"rounds": ROUNDS, "min_sites": 2, "round_timeout_seconds": 3600}
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


def test_another_schema_in_round_0_refuses_the_site(tmp_path: Path) -> None:
    store = started(tmp_path / "store")
    aggregator = Aggregator(store, tmp_path / "scratch")
    deliver(store, BERN, 0, model_of(CONTROL, elements=5), initial_metadata(CONTROL))
    deliver(store, CHUR, 0, model_of(CONTROL), initial_metadata(CONTROL))
    until_waiting(aggregator)
    assert store.list("global/rejections/") == []  # most of them say what a model is
    deliver(store, BASEL, 0, model_of(CONTROL), initial_metadata(CONTROL))
    until_waiting(aggregator)
    rejection = read(store, keys.rejection(BERN, 0, 1), Rejection)
    assert rejection.reason == reasons.SCHEMA_DIFFERS
    assert "'body.conv' is F32 [5]" in rejection.message
    assert "in the model of basel, chur" in rejection.message
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


def test_in_round_0_too_a_quorum_closes_at_the_deadline(tmp_path: Path) -> None:
    store = started(tmp_path / "store", TIMED)
    shifted = Shifted(store)
    aggregator = Aggregator(shifted, tmp_path / "scratch")
    deliver_round_0_but(store, BASEL)
    until_waiting(aggregator)
    assert "waiting for basel; until" in read(store, keys.AGGREGATOR_PROGRESS, Progress).message
    shifted.later = timedelta(hours=2)
    until_waiting(aggregator)
    assert read(store, keys.round_record(0), Round).participants == (BERN, CHUR)


def test_where_the_first_site_stays_away_the_next_one_s_schema_counts(tmp_path: Path) -> None:
    store = started(tmp_path / "store", TIMED)
    shifted = Shifted(store)
    aggregator = Aggregator(shifted, tmp_path / "scratch")
    deliver(store, BERN, 0, model_of(TIMED), initial_metadata(TIMED))
    deliver(store, CHUR, 0, model_of(TIMED, elements=5), initial_metadata(TIMED))
    until_waiting(aggregator)
    assert store.list("global/rejections/") == []  # basel may still come
    shifted.later = timedelta(hours=2)
    until_waiting(aggregator)
    assert read(store, keys.rejection(CHUR, 0, 1), Rejection).reason == reasons.SCHEMA_DIFFERS
    assert find(store, keys.closing(0), Closing) is None
    deliver(store, CHUR, 0, model_of(TIMED), initial_metadata(TIMED), attempt=2)
    until_waiting(aggregator)
    assert read(store, keys.round_record(0), Round).participants == (BERN, CHUR)


def test_a_night_without_anybody_ends_nothing(tmp_path: Path) -> None:
    store, _ = after_round_0(tmp_path, TIMED)
    shifted = Shifted(store)
    shifted.later = timedelta(hours=12)
    aggregator = Aggregator(shifted, tmp_path / "scratch")
    until_waiting(aggregator)
    progress = read(store, keys.AGGREGATOR_PROGRESS, Progress)
    assert progress.phase is Phase.WAITING
    assert "past the deadline" in progress.message
    deliver_round_but(store, CHUR)
    until_waiting(aggregator)
    assert read(store, keys.round_record(1), Round).participants == (BASEL, BERN)


def test_foreign_files_among_the_records_are_nobody_s_update(tmp_path: Path) -> None:
    store, aggregator = after_round_0(tmp_path)
    for key in (
        "control/notes.json",
        "global/rounds/.0000.json.swp",
        f"{keys.updates(BERN, 1)}notes.json",
        f"{keys.leases(BERN)}abc.json",
        f"{keys.rejections(BERN, 1)}1.json~",
    ):
        store.create(key, b"{}")
    deliver_round(store, CONTROL, 1)
    until_waiting(aggregator)
    assert read(store, keys.round_record(1), Round).participants == (BASEL, BERN, CHUR)


def test_an_update_s_record_of_50_gb_costs_its_site_an_attempt(tmp_path: Path) -> None:
    store, aggregator = after_round_0(tmp_path)
    store.create(keys.update(BERN, 1, 1), b"")
    os.truncate(store.root / keys.update(BERN, 1, 1), 50 << 30)  # sparse: it takes no room
    until_waiting(aggregator)
    assert read(store, keys.rejection(BERN, 1, 1), Rejection).reason == reasons.INVALID_RECORD


def test_scores_out_of_bounds_are_not_counted(tmp_path: Path) -> None:
    control = control_of(rounds=1)
    store, aggregator = after_round_0(tmp_path, control)
    deliver_round(store, control, 1)
    until_waiting(aggregator)
    huge = b'{"site": "basel", "round": 1, "dice": {"liver": {"mean": 1e308, "sd": 0, "cases": 3}}}'
    store.create(keys.scores(BASEL, 1), huge)
    for site in (BERN, CHUR):
        commit(store, keys.scores(site, 1), scores_of(control, site, 1, dice=0.5))
    until_waiting(aggregator)
    assert read(store, keys.FINAL, Final).validation == {"pancreas": 0.5, "spleen": 0.5}


def test_the_end_waits_for_a_quorum_s_scores_and_until_the_deadline_for_the_others(tmp_path: Path) -> None:
    control = control_of(rounds=1, min_sites=1, round_timeout_seconds=3600)
    store, _ = after_round_0(tmp_path, control)
    shifted = Shifted(store)
    aggregator = Aggregator(shifted, tmp_path / "scratch")
    deliver_round(store, control, 1)
    until_waiting(aggregator)
    progress = read(store, keys.AGGREGATOR_PROGRESS, Progress)
    assert progress.phase is Phase.SCORING
    assert "waiting for basel, bern, chur" in progress.message
    shifted.later = timedelta(hours=2)
    assert aggregator.step() is Step.WAITING
    commit(store, keys.scores(BERN, 1), scores_of(control, BERN, 1, dice=0.5))
    assert aggregator.step() is Step.MOVED
    assert aggregator.step() is Step.DONE
    assert read(store, keys.FINAL, Final) == Final(1, 1, {"spleen": 0.5})


def test_the_end_does_not_wait_for_a_site_that_came_too_late(tmp_path: Path) -> None:
    control = control_of(rounds=1)
    store, aggregator = after_round_0(tmp_path, control)
    deliver_round(store, control, 1)
    until_waiting(aggregator)
    write_control(store, control_of({**ORGANS, "davos": ("kidneys",)}, number=2, rounds=1))
    score(store, control, 1, dice=0.5)
    until_waiting(aggregator)
    assert read(store, keys.FINAL, Final) == Final(1, 1, dict.fromkeys(["liver", "pancreas", "spleen"], 0.5))
