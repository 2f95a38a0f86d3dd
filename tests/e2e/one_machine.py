"""The same manifests under `segviz run`, in one Pod of the same image: what the cluster must reproduce."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from federation import Federation
from install import COORDINATOR, Installation
from kube import Object

POD = "one-machine"
# The records that the bucket of the cluster is compared with.
_DIGESTS = """
import json, pathlib
bucket = pathlib.Path('/data/run/bucket')
def blobs(pattern, key):
    records = (json.loads(path.read_text().splitlines()[0]) for path in bucket.glob(f'**/{pattern}/*.json'))
    return {str(record[key]): record['blob'] for record in records}
print(json.dumps({'rounds': blobs('global/rounds', 'round'), 'exported': blobs('export', 'variant')}))
"""


@dataclass(frozen=True)
class Reference:
    rounds: Mapping[int, str]
    """Digest of each global model."""
    exported: Mapping[str, str]
    """Digest of each final model, by variant."""


def run_on_one_machine(installation: Installation, federation: Federation, image: str) -> Reference:
    installation.start_idle_pod(POD, COORDINATOR, image, {"name": "data", "emptyDir": {}})
    try:
        return _run(installation, federation)
    finally:
        installation.kube.delete("pod", POD, COORDINATOR, force=True)


def _run(installation: Installation, federation: Federation) -> Reference:
    kube, scene = installation.kube, federation.scene
    # The sites as the charts made them and the API server gives them back.
    sites = [kube.get("segvizsites.segviz.dev", each.name, each.name) for each in scene.hospitals]
    documents = [federation.manifest(), *(_bare(site) for site in sites if site is not None)]
    text = "\n---\n".join(json.dumps(each) for each in documents)

    def inside(*command: str, stdin: bytes | None = None, seconds: float = 60) -> str:
        interactive = ("--stdin",) if stdin is not None else ()
        where = (POD, f"--namespace={COORDINATOR}", *interactive)
        return kube.run("exec", *where, "--", *command, stdin=stdin, seconds=seconds)

    inside(
        "python", "-c", "import sys; open('/data/all.yaml', 'w').write(sys.stdin.read())", stdin=text.encode()
    )
    data: list[str] = []
    for hospital in scene.hospitals:
        folder = f"/data/images/{hospital.name}"
        inside("mkdir", "-p", folder)
        installation.unpack(POD, COORDINATOR, hospital.folder, folder)
        data += ["--data", f"{hospital.name}={folder}"]
    options = ("--workdir", "/data/run", "--poll-seconds", "0.2")
    inside("segviz", "run", "/data/all.yaml", *options, *data, seconds=600)
    found = json.loads(inside("python", "-c", _DIGESTS))
    return Reference({int(number): blob for number, blob in found["rounds"].items()}, found["exported"])


def _bare(found: Object) -> dict[str, Any]:
    metadata = {key: found["metadata"][key] for key in ("name", "namespace")}
    kind = {key: found[key] for key in ("apiVersion", "kind", "spec")}
    return {**kind, "metadata": metadata}
