"""The admission policy on a real API server: with the operator's token, only a site's own Pod is let in."""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from builders.rendered import LIVERS, STORE, Release
from integration.apiserver import ApiServer
from integration.helm_releases import Helm
from segviz_exchange.contract.choices import CredentialSource
from segviz_exchange.contract.spec import Retention, StoreSpec
from segviz_operator.cluster.api.names import Subject, consent_name
from segviz_operator.cluster.objects.hosting import Host
from segviz_operator.cluster.objects.pod import Owner
from segviz_operator.cluster.objects.site_job import build_site_job
from segviz_operator.manifests.manifest import Site, from_server
from segviz_operator.plan.decide import CreateWorkload
from segviz_operator.plan.workload import WorkloadRole

pytest.importorskip("kubernetes")
from kubernetes.client import (
    ApiException,
    BatchV1Api,
    CoreV1Api,
    CustomObjectsApi,
    RbacAuthorizationV1Api,
)

SYSTEM, SITE = "guarded-system", "guarded-basel"
SUBJECT = Subject(SYSTEM, "abdomen", "11111111-2222-3333-4444-555555555555")
IN_FORCE_SECONDS = 60.0
OUR_STORE = StoreSpec(
    "http://127.0.0.1:9000", "segviz", "us-east-1", "store", CredentialSource.ASSUME_ROLE, 3600, Retention()
)

Json = dict[str, Any]


@dataclass(frozen=True)
class Guarded:
    batch: Any
    """With the operator's token."""
    job: Json
    """As the operator's own code builds it for this site."""

    def create(self, job: Json, namespace: str = SITE) -> None:
        self.batch.create_namespaced_job(namespace, job, dry_run="All")


@pytest.fixture(scope="module")
def guarded(apiserver: ApiServer, crds: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    home = tmp_path_factory.mktemp("helm")
    admin = Helm(apiserver.write_kubeconfig(home / "admin"), home)
    client = apiserver.client()
    core = CoreV1Api(client)
    for name in (SYSTEM, SITE):
        core.create_namespace({"metadata": {"name": name}})
    policy = {"store": STORE}
    values = {"admissionPolicy": {"enabled": True}, "networkPolicy": policy}
    operator = Release("segviz-operator", "segviz", SYSTEM, values)
    site = {
        "allowedFederations": [SUBJECT.key],
        "operator": {"namespace": SYSTEM},
        "dataSets": [LIVERS],
        "data": {"existingClaim": "images"},
        "trainer": {"imagePullSecrets": ["registry"], "supplementalGroups": [4711]},
        "networkPolicy": policy,
    }
    admin.install(operator)
    admin.install(Release("segviz-site", "basel", SITE, site))
    token = core.create_namespaced_service_account_token(
        "segviz-operator", SYSTEM, {"spec": {"expirationSeconds": 3600}}
    ).status.token
    there = Guarded(BatchV1Api(apiserver.client(token)), build_job(client))
    wait_until_in_force(there)
    yield there
    admin.uninstall(Release("segviz-site", "basel", SITE, {}))
    admin.uninstall(operator)


def build_job(client: Any) -> Json:
    found = CustomObjectsApi(client).get_namespaced_custom_object(
        "segviz.dev", "v1alpha1", SITE, "segvizsites", "basel"
    )
    site = from_server(found)
    assert isinstance(site, Site)
    name = consent_name(SUBJECT.namespace, SUBJECT.name)
    binding = RbacAuthorizationV1Api(client).read_namespaced_role_binding(name, SITE)
    owner = Owner("rbac.authorization.k8s.io/v1", "RoleBinding", name, binding.metadata.uid)
    action = CreateWorkload(WorkloadRole.TRAINER, "basel", 1)
    job = build_site_job(SUBJECT, action, OUR_STORE, Host("basel", SITE, owner, site.spec), 1)
    built: Json = msgspec.to_builtins(job)
    return built


def wait_until_in_force(guarded: Guarded) -> None:
    """The API server compiles a new policy after a moment, and lets everything in until then."""
    deadline = time.monotonic() + IN_FORCE_SECONDS
    while True:
        try:
            guarded.create(with_pod(guarded.job, lambda pod: pod["containers"][0].update(image="foreign")))
        except ApiException as error:
            if error.status == 422:
                return
            raise
        assert time.monotonic() < deadline, "the policy was never in force"
        time.sleep(0.5)


def with_pod(job: Json, change: Callable[[Json], object]) -> Json:
    changed = copy.deepcopy(job)
    change(changed["spec"]["template"]["spec"])
    return changed


def test_the_operators_own_job_is_let_in(guarded: Guarded):
    guarded.create(guarded.job)


def mount(source: Json) -> Callable[[Json], object]:
    return lambda pod: pod["volumes"].append({"name": "more", **source})


FOREIGN: dict[str, tuple[Callable[[Json], object], str]] = {
    "image": (lambda pod: pod["containers"][0].update(image="other:1"), "runs spec.trainer.image"),
    "second container": (
        lambda pod: pod["containers"].append({"name": "more", "image": "other:1"}),
        "runs spec.trainer.image",
    ),
    "init container": (
        lambda pod: pod.update(initContainers=[{"name": "first", "image": pod["containers"][0]["image"]}]),
        "runs spec.trainer.image",
    ),
    "account": (lambda pod: pod.update(serviceAccountName="default"), "spec.trainer.serviceAccountName"),
    "token": (lambda pod: pod.update(automountServiceAccountToken=True), "without its token"),
    "another claim": (
        mount({"persistentVolumeClaim": {"claimName": "patients"}}),
        "mounts the volumes that its SegVizSite names",
    ),
    "another Secret": (mount({"secret": {"secretName": "registry"}}), "its own Secrets"),
    "the node's files": (mount({"hostPath": {"path": "/"}}), "mounts the volumes that its SegVizSite names"),
    "a token as a file": (
        mount({"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}),
        "mounts the volumes that its SegVizSite names",
    ),
    "a group": (
        lambda pod: pod["securityContext"].update(supplementalGroups=[4711, 42]),
        "spec.trainer.supplementalGroups alone",
    ),
    "a Secret as environment": (
        lambda pod: pod["containers"][0].update(envFrom=[{"secretRef": {"name": "registry"}}]),
        "take no environment from Secrets",
    ),
}


@pytest.mark.parametrize(("change", "says"), FOREIGN.values(), ids=FOREIGN)
def test_what_the_site_did_not_say_is_refused(guarded: Guarded, change: Callable[[Json], object], says: str):
    with pytest.raises(ApiException) as refusal:
        guarded.create(with_pod(guarded.job, change))
    assert refusal.value.status == 422
    assert says in refusal.value.body


def test_beside_federations_the_operators_settings_hold(guarded: Guarded):
    aggregator = copy.deepcopy(guarded.job)
    aggregator["metadata"]["namespace"] = SYSTEM
    del aggregator["metadata"]["ownerReferences"]
    guarded.create(with_pod(aggregator, lambda pod: pod["containers"][0].update(image="aggregator")), SYSTEM)


def test_others_are_not_held_to_it(apiserver: ApiServer, guarded: Guarded):
    foreign = with_pod(guarded.job, lambda pod: pod["containers"][0].update(image="anything"))
    BatchV1Api(apiserver.client()).create_namespaced_job(SITE, foreign, dry_run="All")
