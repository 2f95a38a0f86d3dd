"""What a federation needs next: one pure function, shared by the cluster's operator and the local body.

Everything it knows is in its arguments, and what it knows can be read back: controls and records from the
store, workloads from the cluster or the machine. A site is left out for as long as the failed workload that
proves its fault is there to be seen; who takes that away (by deleting the Job, by running the command again,
by editing the site out and in) asks for another try.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import msgspec

from segviz_exchange.contract.closing import QUORUM_LOST
from segviz_exchange.contract.fingerprint import Fingerprint
from segviz_exchange.contract.records import Control, Failure, Member, Variant
from segviz_exchange.contract.spec import FederationSpec
from segviz_exchange.process.exits import Exit
from segviz_exchange.stores.keyring import Writers
from segviz_operator.plan.certified import certified
from segviz_operator.plan.planned import NO_PLAN, planned, why_unplannable
from segviz_operator.plan.workload import Workload, WorkloadRole

MAX_FAILURES = 6
"""Failures in a row without progress after which a role is given up."""
UNCOUNTED_EXITS = (Exit.STOPPED, Exit.SUPERSEDED, Exit.IDLE)
"""Ends that are no fault of the workload: it starts again at once."""


@dataclass(frozen=True)
class Backoff:
    """How long a failed role waits: twice as long after each failure in a row."""

    first_seconds: float = 5.0
    most_seconds: float = 300.0

    def after(self, failures: int) -> timedelta:
        return timedelta(seconds=min(self.first_seconds * 2 ** max(0, failures - 1), self.most_seconds))


@dataclass(frozen=True)
class Desired:
    """What people want, from accepted manifests."""

    spec: FederationSpec
    organs: Mapping[str, tuple[str, ...]]
    """What each training site annotates, by alias."""
    paused: frozenset[str] = frozenset()
    """Sites whose owner suspended them: nothing runs there, and the others wait as `participation` says."""
    writers: Mapping[str, Writers] | None = None
    """Who may write below which folder, where controls say it."""
    retried: int = 0
    """Number of a control whose failure a person has seen and wants another try after, under a newer one."""


@dataclass(frozen=True)
class Observed:
    """What is there. A body looks at its workloads first and at the store after that, so that the record
    which a workload leaves before it ends is never missed."""

    control: Control | None = None
    workloads: tuple[Workload, ...] = ()
    newest_round: int | None = None
    final: bool = False
    outcomes: frozenset[str] = frozenset()
    refused_outcomes: Mapping[str, str] = field(default_factory=dict)
    """Why what lies in place of a site's outcome is none, by alias. It can write no other."""
    exports: frozenset[str] = frozenset()
    refusals: Mapping[str, int] = field(default_factory=dict)
    """How often each site was left out by a control since it is a member, by alias."""
    rests: frozenset[str] = frozenset()
    """Sites that have delivered all that is asked of them now, and wait for others."""
    externals: frozenset[str] = frozenset()
    refused_externals: frozenset[str] = frozenset()
    """The same of external scores: nobody waits for these any more."""
    failures: tuple[Failure, ...] = ()
    milestones: Mapping[str, int] = field(default_factory=dict)
    """Epochs each site has come to, by alias; it grows with every sign of progress."""
    fingerprints: Mapping[str, Fingerprint] = field(default_factory=dict)
    """What sites tell of their cases, by alias, where the federation is to be planned."""

    def workload(self, role: WorkloadRole, site: str | None = None) -> Workload | None:
        return next((each for each in self.workloads if (each.role, each.site) == (role, site)), None)


@dataclass(frozen=True)
class WriteControl:
    control: Control


@dataclass(frozen=True)
class CreateWorkload:
    role: WorkloadRole
    site: str | None
    attempt: int
    failures: int = 0
    milestone: int = 0


@dataclass(frozen=True)
class DeleteWorkload:
    role: WorkloadRole
    site: str | None
    attempt: int


Action = WriteControl | CreateWorkload | DeleteWorkload


