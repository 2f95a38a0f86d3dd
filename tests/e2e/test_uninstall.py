"""Helm uninstall in both orders, with a federation that runs. The last tests: nothing is installed then."""

from federation import Federation, Make
from hospitals import Scene
from install import SYSTEM, Installation, allowed
from kube import Kube, until


def test_a_site_may_go_before_the_operator(make: Make, installation: Installation, scene: Scene) -> None:
    """A site's release is uninstalled mid-run: what was made there goes, the status says so."""
    federation = make("left-behind", rounds=60, participation={"minSites": 2, "roundTimeoutSeconds": 20})
    federation.apply()
    federation.wait_for_round(1)
    uid = federation.uid()
    installation.helm.uninstall("chur", "chur")
    until("chur is empty", 120, lambda: not in_namespace(federation, uid, "chur"))
    until("the status says so", 90, lambda: federation.site("chur").get("phase") == "Absent")
    chur = next(each for each in scene.hospitals if each.name == "chur")
    federation.delete()
    installation.site(chur, allowed())


def test_the_operator_may_go_before_the_sites(
    make: Make, installation: Installation, scene: Scene, kube: Kube
) -> None:
    """The operator's release is uninstalled mid-run: federation and Jobs go on; installed again,
    the operator takes it up. With it and then the sites uninstalled, nothing of either is left but the keys,
    without which no federation in the bucket could be taken up again."""
    federation = make("left-behind", rounds=60)
    federation.apply()
    federation.wait_for_round(1)
    installation.helm.uninstall("segviz", SYSTEM)
    assert federation.object() is not None
    before = max(federation.bucket().rounds())
    federation.wait_for_round(before + 2)
    installation.operator()
    federation.delete()
    for hospital in scene.hospitals:
        installation.helm.uninstall(hospital.name, hospital.name)
    installation.helm.uninstall("segviz", SYSTEM)
    kept = {SYSTEM: "segviz-operator-key", **{each.name: f"{each.name}-key" for each in scene.hospitals}}
    for where, key in kept.items():
        alone = [f"Secret/{key}"]
        until(f"{where} has its key alone", 60, lambda where=where, alone=alone: ours(kube, where) == alone)
        kube.delete("secret", key, where)


def in_namespace(federation: Federation, uid: str, namespace: str) -> list[str]:
    return [each for each in federation.leftovers(uid) if f" {namespace}/" in each]


def ours(kube: Kube, namespace: str) -> list[str]:
    kinds = "jobs,pods,secrets,rolebindings,roles,deployments,configmaps"
    found = kube.listed(kinds, namespace)
    names = [f"{each['kind']}/{each['metadata']['name']}" for each in found]
    return [name for name in names if name != "ConfigMap/kube-root-ca.crt"]
