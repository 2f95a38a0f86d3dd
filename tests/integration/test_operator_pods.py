"""A Pod that is missing or does not run: the test writes what the Job controller and the kubelet would."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from integration.operator_rig import Rig
from integration.turns import reconciler, seen
from segviz_operator.checkup import pods as checkup
from segviz_operator.checkup.finding import Verdict
from segviz_operator.cluster.api.client import EVENTS, FEDERATIONS, JOBS, PODS, SITES, Kind

QUOTA = "Error creating: pods is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1"
ATTACH = "Multi-Attach error for volume pvc-1: it is used by another node"
STUCK_AFTER = ("--stuck-after-seconds", "2")


@pytest.fixture
def held(rig: Rig) -> dict[str, Any]:
    """basel's Job, which nobody runs; bern trains."""
    rig.options = STUCK_AFTER
    rig.runner.held.add(f"{rig.tag}-basel")
    rig.begin("basel", "bern", participation={"minSites": 1}, rounds=100)
    rig.start_operator()
    found: dict[str, Any] = rig.until(lambda: next(iter(rig.cluster.list(JOBS, f"{rig.tag}-basel")), None))
    return found


def tell(rig: Rig, about: dict[str, Any], kind: str, reason: str, message: str) -> None:
    metadata = about["metadata"]
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    involved = {"kind": kind, **{name: metadata[name] for name in ("namespace", "name", "uid")}}
    rig.cluster.create(
        EVENTS,
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata['name']}.{reason.lower()}", "namespace": metadata["namespace"]},
            "involvedObject": involved,
            "type": "Warning",
            "reason": reason,
            "message": message,
            "firstTimestamp": now,
            "lastTimestamp": now,
        },
    )


def give_pod(rig: Rig, job: dict[str, Any]) -> dict[str, Any]:
    metadata, spec = job["metadata"], job["spec"]["template"]["spec"]
    labels = {"batch.kubernetes.io/job-name": metadata["name"]}
    # The account is the API server's own business, and nobody has made this one here.
    spec = {name: value for name, value in spec.items() if name != "serviceAccountName"}
    place = {"name": f"{metadata['name']}-pod", "namespace": metadata["namespace"]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {**place, "labels": labels}, "spec": spec}
    made = rig.cluster.create(PODS, pod)
    waiting = {"waiting": {"reason": "ContainerCreating"}}
    container = {"name": "trainer", "image": "x", "imageID": "", "ready": False, "restartCount": 0}
    status = {"phase": "Pending", "containerStatuses": [{**container, "state": waiting}]}
    rig.cluster.merge(PODS, place["namespace"], place["name"], {"status": status}, "status")
    return made


def until_degraded(rig: Rig, reason: str) -> dict[str, Any]:
    found: dict[str, Any] = rig.until(
        lambda: next(
            (
                each
                for each in rig.status().get("conditions", ())
                if (each["type"], each["status"], each["reason"]) == ("Degraded", "True", reason)
            ),
            None,
        )
    )
    return found


def told_of_site(rig: Rig, alias: str) -> set[tuple[str, str]]:
    """Type and reason of what holds, in the site's own status."""
    site = rig.cluster.get(SITES, f"{rig.tag}-{alias}", alias)
    conditions = ((site or {}).get("status") or {}).get("conditions") or ()
    return {(each["type"], each["reason"]) for each in conditions if each["status"] == "True"}


def test_a_job_without_a_pod_is_told_to_both_sides_and_forgotten_when_it_runs(
    rig: Rig, held: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    tell(rig, held, "Job", "FailedCreate", QUOTA)
    assert QUOTA in until_degraded(rig, "PodMissing")["message"]
    assert rig.site("basel")["reason"] == "PodMissing"
    assert rig.site("basel")["ready"] is False
    ready = rig.until_condition("Ready", status="False")
    assert (ready["reason"], QUOTA in ready["message"]) == ("PodMissing", True)
    rig.until(lambda: "DegradedPodMissing" in rig.events() and "PodMissing" in rig.events())
    # Its owner sees it too, who may not read the federation's namespace.
    rig.until(lambda: rig.events(f"{rig.tag}-basel") == ["PodMissing"])
    rig.until(lambda: ("Degraded", "PodMissing") in told_of_site(rig, "basel"))
    monkeypatch.setattr(checkup, "PATIENCE", timedelta(seconds=1))
    where = (rig.cluster, f"{rig.tag}-basel", f"{rig.tag}/abdomen")
    (finding,) = checkup.check_pods(*where, of_sites=True)
    assert (finding.verdict, QUOTA in finding.what) == (Verdict.BAD, True)
    rig.runner.held.clear()
    rig.until_condition("Degraded", status="False")
    assert rig.until_condition("Ready")["reason"] in ("Pending", "Training")
    assert "reason" not in rig.site("basel")
    rig.until(lambda: "Recovered" in rig.events())


def test_a_pod_whose_volume_is_attached_elsewhere_is_named(rig: Rig, held: dict[str, Any]):
    tell(rig, give_pod(rig, held), "Pod", "FailedAttachVolume", ATTACH)
    message = until_degraded(rig, "PodStuck")["message"]
    assert f"FailedAttachVolume: {ATTACH}" in message
    rig.until(lambda: rig.events(f"{rig.tag}-basel") == ["PodStuck"])


def test_the_api_server_keeps_what_a_disruption_means(rig: Rig):
    """It drops what it does not know."""
    rig.begin("basel", "bern")
    reconciler(rig.cluster).reconcile(seen(rig))
    assert len(rig.jobs()) == 3
    for job in rig.jobs().values():
        spec = job["spec"]
        assert spec["podReplacementPolicy"] == "Failed"
        assert [rule["action"] for rule in spec["podFailurePolicy"]["rules"]] == [
            "FailJob",
            "Ignore",
            "Ignore",
        ]
        assert spec["template"]["spec"]["terminationGracePeriodSeconds"] == 120


def test_kubectl_shows_whether_all_is_well(rig: Rig):
    """The tables that `kubectl get svf` and `kubectl get svs` print."""
    rig.begin("basel", "bern")
    rig.edit_site("bern", {"spec": {"trainer": {"image": None}}})
    turns = reconciler(rig.cluster)
    turns.reconcile(seen(rig))
    columns, (row,) = table(rig, FEDERATIONS, rig.tag)
    assert columns == ["Name", "Ready", "Reason", "Round", "Sites ready", "Mean Dice", "Age"]
    assert row[:3] == ["abdomen", "False", "SiteIncomplete"]
    (basel,) = [site for site in seen(rig).sites.values() if site.name == "basel"]
    turns.tell_site(basel, [rig.federation() or {}])
    columns, (row,) = table(rig, SITES, f"{rig.tag}-basel")
    assert columns == ["Name", "Ready", "Reason", "Role", "Suspended", "Age"]
    assert row[:4] == ["basel", "True", "TakesPart", "Training"]


def table(rig: Rig, kind: Kind, namespace: str) -> tuple[list[str], list[list[Any]]]:
    """Columns without those of `-o wide`, and cells."""
    client = rig.apiserver.client()
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
    request = client.param_serialize(
        "GET", kind.path(namespace), auth_settings=["BearerToken"], header_params={"Accept": accept}
    )
    answer = json.loads(client.call_api(*request).read())
    shown = [i for i, each in enumerate(answer["columnDefinitions"]) if each["priority"] == 0]
    names = [answer["columnDefinitions"][i]["name"] for i in shown]
    return names, [[row["cells"][i] for i in shown] for row in answer["rows"]]
