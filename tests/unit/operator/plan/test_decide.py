"""What a federation needs next. Each line of CASES is one sentence of the specification."""

from dataclasses import dataclass, replace

import pytest

from builders.federations import build_control
from builders.situations import (
    AGGREGATOR,
    BOTH,
    FINE_TUNING,
    KILLED,
    LOST_QUORUM,
    NOON,
    THREE,
    TWO_SUFFICE,
    ended,
    running,
    seen,
    wanted,
)
from segviz_exchange.contract.records import Failure
from segviz_exchange.process.exits import Exit
from segviz_operator.plan.decide import (
    MAX_FAILURES,
    Action,
    Backoff,
    CreateWorkload,
    DeleteWorkload,
    Desired,
    Observed,
    WriteControl,
    decide,
    describe_end,
    failure_of,
    missing_exports,
    next_control,
)
from segviz_operator.plan.workload import Workload, WorkloadRole


def create(role: str, site: str | None = None, attempt=1, failures=0, milestone=0) -> Action:
    return CreateWorkload(WorkloadRole(role), site, attempt, failures, milestone)


def delete(role: str, site: str | None = None, attempt: int = 1) -> Action:
    return DeleteWorkload(WorkloadRole(role), site, attempt)


BASEL, BERN = running("Trainer", "basel"), running("Trainer", "bern")
GENEVA = running("Trainer", "geneva")
START = [create("Aggregator"), create("Trainer", "basel"), create("Trainer", "bern")]
SIX_TIMES = "failed 6 times in a row without progress, last with exit code 1: boom"


BASEL_AND_BERN = wanted()


@dataclass(frozen=True)
class Case:
    observed: Observed
    expected: list[Action]
    desired: Desired = BASEL_AND_BERN


