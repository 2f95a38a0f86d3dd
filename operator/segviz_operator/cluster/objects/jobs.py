"""A federation's Jobs as the workloads that `decide` knows; of a Job only what is needed is kept."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from segviz_exchange.process.words import plain
from segviz_operator.cluster.api import names
from segviz_operator.cluster.objects.pod import Owner
from segviz_operator.plan.workload import Workload, WorkloadRole, WorkloadState

_LOG_PREFIX = re.compile(r"^\d{4}-\d\d-\d\d[T ]\S+ [A-Z]+ ")
_MESSAGE_LENGTH = 1000
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

    @property
    def key(self) -> tuple[WorkloadRole, str | None]:
        return (self.role, self.site)


@dataclass(frozen=True)
class End:
    """How a Job's Pod ended."""

    exit_code: int | None
    message: str


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
        started_at=_moment(status.get("startTime")),
        finished_at=_moment(ends[0].get("lastTransitionTime")) if ends else None,
        failed=bool(ends) and ends[0]["type"] == "Failed",
        reason=ends[0].get("reason", "") if ends else "",
        ready=bool(status.get("ready")),
        suspended=bool(job["spec"].get("suspend")),
        deleting="deletionTimestamp" in metadata,
        owner=_owner(metadata.get("ownerReferences") or ()),
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


def workload_of(job: JobSeen, end: End | None, waiting: str) -> Workload:
    """Args:
    end: of its Pod, where the Job has ended and the Pod is still there.
    waiting: why its Pod does not run, where it does not.
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
        exit_code=end.exit_code if ended and end else None,
        started_at=job.started_at,
        finished_at=job.finished_at if ended else None,
        message=(end.message if end else job.reason) if ended else waiting,
    )


def end_of(pods: Iterable[Mapping[str, Any]]) -> End | None:
    for pod in sorted(pods, key=lambda each: each["metadata"]["creationTimestamp"], reverse=True):
        for container in (pod.get("status") or {}).get("containerStatuses") or ():
            if ended := (container.get("state") or {}).get("terminated"):
                said = last_words(ended.get("message") or "")
                reason = ended.get("reason", "")
                message = said or ("" if reason in ("Error", "Completed") else reason)
                if reason == "OOMKilled":
                    message = "out of memory (OOMKilled); raise the memory limit"
                return End(ended.get("exitCode"), message)
        reason = (pod.get("status") or {}).get("reason")
        if reason:
            return End(None, f"{reason}: {pod['status'].get('message', '')}".rstrip(": "))
    return None


def waiting_reason(pods: Iterable[Mapping[str, Any]]) -> str:
    """Why a Pod does not run yet; empty where it merely starts."""
    for pod in pods:
        status = pod.get("status") or {}
        for container in status.get("containerStatuses") or ():
            waiting = (container.get("state") or {}).get("waiting") or {}
            if (reason := waiting.get("reason", "")) not in ("", "ContainerCreating", "PodInitializing"):
                return _short(f"{reason}: {waiting.get('message', '')}".rstrip(": "))
        for condition in status.get("conditions") or ():
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                return _short(f"{condition.get('reason', '')}: {condition.get('message', '')}".rstrip(": "))
    return ""


def last_words(text: str) -> str:
    """The last thing a Pod said: the last log entry, JSON or not, or the last line of a traceback."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    last = lines[-1].strip()
    try:
        entry = json.loads(last)
        last = str(entry.get("message") or entry.get("event") or last)
    except (ValueError, AttributeError):
        last = _LOG_PREFIX.sub("", last)
    return _short(last)


def _owner(references: Iterable[Mapping[str, Any]]) -> Owner | None:
    for each in references:
        return Owner(each["apiVersion"], each["kind"], each["name"], each["uid"])
    return None


def _short(text: str) -> str:
    return plain(text, _MESSAGE_LENGTH)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0
