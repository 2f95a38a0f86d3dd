"""An API server with the operator's admission policies, and every Job that the operator can build there."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from kubernetes.client import (
    ApiException,
    BatchV1Api,
    CoreV1Api,
    CustomObjectsApi,
    RbacAuthorizationV1Api,
)

from builders.rendered import LIVERS, POLICY, STORE, Release
from integration.apiserver import ApiServer
from integration.helm_releases import Helm
from segviz_exchange.contract.choices import CredentialSource
from segviz_exchange.contract.site_spec import TrainerPod
from segviz_exchange.contract.spec import CABundle, KeyRef, Retention, SecretRef, StoreSpec
from segviz_operator.cluster.api.names import Subject, consent_name
from segviz_operator.cluster.objects.federation_job import build_federation_job
from segviz_operator.cluster.objects.hosting import Host
from segviz_operator.cluster.objects.pod import Owner
from segviz_operator.cluster.objects.site_job import build_site_job
from segviz_operator.cluster.reconcile.settings import Images
from segviz_operator.manifests.manifest import Site, from_server
from segviz_operator.plan.decide import CreateWorkload
from segviz_operator.plan.workload import WorkloadRole

SYSTEM, SITE, NOBODYS = "guarded-system", "guarded-basel", "guarded-nobodys"
SUBJECT = Subject(SYSTEM, "abdomen.v2", "11111111-2222-3333-4444-555555555555")
IN_FORCE_SECONDS = 60.0
MESHED = {"podMetadata": {"annotations": {"sidecar.istio.io/inject": "false"}}, "queueName": "cpus"}
STORES = ["http://127.0.0.1:9000/segviz"]
OUR_STORE = StoreSpec(
    "http://127.0.0.1:9000",
    "segviz",
    "us-east-1",
    CredentialSource.ASSUME_ROLE,
    3600,
    Retention(),
    SecretRef("store"),
)
TRAINER, AGGREGATOR, EXPORT = "trainer", "aggregator", "export"
IMAGE = "registry.example/segviz-trainer@sha256:" + "0" * 64

Json = dict[str, Any]

_ALLOWED = {"namespace": SUBJECT.namespace, "name": SUBJECT.name}

_POD: Json = {"image": IMAGE, "serviceAccountName": "segviz-trainer"}
VARIANTS: dict[str, Json] = {
    "as little as can be": {"trainer": {"image": IMAGE}},
    "a folder of the node": {"volume": {"hostPath": {"path": "/srv/images"}}},
    "a GPU": {
        "trainer": {
            **_POD,
            "resources": {
                "requests": {"cpu": 4, "memory": "8192Mi", "ephemeral-storage": "1G"},
                "limits": {"nvidia.com/gpu": 1, "memory": "16Gi", "cpu": "4500m"},
            },
            "runtimeClassName": "nvidia",
        }
    },
    "a node of its own": {
        "trainer": {
            **_POD,
            "imagePullPolicy": "Always",
            "imagePullSecrets": ["registry", "mirror"],
            "nodeSelector": {"gpu": "a100"},
            "tolerations": [
                {"key": "gpu", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60},
                {"key": "pool", "value": "gpu"},
            ],
            "affinity": {
                "nodeAffinity": {
                    "preferredDuringSchedulingIgnoredDuringExecution": [
                        {
                            "weight": 1,
                            "preference": {
                                "matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]
                            },
                        }
                    ]
                },
                "podAntiAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": [
                        {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "x"}}}
                    ]
                },
            },
            "priorityClassName": "high",
            "terminationGracePeriodSeconds": 600,
        }
    },
    "a queue": {"trainer": {**_POD, "queueName": "gpus"}},
    "labels, annotations and groups": {
        "trainer": {
            **_POD,
            "podMetadata": {
                "labels": {"team": "radiology", "example.org/cost-centre": ""},
                "annotations": {"sidecar.istio.io/inject": "false"},
            },
            "supplementalGroups": [4711, 42],
        }
    },
    "a proxy": {"proxy": {"url": "http://proxy.hospital.example:3128"}},
    "a proxy with a password": {
        "proxy": {"url": "https://10.1.2.3:3128", "secretRef": {"name": "the-proxy"}},
    },
    "a key to sign with": {"signing": {"publicKey": "0" * 64, "secretRef": {"name": "the-key"}}},
    "ids of the cluster": {"trainer": {**_POD, "userAssignment": "ByCluster"}},
    "many federations": {"allowedFederations": [{"namespace": "oncology", "name": "chest"}, _ALLOWED]},
    "this very federation": {"allowedFederations": [{**_ALLOWED, "uid": SUBJECT.uid}]},
}


@dataclass(frozen=True)
class Guarded:
    apiserver: ApiServer
    batch: Any
    """With the operator's token."""
    jobs: dict[str, Json]
    """As the operator's own code builds them for the site that the chart makes, and beside its federation."""
    variants: dict[str, tuple[Json, ...]]

    def create(self, job: Json) -> None:
        self.batch.create_namespaced_job(job["metadata"]["namespace"], job, dry_run="All")


