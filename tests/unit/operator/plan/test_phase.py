"""The word for where a federation is."""

import pytest

from builders.federations import build_control
from builders.situations import AGGREGATOR, BOTH, LOST_QUORUM, ended, seen
from segviz_exchange.process.exits import Exit
from segviz_operator.plan.decide import Observed
from segviz_operator.plan.phase import FederationPhase, SitePhase, phase_of

PHASES = {
    "before anything is written": (Observed(), FederationPhase.PENDING),
    "until round 0 is committed": (seen(), FederationPhase.PENDING),
    "from the first round on": (seen(newest_round=0), FederationPhase.TRAINING),
    "a site that must be left out fails nothing by itself": (
        seen(AGGREGATOR, ended("Trainer", "bern", code=Exit.REFUSED), newest_round=0),
        FederationPhase.TRAINING,
    ),
    "with the final model": (
        seen(newest_round=3, final=True, outcomes=("bern",)),
        FederationPhase.FINE_TUNING,
    ),
    "with every outcome": (seen(newest_round=3, final=True, outcomes=BOTH), FederationPhase.EVALUATING),
    "with every record": (
        seen(newest_round=3, final=True, outcomes=BOTH, exports=("base",)),
        FederationPhase.COMPLETE,
    ),
    "a failure under the newest control": (seen(failures=[LOST_QUORUM]), FederationPhase.FAILED),
    "a failure under an older control is mended": (
        seen(control=build_control(2), newest_round=1, failures=[LOST_QUORUM]),
        FederationPhase.TRAINING,
    ),
    "one external set that is lost while another is scored": (
        seen(
            ended("Evaluation", "btcv", code=Exit.REFUSED),
            control=build_control(evaluation_sites=("btcv", "flare")),
            newest_round=3,
            final=True,
            outcomes=BOTH,
            exports=("base",),
        ),
        FederationPhase.EVALUATING,
    ),
    "one external set that is lost when the other is scored": (
        seen(
            ended("Evaluation", "btcv", code=Exit.REFUSED),
            control=build_control(evaluation_sites=("btcv", "flare")),
            newest_round=3,
            final=True,
            outcomes=BOTH,
            exports=("base",),
            externals=("flare",),
        ),
        FederationPhase.FAILED,
    ),
    "while it is suspended": (seen(control=build_control(suspend=True)), FederationPhase.SUSPENDED),
}


@pytest.mark.parametrize(("observed", "expected"), PHASES.values(), ids=PHASES)
def test_phase(observed: Observed, expected: FederationPhase) -> None:
    assert phase_of(observed)[0] == expected


REASONS = {
    "not started yet": Observed(),
    "the sites check their data and upload the start model": seen(),
    "round 1 of 3": seen(newest_round=0),
    "round 3 of 3": seen(newest_round=3),
    "waiting for basel": seen(newest_round=3, final=True, outcomes=("bern",)),
    "exporting the model": seen(newest_round=3, final=True, outcomes=BOTH),
    "scoring btcv, flare": seen(
        control=build_control(evaluation_sites=("flare", "btcv")),
        newest_round=3,
        final=True,
        outcomes=BOTH,
        exports=("base",),
    ),
    "everything is done": seen(newest_round=3, final=True, outcomes=BOTH, exports=("base",)),
    "QuorumLost: round 2 has 1 of the 2 sites it needs": seen(failures=[LOST_QUORUM]),
    "spec.suspend is true": seen(control=build_control(suspend=True)),
}


@pytest.mark.parametrize(("reason", "observed"), REASONS.items(), ids=REASONS)
def test_a_phase_says_what_it_waits_for(reason: str, observed: Observed) -> None:
    assert phase_of(observed)[1] == reason


def test_the_words_of_the_phases_are_part_of_the_api() -> None:
    assert " ".join(FederationPhase) == ("Pending Training FineTuning Evaluating Complete Failed Suspended")
    assert " ".join(SitePhase) == (
        "Starting Preparing Waiting Scoring Training FineTuning Testing Done Restarting Silent Suspended "
        "LeftOut Failed"
    )
