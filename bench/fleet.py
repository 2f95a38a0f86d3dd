"""A control plane without machines: real API server, controllers and scheduler, one fake node, a real store.

kwok answers for the node's kubelet and says of every Pod that it runs. All on loopback, all stopped at the
end.
"""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from Crypto.PublicKey import RSA
from kubernetes import client
from minio import Minio

TOOLS = Path(__file__).resolve().parents[1] / "tools"
sys.path.insert(0, str(TOOLS))
from build import tool_path  # noqa: E402

READY_SECONDS = 120.0
STOP_SECONDS = 15.0
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
    etcd_port, peer_port, api_port, store_port = _free_ports(4)
    etcd, url = f"http://127.0.0.1:{etcd_port}", f"https://127.0.0.1:{api_port}"
    fleet = Fleet(folder, url, f"127.0.0.1:{store_port}", secrets.token_hex(8), secrets.token_hex(16))
    _write_settings(fleet)
    with contextlib.ExitStack() as processes:

        def start(name: str, *arguments: str, **environment: str) -> None:
            processes.enter_context(_process(folder, name, arguments, environment))

        peer = f"http://127.0.0.1:{peer_port}"
        start(
            "etcd",
            f"--data-dir={folder / 'etcd'}",
            "--unsafe-no-fsync",
            "--log-level=warn",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
        )
        accounts = folder / "accounts.pem"
        start(
            "kube-apiserver",
            f"--etcd-servers={etcd}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={api_port}",
            f"--cert-dir={folder / 'certs'}",
            f"--token-auth-file={folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={accounts}",
            f"--service-account-signing-key-file={accounts}",
            "--service-cluster-ip-range=10.0.0.0/16",
            f"--audit-policy-file={folder / 'audit.yaml'}",
            f"--audit-log-path={folder / 'audit.log'}",
            "--max-requests-inflight=0",
            "--max-mutating-requests-inflight=0",
            "--enable-priority-and-fairness=false",
        )
        _until("the API server is ready", lambda: client.VersionApi(fleet.client()).get_code() is not None)
        kubeconfig = f"--kubeconfig={fleet.kubeconfig('admin')}"
        start(
            "kube-controller-manager",
            kubeconfig,
            "--controllers=job,serviceaccount,namespace,garbagecollector,persistentvolume-binder",
            f"--service-account-private-key-file={accounts}",
            "--leader-elect=false",
            "--secure-port=0",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            "--concurrent-job-syncs=20",
        )
        start(
            "kube-scheduler",
            kubeconfig,
            "--leader-elect=false",
            "--secure-port=0",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
        )
        start(
            "kwok",
            kubeconfig,
            f"--config={folder / 'kwok.yaml'}",
            "--manage-all-nodes=true",
            "--server-address=",
        )
        start(
            "minio",
            *("server", "--quiet", "--address", fleet.store_address, str(folder / "store")),
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


def _write_settings(fleet: Fleet) -> None:
    tokens = {user: secrets.token_hex() for user in ("admin", "operator")}
    rows = [f"{token},{user},{user},system:masters" for user, token in tokens.items()]
    (fleet.folder / "tokens.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (fleet.folder / "accounts.pem").write_bytes(RSA.generate(2048).export_key())
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
    with contextlib.suppress(client.ApiException):
        core.patch_node("fake", {"spec": {"taints": None}})


@contextlib.contextmanager
def _process(
    folder: Path, name: str, arguments: tuple[str, ...], environment: dict[str, str]
) -> Iterator[None]:
    binary = tool_path(name)
    if binary is None:
        raise SystemExit(f"{name} is not built. Run: .venv/bin/python tools/build.py {name}")
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [binary, *arguments], stdout=log, stderr=log, cwd=folder, env={**os.environ, **environment}
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


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


def _free_ports(count: int) -> list[int]:
    """Held all at once, so that they differ."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