CASES = {
    "a new federation gets its control, then its workloads": Case(
        Observed(), [WriteControl(build_control(1)), *START]
    ),
    "a control without workloads gets them": Case(seen(), START),
    "a first attempt notes how far its role has come": Case(
        seen(milestones={"basel": 3}, newest_round=1),
        [
            create("Aggregator", milestone=2),
            create("Trainer", "basel", milestone=3),
            create("Trainer", "bern"),
        ],
    ),
    "while everything runs there is nothing to do": Case(seen(AGGREGATOR, BASEL, BERN), []),
    "members are written sorted, in whatever order the manifest has them": Case(
        Observed(), [WriteControl(build_control(1, ("bern", "basel"))), *START], wanted("bern", "basel")
    ),
    "a site that waits for others has given back its place": Case(
        seen(AGGREGATOR, BASEL, ended("Trainer", "bern", code=Exit.IDLE), rests=("bern",)), []
    ),
    "and starts again at once when there is work, without a failure": Case(
        seen(AGGREGATOR, BASEL, ended("Trainer", "bern", code=Exit.IDLE)),
        [create("Trainer", "bern", attempt=2)],
    ),
    # --- edits
    "an edited participation makes the next control, and nothing restarts": Case(
        seen(AGGREGATOR, BASEL, BERN),
        [WriteControl(build_control(2, participation=TWO_SUFFICE))],
        wanted(participation=TWO_SUFFICE),
    ),
    "a joiner is written down and created": Case(
        seen(AGGREGATOR, BASEL, BERN),
        [WriteControl(build_control(2, THREE)), create("Trainer", "geneva")],
        wanted(*THREE),
    ),
    "a joiner after the final model is too late": Case(
        seen(BASEL, BERN, final=True),
        [WriteControl(build_control(2, BOTH, sites_in_spec=THREE))],
        wanted(*THREE),
    ),
    "a site that leaves is removed": Case(
        seen(AGGREGATOR, BASEL, BERN),
        [WriteControl(build_control(2, ("basel",))), delete("Trainer", "bern")],
        wanted("basel"),
    ),
    "a site that leaves takes its failed attempt along, so that it can come back": Case(
        seen(AGGREGATOR, BASEL, ended("Trainer", "bern", code=Exit.REFUSED)),
        [WriteControl(build_control(2, ("basel",))), delete("Trainer", "bern")],
        wanted("basel"),
    ),
    # --- suspension
    "a suspended federation only removes": Case(
        seen(AGGREGATOR, BASEL),
        [WriteControl(build_control(2, suspend=True)), delete("Aggregator"), delete("Trainer", "basel")],
        wanted(suspend=True),
    ),
    "a suspended federation makes nothing": Case(
        seen(control=build_control(2, suspend=True)), [], wanted(suspend=True)
    ),
    "a resumed one gets its workloads back": Case(
        seen(control=build_control(2, suspend=True)), [WriteControl(build_control(3)), *START]
    ),
    "a site suspended by its owner is stopped alone": Case(
        seen(AGGREGATOR, BASEL, BERN), [delete("Trainer", "bern")], wanted(paused=("bern",))
    ),
    "a site suspended by its owner is not started": Case(
        seen(AGGREGATOR, BASEL), [], wanted(paused=("bern",))
    ),
    # --- failures of a site
    "a killed trainer is made again after five seconds": Case(
        seen(AGGREGATOR, BASEL, ended("Trainer", "bern", code=KILLED, ago=5)),
        [create("Trainer", "bern", attempt=2, failures=1)],
    ),
    "and not before": Case(seen(AGGREGATOR, BASEL, ended("Trainer", "bern", code=KILLED, ago=4.9)), []),
    "after its third failure in a row it waits for twenty": Case(
        seen(AGGREGATOR, BASEL, ended("Trainer", "bern", code=Exit.RETRY, failures=2, ago=19.9)), []
    ),
    "and is made again then": Case(
        seen(AGGREGATOR, BASEL, ended("Trainer", "bern", code=Exit.RETRY, failures=2, ago=20)),
        [create("Trainer", "bern", attempt=2, failures=3)],
    ),
    "progress since it was created makes a failure the first in a row": Case(
        seen(
            AGGREGATOR,
            BASEL,
            ended("Trainer", "bern", code=KILLED, failures=5, ago=5),
            milestones={"bern": 1},
        ),
        [create("Trainer", "bern", attempt=2, failures=1, milestone=1)],
    ),
    "a trainer that was stopped starts again at once, uncounted": Case(
        seen(AGGREGATOR, BASEL, ended("Trainer", "bern", code=Exit.STOPPED, failures=2)),
        [create("Trainer", "bern", attempt=2, failures=2)],
    ),
    "so does one that a newer lease ended": Case(
        seen(AGGREGATOR, BASEL, ended("Trainer", "bern", code=Exit.SUPERSEDED)),
        [create("Trainer", "bern", attempt=2)],
    ),
    "a refused site is left out at once, with its reason": Case(
        seen(AGGREGATOR, BASEL, ended("Trainer", "bern", code=Exit.REFUSED, message="case_7: half a file")),
        [WriteControl(build_control(2, excluded={"bern": "refused: case_7: half a file"}))],
    ),
    "a site that fails six times in a row is left out": Case(
        seen(AGGREGATOR, BASEL, ended("Trainer", "bern", code=1, failures=MAX_FAILURES - 1)),
        [
            WriteControl(
                build_control(
                    2,
                    excluded={"bern": SIX_TIMES},
                )
            )
        ],
    ),
    "a site that is left out is neither started nor written again": Case(
        seen(
            AGGREGATOR,
            BASEL,
            ended("Trainer", "bern", code=Exit.REFUSED),
            control=build_control(2, excluded={"bern": "refused: boom"}),
        ),
        [],
    ),
    "once its failed attempt is taken away, it gets another try": Case(
        seen(AGGREGATOR, BASEL, control=build_control(2, excluded={"bern": "refused: boom"})),
        [WriteControl(build_control(3)), create("Trainer", "bern")],
    ),
    # --- failures of the federation
    "a lost aggregator is made again": Case(
        seen(ended("Aggregator", code=KILLED, ago=5), BASEL, BERN, newest_round=1),
        [create("Aggregator", attempt=2, failures=1, milestone=2)],
    ),
    "an aggregator that cannot work stops the federation": Case(
        seen(ended("Aggregator", code=Exit.REFUSED), BASEL, BERN),
        [delete("Trainer", "basel"), delete("Trainer", "bern")],
    ),
    "a round that cannot close stops the federation": Case(
        seen(AGGREGATOR, BASEL, ended("Trainer", "bern", code=1), failures=[LOST_QUORUM]),
        [delete("Aggregator"), delete("Trainer", "basel")],
    ),
    "lowering minSites after that goes on": Case(
        seen(control=build_control(1, THREE), failures=[LOST_QUORUM]),
        [
            WriteControl(build_control(2, THREE, participation=TWO_SUFFICE)),
            *START,
            create("Trainer", "geneva"),
        ],
        wanted(*THREE, participation=TWO_SUFFICE),
    ),
    "running it again after a failure is another try, under a new control": Case(
        seen(failures=[LOST_QUORUM]),
        [WriteControl(build_control(2)), *START],
        replace(wanted(), retried=1),
    ),
    "a try is one try": Case(
        seen(control=build_control(2), failures=[Failure(2, 2, "QuorumLost", "again")]),
        [],
        replace(wanted(), retried=1),
    ),
    "too few sites to test the final model stop the federation": Case(
        seen(BASEL, ended("Trainer", "bern", code=Exit.REFUSED), final=True),
        [WriteControl(build_control(2, excluded={"bern": "refused: boom"})), delete("Trainer", "basel")],
    ),
    # --- the end
    "once the final model is chosen the aggregator is done": Case(
        seen(ended("Aggregator", code=Exit.DONE), BASEL, BERN, final=True), []
    ),
    "a trainer with an outcome is done, however it ended": Case(
        seen(ended("Trainer", "basel", code=KILLED, ago=99), BERN, final=True, outcomes=("basel",)), []
    ),
    "a trainer that ended well without an outcome has failed": Case(
        seen(AGGREGATOR, BASEL, ended("Trainer", "bern", code=Exit.DONE, ago=5)),
        [create("Trainer", "bern", attempt=2, failures=1)],
    ),
    "a site with an outcome is never left out, however it ended": Case(
        seen(ended("Trainer", "basel", code=Exit.REFUSED), BERN, final=True, outcomes=("basel",)), []
    ),
    "nor is it for failing six times": Case(
        seen(
            ended("Trainer", "basel", code=KILLED, failures=MAX_FAILURES - 1),
            BERN,
            final=True,
            outcomes=("basel",),
        ),
        [],
    ),
    "with every outcome the model is exported": Case(seen(final=True, outcomes=BOTH), [create("Export")]),
    "a lost export is made again": Case(
        seen(ended("Export", code=KILLED, ago=5), final=True, outcomes=BOTH),
        [create("Export", attempt=2, failures=1)],
    ),
    "a model that was exported counts as progress of the export": Case(
        seen(
            ended("Export", code=1, failures=5, ago=3600),
            control=build_control(fineTuning=FINE_TUNING),
            final=True,
            outcomes=BOTH,
            exports=("base",),
        ),
        [create("Export", attempt=2, failures=1, milestone=1)],
        wanted(fineTuning=FINE_TUNING),
    ),
    "an exported model is evaluated on each external set": Case(
        seen(control=build_control(evaluation_sites=("btcv",)), final=True, outcomes=BOTH, exports=("base",)),
        [create("Evaluation", "btcv")],
        wanted(evaluation_sites=("btcv",)),
    ),
    "with fine-tuning both models are exported first": Case(
        seen(
            running("Export"),
            control=build_control(evaluation_sites=("btcv",), fineTuning=FINE_TUNING),
            final=True,
            outcomes=BOTH,
            exports=("base",),
        ),
        [],
        wanted(evaluation_sites=("btcv",), fineTuning=FINE_TUNING),
    ),
    "an external set that is taken out is stopped": Case(
        seen(
            running("Evaluation", "btcv"),
            control=build_control(evaluation_sites=("btcv",)),
            final=True,
            outcomes=BOTH,
            exports=("base",),
        ),
        [WriteControl(build_control(2)), delete("Evaluation", "btcv")],
    ),
    "one that stays goes on": Case(
        seen(
            running("Evaluation", "btcv"),
            control=build_control(evaluation_sites=("btcv",)),
            final=True,
            outcomes=BOTH,
            exports=("base",),
        ),
        [],
        wanted(evaluation_sites=("btcv",)),
    ),
    "what is stopped is stopped in the order of names": Case(
        seen(BERN, BASEL, AGGREGATOR),
        [
            WriteControl(build_control(2, suspend=True)),
            delete("Aggregator"),
            delete("Trainer", "basel"),
            delete("Trainer", "bern"),
        ],
        wanted(suspend=True),
    ),
    "a complete federation needs nothing": Case(seen(final=True, outcomes=BOTH, exports=("base",)), []),
    "nor does it when it is edited": Case(
        seen(final=True, outcomes=BOTH, exports=("base",)), [], wanted(*THREE, suspend=True)
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_decide(case: Case) -> None:
    assert list(decide(case.desired, case.observed, now=NOON)) == case.expected


def test_a_role_waits_twice_as_long_after_each_failure_and_five_minutes_at_most() -> None:
    waits = [Backoff().after(failures).total_seconds() for failures in range(1, 9)]
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300]


def test_a_first_attempt_has_nothing_behind_it() -> None:
    assert CreateWorkload(WorkloadRole.TRAINER, "basel", 1) == create("Trainer", "basel", 1, 0, 0)


def outside(times: int, **changes) -> Observed:
    """Bern runs outside, and was left out so often."""
    return seen(AGGREGATOR, BASEL, replace(BERN, remote=True), refusals={"bern": times}, **changes)


def test_a_site_outside_that_was_left_out_time_and_again_stays_out() -> None:
    assert next_control(BASEL_AND_BERN, outside(MAX_FAILURES - 1)) == build_control()
    again = next_control(BASEL_AND_BERN, outside(MAX_FAILURES)).members
    assert (again["basel"].excluded, again["bern"].excluded) == (
        None,
        "refused 6 times. Take the site out of spec.sites and in again for another try",
    )


def test_a_site_outside_of_which_no_refusal_is_known_stays_in() -> None:
    observed = replace(outside(0), refusals={})
    assert next_control(BASEL_AND_BERN, observed) == build_control()


def test_how_often_it_was_left_out_counts_for_a_site_outside_alone() -> None:
    here = seen(AGGREGATOR, BASEL, BERN, refusals={"bern": MAX_FAILURES})
    assert next_control(BASEL_AND_BERN, here) == build_control()


def test_why_a_site_was_left_out_keeps_its_first_words() -> None:
    said = build_control(2, excluded={"bern": "refused: half a file"})
    newer = ended("Trainer", "bern", code=Exit.REFUSED, message="no file at all")
    assert next_control(BASEL_AND_BERN, seen(AGGREGATOR, BASEL, newer, control=said)) == said


ENDS = {
    "exit code 1: boom": ended("Trainer", code=1),
    "exit code 1": ended("Trainer", code=1, message=""),
    "signal 9: boom": ended("Trainer", code=KILLED),
    "no record: boom": ended("Trainer", code=0),
}


@pytest.mark.parametrize(("said", "workload"), ENDS.items(), ids=ENDS)
def test_an_end_is_described(said: str, workload: Workload) -> None:
    assert describe_end(workload) == said


def test_a_control_has_its_members_and_their_organs_in_order() -> None:
    desired = replace(wanted(), organs={"bern": ("spleen", "kidneys"), "basel": ("liver",)})
    members = next_control(desired, Observed()).members
    assert [(alias, member.organs) for alias, member in members.items()] == [
        ("basel", ("liver",)),
        ("bern", ("kidneys", "spleen")),
    ]


def test_with_fine_tuning_there_are_two_models_to_export() -> None:
    tuned = build_control(fineTuning=FINE_TUNING)
    assert missing_exports(build_control(), seen()) == ("base",)
    assert missing_exports(tuned, seen()) == ("base", "tuned")
    assert missing_exports(tuned, seen(exports=("base",))) == ("tuned",)


def test_too_few_sites_for_the_final_model_are_told_with_who_is_left_out_and_why() -> None:
    sites = ("geneva", "bern", "basel")
    control = build_control(1, sites, {"geneva": "refused: no disk", "bern": "refused: half a file"})
    assert failure_of(control, seen(control=control, final=True)) == (
        "QuorumLost: 1 of the 3 sites needed are left (bern: refused: half a file; geneva: refused: no disk)"
    )
