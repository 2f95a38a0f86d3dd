"""A real kube-apiserver over a real etcd, for the session: no nodes, no controllers, nothing to schedule."""

import contextlib
import importlib.util
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

READY_SECONDS = 60.0
STOP_SECONDS = 15.0
BUILD = Path(__file__).parents[2] / "tools" / "build.py"


@dataclass(frozen=True)
class ApiServer:
    url: str
    token: str
    authority: Path
    """Certificate that the server's own is checked by."""

    def client(self) -> Any:
        from kubernetes.client import ApiClient, Configuration

        settings = Configuration()
        settings.host = self.url
        settings.api_key = {"authorization": f"Bearer {self.token}"}
        settings.ssl_ca_cert = str(self.authority)
        return ApiClient(settings)


@pytest.fixture(scope="session")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    etcd, server = built_tool("etcd"), built_tool("kube-apiserver")
    pytest.importorskip("kubernetes")
    folder = tmp_path_factory.mktemp("apiserver")
    with contextlib.ExitStack() as running:
        log = running.enter_context((folder / "log").open("w"))
        client_port, peer_port, secure_port = _free_ports(3)
        store = f"http://127.0.0.1:{client_port}"
        running.enter_context(_process(_etcd_command(etcd, folder, store, peer_port), log))
        there = ApiServer(
            f"https://127.0.0.1:{secure_port}", secrets.token_hex(), folder / "certs" / "apiserver.crt"
        )
        process = running.enter_context(
            _process(_server_command(server, folder, store, secure_port, there.token), log)
        )
        _wait_until_ready(there, process, folder / "log")
        yield there


def built_tool(name: str) -> Path:
    """Built by another target, since it takes minutes."""
    spec = importlib.util.spec_from_file_location("segviz_tools_build", BUILD) if BUILD.exists() else None
    if spec is None or spec.loader is None:
        pytest.skip(f"{BUILD} is not there")
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look their module up by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    path: Path | None = module.tool_path(name)
    if path is None:
        pytest.skip(f"{name} is not built: run `make tools`")
    return path


def _etcd_command(binary: Path, folder: Path, store: str, peer_port: int) -> list[str]:
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


def _server_command(binary: Path, folder: Path, store: str, port: int, token: str) -> list[str]:
    from Crypto.PublicKey import RSA

    (folder / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")
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
def _process(command: list[str], log: IO[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
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
    return "Its last lines:\n" + "\n".join(log.read_text().splitlines()[-20:])


def _free_ports(count: int) -> list[int]:
    """Held all at once, so that they differ."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