def decide(
    desired: Desired, observed: Observed, now: datetime, backoff: Backoff | None = None
) -> tuple[Action, ...]:
    """What to do now, in this order; nothing where the federation is complete or can only wait."""
    if observed.control is not None and is_complete(observed.control, observed):
        return ()
    # The rest is decided under the control that is about to hold, so that one pass is enough.
    control = next_control(desired, observed)
    write = () if control == observed.control else (WriteControl(control),)
    halted = control.suspend or failure_of(control, observed) is not None
    stop = tuple(
        DeleteWorkload(workload.role, workload.site, workload.attempt)
        for workload in sorted(observed.workloads, key=lambda each: each.name)
        # Of a site that left, also what has ended goes, so that the site can come back anew.
        if not workload.remote
        and (
            _has_left(workload, control) or (workload.running and (halted or workload.site in desired.paused))
        )
    )
    if halted:
        return (*write, *stop)
    attempts = (
        _next_attempt(role, site, observed, now, backoff or Backoff())
        for role, site in _wanted(control, observed)
        if site not in desired.paused
    )
    return (*write, *stop, *(attempt for attempt in attempts if attempt is not None))


def next_control(desired: Desired, observed: Observed) -> Control:
    """The control that says what people want: the newest one, if it says so already."""
    newest = observed.control
    spec, reasons = planned(desired.spec, newest, observed.fingerprints)
    members = {
        alias: Member(tuple(sorted(organs)), _exclusion(alias, observed, newest))
        for alias, organs in sorted(desired.organs.items())
        # Whoever joins after the final model is too late for it.
        if not (observed.final and newest is not None and alias not in newest.members)
    }
    if newest is None:
        return Control(1, spec, members, spec.suspend, writers=certified(desired.writers, None))
    writers = certified(desired.writers, newest)
    control = Control(newest.number, spec, members, spec.suspend, reasons, writers)
    unchanged = control == newest and newest.number > desired.retried
    return newest if unchanged else msgspec.structs.replace(control, number=newest.number + 1)


def is_complete(control: Control, observed: Observed) -> bool:
    return (
        observed.final
        and not missing_outcomes(control, observed)
        and not missing_exports(control, observed)
        and not missing_externals(control, observed)
    )


def missing_outcomes(control: Control, observed: Observed) -> tuple[str, ...]:
    """Active sites that still have to test the final model, and to fine-tune it."""
    return tuple(alias for alias in control.active if alias not in observed.outcomes)


def missing_exports(control: Control, observed: Observed) -> tuple[str, ...]:
    wanted = (Variant.BASE,) if control.spec.fine_tuning is None else tuple(Variant)
    return tuple(variant for variant in wanted if variant not in observed.exports)


def missing_externals(control: Control, observed: Observed) -> tuple[str, ...]:
    wanted = sorted(member.alias for member in control.spec.evaluation.sites)
    done = observed.externals | observed.refused_externals
    return tuple(alias for alias in wanted if alias not in done)


def failure_of(control: Control, observed: Observed) -> str | None:
    """Why the federation cannot go on under a control, or nothing."""
    for failure in observed.failures:
        if failure.control == control.number:
            return f"{failure.reason}: {failure.message}"
    if why := why_unplannable(control, observed.fingerprints):
        return f"{NO_PLAN}: {why}"
    needed = control.quorum
    # Before the final model the aggregator decides this, round by round.
    if observed.final and len(control.active) < needed:
        reasons = "; ".join(f"{a}: {m.excluded}" for a, m in sorted(control.members.items()) if m.excluded)
        return f"{QUORUM_LOST}: {len(control.active)} of the {needed} sites needed are left ({reasons})"
    # A lost trainer is left out instead; of several external sets, the others are scored first.
    alone = [key for key in _wanted(control, observed) if key[0] is not WorkloadRole.TRAINER]
    lost = [
        f"{workload.name}: {reason}"
        for role, site in alone
        if (workload := observed.workload(role, site)) and (reason := given_up(workload, observed))
    ]
    return "; ".join(lost) if lost and len(lost) == len(alone) else None


def given_up(workload: Workload, observed: Observed) -> str | None:
    """Why a role whose record is still missing is not tried again, or nothing."""
    if workload.running:
        return None
    if workload.exit_code == Exit.REFUSED:
        return f"refused: {workload.message}"
    failures = failures_after(workload, observed)
    if failures < MAX_FAILURES:
        return None
    return f"failed {failures} times in a row without progress, last with {describe_end(workload)}"


