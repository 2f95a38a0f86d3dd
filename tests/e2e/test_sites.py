"""Sites that come, go, keep silent, err or withdraw."""

from collections.abc import Iterator
from contextlib import contextmanager

from federation import Federation, Make
from hospitals import Scene
from install import COORDINATOR, SYSTEM, Installation, allowed
from kube import Kube, until
from poison import upload_nan

NOWHERE = {"kubernetes.io/hostname": "no-such-node"}


def test_a_site_may_leave_and_another_join(make: Make) -> None:
    """From basel and bern to basel and chur: the last round has the new ones, the old trainer goes."""
    federation = make("members", rounds=12)
    federation.apply(sites=("basel", "bern"))
    federation.wait_for_round(2)
    federation.apply(sites=("basel", "chur"))
    federation.wait_for("Complete")
    participants = {
        number: set(federation.bucket().record(f"global/rounds/{number:04d}.json")["participants"])
        for number in federation.bucket().rounds()
    }
    assert participants[1] == {"basel", "bern"}
    assert participants[12] == {"basel", "chur"}
    assert federation.pods("trainer", "bern") == []


def test_all_sites_may_be_replaced_but_not_by_one_edit(make: Make) -> None:
    """From basel to bern: at once it is refused, and basel goes on; by way of both it is done."""
    federation = make("replaced", rounds=30, evaluation={"sites": []})
    federation.apply(sites=("basel",))
    federation.wait_for_round(1)
    federation.apply(sites=("bern",))
    until("the edit is refused", 60, lambda: federation.condition("Accepted").get("reason") == "NoSiteStays")
    assert "basel" in federation.condition("Accepted")["message"]
    federation.wait_for_round(newest_round(federation) + 2)
    assert federation.holds("Degraded")
    federation.apply(sites=("basel", "bern"))
    until("bern has delivered", 120, lambda: federation.site("bern").get("round"))
    federation.apply(sites=("bern",))
    until("the edit is accepted", 60, lambda: not federation.site("basel"))
    federation.wait_for("Complete")
    assert federation.bucket().record("global/rounds/0030.json")["participants"] == ["bern"]


def test_a_site_that_never_answers_is_left_out_at_the_deadline(
    make: Make, installation: Installation, scene: Scene
) -> None:
    """chur's Pod finds no node. With minSites 2 the rounds close without it, and its status says why."""
    federation = make("silent", participation={"minSites": 2, "roundTimeoutSeconds": 15}, rounds=2)
    with elsewhere(installation, scene, "chur"):
        federation.apply()
        until("chur's message", 60, lambda: "no" in federation.site("chur").get("message", ""))
        federation.wait_for_round(2)
        closing = federation.bucket().record("global/closings/0002.json")
        assert [each["site"] for each in closing["participants"]] == ["basel", "bern"]
        assert [each["site"] for each in closing["exclusions"]] == ["chur"]
        assert federation.condition("Degraded")["status"] == "True"


def test_an_update_with_nan_is_quarantined(make: Make, installation: Installation, scene: Scene) -> None:
    """chur uploads NaN: rejected each time, told in status and Events, and in no model."""
    federation = make("nan", participation={"minSites": 2, "roundTimeoutSeconds": 20}, rounds=2)
    with elsewhere(installation, scene, "chur"):
        federation.apply()
        federation.wait_for_round(0)
        upload_nan(federation, "chur", like="bern", round_=1, attempt=1)
        federation.wait_for_round(1)
        bucket = federation.bucket()
        rejection = bucket.record("global/rejections/chur/0001/1.json")
        assert "NaN" in rejection["message"]
        closing = bucket.record("global/closings/0001.json")
        assert [each["site"] for each in closing["participants"]] == ["basel", "bern"]
        until("the status counts it", 30, lambda: federation.site("chur").get("rejections") == 1)
        until("an Event tells it", 30, lambda: "chur" in said(federation, "UpdateRejected"))


def test_a_foreign_federation_gets_nothing(make: Make) -> None:
    """No site allows it: no Job, no Secret anywhere, and the status names each site without consent."""
    federation = make("foreign")
    federation.apply()
    until("not accepted", 60, lambda: federation.condition("Accepted").get("status") == "False")
    message = federation.condition("Accepted")["message"]
    for alias in federation.scene.training:
        assert alias in message
    assert [each for each in federation.leftovers(federation.uid()) if f" {COORDINATOR}/" not in each] == []


def test_a_withdrawn_consent_stops_training_there(make: Make, kube: Kube) -> None:
    """chur deletes its RoleBinding mid-run, with no operator there: its Job and Secret go all the same. The
    operator, back again, goes on with the others."""
    federation = make("withdrawn", participation={"minSites": 2, "roundTimeoutSeconds": 20}, rounds=30)
    federation.apply()
    federation.wait_for_round(1)
    name = f"segviz:consent:{COORDINATOR}:withdrawn"
    binding = kube.get("rolebinding", name, "chur")
    assert binding is not None
    scale_operator(kube, 0)
    try:
        kube.delete("rolebinding", name, "chur")
        labels = {"segviz.dev/federation-uid": federation.uid()}
        made = "jobs,pods,secrets"
        until("chur is empty", 120, lambda: not kube.listed(made, "chur", **labels))
    finally:
        scale_operator(kube, 1)
    until("its status says so", 90, lambda: federation.site("chur").get("phase") == "Absent")
    federation.wait_for("Complete")
    assert federation.bucket().record("global/rounds/0030.json")["participants"] == ["basel", "bern"]
    metadata = {key: binding["metadata"][key] for key in ("name", "namespace", "labels", "annotations")}
    kube.apply({**binding, "metadata": metadata})


def newest_round(federation: Federation) -> int:
    return max(federation.bucket().rounds())


def scale_operator(kube: Kube, replicas: int) -> None:
    kube.run("scale", "deployment/segviz-operator", f"--namespace={SYSTEM}", f"--replicas={replicas}")


@contextmanager
def elsewhere(installation: Installation, scene: Scene, name: str) -> Iterator[None]:
    """A site whose Pods find no node, for as long as this lasts."""
    hospital = next(each for each in scene.hospitals if each.name == name)
    installation.site(hospital, allowed(), trainer=installation.trainer_values(nodeSelector=NOWHERE))
    try:
        yield
    finally:
        installation.site(hospital, allowed())


def said(federation: Federation, reason: str) -> str:
    return " ".join(each["message"] for each in federation.events() if each["reason"] == reason)
