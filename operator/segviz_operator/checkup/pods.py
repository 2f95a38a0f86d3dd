"""The Jobs of a federation: which of them has no Pod, or one that does not run, and why."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from segviz_operator.checkup.finding import Finding, bad, unknown
from segviz_operator.cluster.api import names
from segviz_operator.cluster.api.client import JOBS, Cluster, Forbidden
from segviz_operator.cluster.objects.jobs import JobSeen, job_seen, newest
from segviz_operator.cluster.objects.pods import Waiting
from segviz_operator.cluster.objects.waiting import active_pod, look_at_pod, look_for_pod, pods_of
from segviz_operator.plan.workload import workload_name

PATIENCE = timedelta(seconds=20)
"""Whoever asks wants to know now; a Pod has this long to start."""


def check_pods(cluster: Cluster, namespace: str, federation: str, *, of_sites: bool) -> Iterator[Finding]:
    """Args:
    federation: its namespace/name.
    of_sites: look at what runs for sites, else at what runs beside the federation.
    """
    its_namespace, _, its_name = federation.partition("/")
    labels = {names.FEDERATION_NAMESPACE: its_namespace, names.FEDERATION_NAME: names.label_value(its_name)}
    selector = ",".join(f"{name}={value}" for name, value in labels.items())
    try:
        found = cluster.list(JOBS, namespace, labelSelector=selector)
        jobs = [job for raw in found if (job := job_seen(raw)) is not None]
        for job in newest(jobs):
            waits = job.finished_at is None and not job.deleting and not job.ready
            if waits and (job.site is not None) == of_sites:
                yield from _check_pod(cluster, job)
    except Forbidden:
        yield unknown(f"whether the Pods of {federation} in {namespace} run: you may not list them")


def _check_pod(cluster: Cluster, job: JobSeen) -> Iterator[Finding]:
    waiting = _look(cluster, job)
    name, where = workload_name(job.role, job.site), f"kubectl -n {job.namespace}"
    if waiting.stuck:
        yield bad(
            f"{name} does not run ({waiting.stuck}): {waiting.message}",
            f"{where} describe job,pods -l batch.kubernetes.io/job-name={job.name}; "
            "docs/how-to/runbooks/pod-stuck.md",
        )
    elif waiting.message:
        yield unknown(f"{name} does not run yet: {waiting.message}")


def _look(cluster: Cluster, job: JobSeen) -> Waiting:
    if job.suspended:
        return Waiting("queued; Kueue starts it when its turn comes")
    now = datetime.now(UTC)
    pod = active_pod(pods_of(cluster, job))
    if pod is not None:
        return look_at_pod(cluster, pod, now, PATIENCE)
    return look_for_pod(cluster, job, now, PATIENCE, job.started_at or job.created_at or now)
