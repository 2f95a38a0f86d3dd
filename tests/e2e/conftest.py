"""One cluster, one operator and the sites' releases for the session; each test makes a federation."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bucket import StoreAddress
from federation import Federation, Make
from hospitals import Scene, cube_scene
from install import BUCKET, COORDINATOR, NAMES, OTHER_COORDINATOR, SYSTEM, Helm, Images, Installation, allowed
from kube import Kube
from node import Node
from one_machine import Reference, run_on_one_machine


@pytest.fixture(scope="session")
def kube() -> Kube:
    if "KUBECONFIG" not in os.environ:
        pytest.exit("KUBECONFIG is not set: run make e2e", returncode=4)
    return Kube(_tool("kubectl"))


@pytest.fixture(scope="session")
def store(kube: Kube) -> StoreAddress:
    written = json.loads(Path(os.environ["SEGVIZ_E2E_STORE"]).read_text(encoding="utf-8"))
    address = StoreAddress(written["endpoint"], written["accessKey"], written["secretKey"])
    if not address.client().bucket_exists(BUCKET):
        address.client().make_bucket(BUCKET)
    return address


@pytest.fixture(scope="session")
def node() -> Node:
    """The machine below, where it is ours."""
    if "SEGVIZ_CLUSTER_DIR" not in os.environ:
        pytest.skip("needs a cluster that `make cluster` booted: its servers are stopped")
    return Node(Path(os.environ["SEGVIZ_CLUSTER_DIR"]))


@pytest.fixture(scope="session")
def installation(kube: Kube, store: StoreAddress, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The operator, and two namespaces of coordinators with the store's keys."""
    helm = Helm(_tool("helm"), tmp_path_factory.mktemp("values"))
    installation = Installation(kube, helm, Images.from_environment(), store)
    for namespace in (SYSTEM, COORDINATOR, OTHER_COORDINATOR):
        installation.namespace(namespace)
    for namespace in (COORDINATOR, OTHER_COORDINATOR):
        installation.store_secret(namespace)
    installation.operator()
    return installation


@pytest.fixture(scope="session")
def scene(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Four sites with images, installed."""
    found = cube_scene(tmp_path_factory.mktemp("cubes"))
    installation.everything(found, allowed())
    return found


@pytest.fixture(scope="session")
def reference(installation: Installation, store: StoreAddress, scene: Scene) -> Reference:
    """What the scene's federation comes to where nothing disturbs it."""
    undisturbed = Federation(installation.kube, store, scene, NAMES[0])
    return run_on_one_machine(installation, undisturbed, os.environ["SEGVIZ_LOCAL_IMAGE"])


@pytest.fixture
def make(kube: Kube, store: StoreAddress, scene: Scene, request: pytest.FixtureRequest) -> Iterator[Make]:
    """Federations that are deleted at the end, and told about where the test fails."""
    made: list[Federation] = []

    def new(name: str, namespace: str = COORDINATOR, **changes: Any) -> Federation:
        federation = Federation(kube, store, scene, name, changes, namespace)
        made.append(federation)
        return federation

    yield new
    for federation in made:
        if request.node.stash.get(FAILED, False):
            print(federation.story())
        federation.delete()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What uninstalls the session's installation comes last."""
    items.sort(key=lambda item: item.path.stem == "test_uninstall")


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    report = yield
    if call.when == "call" and report.failed:
        item.stash[FAILED] = True
    return report


def _tool(name: str) -> str:
    """The one that the cluster was made with, else the machine's."""
    build = Path(__file__).parents[2] / "tools" / "build.py"
    found = subprocess.run(
        [sys.executable, str(build), "--print-path", name], capture_output=True, encoding="utf-8"
    )
    path = found.stdout.strip() or shutil.which(name)
    if not path:
        pytest.exit(f"no {name}: {found.stderr}", returncode=4)
    return path
