"""Why a Job's Pod does not run, by the cluster's own words: the Pod's, and those of the Events about it.

What people meet most is not said by the Pod: a quota, a LimitRange, PodSecurity or a policy engine keeps it
from being made at all, and a volume that cannot be attached or mounted leaves it in ContainerCreating.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from segviz_operator.cluster.api.client import EVENTS, PODS, Cluster, Forbidden, Object
from segviz_operator.cluster.objects.jobs import JobSeen
from segviz_operator.cluster.objects.pods import Waiting, shortened, waiting_reason

POD_MISSING = "PodMissing"
"""A Job has no Pod: a quota, a policy or PodSecurity keeps it from being made."""
POD_STUCK = "PodStuck"
"""A Pod is there and does not run: no node takes it, its image or a volume fails, or its node is gone."""

_OVER = ("Succeeded", "Failed")


def pods_of(cluster: Cluster, job: JobSeen) -> list[Object]:
    return cluster.list(PODS, job.namespace, labelSelector=f"batch.kubernetes.io/job-name={job.name}")


def active_pod(pods: Iterable[Object]) -> Object | None:
    """The newest that has not ended."""
    active = [pod for pod in pods if (pod.get("status") or {}).get("phase") not in _OVER]
    return max(active, key=lambda pod: pod["metadata"]["creationTimestamp"], default=None)


def look_at_pod(cluster: Cluster, pod: Object, now: datetime, patience: timedelta) -> Waiting:
    """Raises ClusterError."""
    said = waiting_reason([pod])
    if now - _held_since(pod) < patience:
        return Waiting(said)
    metadata = pod["metadata"]
    if not said:
        said = _words(events_about(cluster, metadata["namespace"], metadata["uid"])) or _state(pod)
    return Waiting(shortened(f"Pod {metadata['name']} does not run: {said}"), POD_STUCK)


def look_for_pod(
    cluster: Cluster, job: JobSeen, now: datetime, patience: timedelta, seen_since: datetime
) -> Waiting:
    """Args:
    seen_since: when the Job was first seen to have no Pod. Between a Pod that was drained and the next one
        there is none for a while, and how long no object says.

    Raises ClusterError.
    """
    began = job.started_at or job.created_at
    if began is None or now - began < patience:
        return Waiting()
    events = events_about(cluster, job.namespace, job.uid)
    made = [_last_seen(each) for each in events or () if each.get("reason") == "SuccessfulCreate"]
    refusals = [each for each in events or () if not made or _last_seen(each) > max(made)]
    said = _words(None if events is None else refusals)
    since = max([began, *made]) if refusals and said else max(began, seen_since)
    if now - since < patience:
        return Waiting()
    why = said or "no Event says why: the Job controller waits before it tries again, or does not run"
    return Waiting(shortened(f"Job {job.name} has no Pod: {why}"), POD_MISSING)


def events_about(cluster: Cluster, namespace: str, uid: str) -> list[Object] | None:
    """None where they may not be listed."""
    try:
        return cluster.list(EVENTS, namespace, fieldSelector=f"involvedObject.uid={uid}")
    except Forbidden:
        return None


def _words(events: Iterable[Object] | None) -> str:
    """The newest warning of each reason; by reason, for what comes by turns must not look like news."""
    if events is None:
        return "the reason is in its Events, which may not be listed from here"
    newest: dict[str, Object] = {}
    for each in sorted(events, key=_last_seen):
        if each.get("type") == "Warning":
            newest[each.get("reason", "")] = each
    return "; ".join(f"{reason}: {each.get('message', '')}" for reason, each in sorted(newest.items()))


def _last_seen(event: Mapping[str, Any]) -> datetime:
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    found = next(filter(None, times), None) or event["metadata"].get("creationTimestamp")
    return datetime.fromtimestamp(0, UTC) if found is None else datetime.fromisoformat(found)


def _held_since(pod: Object) -> datetime:
    metadata, status = pod["metadata"], pod.get("status") or {}
    if "deletionTimestamp" in metadata:
        # It names the end of the grace period.
        return datetime.fromisoformat(metadata["deletionTimestamp"])
    if status.get("phase") == "Running":
        for condition in status.get("conditions") or ():
            if condition["type"] == "Ready" and condition.get("lastTransitionTime"):
                return datetime.fromisoformat(condition["lastTransitionTime"])
    return datetime.fromisoformat(metadata["creationTimestamp"])


def _state(pod: Object) -> str:
    """Where neither the Pod nor an Event says why."""
    node = (pod.get("spec") or {}).get("nodeName")
    where = f" on node {node}" if node else ""
    if "deletionTimestamp" in pod["metadata"]:
        return f"it is being deleted{where} and does not end; the node may be gone"
    phase = (pod.get("status") or {}).get("phase", "Pending")
    return f"it is {phase}{where}, and no Event says why"
