"""A store by its URL: a folder or an S3 bucket."""

import os
from pathlib import Path
from urllib.parse import urlsplit

from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.certified import certified, read_party
from segviz_exchange.stores.credentials import CredentialsFile
from segviz_exchange.stores.folder import FolderStore
from segviz_exchange.stores.keyring import Keyring
from segviz_exchange.stores.s3 import S3Store
from segviz_exchange.stores.signed import SignedStore
from segviz_exchange.stores.store import Store

KEYS = "SEGVIZ_KEYS"
PARTY = "SEGVIZ_PARTY"
"""Names the file that a process which trusts the coordinator's key is told by."""
KEY_FILE = "SEGVIZ_SIGNING_KEY"
"""Names its own key, where that file does not hold it."""


def open_store(
    url: str,
    *,
    credentials: Path | None = None,
    ca: Path | None = None,
    region: str | None = None,
    keys: Path | None = None,
    seen: Path | None = None,
) -> Store:
    """Open `s3://HOST[:PORT]/BUCKET[/PREFIX]` (TLS), `s3+http://…` (plain) or a folder's path.

    S3 credentials come from the file `credentials`, else from the one that SEGVIZ_STORE_CREDENTIALS names
    (both are read again whenever they change), else from AWS_* in the environment or an AWS credentials file.
    `ca`, else SEGVIZ_STORE_CA, names a CA bundle. `keys`, else
    SEGVIZ_KEYS, names this party's folder of keys, where the records are signed; or SEGVIZ_PARTY a file that
    holds the coordinator's key, and `seen` is the folder where such a party remembers what it has seen.
    """
    store = _open(url, credentials, ca, region)
    if folder := keys or os.environ.get(KEYS):
        return SignedStore(store, Keyring(Path(folder)))
    if told := os.environ.get(PARTY):
        own = os.environ.get(KEY_FILE)
        return SignedStore(store, certified(read_party(Path(told)), Path(own) if own else None, seen))
    if seen is not None and (seen / "coordinator.json").exists():
        raise Refusal(
            f"{seen}: remembers that the records of this federation are signed, and now nobody says by whom. "
            "Ask the coordinator. If that is meant, remove this folder and start again."
        )
    return store


def _open(url: str, credentials: Path | None, ca: Path | None, region: str | None) -> Store:
    scheme = urlsplit(url).scheme
    if scheme in ("s3", "s3+http"):
        provider = None if credentials is None else CredentialsFile(credentials)
        return S3Store.from_url(url, provider, ca_file=ca, region=region)
    if scheme in ("", "file"):
        folder = url.removeprefix("file://")
        if not folder.strip():
            raise Refusal(
                f"store {url!r} is empty. Give a folder (. is this one), s3://HOST/BUCKET or s3+http://HOST/BUCKET."
            )
        return FolderStore(Path(folder))
    raise Refusal(
        f"store {url!r}: {scheme!r} is not a kind of store. Use a folder, s3://HOST/BUCKET or s3+http://HOST/BUCKET."
    )
