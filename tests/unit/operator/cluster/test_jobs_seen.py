"""Jobs and Pods of the cluster as the workloads that `decide` knows."""

import json
from typing import Any

import pytest

from segviz_exchange.process.exits import Exit
from segviz_operator.cluster.objects.jobs import JobSeen, job_seen, newest, superseded, workload_of
from segviz_operator.cluster.objects.pods import End, Waiting, end_of, last_words, waiting_reason
from segviz_operator.plan.workload import WorkloadRole, WorkloadState

MOMENT = "2026-11-24T12:00:00Z"


def job(
    attempt: int = 1, condition: str | None = None, reason: str = "BackoffLimitExceeded", **metadata: Any
) -> JobSeen:
    status: dict[str, Any] = {"startTime": MOMENT, "ready": 1}
    if condition:
        ended = {"type": condition, "status": "True", "reason": reason}
        status = {"startTime": MOMENT, "conditions": [{**ended, "lastTransitionTime": MOMENT}]}
    labels = {"segviz.dev/role": "trainer", "segviz.dev/site": "basel", "segviz.dev/attempt": str(attempt)}
    found = job_seen(
        {
            "metadata": {
                "namespace": "basel",
                "name": f"job-{attempt}",
                "uid": f"uid-{attempt}",
                "labels": labels,
                "annotations": {"segviz.dev/failures": "2", "segviz.dev/milestone": "7"},
                **metadata,
            },
            "spec": {},
            "status": status,
        }
    )
    assert found is not None
    return found


def pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"creationTimestamp": MOMENT}, "status": status}


def ended(code: int, message: str = "", reason: str = "Error") -> dict[str, Any]:
    terminated = {"exitCode": code, "message": message, "reason": reason}
    mesh = {"name": "istio-proxy", "state": {"terminated": {"exitCode": 0, "message": "bye"}}}
    return pod(containerStatuses=[mesh, {"name": "trainer", "state": {"terminated": terminated}}])


def waits(reason: str, message: str = "") -> dict[str, Any]:
    return pod(containerStatuses=[{"state": {"waiting": {"reason": reason, "message": message}}}])


def test_a_running_job():
    workload = workload_of(job(), None, Waiting())
    assert (workload.role, workload.site, workload.attempt) == (WorkloadRole.TRAINER, "basel", 1)
    assert (workload.failures, workload.milestone, workload.running) == (2, 7, True)


@pytest.mark.parametrize(
    ("condition", "state"), [("Complete", WorkloadState.SUCCEEDED), ("Failed", WorkloadState.FAILED)]
)
def test_an_ended_job(condition: str, state: WorkloadState):
    workload = workload_of(job(condition=condition), End(2, "refused"), Waiting())
    assert (workload.state, workload.exit_code, workload.message) == (state, 2, "refused")


def test_a_failed_job_whose_pod_is_gone_has_no_exit_code_but_the_jobs_reason():
    workload = workload_of(job(condition="Failed"), None, Waiting())
    assert (workload.exit_code, workload.message) == (None, "BackoffLimitExceeded")


def test_a_refusal_is_told_by_the_job_where_its_pod_is_gone():
    workload = workload_of(job(condition="Failed", reason="PodFailurePolicy"), None, Waiting())
    assert workload.exit_code == Exit.REFUSED


def test_a_job_that_is_stuck_says_how():
    workload = workload_of(job(), None, Waiting("exceeded quota", "PodMissing"))
    assert (workload.message, workload.stuck) == ("exceeded quota", "PodMissing")
    assert workload_of(job(condition="Failed"), End(1, "boom"), Waiting()).stuck == ""


def test_a_job_being_deleted_runs_until_its_pod_is_gone():
    assert workload_of(job(condition="Failed", deletionTimestamp=MOMENT), None, Waiting()).running


def test_a_job_with_our_labels_that_is_not_ours_is_nobody():
    assert job_seen({"metadata": {"labels": {"segviz.dev/role": "cook"}}, "spec": {}}) is None


def test_the_newest_attempt_counts_and_the_others_go():
    jobs = [job(2), job(10), job(9, deletionTimestamp=MOMENT)]
    assert [each.attempt for each in newest(jobs)] == [10]
    assert [each.attempt for each in superseded(jobs)] == [2]


ENDS = {
    "a sentence": (ended(2, "2026-11-24 12:00:00,1 ERROR no such organ"), End(2, "no such organ")),
    "a JSON line": (ended(1, json.dumps({"level": "ERROR", "message": "gave up"})), End(1, "gave up")),
    "a traceback": (
        ended(1, "Traceback (most recent call last):\n  …\nKeyError: 'x'\n"),
        End(1, "KeyError: 'x'"),
    ),
    "out of memory": (
        ended(137, reason="OOMKilled"),
        End(137, "out of memory (OOMKilled); raise the memory limit"),
    ),
    "evicted": (pod(reason="Evicted", message="disk pressure"), End(None, "Evicted: disk pressure")),
}


@pytest.mark.parametrize(("found", "expected"), ENDS.values(), ids=ENDS)
def test_how_a_pod_ended(found: dict[str, Any], expected: End):
    assert end_of([found], "trainer") == expected


UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no GPU"}
WAITING = {
    "its image": (waits("ImagePullBackOff", "no such image"), "ImagePullBackOff: no such image"),
    "a node": (pod(conditions=[UNSCHEDULABLE]), "Unschedulable: no GPU"),
    "a sidecar": (
        pod(
            initContainerStatuses=[{"state": {"waiting": {"reason": "ErrImagePull", "message": "no proxy"}}}],
            containerStatuses=[{"state": {"waiting": {"reason": "PodInitializing"}}}],
        ),
        "ErrImagePull: no proxy",
    ),
    "nothing": (waits("ContainerCreating"), ""),
}


@pytest.mark.parametrize(("found", "expected"), WAITING.values(), ids=WAITING)
def test_what_a_pod_waits_for(found: dict[str, Any], expected: str):
    assert waiting_reason([found]) == expected


def test_last_words_are_bounded():
    assert len(last_words("x" * 5000)) == 1000
    assert last_words("") == ""
