"""`python -m release`: everything of one version, pushed to a registry and signed."""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import build
import click
from bump import version_of
from cluster import images
from cluster.command import run
from cluster.failure import ClusterFailed
from cluster.packages import ensure_packages

from release.attached import ATTESTATIONS, SIGNATURES, attach
from release.charts import IMAGES, push_chart
from release.failure import ReleaseFailed
from release.signing import Key, attestation, signature

TOP = Path(__file__).resolve().parents[2]
PLATFORM = "linux/amd64"
SLSA, CYCLONEDX = "https://slsa.dev/provenance/v1", "https://cyclonedx.org/bom"
Json = dict[str, Any]


@click.command()
@click.option("--registry", required=True, help="Where to push, HOST[:PORT]/PATH.")
@click.option("--key", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--base", default="python:3.13-slim", show_default=True, help="Image with Python, without torch."
)
@click.option("--python-version", default="3.13", show_default=True, help="The Python in it.")
@click.option("--plain-http", is_flag=True, help="For a registry on this machine.")
def main(registry: str, key: Path, base: str, python_version: str, plain_http: bool) -> None:
    """Build and push the images and charts of this commit, with SBOM, provenance and signatures."""
    registry, version, began = registry.rstrip("/"), version_of(), datetime.now(UTC)
    commit = clean_commit(TOP)
    ensure_packages()
    names = images.build_for_release(base, python_version, version)
    digests = {
        role: push_image(name, registry, role, version, plain_http=plain_http) for role, name in names.items()
    }
    helm = build.ensure_built("helm", build.find_go(), build.CACHE.absolute(), lambda text: None)
    charts = {
        chart: push_chart(helm, TOP / "charts" / chart, registry, digests, plain_http=plain_http)
        for chart in IMAGES
    }
    made = provenance(commit, version, base, began)
    with tempfile.TemporaryDirectory() as folder:
        boms = {
            path.name.partition(".")[0]: json.loads(path.read_text(encoding="utf-8"))
            for path in images.write_boms(Path(folder), python_version)
        }
    things: dict[str, tuple[str, Json | None]] = {
        **{f"{registry}/segviz-{role}": (digest, boms[role]) for role, digest in digests.items()},
        **{f"{registry}/charts/{chart}": (digest, None) for chart, digest in charts.items()},
    }
    for repository, (digest, bom) in things.items():
        sign(Key(key), repository, digest, {SLSA: made, CYCLONEDX: bom}, plain_http=plain_http)
        print(f"{repository}@{digest}")


def clean_commit(top: Path) -> str:
    """Raises ReleaseFailed: what is here is not what a commit says."""
    changed = run("git", "-C", top, "status", "--porcelain").strip()
    if changed:
        raise ReleaseFailed(f"The checkout has changes that no commit has. Commit or stash them:\n{changed}")
    return run("git", "-C", top, "rev-parse", "HEAD").strip()


def push_image(name: str, registry: str, role: str, version: str, *, plain_http: bool) -> str:
    """Its digest in the registry."""
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as file:
        insecure = ("--tls-verify=false",) if plain_http else ()
        target = f"docker://{registry}/segviz-{role}:{version}"
        run("buildah", "push", "--quiet", *insecure, "--digestfile", file.name, name, target)
        return file.read().strip()


def sign(
    key: Key, repository: str, digest: str, statements: Mapping[str, Json | None], *, plain_http: bool
) -> None:
    """A signature of the thing itself, and of each statement about it that there is."""
    said = [
        attestation(key, repository, digest, kind, predicate)
        for kind, predicate in statements.items()
        if predicate is not None
    ]
    attach(repository, digest, SIGNATURES, [signature(key, repository, digest)], plain_http=plain_http)
    attach(repository, digest, ATTESTATIONS, said, plain_http=plain_http)


def provenance(commit: str, version: str, base: str, began: datetime) -> Json:
    """As SLSA's provenance v1 has it: from which source and which locked packages, and by what."""
    lock = hashlib.sha256((TOP / "requirements.lock").read_bytes()).hexdigest()
    return {
        "buildDefinition": {
            "buildType": "https://segviz.dev/make-release/v1",
            "externalParameters": {"version": version, "base": base, "platform": PLATFORM},
            "resolvedDependencies": [
                {"name": "source", "digest": {"gitCommit": commit}},
                {"name": "requirements.lock", "digest": {"sha256": lock}},
            ],
        },
        "runDetails": {
            "builder": {"id": "https://segviz.dev/make-release"},
            "metadata": {"startedOn": f"{began:%Y-%m-%dT%H:%M:%SZ}"},
        },
    }


def command() -> int:
    try:
        main(standalone_mode=False)
    except (ReleaseFailed, ClusterFailed, build.BuildFailed) as failure:
        print(failure, file=sys.stderr)
        return 1
    except click.exceptions.Abort:
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(command())
