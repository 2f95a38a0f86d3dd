"""What `decide` is asked: what is wanted, and what is seen."""

from datetime import UTC, datetime, timedelta

from builders.federations import ORGANS, build_control, build_spec
from segviz_exchange.contract.records import Control, Failure
from segviz_operator.plan.decide import Desired, Observed
from segviz_operator.plan.workload import Workload, WorkloadRole, WorkloadState

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
BOTH = ("basel", "bern")
THREE = ("basel", "bern", "geneva")
FINE_TUNING = {"epochs": 2, "learningRate": 0.001}
TWO_SUFFICE = {"maxNormRatio": 10.0, "minSites": 2}
KILLED = -9


def wanted(*sites: str, paused: tuple[str, ...] = (), **changes) -> Desired:
    spec = build_spec(sites or BOTH, **changes)
    return Desired(spec, {alias: ORGANS[alias] for alias in sites or BOTH}, frozenset(paused))


def seen(*workloads: Workload, control: Control | None = None, **facts) -> Observed:
    sets = {name: frozenset(value) if isinstance(value, tuple) else value for name, value in facts.items()}
    failures = tuple(sets.pop("failures", ()))
    return Observed(control=control or build_control(), workloads=workloads, failures=failures, **sets)


def running(role: str, site: str | None = None, attempt: int = 1, failures: int = 0) -> Workload:
    return Workload(WorkloadRole(role), site, attempt, failures)


def ended(
    role: str,
    site: str | None = None,
    *,
    code: int,
    failures: int = 0,
    ago: float = 0.0,
    milestone: int = 0,
    message="boom",
) -> Workload:
    state = WorkloadState.FAILED if code else WorkloadState.SUCCEEDED
    finished = NOON - timedelta(seconds=ago)
    return Workload(WorkloadRole(role), site, 1, failures, milestone, state, code, None, finished, message)


AGGREGATOR = running("Aggregator")
LOST_QUORUM = Failure(2, 1, "QuorumLost", "round 2 has 1 of the 2 sites it needs")
