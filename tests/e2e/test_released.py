"""A release, installed from a registry alone: no chart, image or CRD of the checkout is used."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import urllib3
from federation import Make
from hospitals import Scene
from install import CHARTS, Images, Installation, allowed
from node import Node

from integration.ports import free_address

sys.path.insert(0, str(CHARTS.parent / "tools"))

from release.__main__ import push_image
from release.charts import IMAGES, push_chart

ROLES = ("operator", "aggregator", "trainer")


@pytest.fixture
def registry(node: Node, tmp_path: Path) -> Iterator[str]:
    """HOST:PORT of an empty one; containerd asks 127.0.0.1 without TLS."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed; on Debian: apt-get install docker-registry")
    address = free_address()
    storage = {"filesystem": {"rootdirectory": str(tmp_path / "registry")}}
    settings = {"version": 0.1, "storage": storage, "http": {"addr": address}}
    (tmp_path / "registry.json").write_text(json.dumps(settings), encoding="utf-8")
    process = subprocess.Popen((program, "serve", tmp_path / "registry.json"), stderr=subprocess.DEVNULL)
    try:
        give_up = time.monotonic() + 60
        while time.monotonic() < give_up:
            try:
                urllib3.request("GET", f"http://{address}/v2/", retries=False, timeout=1)
                break
            except urllib3.exceptions.HTTPError:
                time.sleep(0.1)
        yield f"{address}/segviz"
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.full
def test_a_federation_completes_on_what_a_registry_holds(
    installation: Installation, scene: Scene, make: Make, registry: str
) -> None:
    digests = {
        role: push_image(f"localhost/segviz/{role}:test", registry, role, "test", plain_http=True)
        for role in ROLES
    }
    for chart in IMAGES:
        push_chart(Path(installation.helm.helm), CHARTS / chart, registry, digests, plain_http=True)
    helm = replace(installation.helm, charts=f"oci://{registry}/charts", options=("--plain-http",))
    released = replace(installation, helm=helm, images=Images("", "", ""))
    try:
        released.operator()
        for hospital in scene.hospitals:
            released.site(hospital, allowed())
        federation = make("released")
        federation.apply()
        for role, site in (("trainer", "basel"), ("aggregator", None)):
            (container,) = federation.running_pod(role, site, seconds=300)["spec"]["containers"]
            assert container["image"] == f"{registry}/segviz-{role}@{digests[role]}"
        federation.wait_for("Complete")
    finally:
        # For the tests that follow.
        installation.operator()
        for hospital in scene.hospitals:
            installation.site(hospital, allowed())
