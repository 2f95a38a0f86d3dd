"""`python -m cluster up|down|env`: a cluster of one node on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from filelock import FileLock, Timeout

from cluster import boot, images
from cluster.failure import ClusterFailed
from cluster.layout import LOCK, Layout
from cluster.packages import ensure_packages


@contextmanager
def alone() -> Iterator[None]:
    """Addresses, bridges and ports are the machine's: whoever comes second would leave strays.

    Raises:
        ClusterFailed: another command has the cluster.
    """
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(LOCK, timeout=0):
            yield
    except Timeout:
        raise ClusterFailed(
            f"Another command boots, uses or stops the cluster (it holds {LOCK}). Wait until it ends."
        ) from None


@click.group(help=__doc__)
def main() -> None:
    pass


@main.command()
def up() -> None:
    """Boot it, or what of it is not running, and wait until its node is ready."""
    layout, started = Layout.default(), time.monotonic()
    with alone():
        boot.up(layout)
    print(
        f"ready after {time.monotonic() - started:.0f} s; store: {layout.store_credentials}", file=sys.stderr
    )
    print(f"export KUBECONFIG={layout.kubeconfig}")


@main.command()
def down() -> None:
    """Stop it and remove all that it made, images and volumes too."""
    with alone():
        boot.down(Layout.default())


@main.command(name="images")
def load_images() -> None:
    """Build the images of this checkout on the test base and hand them to the node."""
    for role, reference in images.load(Layout.default()).items():
        print(f"export SEGVIZ_{role.upper()}_IMAGE={reference}")


@main.command()
@click.option(
    "--base", default="python:3.13-slim", show_default=True, help="Image with Python, without torch."
)
@click.option("--python-version", default="3.13", show_default=True, help="The Python in it.")
@click.option("--tag", default="latest", show_default=True)
def build(base: str, python_version: str, tag: str) -> None:
    """Build the images to be published: operator, aggregator, trainer with CUDA, local."""
    ensure_packages()
    images.build_for_release(base, python_version, tag)


@main.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--python-version", default="3.13", show_default=True)
def bom(folder: Path, python_version: str) -> None:
    """Write each image's bill of materials to FOLDER."""
    for path in images.write_boms(folder, python_version):
        print(path)


@main.command(name="exec", context_settings={"ignore_unknown_options": True})
@click.option(
    "--keep", is_flag=True, envvar="SEGVIZ_KEEP_CLUSTER", help="Leave the cluster running afterwards."
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(keep: bool, command: tuple[str, ...]) -> None:
    """Run COMMAND with the cluster and the images in its environment; stop what this had to start.

    Where KUBECONFIG is set, that cluster is used, with the images and the store that SEGVIZ_*_IMAGE and
    SEGVIZ_E2E_STORE name.
    """
    if "KUBECONFIG" in os.environ:
        sys.exit(subprocess.run(command).returncode)
    with alone():
        sys.exit(_run_in_cluster(Layout.default(), command, keep))


def _run_in_cluster(layout: Layout, command: tuple[str, ...], keep: bool) -> int:
    was_running = layout.kubeconfig.exists()
    try:
        boot.up(layout)
        references = images.load(layout)
        environment = {
            "KUBECONFIG": str(layout.kubeconfig),
            "SEGVIZ_E2E_STORE": str(layout.store_credentials),
            "SEGVIZ_CLUSTER_DIR": str(layout.root),
            **{f"SEGVIZ_{role.upper()}_IMAGE": reference for role, reference in references.items()},
        }
        return subprocess.run(command, env=os.environ | environment).returncode
    finally:
        if not (keep or was_running):
            boot.down(layout)


def run() -> int:
    try:
        main(standalone_mode=False)
    except ClusterFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    except click.exceptions.Abort:
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(run())
