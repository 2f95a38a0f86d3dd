"""Two operators at once do no harm, and one that has nothing to do asks for nothing."""

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from integration.operator_rig import Rig
from integration.turns import reconciler, seen
from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import read
from segviz_exchange.contract.records import Round
from segviz_operator.cluster.api.client import JOBS, Cluster
from segviz_operator.cluster.api.names import ATTEMPT, RETRY, SITE


def digests(rig: Rig, name: str) -> list[str]:
    store = rig.store(name)
    return [read(store, keys.round_record(number), Round).blob for number in range(4)]


@pytest.mark.full
def test_two_operators_come_to_the_same_end_without_a_job_too_many(rig: Rig):
    rig.give_store()
    for alias in ("basel", "bern"):
        rig.give_site(alias, federations=("abdomen", "alone"))
        for name in ("abdomen", "alone"):
            rig.consent(alias, name)
    (rig.data[f"{rig.tag}-bern"] / "crash").write_text("1", encoding="utf-8")
    rig.start_operator()
    rig.start_operator()
    rig.describe("basel", "bern")
    rig.until(lambda: rig.status().get("phase") == "Complete", seconds=180)
    made = Counter(run.job["metadata"]["name"] for run in rig.runner._runs.values())
    attempts = Counter(
        (run.job["metadata"]["labels"]["segviz.dev/role"], run.job["metadata"]["labels"].get(SITE))
        for run in rig.runner._runs.values()
    )
    assert set(made.values()) == {1}
    assert attempts == {
        ("aggregator", None): 1,
        ("trainer", "basel"): 1,
        ("trainer", "bern"): 2,
        ("export", None): 1,
    }
    assert [entry.key for entry in rig.store().list(keys.CONTROLS)] == [keys.control(1)]
    # Whoever has seen the newest status writes the next one, and tells of it.
    assert Counter(rig.events())["RoundCommitted"] <= len(digests(rig, "abdomen"))
    assert Counter(rig.events())["Complete"] == 1
    assert not any(operator.poll() for operator in rig.operators)
    rig.stop_operator()
    rig.start_operator()
    rig.describe("basel", "bern", name="alone")
    rig.until(lambda: rig.status("alone").get("phase") == "Complete", seconds=180)
    assert digests(rig, "abdomen") == digests(rig, "alone")


@dataclass
class Counting:
    """The API server, and what it is asked for."""

    cluster: Cluster
    asked: Counter[str] = field(default_factory=Counter)

    def __getattr__(self, name: str) -> Any:
        act = getattr(self.cluster, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            self.asked[name] += 1
            return act(*arguments, **options)

        return counted


def test_an_idle_federation_asks_the_api_server_for_nothing(rig: Rig):
    """A minute of turns, ten seconds apart, while both sites train one long epoch."""
    for folder in rig.data.values():
        (folder / "seconds").write_text("60", encoding="utf-8")
    rig.begin("basel", "bern")
    rig.start_operator()
    rig.until(lambda: all(rig.site(alias).get("phase") == "Training" for alias in ("basel", "bern")))
    rig.stop_operator()
    cluster = Counting(rig.cluster)
    turns = reconciler(cluster)
    turns.reconcile(seen(rig))
    cluster.asked.clear()
    for _ in range(6):
        turns.reconcile(seen(rig))
    assert cluster.asked == {}


def test_a_status_that_somebody_else_has_written_meanwhile_is_not_overwritten(rig: Rig):
    rig.begin("basel", "bern")
    turns = reconciler(rig.cluster)
    turns.reconcile(seen(rig))
    before = seen(rig)
    rig.edit({"metadata": {"labels": {"somebody": "else"}}})
    newest = rig.federation()
    assert newest is not None
    stale = replace(before, raw={**before.raw, "status": {}})
    done = reconciler(rig.cluster).reconcile(stale)
    assert done.told is False
    assert rig.federation() == newest


def test_a_job_that_the_watch_has_not_shown_yet_is_not_made_again(rig: Rig):
    """Another operator has come to basel's second attempt; this one still sees none at all."""
    rig.begin("basel", "bern")
    turns = reconciler(rig.cluster)
    turns.reconcile(seen(rig))
    (first,) = rig.cluster.list(JOBS, f"{rig.tag}-basel")
    metadata = first["metadata"]
    labels = {**metadata["labels"], ATTEMPT: "2"}
    rig.cluster.delete(JOBS, metadata["namespace"], metadata["name"], "Background")
    second = {**{each: metadata[each] for each in ("namespace", "ownerReferences")}, "labels": labels}
    second["name"] = metadata["name"].removesuffix("-1") + "-2"
    template = first["spec"]["template"]["spec"]
    spec = {"suspend": True, "backoffLimit": 0, "template": {"spec": template}}
    made = {"apiVersion": "batch/v1", "kind": "Job", "metadata": second, "spec": spec}
    rig.cluster.create(JOBS, made)
    turns.reconcile(replace(seen(rig), jobs=()))
    assert [job["metadata"]["name"] for job in rig.cluster.list(JOBS, f"{rig.tag}-basel")] == [second["name"]]


def test_a_manifest_that_is_applied_for_ever_asks_for_another_try_once(rig: Rig):
    """As a GitOps tool does it. Each attempt of basel's is refused, which its Job alone still tells."""
    rig.runner.held.update(rig.namespaces)
    rig.begin("basel", "bern")
    turns = reconciler(rig.cluster)

    def attempt_after_a_refusal() -> str:
        (job,) = rig.cluster.list(JOBS, f"{rig.tag}-basel")
        fail(rig, job)
        turns.reconcile(seen(rig))
        (job,) = rig.cluster.list(JOBS, f"{rig.tag}-basel")
        return str(job["metadata"]["labels"][ATTEMPT])

    turns.reconcile(seen(rig))
    rig.edit({"metadata": {"annotations": {RETRY: "monday"}}})
    assert attempt_after_a_refusal() == "2"
    assert rig.status()["lastHandledRetry"] == "monday"
    assert attempt_after_a_refusal() == "2"
    assert rig.site("basel")["phase"] == "LeftOut"
    rig.edit({"metadata": {"annotations": {RETRY: "tuesday"}}})
    turns.reconcile(seen(rig))
    (job,) = rig.cluster.list(JOBS, f"{rig.tag}-basel")
    assert job["metadata"]["labels"][ATTEMPT] == "3"


def fail(rig: Rig, job: dict[str, Any]) -> None:
    """As the Job controller does at exit code 2, the Pod already gone."""
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    conditions = [
        {
            "type": type_,
            "status": "True",
            "reason": "PodFailurePolicy",
            "message": "",
            "lastTransitionTime": now,
            "lastProbeTime": now,
        }
        for type_ in ("FailureTarget", "Failed")
    ]
    place = (job["metadata"]["namespace"], job["metadata"]["name"])
    begun = {"startTime": now, "active": 1, "uncountedTerminatedPods": {}}
    rig.cluster.merge(JOBS, *place, {"status": begun}, "status")
    ended = {"active": 0, "ready": 0, "failed": 1, "conditions": conditions}
    rig.cluster.merge(JOBS, *place, {"status": ended}, "status")
