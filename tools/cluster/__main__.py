"""`python -m cluster up|down|env`: a cluster of one node on this machine."""

from __future__ import annotations

import sys
import time

import click

from cluster import boot, images
from cluster.failure import ClusterFailed
from cluster.layout import Layout


@click.group(help=__doc__)
def main() -> None:
    pass


@main.command()
def up() -> None:
    """Boot it, or what of it is not running, and wait until its node is ready."""
    layout, started = Layout.default(), time.monotonic()
    boot.up(layout)
    print(
        f"ready after {time.monotonic() - started:.0f} s; store: {layout.store_credentials}", file=sys.stderr
    )
    print(f"export KUBECONFIG={layout.kubeconfig}")


@main.command()
def down() -> None:
    """Stop it and remove all that it made, images and volumes too."""
    boot.down(Layout.default())


@main.command(name="images")
def load_images() -> None:
    """Build the images of this checkout on the test base and hand them to the node."""
    for role, reference in images.load(Layout.default()).items():
        print(f"export SEGVIZ_{role.upper()}_IMAGE={reference}")


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
