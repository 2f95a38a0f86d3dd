"""A control plane without machines: real API server, controllers and scheduler, one fake node, a real store.

kwok answers for the node's kubelet and says of every Pod that it runs. All on loopback, all stopped at the
end.
"""

import contextlib
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client
from minio import Minio

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests")]
from build import tool_path  # noqa: E402

from integration.apiserver import (  # type: ignore[import-not-found]  # noqa: E402
    etcd_command,
    running_process,
    server_command,
)
from integration.ports import free_ports  # type: ignore[import-not-found]  # noqa: E402

READY_SECONDS = 120.0
BUCKET = "fleet"
# Requests by who made them: that is how the operator's are told from the bench's.
AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [{"level": "Metadata", "users": ["operator"]}, {"level": "None"}],
}
STAGES: tuple[dict[str, Any], ...] = (
    {
        "metadata": {"name": "node-is-ready"},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": "Node"},
            "selector": {
                "matchExpressions": [
                    {
                        "key": '.status.conditions.[] | select( .type == "Ready" ) | .status',
                        "operator": "NotIn",
                        "values": ["True"],
                    }
                ]
            },
            "next": {
                "statusTemplate": (
                    'conditions: [{type: Ready, status: "True", reason: Fake, message: kwok answers, '
                    "lastHeartbeatTime: {{ Now | Quote }}, lastTransitionTime: {{ Now | Quote }}}]\n"
                )
            },
        },
    },
    {
        "metadata": {"name": "pod-runs"},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": "Pod"},
            "selector": {
                "matchExpressions": [
                    {"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"},
                    {"key": ".status.phase", "operator": "In", "values": ["Pending"]},
                ]
            },
            "next": {
                "statusTemplate": (
                    "phase: Running\n"
                    "startTime: {{ Now | Quote }}\n"
                    'conditions: [{type: Ready, status: "True", lastTransitionTime: {{ Now | Quote }}}]\n'
                )
            },
        },
    },
    {
        "metadata": {"name": "pod-goes"},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": "Pod"},
            "selector": {"matchExpressions": [{"key": ".metadata.deletionTimestamp", "operator": "Exists"}]},
            "next": {"delete": True},
        },
    },
)


@dataclass(frozen=True)
class Fleet:
    folder: Path
    url: str
    store_address: str
    access_key: str
    secret_key: str

    def kubeconfig(self, user: str) -> Path:
        return self.folder / f"{user}.kubeconfig"

    def client(self) -> client.ApiClient:
        from kubernetes.config import new_client_from_config

        return new_client_from_config(str(self.kubeconfig("admin")))  # type: ignore[no-untyped-call,no-any-return]

    def audited(self) -> int:
        """Requests that the operator has made so far."""
        with (self.folder / "audit.log").open("rb") as log:
            return sum(1 for _ in log)


@contextlib.contextmanager
def running_fleet(folder: Path) -> Iterator[Fleet]:
    etcd_port, peer_port, api_port, store_port = free_ports(4)
    etcd, url = f"http://127.0.0.1:{etcd_port}", f"https://127.0.0.1:{api_port}"
    fleet = Fleet(folder, url, f"127.0.0.1:{store_port}", secrets.token_hex(8), secrets.token_hex(16))
    tokens = {user: secrets.token_hex() for user in ("admin", "operator")}
    _write_settings(fleet, tokens)
    with contextlib.ExitStack() as processes:

        def run(command: list[str], **environment: str) -> None:
            log = processes.enter_context(
                (folder / f"{Path(command[0]).name}.log").open("w", encoding="utf-8")
            )
            processes.enter_context(running_process(command, log, **environment))

        run(etcd_command(tool("etcd"), folder, etcd, peer_port))
        server = server_command(tool("kube-apiserver"), folder, etcd, api_port, tokens)
        run(
            [
                *server,
                f"--audit-policy-file={folder / 'audit.yaml'}",
                f"--audit-log-path={folder / 'audit.log'}",
                "--max-requests-inflight=0",
                "--max-mutating-requests-inflight=0",
                "--enable-priority-and-fairness=false",
            ]
        )
        _until("the API server is ready", lambda: client.VersionApi(fleet.client()).get_code() is not None)
        kubeconfig = f"--kubeconfig={fleet.kubeconfig('admin')}"
        unhurried = ("--leader-elect=false", "--secure-port=0", "--kube-api-qps=500", "--kube-api-burst=1000")
        run(
            [
                *(str(tool("kube-controller-manager")), kubeconfig, *unhurried),
                "--controllers=job,serviceaccount,namespace,garbagecollector,persistentvolume-binder",
                f"--service-account-private-key-file={folder / 'accounts.pem'}",
                "--concurrent-job-syncs=20",
            ]
        )
        run([str(tool("kube-scheduler")), kubeconfig, *unhurried])
        kwok = (f"--config={folder / 'kwok.yaml'}", "--manage-all-nodes=true", "--server-address=")
        run([str(tool("kwok")), kubeconfig, *kwok])
        store = ("server", "--quiet", "--address", fleet.store_address, str(folder / "store"))
        run(
            [str(tool("minio")), *store],
            MINIO_ROOT_USER=fleet.access_key,
            MINIO_ROOT_PASSWORD=fleet.secret_key,
            MINIO_BROWSER="off",
            MINIO_CI_CD="1",
            MINIO_UPDATE="off",
            HOME=str(folder),
        )
        _until("the store is ready", lambda: _make_bucket(fleet))
        _create_node(fleet)
        yield fleet


def _write_settings(fleet: Fleet, tokens: Mapping[str, str]) -> None:
    (fleet.folder / "audit.yaml").write_text(yaml.safe_dump(AUDIT), encoding="utf-8")
    stages = [{"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Stage", **stage} for stage in STAGES]
    (fleet.folder / "kwok.yaml").write_text(yaml.safe_dump_all(stages), encoding="utf-8")
    for user, token in tokens.items():
        place = {"server": fleet.url, "certificate-authority": str(fleet.folder / "certs" / "apiserver.crt")}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fleet", "cluster": place}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": "fleet", "context": {"cluster": "fleet", "user": user}}],
            "current-context": "fleet",
        }
        fleet.kubeconfig(user).write_text(yaml.safe_dump(config), encoding="utf-8")


def _make_bucket(fleet: Fleet) -> bool:
    store = Minio(fleet.store_address, fleet.access_key, fleet.secret_key, secure=False)
    store.make_bucket(BUCKET)
    return True


def _create_node(fleet: Fleet) -> None:
    core: Any = client.CoreV1Api(fleet.client())
    core.create_node({"metadata": {"name": "fake"}, "spec": {}})
    room = {"cpu": "100000", "memory": "1000Ti", "pods": "1000000"}
    ready = {"type": "Ready", "status": "True", "reason": "Fake", "message": "kwok answers"}
    core.patch_node_status("fake", {"status": {"capacity": room, "allocatable": room, "conditions": [ready]}})
    # The API server makes every node one that is not ready yet.
    core.patch_node("fake", {"spec": {"taints": None}})


def tool(name: str) -> Path:
    binary = tool_path(name)
    if binary is None:
        raise SystemExit(f"{name} is not built. Run: .venv/bin/python tools/build.py {name}")
    return binary


def _until(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            if holds():
                return
        except Exception as error:
            # Whatever it is, it may pass until the deadline.
            if time.monotonic() > deadline:
                raise SystemExit(f"not in {READY_SECONDS:.0f} s: {what} ({error})") from error
        time.sleep(0.2)
