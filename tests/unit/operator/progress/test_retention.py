"""Which blobs may go, and when."""

from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from builders.disturbances import Around
from builders.snapshots import NOON, snapshot
from builders.synthetic import BASEL, BERN, control_of
from segviz_exchange.contract import keys
from segviz_exchange.contract.choices import Selection
from segviz_exchange.contract.records import Control, Dice, Final, RoundScores
from segviz_exchange.stores.folder import FolderStore
from segviz_exchange.stores.store import Endless, Entry
from segviz_operator.progress.facts import FederationRecords
from segviz_operator.progress.retention import Sweeper, blobs_in, delete, expendable, purge, sweep

TWO = {BASEL: ("liver",), BERN: ("spleen",)}
CONTROL = control_of(TWO, rounds=5)
LAST = control_of(TWO, rounds=5, selection=Selection.LAST)
PATIENT = control_of(TWO, rounds=5, min_sites=1, round_timeout_seconds=60)
HURRIED = control_of(TWO, rounds=5, min_sites=1, round_timeout_seconds=100)
UNHURRIED = control_of(TWO, rounds=5, min_sites=1, round_timeout_seconds=120)
COMMITTED = {0: 500, 1: 400, 2: 300, 3: 200, 4: 100}
"""Seconds before noon."""


def digest(round_: int) -> str:
    return f"{round_:064x}"


def model(round_: int) -> str:
    return keys.global_blob(digest(round_))


def scored(site: str, round_: int, organ: str, dice: float) -> RoundScores:
    return RoundScores(site, round_, {organ: Dice(dice, 0.0, 3)})


def records_of(
    control: Control, *, best: int | None = None, final: int | None = None, rounds: int = 5
) -> FederationRecords:
    committed = {number: seconds for number, seconds in COMMITTED.items() if number < rounds}
    scores = [
        scored(site, number, organ, 0.9 if number == best else 0.5)
        for number in committed
        for site, organ in ((BASEL, "liver"), (BERN, "spleen"))
        if best is not None
    ]
    record = None if final is None else Final(final, 1, {})
    found = snapshot(control, rounds=committed, scores=tuple(scores), final=record)
    named = {n: msgspec.structs.replace(each, blob=digest(n)) for n, each in found.rounds.items()}
    return replace(found, rounds=named)


def entry(key: str, seconds_ago: float) -> Entry:
    return Entry(key, 1, NOON - timedelta(seconds=seconds_ago))


MODELS = [entry(model(number), seconds) for number, seconds in COMMITTED.items()]


@dataclass(frozen=True)
class Case:
    records: FederationRecords
    kept: set[int]
    keep: int | None = 2


