"""When a Pod that does not run is called stuck, and in whose words."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from segviz_operator.cluster.api.client import Forbidden, Kind
from segviz_operator.cluster.objects.jobs import JobSeen, job_seen
from segviz_operator.cluster.objects.pods import Waiting
from segviz_operator.cluster.objects.waiting import active_pod, look_at_pod, look_for_pod

NOW = datetime(2026, 11, 24, 12, 10, tzinfo=UTC)
BEGAN = "2026-11-24T12:00:00Z"
"""Ten minutes ago."""
PATIENCE = timedelta(minutes=2)
QUOTA = "Error creating: pods is forbidden: exceeded quota: gpus"


@dataclass
class Told:
    """An API server with these Events."""

    events: list[dict[str, Any]] = field(default_factory=list)
    forbidden: bool = False

    def list(self, kind: Kind, namespace: str, **selectors: str) -> list[dict[str, Any]]:
        assert kind.plural == "events"
        assert selectors["fieldSelector"].startswith("involvedObject.uid=")
        if self.forbidden:
            raise Forbidden("403")
        return self.events


def event(reason: str, message: str, minute: int = 5, type_: str = "Warning") -> dict[str, Any]:
    moment = f"2026-11-24T12:{minute:02}:00Z"
    told = {"reason": reason, "message": message, "type": type_, "lastTimestamp": moment}
    return {"metadata": {"creationTimestamp": moment}, **told}


def job(**status: Any) -> JobSeen:
    labels = {"segviz.dev/role": "trainer", "segviz.dev/site": "basel", "segviz.dev/attempt": "1"}
    metadata = {"namespace": "basel", "name": "job-1", "uid": "u", "labels": labels}
    seen = job_seen({"metadata": metadata, "spec": {}, "status": {"startTime": BEGAN, **status}})
    assert seen is not None
    return seen


def pod(
    phase: str = "Pending", created: str = BEGAN, deleted: str | None = None, **status: Any
) -> dict[str, Any]:
    metadata = {"namespace": "basel", "name": "pod-1", "uid": "p", "creationTimestamp": created}
    gone = {} if deleted is None else {"deletionTimestamp": deleted}
    return {
        "metadata": metadata | gone,
        "spec": {"nodeName": "node-7"},
        "status": {"phase": phase, **status},
    }


CREATING = {"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}
NO_IMAGE = {
    "containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]
}
ATTACH = event("FailedAttachVolume", "Multi-Attach error for volume pvc-1")
MOUNT = event("FailedMount", "timed out waiting for the condition", 6)
AFTER = {"type": "Ready", "status": "False", "lastTransitionTime": "2026-11-24T12:09:30Z"}

PODS: dict[str, tuple[dict[str, Any], list[dict[str, Any]], str, str]] = {
    "its volume is attached elsewhere": (
        pod(**CREATING),
        [event("Scheduled", "assigned", 1, "Normal"), MOUNT, ATTACH],
        "PodStuck",
        "Pod pod-1 does not run: FailedAttachVolume: Multi-Attach error for volume pvc-1; "
        "FailedMount: timed out waiting for the condition",
    ),
    "its image": (pod(**NO_IMAGE), [], "PodStuck", "Pod pod-1 does not run: ImagePullBackOff: no such image"),
    "its image, for a moment": (
        pod(created="2026-11-24T12:09:00Z", **NO_IMAGE),
        [],
        "",
        "ImagePullBackOff: no such image",
    ),
    "it merely starts": (pod(created="2026-11-24T12:09:00Z", **CREATING), [ATTACH], "", ""),
    "its node is gone": (
        pod("Running", deleted="2026-11-24T12:05:00Z"),
        [],
        "PodStuck",
        "Pod pod-1 does not run: it is being deleted on node node-7 and does not end; the node may be gone",
    ),
    "it is being stopped": (pod("Running", deleted="2026-11-24T12:11:00Z"), [], "", ""),
    "it has just ended": (pod("Running", conditions=[AFTER]), [], "", ""),
    "nobody says why": (
        pod(),
        [],
        "PodStuck",
        "Pod pod-1 does not run: it is Pending on node node-7, and no Event says why",
    ),
}


@pytest.mark.parametrize(("found", "events", "stuck", "message"), PODS.values(), ids=PODS)
def test_a_pod_that_does_not_run(
    found: dict[str, Any], events: list[dict[str, Any]], stuck: str, message: str
):
    assert look_at_pod(Told(events), found, NOW, PATIENCE) == Waiting(message, stuck)


FAILED = event("FailedCreate", QUOTA)
MADE = event("SuccessfulCreate", "Created pod: pod-1", 4, "Normal")
MINUTE_AGO, LONG_AGO = NOW - timedelta(minutes=1), NOW - timedelta(minutes=9)
JOBS: dict[str, tuple[list[dict[str, Any]], datetime, str]] = {
    "a quota forbids it": ([FAILED], NOW, f"Job job-1 has no Pod: FailedCreate: {QUOTA}"),
    "it had one, and a quota forbids the next": (
        [MADE, FAILED],
        NOW,
        f"Job job-1 has no Pod: FailedCreate: {QUOTA}",
    ),
    "it had one a minute ago, and none before": ([event("FailedCreate", QUOTA, 1), MADE], MINUTE_AGO, ""),
    "nobody has said anything for long": (
        [],
        LONG_AGO,
        "Job job-1 has no Pod: no Event says why: the Job controller waits before it tries again, "
        "or does not run",
    ),
    "nobody has said anything yet": ([], MINUTE_AGO, ""),
}


@pytest.mark.parametrize(("events", "seen_since", "message"), JOBS.values(), ids=JOBS)
def test_a_job_without_a_pod(events: list[dict[str, Any]], seen_since: datetime, message: str):
    found = look_for_pod(Told(events), job(), NOW, PATIENCE, seen_since)
    assert found == Waiting(message, "PodMissing" if message else "")


def test_a_job_that_has_just_begun_asks_for_no_events():
    assert look_for_pod(Told(forbidden=True), job(startTime="2026-11-24T12:09:00Z"), NOW, PATIENCE, NOW) == (
        Waiting()
    )


def test_where_events_may_not_be_listed_that_is_said():
    found = look_for_pod(Told(forbidden=True), job(), NOW, PATIENCE, LONG_AGO)
    assert found.stuck == "PodMissing"
    assert "may not be listed" in found.message


def test_a_pod_that_has_ended_is_not_the_one_that_is_waited_for():
    older, newer = pod("Failed"), pod(created="2026-11-24T12:08:00Z")
    assert active_pod([older]) is None
    assert active_pod([newer, older]) is newer
