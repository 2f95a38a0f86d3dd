"""Editing, suspending, retrying, deleting, upgrading: what people do to a federation that runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from federation import KIND, Make, member
from hospitals import Scene
from install import COORDINATOR, OTHER_COORDINATOR, Installation, allowed
from kube import Kube, KubectlFailed, until
from one_machine import Reference

from builders.mistakes import MISTAKES, Mistake

SEGVIZ = Path(sys.executable).with_name("segviz")
FIRST_ROUNDS = {"rounds": 40}


def test_a_suspended_federation_goes_on_where_it_was(make: Make, reference: Reference) -> None:
    """Suspended: no Pod runs and nothing is lost. Resumed: Complete, with the bits of an undisturbed run."""
    federation = make("suspended")
    federation.apply()
    federation.wait_for_round(1)
    federation.apply(suspend=True)
    federation.wait_for("Suspended")
    until("no trainer runs", 120, lambda: not federation.pods("trainer"))
    rounds = federation.bucket().rounds()
    federation.apply(suspend=False)
    federation.wait_for("Complete")
    assert rounds.items() <= federation.bucket().rounds().items()
    assert federation.bucket().rounds() == reference.rounds
    assert federation.bucket().exported() == reference.exported


def test_a_failed_federation_is_retried_once_its_cause_is_mended(
    make: Make, installation: Installation, scene: Scene, reference: Reference
) -> None:
    """bern's folder is not there: Failed, and the message names it. Mended and asked to retry: Complete."""
    bern = next(each for each in scene.hospitals if each.name == "bern")
    installation.site(bern, allowed(), dataSets=[{**bern.data_set, "path": "not-there"}])
    federation = make("retried")
    try:
        federation.apply()
        federation.wait_for("Failed")
        assert "bern" in federation.condition("Failed")["message"]
    finally:
        installation.site(bern, allowed())
    federation.kube.run(
        "annotate", KIND, federation.name, f"--namespace={federation.namespace}", "segviz.dev/retry=now"
    )
    until("it does not count as failed", 90, lambda: not federation.holds("Failed"))
    federation.wait_for("Complete")
    assert federation.bucket().exported() == reference.exported


def test_a_deleted_federation_leaves_nothing_in_the_cluster(make: Make) -> None:
    """Deleted mid-run: gone within a minute with all that was made for it. The bucket keeps its records."""
    federation = make("deleted", **FIRST_ROUNDS)
    federation.apply()
    federation.wait_for_round(1)
    uid, bucket = federation.uid(), federation.bucket()
    federation.delete()
    until("nothing is left", 120, lambda: not federation.leftovers(uid))
    assert "global/rounds/0001.json" in bucket.keys("global/")


def test_a_deletion_policy_of_delete_empties_the_bucket(make: Make) -> None:
    """The same with deletionPolicy Delete: no key of it is left."""
    federation = make("deleted-with-bucket", **FIRST_ROUNDS, deletionPolicy="Delete")
    federation.apply()
    federation.wait_for_round(1)
    uid, bucket = federation.uid(), federation.bucket()
    federation.delete(seconds=300)
    until("nothing is left", 120, lambda: not federation.leftovers(uid))
    assert bucket.keys() == []


def test_a_site_that_loses_its_state_joins_again(
    make: Make, installation: Installation, scene: Scene, kube: Kube
) -> None:
    """bern's state is deleted mid-run, with its Pods. With a new claim it goes on from the newest model.

    All its Pods: an ended one, as that of preflight, keeps Kubernetes from deleting the claim too."""
    federation = make("state-lost", **FIRST_ROUNDS)
    federation.apply()
    federation.wait_for_round(1)
    bern = next(each for each in scene.hospitals if each.name == "bern")
    claim = kube.get("segvizsites.segviz.dev", "bern", "bern")["spec"]["state"]["persistentVolumeClaim"]
    kube.delete("pvc", claim["claimName"], "bern")
    kube.run("delete", "pods", "--all", "--namespace=bern", "--grace-period=0", "--force")
    uid = federation.uid()

    def claim_is_gone() -> bool:
        return kube.get("pvc", claim["claimName"], "bern") is None

    until("the claim is gone", 120, claim_is_gone)
    until(
        "the status says why bern waits",
        90,
        lambda: claim["claimName"] in federation.site("bern").get("message", ""),
    )
    installation.site(bern, allowed())
    federation.wait_for("Complete")
    assert federation.uid() == uid


