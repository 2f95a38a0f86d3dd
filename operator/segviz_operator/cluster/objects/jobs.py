"""A federation's Jobs as the workloads that `decide` knows; of a Job only what is needed is kept."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from segviz_exchange.process.exits import Exit
from segviz_operator.cluster.api import names
from segviz_operator.cluster.objects.pod import Owner
from segviz_operator.cluster.objects.pods import End, Waiting
from segviz_operator.plan.workload import Workload, WorkloadRole, WorkloadState

FAILED_BY_POLICY = "PodFailurePolicy"
"""Reason of a Job that its podFailurePolicy has ended."""
_ROLES = {role.lower(): role for role in WorkloadRole}


@dataclass(frozen=True)
class JobSeen:
    namespace: str
    name: str
    uid: str
    role: WorkloadRole
    site: str | None
    attempt: int
    failures: int
    milestone: int
    spec_digest: str
    store_digest: str
    started_at: datetime | None
    finished_at: datetime | None
    failed: bool
    """Has ended badly; `finished_at` says whether it has ended at all."""
    reason: str
    """Of the condition with which it ended."""
    ready: bool
    """Its Pod runs."""
    suspended: bool
    deleting: bool
    owner: Owner | None
    """The site's consent, or the federation."""
    created_at: datetime | None = None
    grace_seconds: int = 0
    """How long its Pod may take to end."""

    @property
    def key(self) -> tuple[WorkloadRole, str | None]:
        return (self.role, self.site)


def job_seen(job: Mapping[str, Any]) -> JobSeen | None:
    """None for a Job with the operator's labels that the operator has not made."""
    metadata, status = job["metadata"], job.get("status") or {}
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    ends = [
        each
        for each in status.get("conditions") or ()
        if each["type"] in ("Complete", "Failed") and each["status"] == "True"
    ]
    try:
        role, attempt = _ROLES[labels[names.ROLE]], int(labels[names.ATTEMPT])
    except (KeyError, ValueError):
        return None
    return JobSeen(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        role=role,
        site=labels.get(names.SITE),
        attempt=attempt,
        failures=_number(annotations.get(names.FAILURES)),
        milestone=_number(annotations.get(names.MILESTONE)),
        spec_digest=annotations.get(names.SPEC_DIGEST, ""),
        store_digest=annotations.get(names.STORE_DIGEST, ""),
        started_at=_moment(status.get("startTime")),
        finished_at=_moment(ends[0].get("lastTransitionTime")) if ends else None,
        failed=bool(ends) and ends[0]["type"] == "Failed",
        reason=ends[0].get("reason", "") if ends else "",
        ready=bool(status.get("ready")),
        suspended=bool(job["spec"].get("suspend")),
        deleting="deletionTimestamp" in metadata,
        owner=_owner(metadata.get("ownerReferences") or ()),
        created_at=_moment(metadata.get("creationTimestamp")),
        grace_seconds=_pod(job).get("terminationGracePeriodSeconds", 0),
    )


def newest(jobs: Iterable[JobSeen]) -> tuple[JobSeen, ...]:
    """The newest attempt of each role."""
    found: dict[tuple[WorkloadRole, str | None], JobSeen] = {}
    for job in sorted(jobs, key=lambda each: each.attempt):
        found[job.key] = job
    return tuple(found[key] for key in sorted(found, key=lambda key: (key[0], key[1] or "")))


def superseded(jobs: Iterable[JobSeen]) -> tuple[JobSeen, ...]:
    """Attempts that a newer one has taken the place of."""
    kept = {each.uid for each in newest(jobs)}
    return tuple(each for each in jobs if each.uid not in kept and not each.deleting)


def workload_of(job: JobSeen, end: End | None, waiting: Waiting, *, settled: bool = False) -> Workload:
    """Args:
    end: of its Pod, where the Job has ended and the Pod is still there.
    waiting: why its Pod does not run, where it does not.
    settled: its Pod has run for a while.
    """
    # A Job being deleted counts as running until its Pod has gone: the state's volume is still in use.
    state = WorkloadState.RUNNING
    if job.finished_at is not None and not job.deleting:
        state = WorkloadState.FAILED if job.failed else WorkloadState.SUCCEEDED
    ended = state is not WorkloadState.RUNNING
    return Workload(
        job.role,
        job.site,
        job.attempt,
        job.failures,
        job.milestone,
        state=state,
        exit_code=_exit_code(job, end) if ended else None,
        started_at=job.started_at,
        finished_at=job.finished_at if ended else None,
        message=(end.message if end else job.reason) if ended else waiting.message,
        settled=settled and not ended,
        stuck="" if ended else waiting.stuck,
    )


def _exit_code(job: JobSeen, end: End | None) -> int | None:
    if end is None and job.failed and job.reason == FAILED_BY_POLICY:
        return Exit.REFUSED  # the one code for which our Jobs' policy says FailJob
    return end.exit_code if end else None


def _owner(references: Iterable[Mapping[str, Any]]) -> Owner | None:
    for each in references:
        return Owner(each["apiVersion"], each["kind"], each["name"], each["uid"])
    return None


def _pod(job: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (job["spec"].get("template") or {}).get("spec") or {}
    return found


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0
