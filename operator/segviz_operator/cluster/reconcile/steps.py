"""What one turn does, pure: `decide`'s actions, and what a cluster adds to them (Jobs that make way)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from segviz_exchange.stores.keyring import Writers
from segviz_operator.cluster.membership.attendance import Attendance
from segviz_operator.cluster.objects.hosting import spec_digest
from segviz_operator.cluster.objects.jobs import JobSeen, newest, superseded
from segviz_operator.cluster.objects.pod import store_digest
from segviz_operator.manifests.accepted import Accepted
from segviz_operator.manifests.desired import desired_of
from segviz_operator.manifests.problem import InvalidManifest
from segviz_operator.plan.decide import (
    Action,
    CreateWorkload,
    Desired,
    WriteControl,
    decide,
    failure_of,
    is_complete,
)
from segviz_operator.plan.workload import Workload, WorkloadRole
from segviz_operator.progress.facts import FederationRecords
from segviz_operator.progress.remote import remote_workloads

Role = tuple[WorkloadRole, str | None]


@dataclass(frozen=True)
class Situation:
    """All that a turn knows when it decides."""

    verdict: Accepted | InvalidManifest
    attendance: Attendance
    records: FederationRecords
    jobs: tuple[JobSeen, ...]
    workloads: Mapping[str, Workload]
    """The newest Job of each role, as `decide` knows it, by its UID."""
    wants_retry: bool
    """A person has seen what failed, and asks for another try."""
    writers: Mapping[str, Writers] | None = None
    """Who may write where, of a federation whose records are signed."""

    @property
    def accepted(self) -> Accepted | None:
        return self.verdict if isinstance(self.verdict, Accepted) else None


@dataclass(frozen=True)
class Steps:
    desired: Desired
    workloads: tuple[Workload, ...]
    """Those that count; what ended and makes way does not."""
    retired: tuple[JobSeen, ...]
    superseded: tuple[JobSeen, ...]
    """Attempts that a newer one has taken the place of."""
    actions: tuple[Action, ...]
    complete: bool
    retries: bool
    """The wish for another try is granted now; a federation that goes well needs none."""

    @property
    def write_control(self) -> bool:
        return any(isinstance(each, WriteControl) for each in self.actions)


def decide_steps(situation: Situation, now: datetime) -> Steps:
    jobs, records = newest(situation.jobs), situation.records
    retired = tuple(job for job in jobs if _makes_way(job, situation))
    ended = {job.key: job for job in retired if job.finished_at is not None}
    workloads = (
        *(situation.workloads[job.uid] for job in jobs if job.key not in ended),
        *remote_workloads({a: host.spec for a, host in situation.attendance.hosts.items()}, records),
    )
    observed, control = records.observed(workloads), records.control
    failed = control is not None and failure_of(control, observed) is not None
    desired = _desired(situation)
    if control is not None and failed and situation.wants_retry:
        desired = replace(desired, retried=control.number)
    actions = (_renumbered(each, ended) for each in decide(desired, observed, now))
    return Steps(
        desired,
        workloads,
        retired,
        superseded(situation.jobs),
        # Of an edit that is not accepted nothing begins at a site: it may say what was not agreed to.
        tuple(each for each in actions if situation.accepted is not None or not _begins_at_site(each)),
        complete=control is not None and is_complete(control, observed),
        retries=situation.wants_retry and (failed or bool(ended)),
    )


def _desired(situation: Situation) -> Desired:
    if situation.accepted is not None:
        return replace(desired_of(situation.accepted), writers=situation.writers)
    # An edit that is not accepted: what was goes on, without those who take no part any more.
    control = situation.records.control
    assert control is not None, "nothing has begun, so there is nothing to go on with"
    absent, hosts = situation.attendance.absent, situation.attendance.hosts
    organs = {alias: each.organs for alias, each in control.members.items() if alias not in absent}
    paused = frozenset(alias for alias, host in hosts.items() if host.spec.suspend)
    return Desired(control.spec, organs, paused)


def _makes_way(job: JobSeen, situation: Situation) -> bool:
    """Its owner has changed what the Pod is made of; or it has failed, and a person wants another try."""
    if job.deleting or (job.finished_at is not None and not job.failed):
        return False
    return _has_changed(job, situation) or (situation.wants_retry and job.failed)


def _has_changed(job: JobSeen, situation: Situation) -> bool:
    if situation.accepted is None:
        return False
    host = None if job.site is None else situation.attendance.hosts.get(job.site)
    if host is not None and job.spec_digest != spec_digest(host.spec):
        return True
    store = situation.accepted.federation.spec.store
    # A Job of an earlier version says nothing of its store.
    return bool(store and job.store_digest and job.store_digest != store_digest(store))


def _begins_at_site(action: Action) -> bool:
    return isinstance(action, CreateWorkload) and action.site is not None


def _renumbered(action: Action, ended: Mapping[Role, JobSeen]) -> Action:
    """A new attempt never has the name of one that is being deleted."""
    if isinstance(action, CreateWorkload) and (before := ended.get((action.role, action.site))):
        return replace(action, attempt=before.attempt + 1)
    return action
