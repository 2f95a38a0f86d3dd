"""Both charts by Helm, namespaces under PodSecurity `restricted`, and images in the sites' volumes."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bucket import StoreAddress
from hospitals import Hospital, Scene, packed
from kube import Kube, Object

CHARTS = Path(__file__).parents[2] / "charts"
SYSTEM = "segviz-system"
COORDINATOR = "radiology"
NAMES = (
    "whole",
    "operator-killed",
    "trainer-killed",
    "drained",
    "evicted",
    "aggregator-killed",
    "store-away",
    "kubelet-away",
    "members",
    "replaced",
    "silent",
    "nan",
    "deleted",
    "deleted-with-bucket",
    "state-lost",
    "withdrawn",
    "retried",
    "suspended",
    "upgraded",
    "left-behind",
    "twin",
    "remote",
    "watched",
    "joined",
    "released",
    "broken",
)
"""Of the federations that every site allows. One that is not here is foreign."""
OTHER_COORDINATOR = "oncology"
SITES = ["basel", "bern", "chur", "external"]
CLAIM = "images"
STORE_SECRET = "store"
BUCKET = "segviz-e2e"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
SECURITY = {
    "pod": {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    },
    "container": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
}


def allowed() -> list[str]:
    """As a site's manifest names federations."""
    return [*(f"{COORDINATOR}/{name}" for name in NAMES), f"{OTHER_COORDINATOR}/twin"]


@dataclass(frozen=True)
class Images:
    operator: str
    aggregator: str
    trainer: str

    @classmethod
    def from_environment(cls) -> "Images":
        return cls(*(os.environ[f"SEGVIZ_{role}_IMAGE"] for role in ("OPERATOR", "AGGREGATOR", "TRAINER")))


def image_values(reference: str) -> Object:
    """Nothing for an empty one: then the chart names its own."""
    if not reference:
        return {}
    repository, _, digest = reference.partition("@")
    return {"registry": "", "repository": repository, "digest": digest}


@dataclass(frozen=True)
class Helm:
    helm: str
    folder: Path
    """For values files."""
    charts: str = str(CHARTS)
    """A folder, or oci://HOST/PATH."""
    options: tuple[str, ...] = ()

    def install(self, release: str, chart: str, namespace: str, values: Mapping[str, Any]) -> None:
        """Or upgrade."""
        file = self.folder / f"{namespace}.{release}.json"
        file.write_text(json.dumps(values), encoding="utf-8")
        options = ("--namespace", namespace, "--values", str(file), "--wait", "--timeout", "3m")
        self.run("upgrade", "--install", release, f"{self.charts}/{chart}", *options, *self.options)

    def uninstall(self, release: str, namespace: str) -> None:
        self.run(
            "uninstall", release, "--namespace", namespace, "--ignore-not-found", "--wait", "--timeout", "2m"
        )

    def run(self, *arguments: str) -> str:
        command = [self.helm, *arguments]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=240, cwd=self.folder)
        assert done.returncode == 0, f"helm {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
        return done.stdout


