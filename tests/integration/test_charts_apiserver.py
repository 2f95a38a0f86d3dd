"""The charts on a real API server: Helm's verbs do what the notes promise."""

import base64
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from builders.rendered import LIVERS, POLICY, STORE, Refused, Release
from integration.apiserver import ApiServer
from integration.built import built_tool
from integration.helm_releases import Helm
from segviz_exchange.stores.signing import parse_private, public_key
from segviz_operator.cluster.api.client import Cluster
from segviz_operator.cluster.credentials.own_key import load_own_key

pytest.importorskip("kubernetes")
from kubernetes.client import (
    ApiException,
    ApiextensionsV1Api,
    BatchV1Api,
    CoreV1Api,
    CustomObjectsApi,
    RbacAuthorizationV1Api,
)

SITE_NAMESPACE = "visits-basel"
ABDOMEN, CHEST = "visits-operator/abdomen", "visits-operator/chest"


@pytest.fixture(scope="module")
def admin(apiserver: ApiServer, crds: None, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    home = tmp_path_factory.mktemp("helm")
    return Helm(apiserver.write_kubeconfig(home / "admin"), home)


@pytest.fixture(scope="module")
def operator(apiserver: ApiServer, admin: Helm) -> Release:
    core = CoreV1Api(apiserver.client())
    for name in ("visits-operator", SITE_NAMESPACE):
        core.create_namespace({"metadata": {"name": name}})
    release = Release("segviz-operator", "segviz", "visits-operator", {"networkPolicy": POLICY})
    notes = admin.install(release).partition("NOTES:")[2]
    assert "kubectl -n visits-operator rollout status deployment/segviz-operator" in notes
    assert "--set 'allowedFederations={visits-operator/FEDERATION}'" in notes
    return release


def basel(*federations: str) -> Release:
    values = {
        "allowedFederations": list(federations),
        "operator": {"namespace": "visits-operator"},
        "dataSets": [LIVERS],
        "data": {"existingClaim": "images"},
        "networkPolicy": {"store": STORE},
    }
    return Release("segviz-site", "basel", SITE_NAMESPACE, values)


def as_account(apiserver: ApiServer, namespace: str, account: str) -> str:
    request = {"spec": {"expirationSeconds": 3600}}
    core = CoreV1Api(apiserver.client())
    token: str = core.create_namespaced_service_account_token(account, namespace, request).status.token
    return token


@pytest.fixture
def owner(apiserver: ApiServer, operator: Release, controllers: None, tmp_path: Path) -> Iterator[Helm]:
    """Somebody who administers the site's namespace alone: Kubernetes' ClusterRole admin, bound there."""
    client = apiserver.client()
    core, rbac = CoreV1Api(client), RbacAuthorizationV1Api(client)
    core.create_namespaced_service_account(SITE_NAMESPACE, {"metadata": {"name": "owner"}})
    subject = {"kind": "ServiceAccount", "name": "owner", "namespace": SITE_NAMESPACE}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"}
    rbac.create_namespaced_role_binding(
        SITE_NAMESPACE, {"metadata": {"name": "owner"}, "roleRef": role, "subjects": [subject]}
    )

    def is_aggregated() -> bool:
        rules = rbac.read_cluster_role("admin").rules or ()
        return any("segvizsites" in (rule.resources or ()) for rule in rules)

    eventually(is_aggregated)
    token = as_account(apiserver, SITE_NAMESPACE, "owner")
    yield Helm(apiserver.write_kubeconfig(tmp_path / "owner", token), tmp_path)
    rbac.delete_namespaced_role_binding("owner", SITE_NAMESPACE)
    core.delete_namespaced_service_account("owner", SITE_NAMESPACE)


def eventually(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.2)


@dataclass(frozen=True)
class Training:
    """A Job and a Secret at the site, made by the operator's own account as its code makes them."""

    batch: Any
    core: Any
    name: str

    def is_there(self) -> bool:
        jobs = self.batch.list_namespaced_job(SITE_NAMESPACE).items
        secrets = self.core.list_namespaced_secret(SITE_NAMESPACE).items
        names = {each.metadata.name for each in (*jobs, *secrets)}
        return bool({f"train-{self.name}", f"store-{self.name}"} & names)

    def is_whole(self) -> bool:
        self.batch.read_namespaced_job(f"train-{self.name}", SITE_NAMESPACE)
        self.core.read_namespaced_secret(f"store-{self.name}", SITE_NAMESPACE)
        return True


def begin_training(apiserver: ApiServer, federation: str) -> Training:
    own = apiserver.client(as_account(apiserver, "visits-operator", "segviz-operator"))
    name = f"segviz:consent:{federation.replace('/', ':')}"
    consent = RbacAuthorizationV1Api(own).read_namespaced_role_binding(name, SITE_NAMESPACE)
    reference = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "name": name,
        "uid": consent.metadata.uid,
    }
    what = federation.partition("/")[2]
    container = {"name": "trainer", "image": "trainer"}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    BatchV1Api(own).create_namespaced_job(
        SITE_NAMESPACE,
        {
            "metadata": {"name": f"train-{what}", "ownerReferences": [reference]},
            "spec": {"template": template},
        },
    )
    CoreV1Api(own).create_namespaced_secret(
        SITE_NAMESPACE, {"metadata": {"name": f"store-{what}", "ownerReferences": [reference]}}
    )
    client = apiserver.client()
    return Training(BatchV1Api(client), CoreV1Api(client), what)


