"""MinIO behind a certificate that only one authority of its own has signed."""

import shutil
import subprocess
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
import tenacity
from minio import Minio

from integration.object_stores import Server, _running
from integration.ports import free_address
from segviz_exchange.stores.credentials import Credentials
from segviz_exchange.stores.s3_access import build_connections

BUCKET = "secure"
HOST = "store.hospital.example"
"""Also in its certificate; no resolver of this machine knows the name."""


@dataclass(frozen=True)
class Secure:
    server: Server
    ca: Path
    folder: Path

    @property
    def url(self) -> str:
        return f"s3://{self.server.address}/{BUCKET}"

    @property
    def root(self) -> Credentials:
        return Credentials(self.server.access_key, self.server.secret_key)

    def running(self) -> AbstractContextManager[None]:
        arguments = [
            "server",
            "--quiet",
            "--address",
            self.server.address,
            "--console-address",
            free_address(),
        ]
        settings = {
            "MINIO_ROOT_USER": self.server.access_key,
            "MINIO_ROOT_PASSWORD": self.server.secret_key,
            "MINIO_BROWSER": "off",
            "MINIO_CI_CD": "1",
            "MINIO_UPDATE": "off",
            "HOME": str(self.folder),
        }
        words = [*arguments, "--certs-dir", str(self.ca.parent), str(self.folder / "data")]
        return _running(self.server, "minio", words, settings)


@pytest.fixture
def secure(tmp_path: Path) -> Secure:
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    certificates = tmp_path / "certificates"
    certificates.mkdir()
    ca = certificates / "public.crt"
    subprocess.run(
        (
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-days", "2", "-subj", "/CN=a hospital", "-addext", f"subjectAltName=IP:127.0.0.1,DNS:{HOST}"),
            *("-keyout", certificates / "private.key", "-out", ca),
        ),
        check=True,
        capture_output=True,
    )
    made = Secure(Server(free_address(), tmp_path / "log"), ca, tmp_path)
    with made.running():
        client = Minio(
            made.server.address,
            made.server.access_key,
            made.server.secret_key,
            http_client=build_connections(f"https://{made.server.address}", ca_file=ca),
        )
        # A server that has just started answers 503 for a moment.
        tenacity.retry(wait=tenacity.wait_fixed(0.2), stop=tenacity.stop_after_attempt(50))(
            client.make_bucket
        )(BUCKET)
    return made
