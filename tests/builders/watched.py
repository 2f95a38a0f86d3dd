"""A federation in its second round, as the metrics and the page are given it."""

from dataclasses import replace
from datetime import timedelta

from builders.federations import build_control
from builders.snapshots import NOON, snapshot
from builders.synthetic import update_of
from segviz_exchange.contract.progress import Phase, Progress
from segviz_exchange.contract.records import Closing, Dice, Participant, RoundScores
from segviz_operator.plan.workload import Workload
from segviz_operator.progress.facts import Delivery, FederationRecords
from segviz_operator.progress.status import build_status
from segviz_operator.watch.samples import Watched

AT_WORK = Progress(
    lease=1, phase=Phase.TRAINING, round=2, epoch=1, step=0, steps=4, loss=0.25, samples_per_second=8.0
)
DIGEST = "0" * 64


def scored(site: str, round_: int, **dice: float) -> RoundScores:
    return RoundScores(site, round_, {organ: Dice(value, 0.0, 3) for organ, value in dice.items()})


def running(**changes: object) -> FederationRecords:
    """Round 1 took 60 s: basel trained 40 of them, was there after 50, and it closed 8 s later."""
    scores = (
        *(scored(site, 0, **dice) for site, dice in (("basel", {"liver": 0.1}), ("bern", {"spleen": 0.3}))),
        *(scored(site, 1, **dice) for site, dice in (("basel", {"liver": 0.7}), ("bern", {"spleen": 0.5}))),
    )
    control = build_control(**changes)
    records = snapshot(control, rounds={0: 80, 1: 20}, scores=scores, progress={"basel": AT_WORK})
    update = update_of("basel", 1, seconds=40.0, upload_seconds=2.0, size_bytes=5, loss=0.5)
    basel = replace(
        records.sites["basel"],
        newest_update=1,
        deliveries={1: Delivery(update, NOON - timedelta(seconds=30))},
    )
    return replace(
        records,
        sites={**records.sites, "basel": basel},
        closings={1: Closing(1, 1, (Participant("basel", 1, DIGEST, 1),), ())},
        closed={1: NOON - timedelta(seconds=22)},
    )


def watched(records: FederationRecords, workloads: tuple[Workload, ...] = ()) -> Watched:
    status = build_status("abdomen", records, workloads)
    return Watched("radiology", "abdomen", status, records, NOON, workloads, {"basel": NOON})
