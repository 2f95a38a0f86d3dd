"""The docs' commands for a cluster, run as they stand: the real kubectl and Helm, a real API server.

No Pod runs here. What needs one is in builders/walks.py, with the test that has it.
"""

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from builders.documented import TOP, Line, code_blocks
from builders.mistakes import build_federation, changed
from builders.walks import HOSPITAL, REPOSITORY, runs_in_cluster, told_on
from integration.apiserver import ApiServer, built_tool, running_apiserver, running_controllers
from integration.object_stores import Server

pytest.importorskip("kubernetes")
from kubernetes.client import ApiException, CustomObjectsApi

NAMES = {
    "whole": "abdomen",
    "SITE-NAMESPACE": "basel",
    "NAMESPACE": "radiology",
    "NAME": "abdomen",
    "NS": "radiology",
    "UID": "0a1b2c3d-1111-2222-3333-444455556666",
    "FILE": "basel.json",
}
ELSEWHERE_NAMED = {"docs/how-to/join.md": {"basel": "outside"}}
"""A page whose cluster is another one: its namespace has another name here."""
MENDS = {0, 1}
"""Of doctor: no operator runs here, and it says so."""
WATCHED = 124
SECONDS = 60


@dataclass
class Scene:
    """A folder with what the pages take for granted, and whoever administers a cluster."""

    folder: Path
    apiserver: ApiServer
    done: set[str] = field(default_factory=set)
    failed: list[str] = field(default_factory=list)

    def walk(self, page: str) -> None:
        for line in told_on(page):
            if runs_in_cluster(line) and (command := self.meant(line)) not in self.done:
                self.done.add(command)
                self.begin()
                self.run(line, command)

    def begin(self) -> None:
        """Pages speak of a federation that is there, and a few of one that is complete."""
        objects: Any = CustomObjectsApi(self.apiserver.client())
        place = ("segviz.dev", "v1alpha1", "radiology", "segvizfederations")
        wanted = yaml.safe_load((self.folder / "federation.yaml").read_text(encoding="utf-8"))
        conditions = [
            {
                "type": kind,
                "status": "True",
                "reason": "Finished",
                "message": "",
                "observedGeneration": 1,
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
            for kind in ("Accepted", "Ready", "Complete")
        ]
        # 404: there is no CRD yet, or no longer. 409: it is there.
        with contextlib.suppress(ApiException):
            objects.create_namespaced_custom_object(*place, wanted)
            status = {"status": {"phase": "Complete", "conditions": conditions}}
            objects.patch_namespaced_custom_object_status(*place, "abdomen", status)

    def run(self, line: Line, command: str) -> None:
        limit = 2 if {"-w", "--watch"} & set(line.words) and line.words[0] == "kubectl" else SECONDS
        if line.words[:2] == ("helm", "install"):
            # Several pages begin with it.
            namespace = next(
                line.words[at + 1] for at, word in enumerate(line.words) if word in ("-n", "--namespace")
            )
            self.ask(
                self.meant_text(line, f"helm uninstall --ignore-not-found -n {namespace} {line.words[2]}")
            )
        began = time.monotonic()
        done = self.ask(command, limit)
        print(f"{time.monotonic() - began:.1f} s: {command}")
        allowed = MENDS if line.words[:2] == ("segviz", "doctor") else {0}
        allowed = {WATCHED} if limit == 2 else allowed
        # Whoever made it first did not say --save-config.
        said = re.sub(
            "Warning: .* is missing the .*last-applied-configuration", "", done.stdout + done.stderr
        )
        if done.returncode not in allowed or "Traceback" in said or "Warning" in said:
            self.failed.append(f"{line.place}: {command}\n{done.returncode}: {said}")

    def meant(self, line: Line) -> str:
        return self.meant_text(line, line.text.partition("   #")[0].strip())

    def meant_text(self, line: Line, command: str) -> str:
        for name, value in {**NAMES, **ELSEWHERE_NAMED.get(line.place, {})}.items():
            command = re.sub(rf"(?<![-\w]){name}(?![-\w.])", value, command)
        return command

    def ask(self, command: str, seconds: int = SECONDS) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["timeout", str(seconds), "bash", "-o", "pipefail", "-c", command],
            cwd=self.folder,
            env={
                "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
                "HOME": str(self.folder),
                "KUBECONFIG": str(self.folder / "kubeconfig"),
                "COLUMNS": "80",
            },
            capture_output=True,
            encoding="utf-8",
        )


def values_on(page: str, holding: str) -> str:
    text = (TOP / page).read_text(encoding="utf-8")
    (found,) = [block for block in code_blocks(text) if holding in block]
    return found


@pytest.fixture(scope="module")
def scene(minio: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("hospital")
    (folder / "bin").mkdir()
    for tool in ("kubectl", "helm"):
        (folder / "bin" / tool).symlink_to(built_tool(tool))
    (folder / "bin/segviz").symlink_to(Path(sys.executable).with_name("segviz"))
    (folder / "charts").symlink_to(TOP / "charts")
    digest = f"sha256:{'0123456789abcdef' * 4}"
    operator = values_on("docs/how-to/install.md", "imagePullSecrets: [registry]")
    site = values_on("charts/segviz-site/README.md", "# site.yaml")
    images = {"operator.yaml": operator, "site.yaml": site, "site-values.yaml": site}
    for name, text in images.items():
        text = text.replace("sha256:…", digest).replace("REGISTRY", "registry.hospital.example")
        if name == "operator.yaml":
            text += "networkPolicy: {store: {cidrs: [10.1.2.3/32]}, apiServer: {cidrs: [10.1.2.4/32]}}\n"
        (folder / name).write_text(text, encoding="utf-8")
    endpoint = f"http://{minio.address}"
    store = {"endpoint": endpoint, "bucket": "segviz", "secretRef": {"name": "segviz-store"}}
    member = {"alias": "basel", "siteRef": {"namespace": "basel", "name": "basel"}}
    named = {"metadata": {"name": "abdomen", "namespace": "radiology"}, "spec.sites": [member]}
    wanted = changed(build_federation(), {**named, "spec.store": store})
    (folder / "federation.yaml").write_text(yaml.safe_dump(wanted), encoding="utf-8")
    for name in ("basel.json", "hospital-ca.crt", "private.pem"):
        (folder / name).write_text("x", encoding="utf-8")
    with running_apiserver(tmp_path_factory.mktemp("its-apiserver")) as apiserver:
        apiserver.write_kubeconfig(folder / "kubeconfig", namespace="radiology")
        # It lets a claim go that no Pod uses.
        with running_controllers(
            apiserver,
            tmp_path_factory.mktemp("its-controllers"),
            "persistentvolumeclaim-protection-controller",
        ):
            yield Scene(folder, apiserver)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("pages", [HOSPITAL, REPOSITORY], ids=["the docs", "the repository's front"])
def test_its_commands_do_what_the_page_says(scene: Scene, pages: tuple[str, ...]) -> None:
    scene.failed.clear()
    scene.done.clear()
    for page in pages:
        began = time.monotonic()
        scene.walk(page)
        print(f"{page}: {time.monotonic() - began:.1f} s")
    assert not scene.failed, "\n\n".join(scene.failed)
