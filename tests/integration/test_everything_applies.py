"""CRDs, charts and examples as GitOps tools take them: kustomize, kubeconform, a dry run on a server."""

import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from builders.openapi import LOCATION, write_core_schemas, write_crd_schema
from builders.rendered import TOP, VARIANTS, Object, render
from integration.apiserver import ApiServer
from integration.built import built_tool
from segviz_operator.manifests.documents import read_documents
from segviz_operator.manifests.schema import crd_files

pytest.importorskip("kubernetes")
from kubernetes.client import ApiException, CoreV1Api

FOREIGN = ("monitoring.coreos.com/v1", "external-secrets.io/v1")
"""The Prometheus Operator's, whose CRDs are not here: no schema is held against these objects."""
EXAMPLES = sorted(path.parent.name for path in (TOP / "examples").glob("*/federation.yaml"))


def text_of(what: str) -> str:
    """What a person would apply: of files the very text, for it is read by other YAML readers than ours."""
    if what in VARIANTS:
        return as_text(render(VARIANTS[what]))
    paths = crd_files() if what == "crds" else sorted((TOP / what).glob("*.yaml"))
    # A study is read on one machine alone.
    return "\n---\n".join(path.read_text(encoding="utf-8") for path in paths if path.name != "study.yaml")


def as_text(objects: Iterable[Object]) -> str:
    # As JSON: PyYAML leaves 1e3 without quotes, which is a number to Kubernetes.
    return "\n---\n".join(json.dumps(each) for each in objects)


def objects_in(text: str, folder: Path) -> list[Object]:
    (folder / "objects.yaml").write_text(text, encoding="utf-8")
    return read_documents(folder / "objects.yaml")


def own(objects: Iterable[Object]) -> list[Object]:
    return [each for each in objects if each["apiVersion"] not in FOREIGN]


everything = pytest.mark.parametrize("what", ["crds", *(f"examples/{each}" for each in EXAMPLES), *VARIANTS])


@dataclass(frozen=True)
class Kubectl:
    config: Path

    def __call__(self, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(built_tool("kubectl")), f"--kubeconfig={self.config}", *words],
            input=given,
            env={"HOME": str(self.config.parent)},
            capture_output=True,
            encoding="utf-8",
            timeout=120,
        )


@pytest.fixture(scope="module")
def kubectl(apiserver: ApiServer, crds: None, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    return Kubectl(apiserver.write_kubeconfig(tmp_path_factory.mktemp("kubectl") / "config"))


@pytest.fixture(scope="module")
def schemas(apiserver: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schemas")
    client = apiserver.client()
    question = client.param_serialize("GET", "/openapi/v2", header_params={}, auth_settings=["BearerToken"])
    write_core_schemas(json.loads(client.call_api(*question).read()), folder)
    for path in crd_files():
        write_crd_schema(yaml.safe_load(path.read_text(encoding="utf-8")), folder)
    return folder


def kubeconform(objects: list[Object], schemas: Path) -> list[Object]:
    """What it has against them."""
    location = f"{schemas}/{LOCATION}"
    done = subprocess.run(
        [str(built_tool("kubeconform")), "-strict", "-output", "json", "-schema-location", location],
        input=as_text(objects),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert done.stdout, done.stderr
    found: list[Object] = json.loads(done.stdout)["resources"]
    return found


@everything
def test_kubeconform_knows_every_object_and_field(what: str, schemas: Path, tmp_path: Path):
    objects = own(objects_in(text_of(what), tmp_path))
    assert objects
    assert kubeconform(objects, schemas) == []


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "x"}, "spec": {"replcas": 1}},
        {
            "kind": "SegVizSite",
            "apiVersion": "segviz.dev/v1alpha1",
            "metadata": {"name": "x"},
            "spec": {"role": "X"},
        },
        {"kind": "SegVizSite", "apiVersion": "segviz.dev/v2", "metadata": {"name": "x"}},
    ],
    ids=["unknown field", "invalid value", "unknown kind"],
)
def test_kubeconform_would_see_a_fault(fault: Object, schemas: Path):
    assert kubeconform([fault], schemas) != []


@everything
def test_kustomize_builds_it_and_loses_nothing(what: str, kubectl: Kubectl, tmp_path: Path):
    """A key that is there twice, or an object, ends a build; what comes out must say what went in."""
    given = objects_in(text_of(what), tmp_path)
    (tmp_path / "kustomization.yaml").write_text("resources: [objects.yaml]\n", encoding="utf-8")
    built = kubectl("kustomize", str(tmp_path))
    assert built.returncode == 0, built.stderr
    assert in_order(objects_in(built.stdout, tmp_path)) == in_order(given)


def in_order(objects: Iterable[Object]) -> list[str]:
    return sorted(json.dumps(each, sort_keys=True, default=str) for each in objects)


@everything
def test_the_server_would_take_it(what: str, kubectl: Kubectl, apiserver: ApiServer, tmp_path: Path):
    """Server-side apply with strict fields, as Flux and Argo CD do it: nothing is written."""
    text = text_of(what)
    objects = own(objects_in(text, tmp_path))
    make_namespaces(apiserver, objects)
    asked = apply(kubectl, as_text(objects) if what in VARIANTS else text)
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.count("serverside-applied (server dry run)") == len(objects)
    # The CRDs are there already, and no field of theirs is anybody else's by surprise.
    assert "Warning" not in asked.stderr


def test_a_dry_run_would_see_a_fault(kubectl: Kubectl):
    misspelt = text_of("examples/phantom").replace("rounds:", "round:")
    refused = apply(kubectl, misspelt)
    assert refused.returncode != 0
    assert ".spec.round: field not declared in schema" in refused.stderr


def apply(kubectl: Kubectl, text: str) -> subprocess.CompletedProcess[str]:
    as_gitops = ("--server-side", "--force-conflicts", "--validate=strict")
    return kubectl("apply", *as_gitops, "--dry-run=server", "-f", "-", given=text)


def make_namespaces(apiserver: ApiServer, objects: list[Object]) -> None:
    core: Any = CoreV1Api(apiserver.client())
    for name in sorted({each["metadata"].get("namespace", "default") for each in objects}):
        try:
            core.create_namespace({"metadata": {"name": name}})
        except ApiException as error:
            if error.status != 409:
                raise