def test_a_chart_may_be_upgraded_while_a_federation_runs(
    make: Make, installation: Installation, scene: Scene, reference: Reference
) -> None:
    """Operator and site are upgraded mid-run: Complete, with the bits of an undisturbed run."""
    federation = make("upgraded")
    federation.apply()
    federation.wait_for_round(1)
    installation.operator(podAnnotations={"upgraded": "yes"})
    basel = next(each for each in scene.hospitals if each.name == "basel")
    installation.site(
        basel, allowed(), trainer=installation.trainer_values(tolerations=[{"operator": "Exists"}])
    )
    federation.wait_for("Complete")
    assert federation.bucket().rounds() == reference.rounds
    installation.site(basel, allowed())


@pytest.mark.full
def test_two_federations_share_sites_and_a_name(make: Make, reference: Reference) -> None:
    """radiology/twin and oncology/twin at the same sites at once: both Complete with the same bits,
    each under its own prefix; deleting one leaves the other's objects alone."""
    twins = [make("twin", COORDINATOR), make("twin", OTHER_COORDINATOR)]
    for twin in twins:
        twin.apply()
    for twin in twins:
        twin.wait_for("Complete", seconds=600)
        assert twin.bucket().rounds() == reference.rounds
        assert twin.bucket().exported() == reference.exported
    assert twins[0].bucket().prefix != twins[1].bucket().prefix
    before = sorted(twins[1].leftovers(twins[1].uid()))
    twins[0].delete()
    assert sorted(twins[1].leftovers(twins[1].uid())) == before


NAMELESS = "resource name may not be empty"  # kubectl itself says so, of a manifest without a name


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_refused_with_its_field_and_its_fix(
    kube: Kube, mistake: Mistake, tmp_path: Path
) -> None:
    """The API server refuses each and names the field, or what holds it; `segviz validate` says the fix."""
    file = tmp_path / "mistake.json"
    file.write_text(json.dumps(mistake.manifest), encoding="utf-8")
    with pytest.raises(KubectlFailed) as refused:
        kube.run("apply", "--dry-run=server", "-f", str(file))
    message = str(refused.value)
    holder = mistake.path.rpartition(".")[0]
    assert mistake.path in message or ("." in holder and holder in message) or NAMELESS in message
    validated = subprocess.run([SEGVIZ, "validate", file], capture_output=True, encoding="utf-8", timeout=60)
    assert validated.returncode == 2
    said = " ".join((validated.stdout + validated.stderr).split())
    assert mistake.path in said
    for words in mistake.says:
        assert " ".join(words.split()) in said


LATER = {
    "a store's Secret that is not there": (
        {
            "store": {
                "endpoint": "http://10.199.0.1:9000",
                "bucket": "segviz-e2e",
                "secretRef": {"name": "nowhere"},
            }
        },
        ("nowhere",),
    ),
    "a site that is not there": ({"sites": [member("basel"), member("genf")]}, ("genf",)),
}


@pytest.mark.parametrize(("changes", "says"), LATER.values(), ids=LATER)
def test_what_only_the_operator_can_see_is_told_in_a_condition(
    make: Make, changes: dict, says: tuple
) -> None:
    """The federation is there, Accepted is False, and its message says what to mend."""
    federation = make("whole", **changes)
    federation.apply()
    until("Accepted is False", 60, lambda: federation.condition("Accepted").get("status") == "False")
    for words in says:
        assert words in federation.condition("Accepted")["message"]
