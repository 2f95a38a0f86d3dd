"""Jobs with a federation's labels that somebody else made, on a real API server: nothing comes of them."""

import copy
from typing import Any

from integration.operator_rig import Rig
from segviz_operator.cluster.api.client import FEDERATIONS, JOBS, ROLE_BINDINGS
from segviz_operator.cluster.api.names import ATTEMPT, SITE, Subject, consent_name, job_name
from segviz_operator.plan.workload import WorkloadRole

Object = dict[str, Any]
NOW = "2026-11-24T12:00:00Z"


def forge(rig: Rig, like: Object, namespace: str, name: str, owner: Object | None, ended: bool) -> str:
    """A Job that claims to be the newest attempt, suspended or failed; returns its UID."""
    labels = {**like["metadata"]["labels"], ATTEMPT: "999"}
    spec = copy.deepcopy(like["spec"])
    for written_by_the_server in ("selector", "manualSelector"):
        spec.pop(written_by_the_server, None)
    spec["template"]["metadata"]["labels"] = labels
    metadata: Object = {"name": name, "namespace": namespace, "labels": labels}
    if owner is not None:
        metadata["ownerReferences"] = [owner]
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {**spec, "suspend": not ended},
    }
    uid: str = rig.cluster.create(JOBS, job)["metadata"]["uid"]
    if ended:
        conditions = [
            {"type": each, "status": "True", "reason": "PodFailurePolicy", "message": "",
             "lastTransitionTime": NOW, "lastProbeTime": NOW}
            for each in ("FailureTarget", "Failed")
        ]  # fmt: skip
        status = {"active": 0, "ready": 0, "failed": 1, "conditions": conditions, "startTime": NOW}
        rig.cluster.merge(JOBS, namespace, name, {"status": status}, "status")
    return uid


def forge_all(rig: Rig) -> set[str]:
    """By somebody in chur, which has consented to nothing, and by basel in the name of bern.

    Returns the UIDs of those that stay: Kubernetes' own garbage collector, where it runs, removes a Job whose
    owner is of another namespace.
    """
    subject: Subject = rig.subject()
    jobs = rig.objects(JOBS)
    aggregator = next(each for each in jobs if each["metadata"]["namespace"] == rig.tag)
    trainer = next(each for each in jobs if each["metadata"]["labels"].get(SITE) == "bern")
    chur, basel = f"{rig.tag}-chur", f"{rig.tag}-basel"
    as_aggregator = job_name(subject, WorkloadRole.AGGREGATOR, None, 999)
    as_bern = job_name(subject, WorkloadRole.TRAINER, "bern", 999)
    binding = rig.cluster.get(ROLE_BINDINGS, basel, consent_name(rig.tag, "abdomen")) or {}
    consent = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "name": binding["metadata"]["name"],
        "uid": binding["metadata"]["uid"],
    }
    (federation,) = aggregator["metadata"]["ownerReferences"]
    forge(rig, aggregator, chur, as_aggregator, federation, ended=False)
    forge(rig, trainer, chur, as_bern, trainer["metadata"]["ownerReferences"][0], ended=True)
    return {
        forge(rig, trainer, basel, as_bern, consent, ended=True),
        forge(rig, aggregator, rig.tag, "an-aggregator", None, ended=False),
    }


def uids(rig: Rig) -> set[str]:
    return {each["metadata"]["uid"] for each in rig.objects(JOBS)}


def begin_with_forged_jobs(rig: Rig) -> tuple[set[str], set[str]]:
    """UIDs of the operator's Jobs, and of the forged ones that stay."""
    for folder in rig.data.values():
        (folder / "seconds").write_text("0.3", encoding="utf-8")
    rig.begin("basel", "bern")
    rig.start_operator()
    rig.until(lambda: rig.status().get("currentRound") is not None)
    own = uids(rig)
    # Whoever makes Jobs need not have Pods.
    rig.runner.held.add(f"{rig.tag}-chur")
    return own, forge_all(rig)


def test_a_federation_ends_whatever_jobs_others_make_in_its_name(rig: Rig):
    own, forged = begin_with_forged_jobs(rig)
    rig.until_condition("Complete")
    assert own | forged <= uids(rig)
    assert [site.get("phase") for site in rig.status()["sites"]] == ["Done", "Done"]
    assert "SiteLeftOut" not in rig.events()


def test_the_deletion_of_a_federation_waits_for_none_of_them_and_removes_none(rig: Rig):
    own, forged = begin_with_forged_jobs(rig)
    rig.cluster.delete(FEDERATIONS, rig.tag, "abdomen")
    rig.until(lambda: rig.federation() is None)
    rig.until(lambda: not own & uids(rig))
    assert forged <= uids(rig)
