"""How a federation stands, read from its records."""

import io
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from rich.console import Console

from builders.federations import build_control, build_outcome
from builders.snapshots import NOON, snapshot
from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import encode
from segviz_exchange.contract.progress import Phase, Progress
from segviz_exchange.contract.records import Dice, Final, RoundScores
from segviz_exchange.stores.folder import FolderStore
from segviz_operator.plan.workload import Workload, WorkloadRole, WorkloadState
from segviz_operator.progress.durations import duration
from segviz_operator.progress.facts import FederationRecords
from segviz_operator.progress.observe import Observer
from segviz_operator.progress.status import FederationStatus, SiteStatus, build_status
from segviz_operator.terminal.screen import render_status

HALF_WAY = Progress(lease=1, phase=Phase.TRAINING, round=2, epoch=1, step=0, steps=4, loss=0.25)
"""Of round 2: one of two epochs is done."""


def scored(site: str, round_: int, **dice: float) -> RoundScores:
    return RoundScores(site, round_, {organ: Dice(value, 0.0, 3) for organ, value in dice.items()})


def running() -> FederationRecords:
    """Of three rounds, round 1 took 60 s and was committed 20 s ago; basel trains, bern is silent."""
    return snapshot(
        build_control(),
        rounds={0: 80, 1: 20},
        scores=(
            scored("basel", 0, liver=0.1),
            scored("bern", 0, spleen=0.3),
            scored("basel", 1, liver=0.7),
        ),
        progress={"basel": HALF_WAY},
    )


def site_of(status: FederationStatus, alias: str) -> SiteStatus:
    return next(site for site in status.sites if site.alias == alias)


def test_a_site_that_trains() -> None:
    basel = site_of(build_status("abdomen", running()), "basel")
    assert (basel.phase, basel.round, basel.epoch, basel.epochs) == ("Training", 2, 2, 2)
    assert (basel.share, basel.loss, basel.dice) == (0.5, 0.25, {"liver": 0.7})
    assert basel.heartbeat_age_seconds == 2.0
    assert basel.eta_seconds == 20.0, "half of the round took the 20 s since it opened"


def test_a_site_that_has_said_nothing_yet_is_starting() -> None:
    assert site_of(build_status("abdomen", running()), "bern").phase == "Starting"


def test_the_whole_federation() -> None:
    status = build_status("abdomen", running())
    assert (status.phase, status.round, status.rounds) == ("Training", 1, 3)
    assert status.newest_mean_dice == pytest.approx(0.2), "round 1 is not scored by bern yet"
    assert status.eta_seconds == 40.0 + 60.0, "the rest of round 2, and round 3"
    assert status.share == pytest.approx((1 + 0.25) / 3), "basel is half-way, bern at the start"


def test_an_overdue_round_does_not_count_backwards() -> None:
    late = replace(running(), now=NOON + timedelta(seconds=1000))
    assert build_status("abdomen", late).eta_seconds == 60.0


def test_in_the_first_round_the_slowest_site_says_how_long_one_takes() -> None:
    progress = {"basel": Progress(lease=1, phase=Phase.TRAINING, round=1, epoch=1, step=0, steps=4)}
    status = build_status("abdomen", snapshot(build_control(), rounds={0: 20}, progress=progress))
    assert status.eta_seconds == 20.0 + 2 * 40.0


def test_a_site_that_is_left_out_says_why() -> None:
    records = snapshot(build_control(excluded={"bern": "refused: half a file"}), rounds={0: 1})
    bern = site_of(build_status("abdomen", records), "bern")
    assert (bern.phase, bern.message) == ("LeftOut", "refused: half a file")


def test_a_site_with_an_outcome_is_done_whatever_it_said_last() -> None:
    records = snapshot(
        build_control(),
        outcomes=[build_outcome("basel", base_liver=Dice(1, 0, 1))],
        progress={"basel": HALF_WAY},
    )
    assert site_of(build_status("abdomen", records), "basel").phase == "Done"


def test_an_attempt_that_ended_is_restarting_and_a_new_one_is_starting() -> None:
    ended = Workload(
        WorkloadRole.TRAINER, "basel", 1, state=WorkloadState.FAILED, exit_code=1, message="out of memory"
    )
    basel = site_of(build_status("abdomen", running(), (ended,)), "basel")
    assert (basel.phase, basel.message, basel.round) == ("Restarting", "out of memory", None)
    fresh = Workload(WorkloadRole.TRAINER, "basel", 2, started_at=NOON)
    assert site_of(build_status("abdomen", running(), (fresh,)), "basel").phase == "Starting"


def test_a_site_that_its_owner_suspended_says_so_and_the_others_say_whom_they_await() -> None:
    status = build_status("abdomen", running(), paused=frozenset({"bern"}))
    bern = site_of(status, "bern")
    assert (bern.phase, bern.message) == ("Suspended", "suspended by its owner")
    assert status.reason == (
        "round 2 of 3; waiting since 2026-11-23 11:59 UTC for bern (suspended by its owner)"
    )


