"""`segviz fetch`: a finished federation's models and report, from a cluster's bucket or a working folder."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from segviz_exchange.contract.study import INDEX as STUDY
from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.credentials import encode_credentials
from segviz_exchange.stores.store import StoreError
from segviz_operator.local.signing import environment_of_readers
from segviz_operator.local.workdir import WorkDir
from segviz_operator.manifests.manifest import Federation, from_server
from segviz_operator.plan.command_line import Records, store_environment

if TYPE_CHECKING:
    from segviz_operator.cluster.api.client import Cluster
    from segviz_operator.cluster.api.names import Subject

_EXAMPLES = """\b
Examples:
  segviz fetch -n radiology abdomen -o abdomen/
  segviz fetch runs/phantom -o phantom/
  segviz fetch runs/phantom -o phantom/ --without-images
  AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… \\
    segviz fetch -n radiology abdomen -o abdomen/ \\
    --store s3+http://localhost:9000/segviz
"""


@click.command(epilog=_EXAMPLES)
@click.argument("what", metavar="WORKDIR|NAME")
@click.option("-n", "--namespace", help="NAME is a SegVizFederation in this namespace of the cluster.")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for base/, tuned/ and report.html; those that are there are replaced.",
)
@click.option(
    "--store",
    help="With -n: read from this address instead of the manifest's, with your own credentials from AWS_* in "
    "the environment.",
)
@click.option("--without-images", is_flag=True, help="Leave slices of images out, to send the page on.")
def fetch(what: str, namespace: str | None, output: Path, store: str | None, without_images: bool) -> None:
    """Get model and report of the finished federation in WORKDIR or, with -n, of NAME in the cluster.

    Each model is a folder, a MONAI bundle, and is refused if it is not the one that its record names. The
    report is one page without any request to elsewhere; it shows slices only where the images lie, and cases
    only of sites with scores: PerCase. In a cluster the credentials are those of the Secret that the
    federation names, read with your own rights (KUBECONFIG).
    """
    if find_spec("torch") is None:
        raise Refusal(
            "segviz fetch: torch, which writes the bundle, is not installed. Install SegViz with the extras "
            "[operator,trainer], as docs/how-to/install.md tells."
        )
    if namespace is None:
        if store is not None:
            raise click.UsageError("--store needs -n: a working folder knows its store.")
        sys.exit(_from_workdir(WorkDir(Path(what)), output, with_images=not without_images))
    sys.exit(_from_cluster(namespace, what, output, store))


def _from_workdir(workdir: WorkDir, output: Path, *, with_images: bool) -> int:
    identity = workdir.identity()
    if identity is None:
        if (workdir.root / STUDY).is_file():
            raise Refusal(
                f"{workdir.root}: is a study. Name the folder of one of its rows, such as "
                f"{workdir.root / 'rows/ROW/run'}."
            )
        raise Refusal(
            f"{workdir.root}: no run has begun here. Name the --workdir of a run, or give -n for a cluster."
        )
    here = with_images and workdir.run_index.is_file()
    images = ("--run", str(workdir.run_index)) if here else ()
    keys = environment_of_readers(identity)
    return _write(Records(identity.store, identity.prefix), output, images, keys)


def _from_cluster(namespace: str, name: str, output: Path, store: str | None) -> int:
    from segviz_operator.cli.cluster_view import read_federation  # its client takes a second to load
    from segviz_operator.cluster.api.client import Cluster
    from segviz_operator.cluster.api.connection import connect
    from segviz_operator.cluster.api.names import Subject

    cluster = Cluster(connect())
    raw = dict(read_federation(cluster, namespace, name))
    subject = Subject.of(raw)
    if store is not None:
        return _write(Records(store, subject.prefix), output, (), {})
    federation = from_server(raw)
    assert isinstance(federation, Federation)
    with _credentials(cluster, subject, federation) as environment:
        assert federation.spec.store is not None
        return _write(Records(federation.spec.store.url, subject.prefix), output, (), environment)


@contextmanager
def _credentials(
    cluster: "Cluster", subject: "Subject", federation: Federation
) -> Iterator[Mapping[str, str]]:
    """The environment of a process that may read the federation's prefix; gone when it ends."""
    from segviz_operator.cluster.credentials.store_access import NoCredentials, read_access

    spec = federation.spec.store
    if spec is None:
        raise Refusal(f"{federation}: has no spec.store. Give --store s3://HOST/BUCKET.")
    try:
        access = read_access(cluster, subject, spec)
        granted = access.for_reading(datetime.now(UTC))
    except NoCredentials as error:
        said = str(error).replace("the operator", "you")
        raise Refusal(
            f"{federation}: no credentials for its store: {said}. With a user of the store that is yours, "
            f"set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and give --store {spec.url}"
        ) from error
    except StoreError as error:
        raise Refusal(
            f"the store of {federation}: {error}. If its address works only in the cluster, forward a port "
            "and give --store."
        ) from error
    with tempfile.TemporaryDirectory(prefix="segviz-fetch-") as folder:  # readable by nobody else
        file = Path(folder) / "credentials.json"
        file.write_bytes(encode_credentials(granted))
        ca = None
        if access.ca_pem is not None:
            (Path(folder) / "ca.pem").write_text(access.ca_pem, encoding="utf-8")
            ca = f"{folder}/ca.pem"
        yield store_environment(str(file), spec.region, ca)


def _write(records: Records, output: Path, images: tuple[str, ...], environment: Mapping[str, str]) -> int:
    """The trainer's work: it has torch, for the bundle, and reads images."""
    words = (sys.executable, "-m", "segviz_trainer", "fetch", "--store", records.store)
    where = ("--prefix", records.prefix, "--output", str(output))
    both = {**os.environ, **environment}
    return subprocess.run((*words, *where, *images), env=both, check=False).returncode
