"""How far a federation has come, and how long the rest takes."""

from dataclasses import replace
from datetime import timedelta

import pytest

from builders.federations import build_control, build_outcome
from builders.snapshots import NOON, snapshot
from builders.watched import scored
from segviz_exchange.contract.records import ExternalScores, Final
from segviz_operator.progress import pace
from segviz_operator.progress.facts import FederationRecords, SiteFacts

FINAL = Final(3, 1, {})


def open_for(seconds: float, *earlier: float) -> FederationRecords:
    """The newest round was committed so long ago; the earlier ones took so long."""
    times = [sum(earlier[number:]) + seconds for number in range(len(earlier) + 1)]
    return snapshot(build_control(rounds=9), rounds=dict(enumerate(times)))


def at(round_: int | None, **facts: object) -> FederationRecords:
    """The newest committed round of 3, and what is known of basel."""
    rounds = {} if round_ is None else {number: 100.0 - number for number in range(round_ + 1)}
    records = snapshot(build_control(), rounds=rounds)
    known = SiteFacts(None, {}, None, None, None, ())
    return replace(records, sites={"basel": replace(known, **facts)})


def over(records: FederationRecords) -> FederationRecords:
    return replace(records, final=FINAL)


OWES_NOTHING = {
    "before round 0 it owes its start model": (at(None), False),
    "with that it owes nothing": (at(None, newest_update=0), True),
    "in an open round it owes an update": (at(1, newest_update=1), False),
    "with that it owes nothing in that round": (at(1, newest_update=2), True),
    "after the last round it owes its score": (at(3, newest_update=3), False),
    "a score of an earlier round is not that": (at(3, scores={2: scored("basel", 2, liver=0.5)}), False),
    "with the last round's it owes nothing": (at(3, scores={3: scored("basel", 3, liver=0.5)}), True),
    "before the last round no score takes the update's place": (
        at(2, scores={2: scored("basel", 2, liver=0.5)}),
        False,
    ),
    "with the final model it owes its test": (over(at(3, newest_update=4)), False),
    "with that it owes nothing any more": (over(at(3, outcome=build_outcome("basel"))), True),
    "nor does an external set that is scored": (over(at(3, external=ExternalScores("basel", {}))), True),
    "an outcome of an earlier try is no update": (at(1, outcome=build_outcome("basel")), False),
}


@pytest.mark.parametrize(("records", "expected"), OWES_NOTHING.values(), ids=OWES_NOTHING)
def test_what_a_site_owes(records: FederationRecords, expected: bool) -> None:
    assert pace.owes_nothing(records, "basel") is expected


@pytest.mark.parametrize("records", [at(1), over(at(3))])
def test_a_site_that_has_written_nothing_owes_something(records: FederationRecords) -> None:
    assert pace.owes_nothing(records, "bern") is False


def test_the_open_round_follows_the_newest_one() -> None:
    assert [pace.open_round(at(newest)) for newest in (None, 0, 2)] == [0, 1, 3]


SHARES = {
    "nothing before round 0": (at(None), 0.5, 0.0),
    "round 0 alone is nothing": (at(0), 0.0, 0.0),
    "half of the first round": (at(0), 0.5, 0.5 / 3),
    "all with the last round": (at(3), 0.0, 1.0),
    "and never more": (at(3), 0.5, 1.0),
    "all with the final model, whenever it was chosen": (over(at(1)), 0.0, 1.0),
}


@pytest.mark.parametrize(("records", "within", "share"), SHARES.values(), ids=SHARES)
def test_the_share_that_is_done(records: FederationRecords, within: float, share: float) -> None:
    assert pace.share_done(records, 3, within) == pytest.approx(share)


def test_of_no_rounds_nothing_is_done() -> None:
    assert pace.share_done(at(0), 0, 1.0) == 0.0


RESTS = {
    "a quarter took ten seconds": (0.25, 30.0),
    "all is done": (1.0, 0.0),
    "a twentieth is enough to tell": (0.05, 190.0),
    "less is not": (0.049, None),
    "nothing is known": (None, None),
}


@pytest.mark.parametrize(("share", "seconds"), RESTS.values(), ids=RESTS)
def test_the_rest_of_a_sites_work(share: float | None, seconds: float | None) -> None:
    assert pace.rest_seconds(open_for(10.0), share) == (None if seconds is None else pytest.approx(seconds))


def test_before_round_0_no_rest_is_known() -> None:
    assert pace.rest_seconds(at(None), 0.5) is None


def test_a_store_whose_clock_went_back_gives_no_negative_rest() -> None:
    records = replace(open_for(10.0), now=NOON - timedelta(minutes=1))
    assert pace.rest_seconds(records, 0.5) == 0.0


ETAS = {
    "the rest of the open round and the rounds after it": (open_for(20.0, 60.0), 40.0 + 7 * 60.0),
    "an overdue round ends any moment": (open_for(90.0, 60.0), 7 * 60.0),
    "the newest five rounds tell": (open_for(0.0, 900.0, 10.0, 20.0, 30.0, 40.0, 50.0), 3 * 30.0),
}


@pytest.mark.parametrize(("records", "seconds"), ETAS.values(), ids=ETAS)
def test_the_time_left(records: FederationRecords, seconds: float) -> None:
    assert pace.eta_seconds(records, 9, []) == pytest.approx(seconds)


def test_in_the_first_round_the_slowest_site_tells() -> None:
    assert pace.eta_seconds(open_for(10.0), 9, [5.0, 20.0]) == 20.0 + 8 * 30.0


NO_ETA = {
    "before round 0": at(None),
    "in the first round, while no site can tell": at(0),
    "after the last round": at(3),
    "with the final model": over(at(1)),
}


@pytest.mark.parametrize("records", NO_ETA.values(), ids=NO_ETA)
def test_no_time_is_left_or_known(records: FederationRecords) -> None:
    assert pace.eta_seconds(records, 3, []) is None


def test_a_rounds_length_is_from_commit_to_commit_and_round_0_has_none() -> None:
    assert pace.round_seconds(open_for(5.0, 60.0, 30.0)) == {1: 60.0, 2: 30.0}


def test_a_round_whose_predecessor_is_gone_has_no_length() -> None:
    records = open_for(5.0, 60.0, 30.0)
    committed = {number: moment for number, moment in records.committed.items() if number != 1}
    assert pace.round_seconds(replace(records, committed=committed)) == {}