def test_a_site_that_has_delivered_is_awaited_by_nobody() -> None:
    records = running()
    delivered = replace(records.sites["basel"], newest_update=2)
    status = build_status(
        "abdomen", replace(records, sites={"basel": delivered}), paused=frozenset({"basel"})
    )
    assert status.reason == "round 2 of 3"


def test_a_site_that_owes_its_test_of_the_final_model_is_awaited() -> None:
    records = replace(running(), final=Final(1, 1, {}), now=NOON + timedelta(minutes=6))
    assert "for basel (no heartbeat since" in build_status("abdomen", records).reason


def test_a_site_without_heartbeats_is_silent() -> None:
    late = replace(running(), now=NOON + timedelta(minutes=6))
    status = build_status("abdomen", late)
    basel = site_of(status, "basel")
    assert (basel.phase, basel.message) == ("Silent", "no heartbeat since 2026-11-23 11:59 UTC")
    assert "for basel (no heartbeat since 2026-11-23 11:59 UTC)" in status.reason


def test_a_site_whose_pod_runs_and_that_is_never_heard_of_is_silent() -> None:
    """As where a NetworkPolicy keeps the store from it: its process waits for a quarter of an hour."""
    mute = Workload(WorkloadRole.TRAINER, "basel", 2, started_at=NOON, settled=True)
    status = build_status("abdomen", running(), (mute,))
    basel = site_of(status, "basel")
    assert basel.phase == "Silent"
    assert "no heartbeat has come, though its Pod runs" in basel.message
    assert "NetworkPolicies" in basel.message
    assert "for basel (no heartbeat" in status.reason
    heard = replace(mute, started_at=NOON - timedelta(minutes=10))
    assert site_of(build_status("abdomen", running(), (heard,)), "basel").phase != "Silent"


def test_the_picture_says_who_is_awaited() -> None:
    console = Console(width=80, file=io.StringIO(), highlight=False)
    console.print(render_status(build_status("abdomen", running(), paused=frozenset({"bern"}))))
    text = console.file.getvalue()
    assert "bern: suspended by its owner" in text
    assert "training: round 2 of 3; waiting since 2026-11-23 11:59 UTC for bern" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    "key",
    [
        "sites/basel/scores/foo.json",
        "sites/basel/updates/old/1.json",
        "control/0001.json~.json",
        "global/rounds/0001 (copy).json",
        "global/rejections/basel/0001/copy.json",
    ],
)
def test_what_somebody_left_among_the_records_is_passed_over(tmp_path: Path, key: str) -> None:
    store = FolderStore(tmp_path)
    store.put(keys.control(1), encode(build_control()))
    store.put(key, b"{}")
    records = Observer(store).read()
    assert (records.control, records.rounds, records.invalid) == (build_control(), {}, ())
    assert all(site.newest_update is None and not site.rejections for site in records.sites.values())


def test_what_a_site_writes_that_is_no_record_blinds_nobody(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put(keys.control(1), encode(build_control()))
    store.put(keys.outcome("bern"), b"{}")
    store.put(keys.progress("basel"), b"not json")
    records = Observer(store).read()
    assert records.sites["bern"].outcome is None
    assert any("sites/bern/outcome.json" in each for each in records.invalid)


def test_records_are_read_once_and_heartbeats_every_time(tmp_path: Path) -> None:
    reads: list[str] = []

    class Counting(FolderStore):
        def get(self, key: str) -> bytes:
            reads.append(key)
            return super().get(key)

    store = Counting(tmp_path)
    store.put(keys.control(1), encode(build_control()))
    store.put(keys.progress("basel"), encode(HALF_WAY))
    observer = Observer(store)
    observer.read()
    observer.read()
    assert sorted(reads) == [keys.control(1), keys.progress("basel"), keys.progress("basel")]


@pytest.mark.parametrize("sites", [("basel", "bern"), ("basel", "bern", "geneva")])
def test_the_picture_fits_eighty_columns_with_a_line_for_each_site(sites: tuple[str, ...]) -> None:
    records = snapshot(
        build_control(1, sites, rounds=50), rounds={0: 80, 1: 20}, progress={"basel": HALF_WAY}
    )
    console = Console(width=80, file=io.StringIO(), highlight=False)
    console.print(render_status(build_status("a-federation-with-a-long-name", records)))
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert [sum(line.startswith(site) for line in lines) for site in sites] == [1] * len(sites)
    assert any("2/50" in line and "2/2" in line and "0.250" in line for line in lines)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0, "0s"),
        (59.4, "59s"),
        (60, "1m00s"),
        (3599, "59m59s"),
        (3600, "1h00m"),
        (90_000, "1d01h"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