def test_whoever_administers_a_namespace_installs_a_site_and_leaves(apiserver: ApiServer, owner: Helm):
    notes = owner.install(basel(ABDOMEN, CHEST)).partition("NOTES:")[2]
    assert "segviz status -n visits-operator abdomen" in notes
    assert "siteRef: {namespace: visits-basel, name: basel}" in notes
    trainings = [begin_training(apiserver, each) for each in (ABDOMEN, CHEST)]
    assert all(each.is_whole() for each in trainings)

    # Without the federation: its Jobs and Secrets go, the other's stay. No operator runs here.
    owner.upgrade(basel(CHEST))
    eventually(lambda: not trainings[0].is_there())
    assert trainings[1].is_whole()

    owner.uninstall(basel())
    eventually(lambda: not trainings[1].is_there())
    core = CoreV1Api(apiserver.client())
    kept = core.read_namespaced_persistent_volume_claim("basel-state", SITE_NAMESPACE)
    assert kept.metadata.annotations["helm.sh/resource-policy"] == "keep"

    # The same release's name takes the claim up again.
    owner.install(basel(ABDOMEN))
    again = core.read_namespaced_persistent_volume_claim("basel-state", SITE_NAMESPACE)
    assert again.metadata.uid == kept.metadata.uid
    owner.uninstall(basel())


def test_a_binding_deleted_by_hand_stops_training(apiserver: ApiServer, owner: Helm):
    owner.install(basel(ABDOMEN))
    training = begin_training(apiserver, ABDOMEN)
    binding = f"segviz:consent:{ABDOMEN.replace('/', ':')}"
    RbacAuthorizationV1Api(apiserver.client()).delete_namespaced_role_binding(binding, SITE_NAMESPACE)
    eventually(lambda: not training.is_there())
    with pytest.raises(ApiException) as refusal:
        begin_training(apiserver, ABDOMEN)
    assert refusal.value.status == 403
    # The next upgrade gives the consent again, since the values still say so.
    owner.upgrade(basel(ABDOMEN))
    assert begin_training(apiserver, ABDOMEN).is_whole()
    owner.uninstall(basel())


def test_the_api_server_says_what_is_wrong_with_a_site(owner: Helm):
    release = basel(ABDOMEN)
    wrong = {**release.values, "split": {"train": 50, "validation": 20, "test": 20}}
    with pytest.raises(Refused, match="train, validation and test must add up to 100"):
        owner.install(Release(release.chart, release.name, release.namespace, wrong))
    with suppress(Refused):
        owner.uninstall(release)


def test_a_namespaces_owner_cannot_give_more_than_they_have(apiserver: ApiServer, owner: Helm):
    token = json.loads(owner.kubeconfig.read_text(encoding="utf-8"))["users"][0]["user"]["token"]
    rbac = RbacAuthorizationV1Api(apiserver.client(token))
    rule = {"apiGroups": ["segviz.dev"], "resources": ["segvizfederations/status"], "verbs": ["patch"]}
    with pytest.raises(ApiException) as refusal:
        rbac.create_namespaced_role(SITE_NAMESPACE, {"metadata": {"name": "more"}, "rules": [rule]})
    assert refusal.value.status == 403


