"""Whatever dies or goes away for a while: Complete, with the bits of an undisturbed run."""

import itertools
from collections.abc import Callable

from federation import Federation, Make
from install import SYSTEM
from kube import until
from node import Node, pause
from one_machine import Reference


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
    """Its Job's next attempt goes on from the checkpoint."""
    federation = make("trainer-killed")
    federation.apply()
    federation.wait_for_round(1)
    until("bern trains", 60, lambda: is_training(federation, "bern"))
    federation.kill("trainer", "bern")
    assert_undisturbed(federation, reference)
    attempts = [job["metadata"]["labels"]["segviz.dev/attempt"] for job in federation.jobs("trainer", "bern")]
    assert max(map(int, attempts)) > 1


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


def test_kubelet_may_be_restarted(make: Make, node: Node, reference: Reference) -> None:
    """Pods go on meanwhile."""
    federation = make("kubelet-away")
    federation.apply()
    federation.wait_for_round(1)
    node.restart("kubelet")
    assert_undisturbed(federation, reference)


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
