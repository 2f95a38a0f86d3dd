"""What is kept in a registry beside an image or a chart: under tags that follow from its digest."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from oras.provider import Registry

from release.failure import ReleaseFailed
from release.signing import Layer

SIGNATURES, ATTESTATIONS = "sig", "att"
"""cosign's suffixes."""


def attach(repository: str, digest: str, suffix: str, layers: Sequence[Layer], *, plain_http: bool) -> None:
    """Push `layers` as REPOSITORY:sha256-….SUFFIX.

    Credentials are taken from docker's config.json.
    """
    with tempfile.TemporaryDirectory() as folder:
        files: list[str] = []
        annotations: dict[str, dict[str, str]] = {}
        for number, layer in enumerate(layers):
            path = Path(folder, f"layer-{number}.json")
            path.write_bytes(layer.data)
            files.append(f"{path}:{layer.media_type}")
            annotations[str(path)] = layer.annotations
        described = Path(folder, "annotations.json")
        described.write_text(json.dumps(annotations), encoding="utf-8")
        target = f"{repository}:{digest.replace(':', '-')}.{suffix}"
        try:
            Registry(insecure=plain_http).push(
                target,
                files=files,
                annotation_file=str(described),
                disable_path_validation=True,
                quiet=True,
            )
        except (OSError, ValueError) as error:  # what requests and oras raise
            raise ReleaseFailed(f"{target}: the registry does not take it: {error}") from error
