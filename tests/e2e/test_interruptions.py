"""Whatever dies or goes away for a while: Complete, with the bits of an undisturbed run."""

import itertools
from collections.abc import Callable

import pytest
from federation import Federation, Make
from install import SYSTEM
from kube import until
from node import Node, pause
from one_machine import Reference

ROLES = ("trainer", "aggregator")


def assert_undisturbed(federation: Federation, reference: Reference) -> None:
    federation.wait_for("Complete")
    assert federation.bucket().rounds() == reference.rounds
    assert federation.bucket().exported() == reference.exported


def test_the_operator_may_be_killed_in_every_phase(make: Make, reference: Reference) -> None:
    """It is killed once in each phase that shows; the next one takes up the work from what it reads."""
    federation = make("operator-killed")
    federation.apply()
    killed: list[str] = []

    def kill_in_a_new_phase() -> bool:
        # One look says both which phase it is and whether it is the last one.
        phase = federation.status().get("phase", "")
        if phase and phase not in killed:
            kill_operator(federation)
            killed.append(phase)
        return phase == "Complete"

    until("Complete, the operator killed in each phase", 400, kill_in_a_new_phase)
    assert {"Training", "Complete"} <= set(killed), killed
    assert len(killed) >= 3, killed
    assert_undisturbed(federation, reference)


def test_a_trainer_may_be_deleted_in_an_epoch(make: Make, reference: Reference) -> None:
    """Its Job's next Pod goes on from the checkpoint, or the next attempt's where it had no time to stop."""
    federation = make("trainer-killed")
    federation.apply()
    federation.wait_for_round(1)
    until("bern trains", 60, lambda: is_training(federation, "bern"))
    federation.kill("trainer", "bern")
    assert_undisturbed(federation, reference)
    assert leases(federation, "bern") > 1


def test_a_node_may_be_drained_for_maintenance(make: Make, reference: Reference) -> None:
    """Each trainer and the aggregator are evicted, as `kubectl drain` does it.

    Nobody is left out, no attempt is counted as failed, and the Jobs stay the same: each makes another Pod.
    """
    federation = make("drained")
    federation.apply()
    federation.wait_for_round(1)
    jobs = {job["metadata"]["uid"] for role in ROLES for job in federation.jobs(role)}
    for alias in federation.scene.training:
        federation.evict("trainer", alias)
        assert_replaced(federation, "trainer", alias)
    federation.evict("aggregator")
    assert_replaced(federation, "aggregator")
    assert_undisturbed(federation, reference)
    assert {job["metadata"]["uid"] for role in ROLES for job in federation.jobs(role)} == jobs
    assert not [each for each in federation.events() if each["reason"] == "SiteLeftOut"]
    for alias in federation.scene.training:
        assert leases(federation, alias) == 2


@pytest.mark.full
def test_a_site_evicted_more_often_than_it_may_fail_is_not_left_out(make: Make, reference: Reference) -> None:
    """Seven times in a row; six failures would have been the end of it."""
    federation = make("evicted")
    federation.apply()
    federation.wait_for_round(0)
    for _ in range(7):
        federation.evict("trainer", "bern")
        # The Job controller waits longer before each new Pod.
        assert_replaced(federation, "trainer", "bern", seconds=700)
    federation.wait_for("Complete", 900)
    assert_undisturbed(federation, reference)
    assert len(federation.jobs("trainer", "bern")) == 1


def test_the_aggregator_may_be_killed_between_upload_and_commit(make: Make, reference: Reference) -> None:
    """Updates of a round are there and its record is not: the next aggregator closes and commits it."""
    federation = make("aggregator-killed")
    federation.apply()
    federation.wait_for_round(0)
    pod = federation.running_pod("aggregator")["metadata"]
    round_ = until("updates without a round", 60, uncommitted(federation))
    federation.kube.delete("pod", pod["name"], pod["namespace"], force=True)
    assert round_ >= 1
    assert_undisturbed(federation, reference)


@pytest.mark.full
def test_the_store_may_be_away_for_a_minute(make: Make, node: Node, reference: Reference) -> None:
    """Pods wait for it and no Job fails."""
    federation = make("store-away")
    federation.apply()
    federation.wait_for_round(1)
    with node.away("minio"):
        until(
            "the status says so",
            60,
            lambda: federation.condition("Degraded").get("reason") == "StoreUnavailable",
        )
        pause(60)
    assert_undisturbed(federation, reference)
    assert len(federation.jobs("trainer")) == 3


@pytest.mark.full
def test_kubelet_may_be_restarted(make: Make, node: Node, reference: Reference) -> None:
    """Pods go on meanwhile."""
    federation = make("kubelet-away")
    federation.apply()
    federation.wait_for_round(1)
    node.restart("kubelet")
    assert_undisturbed(federation, reference)


def assert_replaced(federation: Federation, role: str, site: str | None = None, seconds: float = 180) -> None:
    """The Pod that was evicted is gone, and its Job has made another, which runs."""

    def another() -> bool:
        # `pods` leaves out those that are being deleted. A role that has done its work needs no other.
        done = any(job["status"].get("succeeded") for job in federation.jobs(role, site))
        return done or bool(federation.pods(role, site))

    until(f"another {role} of {site or federation.name}", seconds, another)
    for job in federation.jobs(role, site):
        assert not job["status"].get("failed"), job["status"]


def leases(federation: Federation, alias: str) -> int:
    """How many processes the site has had."""
    return len(federation.bucket().keys(f"sites/{alias}/leases/"))


def kill_operator(federation: Federation) -> None:
    pods = federation.kube.listed("pods", SYSTEM, **{"app.kubernetes.io/component": "operator"})
    for pod in pods:
        federation.kube.delete("pod", pod["metadata"]["name"], SYSTEM, force=True)


def is_training(federation: Federation, alias: str) -> bool:
    progress = federation.bucket().find(f"sites/{alias}/progress.json") or {}
    return progress.get("phase") == "Training" and progress.get("epoch") is not None


def uncommitted(federation: Federation) -> Callable[[], int]:
    """The round of which updates are there and the commit is not; 0 for none."""
    bucket = federation.bucket()

    def look() -> int:
        updates = [bucket.keys(f"sites/{alias}/updates/") for alias in federation.scene.training]
        newest = max((int(key.split("/")[3]) for key in itertools.chain(*updates)), default=0)
        return newest if f"global/rounds/{newest:04d}.json" not in bucket.keys("global/rounds/") else 0

    return look