def test_the_notes_bring_the_trial_stores_keys_to_the_federations(apiserver: ApiServer, admin: Helm):
    path = f"{built_tool('kubectl').parent}:{os.defpath}"
    core = CoreV1Api(apiserver.client())
    for name in ("trial-operator", "trial-radiology"):
        core.create_namespace({"metadata": {"name": name}})
    values = {
        "federationNamespaces": ["trial-operator", "trial-radiology"],
        "rbac": {"aggregate": False},
        "networkPolicy": {"apiServer": POLICY["apiServer"]},
        "trialStore": {"enabled": True, "image": "trial-store:1"},
    }
    release = Release("segviz-operator", "segviz", "trial-operator", values)
    notes = admin.install(release).partition("NOTES:")[2]
    commands = [line.strip() for line in notes.splitlines() if "get secret segviz-trial-store" in line]
    subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(commands)],
        env={"PATH": path, "KUBECONFIG": str(admin.kubeconfig), "HOME": str(admin.home)},
        check=True,
        timeout=60,
    )
    made, copied = (
        core.read_namespaced_secret("segviz-trial-store", namespace).data
        for namespace in ("trial-operator", "trial-radiology")
    )
    assert copied == made
    admin.uninstall(release)


def test_a_sites_key_is_made_once_and_stays(apiserver: ApiServer, admin: Helm) -> None:
    core, namespace = CoreV1Api(apiserver.client()), "keeps-its-key"
    core.create_namespace({"metadata": {"name": namespace}})
    core.create_namespaced_service_account(namespace, {"metadata": {"name": "default"}})
    plain = basel()
    release = Release(plain.chart, plain.name, namespace, plain.values)

    def signing() -> tuple[str, str]:
        """The private half, and what the site tells of it."""
        site = CustomObjectsApi(apiserver.client()).get_namespaced_custom_object(
            "segviz.dev", "v1alpha1", namespace, "segvizsites", "basel"
        )
        assert site["spec"]["signing"]["secretRef"] == {"name": "basel-key"}
        held = core.read_namespaced_secret("basel-key", namespace).data["private.pem"]
        return held, site["spec"]["signing"]["publicKey"]

    admin.install(release)
    made = signing()
    assert public_key(parse_private(base64.b64decode(made[0]), "it")) == made[1]
    admin.upgrade(release)
    assert signing() == made
    admin.uninstall(release)
    admin.install(release)
    assert signing() == made
    admin.uninstall(release)


def test_the_operators_key_survives_an_upgrade_and_an_uninstall(
    apiserver: ApiServer, admin: Helm, operator: Release
) -> None:
    core, place = CoreV1Api(apiserver.client()), ("segviz-operator-key", "visits-operator")
    assert core.read_namespaced_secret(*place).data is None
    made = load_own_key(Cluster(apiserver.client()), place[1], place[0])
    admin.upgrade(operator)
    admin.uninstall(operator)
    admin.install(operator)
    assert public_key(load_own_key(Cluster(apiserver.client()), place[1], place[0])) == public_key(made)


def test_the_operators_release_leaves_nothing_but_the_crds(
    apiserver: ApiServer, admin: Helm, operator: Release
):
    admin.upgrade(operator)
    admin.uninstall(operator)
    client = apiserver.client()
    rbac = RbacAuthorizationV1Api(client)
    core = CoreV1Api(client)
    wide = [*rbac.list_cluster_role().items, *rbac.list_cluster_role_binding().items]
    assert [each.metadata.name for each in wide if "visits-operator" in each.metadata.name] == []
    assert rbac.list_namespaced_role("visits-operator").items == []
    assert core.list_namespaced_service_account("visits-operator").items == []
    assert core.list_namespaced_config_map("visits-operator").items == []
    assert len(ApiextensionsV1Api(client).list_custom_resource_definition().items) >= 2
    admin.install(operator)
