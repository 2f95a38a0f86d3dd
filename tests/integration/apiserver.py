"""A real kube-apiserver over a real etcd, for the session: no nodes; controllers where a test wants them."""

import contextlib
import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest
import yaml

from integration.built import built_tool
from integration.ports import free_ports

READY_SECONDS = 60.0
STOP_SECONDS = 15.0


@dataclass(frozen=True)
class ApiServer:
    url: str
    token: str
    authority: Path
    """Certificate that the server's own is checked by."""

    def client(self, token: str | None = None) -> Any:
        """The administrator's, or that of whoever has the token."""
        from kubernetes.client import ApiClient, Configuration

        settings = Configuration()
        settings.host = self.url
        settings.api_key = {"authorization": f"Bearer {token or self.token}"}
        settings.ssl_ca_cert = str(self.authority)
        return ApiClient(settings)

    def write_kubeconfig(self, path: Path, token: str | None = None, namespace: str = "default") -> Path:
        cluster = {"server": self.url, "certificate-authority": str(self.authority)}
        context = {"cluster": "tests", "user": "someone", "namespace": namespace}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": "someone", "user": {"token": token or self.token}}],
            "contexts": [{"name": "tests", "context": context}],
            "current-context": "tests",
        }
        path.write_text(json.dumps(config), encoding="utf-8")
        return path


@pytest.fixture(scope="session")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with running_apiserver(tmp_path_factory.mktemp("apiserver")) as there:
        yield there


@contextlib.contextmanager
def running_apiserver(folder: Path) -> Iterator[ApiServer]:
    """One of its own, for a test that changes what all would see."""
    etcd, server = built_tool("etcd"), built_tool("kube-apiserver")
    pytest.importorskip("kubernetes")
    with contextlib.ExitStack() as running:
        log = running.enter_context((folder / "log").open("w", encoding="utf-8"))
        client_port, peer_port, secure_port = free_ports(3)
        store = f"http://127.0.0.1:{client_port}"
        running.enter_context(running_process(etcd_command(etcd, folder, store, peer_port), log))
        there = ApiServer(
            f"https://127.0.0.1:{secure_port}", secrets.token_hex(), folder / "certs" / "apiserver.crt"
        )
        process = running.enter_context(
            running_process(server_command(server, folder, store, secure_port, {"admin": there.token}), log)
        )
        _wait_until_ready(there, process, folder / "log")
        yield there


@pytest.fixture(scope="session")
def crds(apiserver: ApiServer) -> None:
    """Our own, installed once and served."""
    install_crds(apiserver)


def install_crds(apiserver: ApiServer) -> None:
    from kubernetes.client import ApiException, ApiextensionsV1Api, CustomObjectsApi

    from segviz_operator.manifests.schema import crd_files

    client = apiserver.client()
    definitions = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in crd_files()]
    for each in definitions:
        ApiextensionsV1Api(client).create_custom_resource_definition(each)
    deadline = time.monotonic() + READY_SECONDS
    for each in definitions:
        plural = each["spec"]["names"]["plural"]
        while True:
            try:
                CustomObjectsApi(client).list_namespaced_custom_object(
                    "segviz.dev", "v1alpha1", "default", plural
                )
                break
            except ApiException as error:
                if error.status != 404 or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)


@pytest.fixture(scope="session")
def controllers(apiserver: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The garbage collector, and the one that fills the ClusterRoles admin, edit and view."""
    names = ("clusterrole-aggregation-controller", "garbage-collector-controller", "namespace-controller")
    with running_controllers(apiserver, tmp_path_factory.mktemp("controllers"), *names):
        yield


@contextlib.contextmanager
def running_controllers(apiserver: ApiServer, folder: Path, *names: str) -> Iterator[None]:
    manager = built_tool("kube-controller-manager")
    (port,) = free_ports(1)
    command = [
        str(manager),
        f"--kubeconfig={apiserver.write_kubeconfig(folder / 'kubeconfig')}",
        f"--controllers={','.join(names)}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={folder / 'certs'}",
    ]
    with (folder / "log").open("w", encoding="utf-8") as log, running_process(command, log):
        yield


def etcd_command(binary: Path, folder: Path, store: str, peer_port: int) -> list[str]:
    peer = f"http://127.0.0.1:{peer_port}"
    return [
        str(binary),
        f"--data-dir={folder / 'etcd'}",
        "--unsafe-no-fsync",
        f"--listen-client-urls={store}",
        f"--advertise-client-urls={store}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
    ]


def server_command(binary: Path, folder: Path, store: str, port: int, tokens: Mapping[str, str]) -> list[str]:
    """`tokens` of administrators, by user."""
    from Crypto.PublicKey import RSA

    rows = [f"{token},{user},{user},system:masters\n" for user, token in tokens.items()]
    (folder / "tokens.csv").write_text("".join(rows), encoding="utf-8")
    (folder / "accounts.pem").write_bytes(RSA.generate(2048).export_key())
    return [
        str(binary),
        f"--etcd-servers={store}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={folder / 'certs'}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={folder / 'accounts.pem'}",
        f"--service-account-signing-key-file={folder / 'accounts.pem'}",
        "--service-cluster-ip-range=10.0.0.0/24",
    ]


@contextlib.contextmanager
def running_process(
    command: list[str], log: IO[str], **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **environment}
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(server: ApiServer, process: subprocess.Popen[bytes], log: Path) -> None:
    from kubernetes.client import ApiException, CoreV1Api
    from urllib3.exceptions import HTTPError

    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        # The server writes its certificate when it starts; a namespace is among the last things it makes.
        if server.authority.exists():
            with contextlib.suppress(ApiException, HTTPError, OSError):
                CoreV1Api(server.client()).read_namespace("default")
                return
        time.sleep(0.2)
    raise RuntimeError(f"kube-apiserver was not ready in {READY_SECONDS:.0f} s. {_end_of(log)}")


def _end_of(log: Path) -> str:
    return "Its last lines:\n" + "\n".join(log.read_text(encoding="utf-8").splitlines()[-20:])
