"""The way to an S3 bucket: its URL taken apart, the credentials to show, the authorities to trust."""

import configparser
import os
import ssl
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import certifi
import urllib3
from minio.credentials.providers import (
    AWSConfigProvider,
    ChainedProvider,
    EnvAWSProvider,
    EnvMinioProvider,
    Provider,
)
from minio.helpers import check_bucket_name
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.credentials import CredentialsFile
from segviz_exchange.stores.proxy import proxy_to
from segviz_exchange.stores.store import StoreError, check_key

CONNECT_SECONDS = 5
READ_SECONDS = 60
CONNECTIONS = 32
PIECE_BYTES = 1 << 16
"""Of a body: at CONNECT_SECONDS for each, a line of 0.1 Mbit/s is wide enough."""


def parse_url(url: str) -> tuple[SplitResult, str, str]:
    """Scheme and host, bucket, and prefix ("" or one that ends with a slash)."""
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise Refusal(
            "The store's URL holds a user or a secret, which would end in logs. "
            "Put them in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and leave them out of the URL."
        )
    bucket, _, prefix = parts.path.strip("/").partition("/")
    if not parts.netloc or not bucket or parts.query or parts.fragment:
        raise Refusal(f"store {url!r} needs a host and a bucket. Write s3://HOST[:PORT]/BUCKET[/PREFIX].")
    try:
        check_bucket_name(bucket, strict=True)
        if prefix:
            check_key(prefix)
    except (ValueError, StoreError) as error:
        raise Refusal(f"store {url!r}: {error}.") from error
    return parts, bucket, f"{prefix}/" if prefix else ""


def split_url(url: str) -> tuple[str, str, str]:
    """Where the server is (http:// or https://), the bucket, and the prefix in it ("" or with a final slash).

    Raises:
        Refusal: it is not the URL of an S3 store.
    """
    parts, bucket, prefix = parse_url(url)
    return address_of(parts), bucket, prefix


def address_of(parts: SplitResult) -> str:
    """Of the server, http:// or https://."""
    return f"{'https' if parts.scheme == 's3' else 'http'}://{parts.netloc}"


def region_of(parts: SplitResult) -> str | None:
    """AWS has it in its hosts' names; most other stores answer to us-east-1.

    The client could ask, but that takes a right on the whole bucket.
    """
    named = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    in_host = (parts.hostname or "").endswith(".amazonaws.com")
    return named or (None if in_host else "us-east-1")


def credentials_from_environment() -> Provider:
    """Raises Refusal where there are none."""
    if mounted := os.environ.get("SEGVIZ_STORE_CREDENTIALS"):
        return CredentialsFile(Path(mounted))
    provider = ChainedProvider([EnvAWSProvider(), EnvMinioProvider(), AWSConfigProvider()])
    try:
        found = provider.retrieve()
    except (ValueError, configparser.Error) as error:
        raise Refusal(
            "No credentials for the store. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and "
            "AWS_SESSION_TOKEN, if they are temporary), or AWS_SHARED_CREDENTIALS_FILE and AWS_PROFILE, "
            "or SEGVIZ_STORE_CREDENTIALS to a credentials.json."
        ) from error
    for name, value in (("access key", found.access_key), ("secret key", found.secret_key)):
        if value != value.strip():
            # A store would answer that it does not know the key, and show nothing of the reason.
            raise Refusal(
                f"The {name} for the store begins or ends with a space or a line break, as from a file "
                "that was read whole. Set it without."
            )
    return provider


def build_connections(
    address: str, ca_pem: str | None = None, ca_file: Path | None = None, proxy: str | None = None
) -> urllib3.PoolManager:
    """To the store at `address` (http(s)://HOST[:PORT]), and to those who are trusted as it is (its STS).

    Args:
        proxy: URL of the proxy to it; else the environment's (segviz_exchange.stores.proxy).

    Raises:
        Refusal: SEGVIZ_STORE_CA does not name a bundle of certificates, or the proxy is not one.
    """
    settings: dict[str, Any] = {
        "timeout": urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
        # One more try to connect, and none once a request may have arrived: repeating is decided by those
        # who know what a repeat means. Redirects are answered by the client, which names the region.
        "retries": urllib3.Retry(connect=1, read=0, redirect=0, status=0, other=0, raise_on_redirect=False),
        "num_pools": CONNECTIONS,  # AWS has a host for each bucket
        "maxsize": CONNECTIONS,
        "cert_reqs": "CERT_REQUIRED",
        **_trust(ca_pem, ca_file),
    }
    way = proxy_to(address, proxy)
    if way is None:
        connections = urllib3.PoolManager(**settings)
        connections.pool_classes_by_scheme = {**connections.pool_classes_by_scheme, "http": _PlainPool}
        return connections
    if way.ca_pem is not None:
        # Beside the store's own: whether this proxy opens TLS shows in the certificate alone.
        settings["ca_cert_data"] = "\n".join(filter(None, (settings.get("ca_cert_data"), way.ca_pem)))
    return urllib3.ProxyManager(
        way.url, proxy_headers=way.headers(), proxy_ssl_context=way.own_trust(), **settings
    )


@lru_cache(maxsize=64)
def shared_connections(address: str, ca_pem: str | None) -> urllib3.PoolManager:
    """For who opens many stores of one server: each connection with TLS holds 0.7 MB of authorities.

    Whose credentials are shown is said with each request, never with a connection.

    Raises Refusal, as build_connections.
    """
    return build_connections(address, ca_pem)


class _PlainConnection(HTTPConnection):
    """Sends a body in pieces: a plain socket must take all it is given within the time for connecting.

    A thin line does not take a part of an upload so fast. A socket with TLS has that time for each record.
    """

    def send(self, data: Any) -> None:  # noqa: ANN401 - as urllib3 has it
        pieces = [data]
        if isinstance(data, bytes):
            pieces = [data[start : start + PIECE_BYTES] for start in range(0, len(data), PIECE_BYTES)]
        for piece in pieces:
            super().send(piece)


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


def _trust(ca_pem: str | None, ca_file: Path | None) -> dict[str, Any]:
    """What to tell urllib3. A private authority replaces the public ones: its store has no other."""
    named = str(ca_file) if ca_file else os.environ.get("SEGVIZ_STORE_CA")
    try:
        if ca_pem is not None:
            ssl.create_default_context(cadata=ca_pem)
            return {"ca_cert_data": ca_pem}
        if named:
            ssl.create_default_context(cafile=named)
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        source = "the CA bundle" if ca_pem is not None else f"the CA bundle {named}"
        source += "" if ca_pem is not None or ca_file else " (SEGVIZ_STORE_CA)"
        raise Refusal(f"{source}: cannot be read as PEM certificates: {error}.") from error
    # The file, not its content: it is read for each new connection, so it can be renewed.
    return {"ca_certs": named or os.environ.get("SSL_CERT_FILE") or certifi.where()}