CASES = {
    "the first and the last two stay": Case(records_of(LAST), {0, 3, 4}),
    "and the best so far": Case(records_of(CONTROL, best=1), {0, 1, 3, 4}),
    "which may be one of them": Case(records_of(CONTROL, best=4), {0, 3, 4}),
    "where the last is chosen the best does not matter": Case(records_of(LAST, best=1), {0, 3, 4}),
    "nothing goes where all are kept": Case(records_of(LAST), {0, 1, 2, 3, 4}, keep=None),
    "one round": Case(records_of(LAST), {0, 4}, keep=1),
    "the final one stays, and not the best any more": Case(
        records_of(CONTROL, best=1, final=2), {0, 2, 3, 4}
    ),
    "a young federation keeps all": Case(records_of(LAST, rounds=2), {0, 1, 2, 3, 4}),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_models(case: Case) -> None:
    gone = set(expendable(case.records, blobs_in(MODELS), case.keep))
    assert {number for number in COMMITTED if model(number) not in gone} == case.kept


def test_a_model_of_two_rounds_stays_with_either() -> None:
    records = records_of(LAST)
    same = {**records.rounds, 1: msgspec.structs.replace(records.rounds[1], blob=digest(4))}
    listed = blobs_in([each for each in MODELS if each.key != model(1)])
    assert expendable(replace(records, rounds=same), listed, 2) == (model(2),)


def with_state(records: FederationRecords) -> FederationRecords:
    """Each round also names the state of a server optimiser."""
    named = {n: msgspec.structs.replace(each, state=digest(100 + n)) for n, each in records.rounds.items()}
    return replace(records, rounds=named)


def test_the_state_of_the_server_optimiser_goes_with_its_round() -> None:
    states = [entry(model(100 + number), seconds) for number, seconds in COMMITTED.items()]
    gone = expendable(with_state(records_of(LAST)), blobs_in([*MODELS, *states]), 2)
    assert gone == (model(1), model(2), model(101), model(102))


def test_a_model_that_nobody_names_goes_once_it_can_be_named_no_more() -> None:
    """An aggregator was killed after its upload, and the one after it merged others."""
    left, coming = entry(model(77), COMMITTED[4] + 1), entry(model(78), COMMITTED[4] - 1)
    assert expendable(records_of(LAST), blobs_in([left, coming]), 2) == (model(77),)
    assert expendable(records_of(LAST, final=4), blobs_in([left, coming]), 2) == (model(77), model(78))


def test_a_model_uploaded_in_the_moment_of_a_commit_may_still_be_named() -> None:
    assert expendable(records_of(LAST), blobs_in([entry(model(77), COMMITTED[4])]), 2) == ()


def test_round_0_does_not_take_the_best_ones_place() -> None:
    records = records_of(CONTROL, best=1)
    start = {
        alias: replace(site, scores={**site.scores, 0: msgspec.structs.replace(site.scores[1], round=0)})
        for alias, site in records.sites.items()
    }
    assert model(1) not in expendable(replace(records, sites=start), blobs_in(MODELS), 2)


def test_a_blob_that_may_be_about_to_be_named_stays() -> None:
    stranger = entry(keys.global_blob("f" * 64), 99)
    assert stranger.key not in expendable(records_of(LAST), blobs_in([*MODELS, stranger]), 2)


def update(seconds_ago: float, site: str = BASEL) -> Entry:
    return entry(keys.site_blob(site, f"{int(seconds_ago):064x}"), seconds_ago)


UPDATES = {
    "of a round that is committed, as the next is": (CONTROL, 5, None, 201, True),
    "of the newest round": (CONTROL, 5, None, 150, False),
    "of the round that is open": (CONTROL, 5, None, 50, False),
    "of the second of a commit": (CONTROL, 5, None, 200, False),
    "one more roundTimeoutSeconds has not passed": (PATIENT, 5, None, 201, True),
    "the timeout, two rounds on": (UNHURRIED, 5, None, 201, False),
    "of the last round, when training is over": (CONTROL, 5, 4, 150, True),
    "as soon as one more roundTimeoutSeconds has passed": (HURRIED, 5, None, 201, True),
    "of the last round, as soon as that has passed": (HURRIED, 5, 4, 150, True),
    "of the last round, before that": (UNHURRIED, 5, 4, 150, False),
    "before any round but the first": (CONTROL, 1, None, 501, False),
}


@pytest.mark.parametrize(("control", "rounds", "final", "age", "goes"), UPDATES.values(), ids=UPDATES)
def test_updates(control: Control, rounds: int, final: int | None, age: float, goes: bool) -> None:
    blob = update(age)
    records = records_of(control, rounds=rounds, final=final)
    assert (blob.key in expendable(records, blobs_in([blob]), 2)) is goes


def test_without_a_timeout_updates_go_with_the_next_rounds_commit() -> None:
    blob = update(201)
    records = replace(records_of(CONTROL), now=NOON - timedelta(seconds=100))
    assert expendable(records, blobs_in([blob]), 2) == (blob.key,)


def test_it_is_all_the_same_in_which_order_the_records_come() -> None:
    records, listed = records_of(LAST), [*MODELS, update(201), update(150)]
    shuffled = replace(
        records,
        rounds=dict(reversed(records.rounds.items())),
        committed=dict(reversed(records.committed.items())),
    )
    assert expendable(shuffled, blobs_in(listed), 2) == expendable(records, blobs_in(listed), 2)


def test_records_and_releases_stay() -> None:
    others = [
        entry(key, 10_000)
        for key in (
            keys.update(BASEL, 1, 1),
            keys.release_blob(BASEL, "a" * 64),
            keys.exported_blob("b" * 64),
            keys.closing(1),
            "sites/stray",
        )
    ]
    assert expendable(records_of(CONTROL, final=4), blobs_in(others), 1) == ()


def test_a_federation_without_a_round_keeps_all() -> None:
    assert expendable(snapshot(CONTROL), blobs_in([update(900)]), 1) == ()


def test_what_may_go_is_sorted_whatever_the_order_of_the_listing() -> None:
    listed = [update(201, BERN), update(301, BASEL), *reversed(MODELS)]
    gone = expendable(records_of(CONTROL), blobs_in(listed), 2)
    assert (list(gone), len(gone)) == (sorted(gone), 4)


def test_one_sweep_deletes_a_hundred_at_most(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    listed = [entry(keys.site_blob(BASEL, f"{number:064x}"), 400) for number in range(101)]
    for each in listed:
        store.put(each.key, b"x")
    assert len(sweep(store, records_of(CONTROL), listed, 2)) == 100


def test_what_a_sweep_leaves_goes_in_the_next_turn(tmp_path: Path) -> None:
    store, records = FolderStore(tmp_path), records_of(CONTROL)
    listed = [entry(keys.site_blob(BASEL, f"{number:064x}"), 400) for number in range(101)]
    for each in listed:
        store.put(each.key, b"x")
    sweeper = Sweeper(store)
    assert sweeper.sweep(records, listed, 2) == 100
    assert sweeper.sweep(records, listed[100:], 2) == 1


def test_deletes_are_bounded_and_go_on(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    for number in range(5):
        store.put(f"global/{number}", b"x")
    assert delete(store, ["global/0", "global/1", "global/2"], limit=2) == 2
    assert len(store.list("")) == 3
    assert purge(store, limit=2) == 1
    assert purge(store, limit=2) == 0
    assert store.list("") == []


def test_a_bucket_that_lists_without_end_is_emptied_as_far_as_it_was_listed(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    for number in range(3):
        store.put(model(number), b"x")

    class Overfull(Around):
        def list(self, prefix: str) -> list[Entry]:
            listed = super().list(prefix)
            raise Endless(prefix, "holds more than is looked at", listed[:2])

    assert purge(Overfull(store), limit=2) == 0
    assert [entry.key for entry in store.list("")] == [model(2)]


def test_a_sweep_is_made_now_and_then(tmp_path: Path) -> None:
    store, records = FolderStore(tmp_path), records_of(LAST)
    for number in COMMITTED:
        store.put(model(number), b"x")
    sweeper = Sweeper(store)
    assert sweeper.sweep(records, store.list(""), None) == 0
    assert sweeper.sweep(records, store.list(""), 2) == 2
    store.put(model(1), b"x")
    assert sweeper.sweep(replace(records, now=NOON + timedelta(seconds=59)), store.list(""), 2) == 0
    assert sweeper.sweep(replace(records, now=NOON + timedelta(seconds=60)), store.list(""), 2) == 1
    assert {entry.key for entry in store.list("")} == {model(0), model(3), model(4)}
