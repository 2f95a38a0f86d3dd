"""Where a federation is, in one word for people; machines read the records or, in a cluster, conditions."""

from enum import StrEnum

from segviz_operator.plan.decide import (
    Observed,
    failure_of,
    is_complete,
    missing_exports,
    missing_externals,
    missing_outcomes,
)


class FederationPhase(StrEnum):
    PENDING = "Pending"
    """No round is committed yet: processes start and check their data."""
    TRAINING = "Training"
    FINE_TUNING = "FineTuning"
    """The final model is chosen; each site tunes its heads (where asked to) and tests."""
    EVALUATING = "Evaluating"
    """The model is exported and scored on the external sets."""
    COMPLETE = "Complete"
    FAILED = "Failed"
    SUSPENDED = "Suspended"


class SitePhase(StrEnum):
    """What a site does, as its heartbeat says, and what only its coordinator can say of it."""

    STARTING = "Starting"
    """It has said nothing yet."""
    PREPARING = "Preparing"
    WAITING = "Waiting"
    SCORING = "Scoring"
    TRAINING = "Training"
    FINE_TUNING = "FineTuning"
    TESTING = "Testing"
    DONE = "Done"
    RESTARTING = "Restarting"
    SILENT = "Silent"
    SUSPENDED = "Suspended"
    LEFT_OUT = "LeftOut"
    FAILED = "Failed"


BUSY = (SitePhase.SCORING, SitePhase.TRAINING, SitePhase.FINE_TUNING, SitePhase.TESTING)
IDLE = (SitePhase.SUSPENDED, SitePhase.SILENT)
"""The site does nothing, though it may be awaited."""
HELD_UP = (SitePhase.RESTARTING, *IDLE)
BROKEN = (SitePhase.LEFT_OUT, SitePhase.FAILED)


def phase_of(observed: Observed) -> tuple[FederationPhase, str]:
    """The phase and what it waits for or why it is so."""
    control = observed.control
    if control is None:
        return FederationPhase.PENDING, "not started yet"
    if is_complete(control, observed):
        return FederationPhase.COMPLETE, "everything is done"
    if reason := failure_of(control, observed):
        return FederationPhase.FAILED, reason
    if control.suspend:
        return FederationPhase.SUSPENDED, "spec.suspend is true"
    if observed.newest_round is None:
        return FederationPhase.PENDING, "the sites check their data and upload the start model"
    if not observed.final:
        rounds = control.spec.rounds
        return FederationPhase.TRAINING, f"round {min(observed.newest_round + 1, rounds)} of {rounds}"
    if missing := missing_outcomes(control, observed):
        return FederationPhase.FINE_TUNING, f"waiting for {', '.join(missing)}"
    if missing_exports(control, observed):
        return FederationPhase.EVALUATING, "exporting the model"
    return FederationPhase.EVALUATING, f"scoring {', '.join(missing_externals(control, observed))}"
