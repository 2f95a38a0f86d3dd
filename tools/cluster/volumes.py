"""Binds claims of the class `segviz-local` to folders of this machine, and removes both when a claim goes."""

from __future__ import annotations

import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3

from cluster.layout import API_URL, NODE, Layout

Object = dict[str, Any]  # of the API, as JSON

CLASS = "segviz-local"
PROVISIONER = "segviz.dev/local"
POLL_SECONDS = 0.5
STORAGE_CLASS = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {
        "name": CLASS,
        "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
    },
    "provisioner": PROVISIONER,
    "reclaimPolicy": "Delete",
    "volumeBindingMode": "Immediate",
}
log = logging.getLogger("volumes")


def volume_for(claim: Object, folder: Path) -> Object:
    # Local, not hostPath: kubelet gives its files to the pod's fsGroup, as it does with a real disk.
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": folder.name,
            "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER},
        },
        "spec": {
            "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
            "accessModes": claim["spec"]["accessModes"],
            "persistentVolumeReclaimPolicy": "Retain",  # deleted here, once it is released
            "storageClassName": CLASS,
            "local": {"path": str(folder)},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": claim["metadata"]["namespace"],
                "name": claim["metadata"]["name"],
                "uid": claim["metadata"]["uid"],
            },
            "nodeAffinity": {
                "required": {
                    "nodeSelectorTerms": [
                        {
                            "matchExpressions": [
                                {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}
                            ]
                        }
                    ]
                }
            },
        },
    }


@dataclass(frozen=True)
class Api:
    pool: urllib3.PoolManager

    @classmethod
    def of(cls, layout: Layout) -> Api:
        folder = layout.certificates
        return cls(
            urllib3.PoolManager(
                ca_certs=str(folder / "ca.crt"),
                cert_file=str(folder / "admin.crt"),
                key_file=str(folder / "admin.key"),
            )
        )

    def ask(self, method: str, path: str, body: Object | None = None) -> Object:
        answer = self.pool.request(method, f"{API_URL}/api/v1/{path}", json=body, timeout=10)
        if answer.status >= 400 and answer.status not in (404, 409):  # gone or there: as wished
            raise urllib3.exceptions.HTTPError(answer.data.decode())
        found: Object = answer.json()
        return found


def provision(api: Api, root: Path) -> None:
    volumes = {volume["metadata"]["name"]: volume for volume in api.ask("GET", "persistentvolumes")["items"]}
    for claim in api.ask("GET", "persistentvolumeclaims")["items"]:
        name, spec = f"pvc-{claim['metadata']['uid']}", claim["spec"]
        if spec.get("storageClassName") != CLASS or spec.get("volumeName") or name in volumes:
            continue
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        api.ask("POST", "persistentvolumes", volume_for(claim, folder))
        log.info("%s for %s/%s", name, claim["metadata"]["namespace"], claim["metadata"]["name"])
    for name, volume in volumes.items():
        if volume["status"].get("phase") == "Released" and volume["spec"].get("storageClassName") == CLASS:
            api.ask("DELETE", f"persistentvolumes/{name}")
            shutil.rmtree(root / name, ignore_errors=True)
            log.info("%s removed", name)


def main() -> None:
    layout = Layout.default()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    api = Api.of(layout)
    while True:
        try:
            provision(api, layout.volumes)
        except urllib3.exceptions.HTTPError as error:
            log.warning("%s", error)
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    main()
