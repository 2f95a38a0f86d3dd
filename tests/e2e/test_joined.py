"""A site in a cluster of its own, by Helm and a join file.

The stand-in for that cluster is a namespace in which the operator has no right and SegViz no object but the
release's: one API server serves both, and what is proved is that the site's half needs nothing of the other.
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from federation import Make, member
from hospitals import Hospital, Scene
from install import COORDINATOR, Installation
from kube import Kube, Object, until
from one_machine import Reference
from remote_sites import join_secret

NAME, ALIAS, BESIDE, OWN = "joined", "chur", "lugano", "lugano-own"
PODS = {"app.kubernetes.io/component": "join", "app.kubernetes.io/instance": OWN}


@pytest.fixture
def hospital(installation: Installation, scene: Scene) -> Iterator[Hospital]:
    """chur's images again, elsewhere: so its federation must come to the same bits."""
    (chur,) = [each for each in scene.hospitals if each.name == ALIAS]
    found = replace(chur, name=OWN)
    for namespace in (BESIDE, OWN):
        installation.namespace(namespace)
    installation.bring_images(found)
    beside = {
        "remote": True,
        "allowedFederations": [f"{COORDINATOR}/{NAME}"],
        "dataSets": [chur.data_set],
        "release": "HeadsAndNorm",
        "scores": "PerCase",
    }
    installation.helm.install(BESIDE, "segviz-site", BESIDE, beside)
    yield found
    installation.helm.uninstall(OWN, OWN)
    installation.helm.uninstall(BESIDE, BESIDE)


def test_a_site_joins_by_helm_survives_its_pod_and_changes_no_bit(
    make: Make, kube: Kube, installation: Installation, scene: Scene, hospital: Hospital, reference: Reference
) -> None:
    others = [member(each) for each in scene.training if each != ALIAS]
    own = {"alias": ALIAS, "siteRef": {"namespace": BESIDE, "name": BESIDE}}
    federation = make(NAME, sites=sorted([*others, own], key=lambda each: str(each["alias"])))
    federation.apply()
    file = until("the join file", 90, lambda: join_secret(kube, federation, ALIAS))
    secret = {"name": "join", "namespace": OWN}
    kube.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": secret, "stringData": {"join.json": file.decode()}}
    )
    installation.site(hospital, [f"{COORDINATOR}/{NAME}"], join={"secretName": "join"}, name=BESIDE)
    federation.wait_for_round(1)
    before = running(kube)
    kube.delete("pod", before["metadata"]["name"], OWN, force=True)
    after = until("another Pod", 120, lambda: (found := running(kube)) != before and found)
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    federation.wait_for("Complete")
    assert federation.bucket().rounds() == reference.rounds
    until("the Job has ended", 120, lambda: job(kube)["status"].get("succeeded"))
    assert federation.bucket().record(f"sites/{ALIAS}/preflight/000002.json")["lease"] == 2
    # Nothing there that the operator needs or made.
    for kind in ("segvizsites.segviz.dev", "rolebindings", "roles"):
        assert kube.listed(kind, OWN) == []


def running(kube: Kube) -> Object | None:
    found = [
        each
        for each in kube.listed("pods", OWN, **PODS)
        if each["status"].get("phase") == "Running" and "deletionTimestamp" not in each["metadata"]
    ]
    return found[0] if found else None


def job(kube: Kube) -> Object:
    (found,) = kube.listed("jobs", OWN)
    return found
