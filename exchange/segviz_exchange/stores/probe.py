"""`segviz store check`, and the short version that processes run when they start."""

import secrets
import sys
from pathlib import Path

import click

from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.conformance import Result, check_store, race
from segviz_exchange.stores.opening import open_store
from segviz_exchange.stores.store import Denied, Store, StoreError, Unavailable

RACES = 3
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

_WHAT_TO_DO = (
    "This store cannot hold a federation. Use one that honours If-None-Match: * under concurrency "
    "(a current MinIO, SeaweedFS, RustFS, Ceph RGW or AWS S3), with no cache in front of it, and no proxy "
    "in front of it that opens TLS."
)


def probe(store: Store) -> None:
    """Let two creates race for one key, a few times.

    Raises:
        Refusal: both won, or none: on this store a federation could come to two truths.
    """
    for _ in range(RACES):
        key = f"probe/{secrets.token_hex(8)}"
        winners = sum(race(store, key, (b"one", b"two")))
        _clean(store, key)
        if winners != 1:
            raise Refusal(f"{store}: of two racing creates of one key, {winners} won. {_WHAT_TO_DO}")


_EXAMPLES = """\b
Examples:
  segviz store check s3://minio.example.org:9000/segviz --ca hospital-ca.crt
  segviz store check s3://minio.example.org:9000/segviz \\
    --credentials credentials.json
  segviz store check /mnt/share/segviz
"""


@click.group(epilog=_EXAMPLES)
def store() -> None:
    """Check that an object store can hold a federation."""


@store.command(epilog=_EXAMPLES)
@click.argument("url")
@click.option("--credentials", type=_FILE, help="A credentials.json; else the environment's are used.")
@click.option("--ca", type=_FILE, help="PEM file with the authorities behind the store's certificate.")
@click.option("--region", help="Region of the store; else AWS_REGION's, or us-east-1.")
def check(url: str, credentials: Path | None, ca: Path | None, region: str | None) -> None:
    """Try out, on the store at URL, all that a federation needs of it.

    URL is a folder, s3://HOST[:PORT]/BUCKET[/PREFIX] (TLS) or s3+http://…. About 25 MB are written under a
    prefix of their own, and removed. Exit code 1: the store breaks a promise; 2: it could not be asked.
    """
    try:
        results = check_store(open_store(url, credentials=credentials, ca=ca, region=region), _tell)
    except StoreError as error:
        raise Refusal(_advice(error)) from error
    if any(result.broken for result in results):
        click.echo(f"{url}: {_WHAT_TO_DO}", err=True)
        sys.exit(1)
    click.echo(f"{url}: this store can hold a federation.")


def _tell(result: Result) -> None:
    if result.broken is None:
        click.echo(f"{click.style('✓', fg='green')} {result.promise} ({result.seconds:.1f} s)")
    else:
        click.echo(f"{click.style('✗', fg='red')} {result.promise}")
        click.echo(f"  {result.broken}.")


def _advice(error: StoreError) -> str:
    match error:
        case Unavailable():
            return f"{error}. The store does not answer: check address, network and the store's health."
        case Denied():
            return f"{error}. The credentials must grant read, write, list and delete below the prefix."
        case _:
            return f"{error}."


def _clean(store: Store, key: str) -> None:
    try:
        store.delete(key)
    except Denied:
        return  # only the operator's credentials delete; the few bytes go with the federation
