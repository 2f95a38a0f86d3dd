"""An operator at work: a real API server and MinIO, the operator as a process, and a stand-in for nodes."""

import base64
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from integration.apiserver import ApiServer
from integration.job_runner import JobRunner
from integration.object_stores import Server
from segviz_exchange.stores.credentials import Credentials
from segviz_exchange.stores.store import Store
from segviz_operator.cluster.api.client import (
    EVENTS,
    FEDERATIONS,
    JOBS,
    ROLE_BINDINGS,
    SECRETS,
    SITES,
    Cluster,
    Kind,
)
from segviz_operator.cluster.api.names import Subject, consent_name

Object = dict[str, Any]

PATIENCE_SECONDS = 60.0
ORGANS = {"basel": "liver", "bern": "spleen", "chur": "pancreas"}
IMAGE = "registry.example/segviz-trainer@sha256:" + "0" * 64


@dataclass
class Rig:
    """Namespaces of one test, in a cluster that all tests share."""

    apiserver: ApiServer
    minio: Server
    root: Path
    tag: str
    bucket: str = ""
    operators: list[subprocess.Popen[bytes]] = field(default_factory=list)
    options: tuple[str, ...] = ()
    runner: JobRunner = field(init=False)

    def __post_init__(self) -> None:
        self.cluster = Cluster(self.apiserver.client())
        self.bucket = self.minio.make_bucket()
        self.namespaces = (self.tag, *(f"{self.tag}-{alias}" for alias in ORGANS))
        for namespace in self.namespaces:
            self._make_namespace(namespace)
        self.data = {}
        for alias in ORGANS:
            folder = self.root / "data" / alias
            folder.mkdir(parents=True)
            (folder / "seconds").write_text("0.02", encoding="utf-8")
            self.data[f"{self.tag}-{alias}"] = folder
        self.runner = JobRunner(self.cluster, self.root / "pods", self.data, self.namespaces)
        self.runner.start()

    def close(self) -> None:
        self.stop_operator()
        self.runner.stop()

    # --- the operator -----------------------------------------------------------------------------

    def start_operator(self, token: str | None = None) -> None:
        """One, or one more, with the administrator's rights or those behind the token."""
        kubeconfig = self.root / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(_kubeconfig(self.apiserver, token)), encoding="utf-8")
        scope = [word for namespace in self.namespaces for word in ("--namespace", namespace)]
        images = ("--aggregator-image", "aggregator", "--trainer-image", "trainer")
        fast = ("--poll-seconds", "0.5", "--liveness", "", "--metrics-port", "0", "--page-port", "0")
        self.log = self.root / "operator.log"
        with self.log.open("ab") as log:
            operator = subprocess.Popen(
                [sys.executable, "-m", "segviz_operator", *scope, *images, *fast, *self.options],
                env={**os.environ, "KUBECONFIG": str(kubeconfig)},
                stdout=log,
                stderr=log,
            )
        self.operators.append(operator)

    def stop_operator(self, kill: bool = False) -> None:
        for operator in self.operators:
            if kill:
                operator.kill()
            else:
                operator.terminate()
        for operator in self.operators:
            operator.wait(30)
        self.operators.clear()

    # --- objects ----------------------------------------------------------------------------------

    def give_store(self) -> None:
        self.give_keys(self.tag, "bucket", Credentials(self.minio.access_key, self.minio.secret_key))

    def give_keys(self, namespace: str, name: str, credentials: Credentials) -> None:
        keys = {"accessKey": credentials.access_key, "secretKey": credentials.secret_key}
        data = {name: base64.b64encode(value.encode()).decode() for name, value in keys.items()}
        metadata = {"name": name, "namespace": namespace}
        self.cluster.apply(
            SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}
        )

    def give_keys_as(self, secret: str, **names: str) -> None:
        """The store's keys again, in a Secret whose entries have other names."""
        values = {"accessKey": self.minio.access_key, "secretKey": self.minio.secret_key}
        data = {names[key]: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        metadata = {"name": secret, "namespace": self.tag}
        self.cluster.apply(
            SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}
        )

    def give_site(self, alias: str, federations: tuple[str, ...] = ("abdomen",), **spec: Any) -> None:
        namespace = f"{self.tag}-{alias}"
        data_set = {"name": "ct", "path": ".", "layout": "MSD", "organs": {ORGANS[alias]: [1]}}
        fields = {
            "volume": {"persistentVolumeClaim": {"claimName": "data"}},
            "state": {"persistentVolumeClaim": {"claimName": "state"}},
            "trainer": {"image": IMAGE},
            "dataSets": [data_set],
            "allowedFederations": [{"namespace": self.tag, "name": name} for name in federations],
            "release": "HeadsAndNorm",
            **spec,
        }
        self.cluster.apply(SITES, _object("SegVizSite", namespace, alias, fields))

    def consent(self, alias: str, federation: str = "abdomen") -> None:
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "segviz-operator"}
        self.cluster.apply(
            ROLE_BINDINGS,
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": {
                    "name": consent_name(self.tag, federation),
                    "namespace": f"{self.tag}-{alias}",
                },
                "roleRef": role,
                "subjects": [],
            },
        )

    def edit(self, patch: Object, name: str = "abdomen") -> None:
        self.cluster.merge(FEDERATIONS, self.tag, name, patch)

    def edit_site(self, alias: str, patch: Object) -> None:
        self.cluster.merge(SITES, f"{self.tag}-{alias}", alias, patch)

    def site(self, alias: str) -> Object:
        """As the federation's status shows it."""
        return next((each for each in self.status().get("sites", ()) if each["alias"] == alias), {})

    def describe(self, *aliases: str, name: str = "abdomen", **spec: Any) -> Object:
        sites = [{"alias": a, "siteRef": {"namespace": f"{self.tag}-{a}", "name": a}} for a in aliases]
        store = {
            "endpoint": f"http://{self.minio.address}",
            "bucket": self.bucket,
            "secretRef": {"name": "bucket"},
        }
        fields = {
            "sites": sites,
            "rounds": 3,
            "localEpochs": 2,
            "selection": "Last",
            "model": {"channels": [4, 8], "strides": [2]},
            "store": store,
            **spec,
        }
        return self.cluster.apply(FEDERATIONS, _object("SegVizFederation", self.tag, name, fields))

    def begin(self, *aliases: str, **spec: Any) -> None:
        """Everything that a federation of these sites needs, and the federation."""
        self.give_store()
        for alias in aliases:
            self.give_site(alias)
            self.consent(alias)
        self.describe(*aliases, **spec)

    def federation(self, name: str = "abdomen") -> Object | None:
        return self.cluster.get(FEDERATIONS, self.tag, name)

    def status(self, name: str = "abdomen") -> Object:
        found = self.federation(name)
        return (found or {}).get("status") or {}

    def subject(self, name: str = "abdomen") -> Subject:
        found = self.federation(name)
        assert found is not None
        return Subject.of(found)

    def store(self, name: str = "abdomen") -> Store:
        return self.minio.store(self.bucket).scoped(self.subject(name).prefix)

    def objects(self, kind: Kind) -> list[Object]:
        """The operator's, in every namespace of this test."""
        selector = "app.kubernetes.io/managed-by=segviz-operator"
        return [
            each
            for namespace in self.namespaces
            for each in self.cluster.list(kind, namespace, labelSelector=selector)
        ]

    def jobs(self) -> dict[str, Object]:
        return {each["metadata"]["name"]: each for each in self.objects(JOBS)}

    def events(self, namespace: str | None = None) -> list[str]:
        """Reasons of the operator's Events, in the federation's namespace or another."""
        selector = {"fieldSelector": "reportingComponent=segviz-operator"}
        found = self.cluster.list(EVENTS, namespace or self.tag, **selector)
        return [each["reason"] for each in found]

    # --- waiting ----------------------------------------------------------------------------------

    def until(self, what: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
        deadline = time.monotonic() + seconds
        while True:
            found = what()
            if found:
                return found
            if time.monotonic() > deadline:
                log = self.log.read_text(encoding="utf-8")
                raise AssertionError(f"not within {seconds} s; status {self.status()}\n{log[-6000:]}")
            time.sleep(0.1)

    def until_condition(self, type_: str, name: str = "abdomen", status: str = "True") -> Object:
        found: Object = self.until(
            lambda: next(
                (
                    each
                    for each in self.status(name).get("conditions", ())
                    if each["type"] == type_ and each["status"] == status
                ),
                None,
            )
        )
        return found

    def account(self, without: str) -> str:
        """Token of a service account that may do anything in every namespace of this test but one."""
        group = "rbac.authorization.k8s.io"
        version = f"{group}/v1"
        for namespace in self.namespaces:
            if namespace == without:
                continue
            rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
            metadata = {"name": "everything", "namespace": namespace}
            role = {"apiVersion": version, "kind": "Role", "metadata": metadata, "rules": rules}
            self.cluster.create(Kind(f"apis/{version}", "roles"), role)
            binding = {
                "apiVersion": version,
                "kind": "RoleBinding",
                "metadata": metadata,
                "roleRef": {"apiGroup": group, "kind": "Role", "name": "everything"},
                "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": self.tag}],
            }
            self.cluster.create(ROLE_BINDINGS, binding)
        path = Kind("api/v1", "serviceaccounts").path(self.tag, "default", "token")
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": []}}
        token: str = self.cluster._call("POST", path, body=body)["status"]["token"]
        return token

    def _make_namespace(self, name: str) -> None:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        self.cluster._call("POST", "/api/v1/namespaces", body=namespace)
        # Nobody else makes it here, and no Pod can be without it.
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": name},
        }
        self.cluster.create(Kind("api/v1", "serviceaccounts"), account)


@pytest.fixture
def rig(apiserver: ApiServer, crds: None, minio: Server, tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(apiserver, minio, tmp_path, f"t{secrets.token_hex(4)}")
    try:
        yield rig
    finally:
        rig.close()


def _object(kind: str, namespace: str, name: str, spec: Object) -> Object:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "segviz.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def _kubeconfig(server: ApiServer, token: str | None) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [
            {
                "name": "test",
                "cluster": {"server": server.url, "certificate-authority": str(server.authority)},
            }
        ],
        "users": [{"name": "test", "user": {"token": token or server.token}}],
    }