@dataclass(frozen=True)
class Installation:
    kube: Kube
    helm: Helm
    images: Images
    store: StoreAddress

    def namespace(self, name: str) -> None:
        labels = {**RESTRICTED, "segviz.dev/test": "e2e"}
        self.kube.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        )

    def operator(self, **values: Any) -> None:
        defaults = {
            "image": image_values(self.images.operator),
            "aggregator": {
                "image": image_values(self.images.aggregator),
                "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
            },
            "export": {
                "image": image_values(self.images.trainer),
                "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}},
            },
            # Namespaces: the same without a ClusterRole.
            "scope": os.environ.get("SEGVIZ_E2E_SCOPE", "Cluster"),
            "siteNamespaces": SITES if os.environ.get("SEGVIZ_E2E_SCOPE") == "Namespaces" else [],
            "federationNamespaces": [COORDINATOR, OTHER_COORDINATOR],
            "networkPolicy": self.policies_with_api_server(),
            "extraEnv": [{"name": "SEGVIZ_OPERATOR_POLL_SECONDS", "value": "1"}],
        }
        self.helm.install("segviz", "segviz-operator", SYSTEM, {**defaults, **values})

    def store_secret(self, namespace: str) -> None:
        keys = {"accessKey": self.store.access_key, "secretKey": self.store.secret_key}
        metadata = {"name": STORE_SECRET, "namespace": namespace}
        self.kube.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": keys})

    def site(self, hospital: Hospital, federations: Sequence[str], **values: Any) -> None:
        defaults = {
            "role": hospital.role,
            "allowedFederations": list(federations),
            "dataSets": [hospital.data_set],
            "data": {"existingClaim": CLAIM},
            "state": {"size": "1Gi", "keep": False},
            "release": "HeadsAndNorm",
            "scores": "PerCase",
            "networkPolicy": self.policies(),
            "trainer": self.trainer_values(),
        }
        self.helm.install(hospital.name, "segviz-site", hospital.name, {**defaults, **values})

    def trainer_values(self, **more: Any) -> Object:
        resources = {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": "3Gi"}}
        return {"image": image_values(self.images.trainer), "resources": resources, **more}

    def policies(self) -> Object:
        host = self.store.host
        if host.replace(".", "").isdigit():
            # The test cluster's DNS is no Pod: it answers on the node, as the store does.
            return {"store": {"cidrs": [f"{host}/32"]}, "dns": {"cidrs": [f"{host}/32"]}}
        return {"enabled": False}  # a name, which no policy takes

    def policies_with_api_server(self) -> Object:
        endpoints = self.kube.get("endpoints", "kubernetes", "default") or {}
        subsets = endpoints.get("subsets") or ()
        cidrs = [f"{each['ip']}/32" for subset in subsets for each in subset["addresses"]]
        return {**self.policies(), "apiServer": {"cidrs": cidrs}}

    def bring_images(self, hospital: Hospital) -> None:
        """Into the claim that the site's manifest names."""
        self.kube.apply(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": CLAIM, "namespace": hospital.name},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "1Gi"}},
                },
            },
        )
        volume = {"name": "data", "persistentVolumeClaim": {"claimName": CLAIM}}
        self.start_idle_pod("loader", hospital.name, self.images.trainer, volume)
        self.unpack("loader", hospital.name, hospital.folder, "/data")
        self.kube.delete("pod", "loader", hospital.name, force=True)

    def start_idle_pod(self, name: str, namespace: str, image: str, volume: Object) -> None:
        """One to run commands in, with the volume at /data."""
        self.kube.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {
                    "automountServiceAccountToken": False,
                    "securityContext": SECURITY["pod"],
                    "terminationGracePeriodSeconds": 1,
                    "volumes": [volume],
                    "containers": [
                        {
                            "name": "idle",
                            "image": image,
                            "command": ["python", "-c", "import time; time.sleep(86400)"],
                            "securityContext": SECURITY["container"],
                            "volumeMounts": [{"name": volume["name"], "mountPath": "/data"}],
                        }
                    ],
                },
            }
        )
        where = (f"pod/{name}", f"--namespace={namespace}")
        self.kube.run("wait", "--for=condition=Ready", *where, "--timeout=120s", seconds=130)

    def unpack(self, pod: str, namespace: str, folder: Path, target: str) -> None:
        program = (
            "import sys, tarfile; "
            "tarfile.open(fileobj=sys.stdin.buffer, mode='r|').extractall(sys.argv[1], filter='data')"
        )
        where = (pod, f"--namespace={namespace}", "--stdin")
        command = ("python", "-c", program, target)
        self.kube.run("exec", *where, "--", *command, stdin=packed(folder), seconds=300)

    def everything(self, scene: Scene, federations: Sequence[str]) -> None:
        for hospital in scene.hospitals:
            self.namespace(hospital.name)
            self.bring_images(hospital)
            self.site(hospital, federations)
