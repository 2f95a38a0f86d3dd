"""Real S3 servers for the tests: MinIO and versitygw, each with an empty bucket."""

import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import urllib3
from minio import Minio
from minio.credentials.providers import StaticProvider

from integration.built import built_tool
from integration.ports import free_address
from segviz_exchange.stores.s3 import S3Store

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 30


@dataclass(frozen=True)
class Server:
    address: str
    log: Path
    access_key: str = field(default_factory=lambda: secrets.token_hex(8))
    secret_key: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

    def url(self, bucket: str, address: str | None = None) -> str:
        return f"s3+http://{address or self.address}/{bucket}"

    def store(self, bucket: str, address: str | None = None) -> S3Store:
        """The bucket as a store; by way of another address, where a proxy listens."""
        return S3Store.from_url(self.url(bucket, address), StaticProvider(self.access_key, self.secret_key))

    def make_bucket(self) -> str:
        bucket = f"test-{secrets.token_hex(4)}"
        # Creating buckets is an administrator's business and no part of the store.
        Minio(self.address, self.access_key, self.secret_key, secure=False).make_bucket(bucket)
        return bucket


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_minio(tmp_path_factory.mktemp("minio"), {}) as server:
        yield server


@contextmanager
def running_minio(folder: Path, more: dict[str, str]) -> Iterator[Server]:
    """Args:
    more: settings beside the usual ones, as environment variables.
    """
    server = Server(free_address(), folder / "log")
    arguments = ["server", "--quiet", "--address", server.address, "--console-address", free_address()]
    settings = {
        "MINIO_ROOT_USER": server.access_key,
        "MINIO_ROOT_PASSWORD": server.secret_key,
        "MINIO_BROWSER": "off",
        "MINIO_CI_CD": "1",  # a folder on the root disk is fine for a test
        "MINIO_UPDATE": "off",
        "HOME": str(folder),
        **more,
    }
    with _running(server, "minio", [*arguments, str(folder / "data")], settings):
        yield server


@pytest.fixture(scope="session")
def versitygw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("versitygw")
    server = Server(free_address(), folder / "log")
    settings = {"ROOT_ACCESS_KEY": server.access_key, "ROOT_SECRET_KEY": server.secret_key}
    for part in ("data", "sidecar"):
        (folder / part).mkdir()
    # Metadata in a sidecar folder, for not every file system has extended attributes.
    arguments = ["--quiet", "--keep-alive", "--port", server.address, "posix"]
    backend = ["--sidecar", str(folder / "sidecar"), str(folder / "data")]
    with _running(server, "versitygw", [*arguments, *backend], settings):
        yield server


@contextmanager
def _running(server: Server, tool: str, arguments: list[str], settings: dict[str, str]) -> Iterator[None]:
    binary = built_tool(tool)
    with server.log.open("wb") as log:
        process = subprocess.Popen(
            [binary, *arguments],
            env={**os.environ, **settings},
            stdout=log,
            stderr=log,
            cwd=server.log.parent,
        )
    try:
        _wait_for_answer(server, process)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_answer(server: Server, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib3.request("GET", f"http://{server.address}/", retries=False, timeout=1)
        except urllib3.exceptions.HTTPError:
            if process.poll() is None and time.monotonic() < give_up:
                time.sleep(0.05)
                continue
            raise AssertionError(
                f"{process.args} did not start:\n{server.log.read_text(encoding='utf-8')}"
            ) from None
        return