def failures_after(workload: Workload, observed: Observed) -> int:
    """Failures in a row, this one included, since the role last made progress."""
    progressed = _milestone(workload.role, workload.site, observed) > workload.milestone
    before = 0 if progressed else workload.failures
    return before if workload.exit_code in UNCOUNTED_EXITS else before + 1


def wait_after(last: Workload, observed: Observed, backoff: Backoff) -> timedelta:
    """How long a role rests before its next attempt; not at all after an end that is no fault of it."""
    return timedelta() if last.exit_code in UNCOUNTED_EXITS else backoff.after(failures_after(last, observed))


def attempt_after(last: Workload, observed: Observed) -> CreateWorkload:
    """The next attempt of a role, told what it must know of those before it."""
    milestone = _milestone(last.role, last.site, observed)
    return CreateWorkload(last.role, last.site, last.attempt + 1, failures_after(last, observed), milestone)


def describe_end(workload: Workload) -> str:
    code = workload.exit_code
    how = "no record" if not code else f"exit code {code}" if code > 0 else f"signal {-code}"
    return f"{how}: {workload.message}" if workload.message else how


def _exclusion(alias: str, observed: Observed, newest: Control | None) -> str | None:
    """Why a site is left out. Its words are those of the moment when it was: new ones make no new control."""
    said = newest.members[alias].excluded if newest and alias in newest.members else None
    reason = _fault(alias, observed)
    return reason and (said or reason)


def _fault(alias: str, observed: Observed) -> str | None:
    if observed.final and alias in observed.refused_outcomes:
        return f"refused: {observed.refused_outcomes[alias]}"
    trainer = observed.workload(WorkloadRole.TRAINER, alias)
    if trainer is None or alias in observed.outcomes:
        return None
    if trainer.remote and (times := observed.refusals.get(alias, 0)) >= MAX_FAILURES:
        # Each coming and going is a control, and a site outside comes and goes by a heartbeat alone.
        return f"refused {times} times. Take the site out of spec.sites and in again for another try"
    return given_up(trainer, observed)


def _has_left(workload: Workload, control: Control) -> bool:
    if workload.role is WorkloadRole.TRAINER:
        return workload.site not in control.members
    if workload.role is WorkloadRole.EVALUATION:
        return workload.site not in {member.alias for member in control.spec.evaluation.sites}
    return False


def _wanted(control: Control, observed: Observed) -> tuple[tuple[WorkloadRole, str | None], ...]:
    """Which roles still have a record to write; how a process ended no longer matters once it has."""
    trainers = tuple((WorkloadRole.TRAINER, alias) for alias in missing_outcomes(control, observed))
    if not observed.final:
        return ((WorkloadRole.AGGREGATOR, None), *trainers)
    if trainers:
        return trainers
    if missing_exports(control, observed):
        return ((WorkloadRole.EXPORT, None),)
    return tuple((WorkloadRole.EVALUATION, alias) for alias in missing_externals(control, observed))


def _next_attempt(
    role: WorkloadRole, site: str | None, observed: Observed, now: datetime, backoff: Backoff
) -> CreateWorkload | None:
    last = observed.workload(role, site)
    if last is None:
        return CreateWorkload(role, site, attempt=1, milestone=_milestone(role, site, observed))
    if last.running or given_up(last, observed):
        return None
    if last.exit_code == Exit.IDLE and site in observed.rests:
        return None  # it has given back what it held until there is work
    wait = wait_after(last, observed, backoff)
    if wait and last.finished_at is not None and now < last.finished_at + wait:
        return None
    return attempt_after(last, observed)


def _milestone(role: WorkloadRole, site: str | None, observed: Observed) -> int:
    """How far a role has come; only growth matters."""
    match role:
        case WorkloadRole.TRAINER if site is not None:
            return observed.milestones.get(site, 0)
        case WorkloadRole.AGGREGATOR:
            return 0 if observed.newest_round is None else observed.newest_round + 1
        case WorkloadRole.EXPORT:
            return len(observed.exports)
        case _:
            return 0