@pytest.fixture(scope="module")
def guarded(apiserver: ApiServer, crds: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    home = tmp_path_factory.mktemp("helm")
    admin = Helm(apiserver.write_kubeconfig(home / "admin"), home)
    client = apiserver.client()
    core = CoreV1Api(client)
    for name in (SYSTEM, SITE):
        core.create_namespace({"metadata": {"name": name}})
    policy = {"enabled": True, "stores": STORES}
    given = {"admissionPolicy": policy, "networkPolicy": POLICY, "aggregator": MESHED}
    operator = Release("segviz-operator", "segviz", SYSTEM, given)
    values = {
        "allowedFederations": [SUBJECT.key],
        "operator": {"namespace": SYSTEM},
        "dataSets": [LIVERS],
        "data": {"existingClaim": "images"},
        "trainer": {
            "imagePullSecrets": ["registry"],
            "podMetadata": {
                "labels": {"team": "radiology"},
                "annotations": {"sidecar.istio.io/inject": "true"},
            },
            "supplementalGroups": [4711],
        },
        "networkPolicy": {"store": STORE},
    }
    site = Release("segviz-site", "basel", SITE, values)
    admin.install(operator)
    admin.install(site)
    token = core.create_namespaced_service_account_token(
        "segviz-operator", SYSTEM, {"spec": {"expirationSeconds": 3600}}
    ).status.token
    let_in(client, NOBODYS)
    variants = {
        name: tuple(site_jobs(make_site(client, f"guarded-{number}", spec)))
        for number, (name, spec) in enumerate(VARIANTS.items())
    }
    jobs = {TRAINER: next(site_jobs(read_site(client, SITE, "basel"))), **beside(client)}
    there = Guarded(apiserver, BatchV1Api(apiserver.client(token)), jobs, variants)
    wait_until_in_force(there)
    yield there
    admin.uninstall(site)
    admin.uninstall(operator)


def make_site(client: Any, namespace: str, changes: Json) -> Site:
    let_in(client, namespace)
    spec = {
        "volume": {"persistentVolumeClaim": {"claimName": "images"}},
        "state": {"persistentVolumeClaim": {"claimName": "state"}},
        "dataSets": [{**LIVERS, "path": "."}],
        "allowedFederations": [_ALLOWED],
        "trainer": _POD,
        **changes,
    }
    site = {
        "apiVersion": "segviz.dev/v1alpha1",
        "kind": "SegVizSite",
        "metadata": {"name": "ct"},
        "spec": spec,
    }
    CustomObjectsApi(client).create_namespaced_custom_object(
        "segviz.dev", "v1alpha1", namespace, "segvizsites", site
    )
    return read_site(client, namespace, "ct")


def let_in(client: Any, namespace: str) -> None:
    """Make a namespace where the operator may make Jobs."""
    CoreV1Api(client).create_namespace({"metadata": {"name": namespace}})
    rights = RbacAuthorizationV1Api(client)
    rules = [{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create"]}]
    rights.create_namespaced_role(namespace, {"metadata": {"name": "jobs"}, "rules": rules})
    binding = {
        "metadata": {"name": consent_name(SUBJECT.namespace, SUBJECT.name)},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "jobs"},
        "subjects": [{"kind": "ServiceAccount", "name": "segviz-operator", "namespace": SYSTEM}],
    }
    rights.create_namespaced_role_binding(namespace, binding)


def read_site(client: Any, namespace: str, name: str) -> Site:
    found = CustomObjectsApi(client).get_namespaced_custom_object(
        "segviz.dev", "v1alpha1", namespace, "segvizsites", name
    )
    site = from_server(found)
    assert isinstance(site, Site)
    return site


def site_jobs(site: Site) -> Iterator[Json]:
    """A trainer's first attempt, and with it all that the federation, not the site, decides."""
    name = consent_name(SUBJECT.namespace, SUBJECT.name)
    owner = Owner("rbac.authorization.k8s.io/v1", "RoleBinding", name, "66666666-2222-3333-4444-555555555555")
    host = Host("basel", site.namespace, site.name, owner, site.spec)
    with_ca = msgspec.structs.replace(OUR_STORE, ca_bundle=CABundle(KeyRef("ca", "ca.crt")), region="")
    for role, attempt, store, threads in (
        (WorkloadRole.TRAINER, 1, OUR_STORE, 1),
        (WorkloadRole.TRAINER, 12, with_ca, 16),
        (WorkloadRole.EVALUATION, 1, OUR_STORE, 1),
    ):
        action = CreateWorkload(role, "basel", attempt)
        yield msgspec.to_builtins(build_site_job(SUBJECT, action, store, host, threads, True))


def beside(client: Any) -> dict[str, Json]:
    """As the chart's settings let the operator build them."""
    owner = Owner("segviz.dev/v1alpha1", "SegVizFederation", SUBJECT.name, SUBJECT.uid)
    settings = CoreV1Api(client).read_namespaced_config_map("segviz-operator-settings", SYSTEM)
    images = msgspec.json.decode(settings.data["pods.json"], type=Images)

    def build(role: WorkloadRole, pod: TrainerPod) -> Json:
        action = CreateWorkload(role, None, 1)
        built: Json = msgspec.to_builtins(
            build_federation_job(SUBJECT, action, OUR_STORE, owner, pod, 1, signed=True)
        )
        return built

    return {
        AGGREGATOR: build(WorkloadRole.AGGREGATOR, images.aggregator),
        EXPORT: build(WorkloadRole.EXPORT, images.export),
    }


def wait_until_in_force(guarded: Guarded) -> None:
    """The API server compiles new policies after a moment, and lets everything in until then."""
    deadline = time.monotonic() + IN_FORCE_SECONDS
    foreign = {"image": "foreign"}
    for name, says in ((TRAINER, "runs spec.trainer.image"), (AGGREGATOR, "run the images of the operator")):
        while says not in refused(guarded, with_main(guarded.jobs[name], foreign)):
            assert time.monotonic() < deadline, f"the policy of {name} was never in force"
            time.sleep(0.2)
    for jobs in guarded.variants.values():
        # Until it knows a site, the server says that there is none.
        while "no params found" in refused(guarded, jobs[0]) and time.monotonic() < deadline:
            time.sleep(0.2)


def refused(guarded: Guarded, job: Json) -> str:
    """What the API server says of it; empty where it is let in."""
    try:
        guarded.create(job)
    except ApiException as error:
        return str(error.body)
    return ""


def with_main(job: Json, fields: Json) -> Json:
    foreign: Json = msgspec.json.decode(msgspec.json.encode(job))
    foreign["spec"]["template"]["spec"]["containers"][0].update(fields)
    return foreign
