"""MinIO beside the cluster: pods reach it by the node's address."""

from __future__ import annotations

import json
import secrets

import urllib3

from cluster.binaries import binary
from cluster.daemons import Daemons
from cluster.layout import STORE_ADDRESS, Layout

ENDPOINT = f"http://{STORE_ADDRESS}"


def start_store(layout: Layout, daemons: Daemons) -> None:
    file = layout.store_credentials
    if not file.exists():
        file.touch(mode=0o600)
        keys = {"accessKey": secrets.token_hex(8), "secretKey": secrets.token_hex(16)}
        file.write_text(json.dumps({"endpoint": ENDPOINT, **keys}, indent=2), encoding="utf-8")
    written = json.loads(file.read_text(encoding="utf-8"))
    daemons.start(
        "minio",
        binary("minio"),
        "server",
        "--quiet",
        f"--address={STORE_ADDRESS}",
        layout.root / "minio",
        env={
            "MINIO_ROOT_USER": written["accessKey"],
            "MINIO_ROOT_PASSWORD": written["secretKey"],
            "MINIO_BROWSER": "off",
            "MINIO_CI_CD": "1",  # a folder of the root disk will do
            "MINIO_UPDATE": "off",
            "HOME": str(layout.root),
        },
    )
    daemons.wait_for_port("minio", int(STORE_ADDRESS.rpartition(":")[2]))
    daemons.wait("minio", _answers)


def _answers() -> bool:
    try:
        return (
            urllib3.request("GET", f"{ENDPOINT}/minio/health/ready", retries=False, timeout=1).status == 200
        )
    except urllib3.exceptions.HTTPError:
        return False
