"""Charts that name their images by digest, packed by Helm and pushed as OCI artefacts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import yaml

import charts as generated
from release.failure import ReleaseFailed

IMAGES: Mapping[str, Mapping[tuple[str, ...], str]] = {
    "segviz-operator": {
        ("image",): "operator",
        ("aggregator", "image"): "aggregator",
        ("export", "image"): "trainer",
    },
    "segviz-site": {("trainer", "image"): "trainer"},
}
"""Where each chart's values name an image, and which."""
_DIGEST = re.compile(r"^Digest: (sha256:[0-9a-f]{64})$", re.MULTILINE)


def pin(chart: Path, registry: str, digests: Mapping[str, str]) -> None:
    """Write the registry and the digest of each image into the values of a copy of a chart.

    Args:
        digests: sha256:… by role.
    """
    path = chart / "values.yaml"
    text = path.read_text(encoding="utf-8")
    for where, role in IMAGES[chart.name].items():
        text = with_value(text, (*where, "registry"), registry)
        text = with_value(text, (*where, "digest"), digests[role])
    path.write_text(text, encoding="utf-8")
    # What the values default to is said a second time there.
    (chart / "templates" / "_defaults.tpl").write_text(generated.defaults(chart), encoding="utf-8")


def with_value(text: str, path: tuple[str, ...], value: str) -> str:
    """`text` with another scalar at `path`; comments and the rest stay as they are."""
    node = yaml.compose(text, yaml.SafeLoader)
    for key in path:
        assert isinstance(node, yaml.MappingNode), path
        node = next(found for name, found in node.value if name.value == key)
    assert isinstance(node, yaml.ScalarNode), path
    return text[: node.start_mark.index] + json.dumps(value) + text[node.end_mark.index :]


def push_chart(
    helm: Path, chart: Path, registry: str, digests: Mapping[str, str], *, plain_http: bool
) -> str:
    """The digest of the chart under `registry`/charts."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, chart.name)
        shutil.copytree(chart, copy)
        pin(copy, registry, digests)
        _run(helm, "package", copy, "--destination", folder)
        (package,) = Path(folder).glob("*.tgz")
        plain = ("--plain-http",) if plain_http else ()
        said = _run(helm, "push", package, f"oci://{registry}/charts", *plain)
    found = _DIGEST.search(said)
    if found is None:
        raise ReleaseFailed(f"helm push says no digest of {chart.name}:\n{said}")
    return found.group(1)


def _run(program: Path, *words: object) -> str:
    done = subprocess.run((program, *map(str, words)), capture_output=True, encoding="utf-8")
    if done.returncode:
        raise ReleaseFailed(f"helm {' '.join(map(str, words))}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout + done.stderr
