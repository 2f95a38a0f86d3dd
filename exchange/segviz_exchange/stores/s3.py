"""An S3 bucket as a store: MinIO, SeaweedFS, RustFS, Ceph, versitygw, AWS; the protocol is the contract.

Credentials limited to a prefix suffice, if they may list it: without that right S3 answers 403 where an
object is missing, and nobody could tell a missing record from a forbidden one.
"""

import builtins
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar
from xml.etree.ElementTree import ParseError

import tenacity
from minio import Minio
from minio.credentials.providers import Provider
from minio.error import MinioException, S3Error
from urllib3 import PoolManager
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.credentials import CredentialsFile
from segviz_exchange.stores.s3_access import (
    address_of,
    build_connections,
    credentials_from_environment,
    parse_url,
    region_of,
)
from segviz_exchange.stores.s3_errors import Conflict, Outdated, Rejected, meaning
from segviz_exchange.stores.s3_listing import listed
from segviz_exchange.stores.store import (
    CHUNK_BYTES,
    Denied,
    Entry,
    NotFound,
    StoreError,
    Unavailable,
    check_key,
    read_object,
)

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Up to 3 parts are in memory at once; S3 wants at least 5 MiB in each but the last.
PART_BYTES = 8 << 20

_T = TypeVar("_T")

_until_decided = tenacity.Retrying(
    retry=tenacity.retry_if_exception_type(Conflict),
    wait=tenacity.wait_random_exponential(multiplier=0.05, max=1),
    stop=tenacity.stop_after_attempt(8),
    reraise=True,
)


class S3Store:
    """Objects under one prefix of one bucket. It asks once: who wants patience wraps it in PatientStore."""

    def __init__(self, client: Minio, credentials: Provider, url: str, bucket: str, prefix: str = "") -> None:
        self._client = client
        self._credentials = credentials
        self._url = url
        """scheme://HOST, for messages."""
        self._bucket = bucket
        self._prefix = prefix

    @classmethod
    def from_url(
        cls,
        url: str,
        credentials: Provider | None = None,
        *,
        ca_pem: str | None = None,
        ca_file: Path | None = None,
        region: str | None = None,
        proxy: str | None = None,
        connections: PoolManager | None = None,
    ) -> "S3Store":
        """Open `s3://HOST[:PORT]/BUCKET[/PREFIX]` (TLS) or `s3+http://…`; nothing is sent yet.

        Args:
            credentials: else they come from the file that SEGVIZ_STORE_CREDENTIALS names, from AWS_* or
                MINIO_* in the environment, or from an AWS credentials file, the first of these that is there.
            ca_pem: the authorities to trust, as PEM; else those in `ca_file` or in the file that
                SEGVIZ_STORE_CA names, or the public ones.
            region: else AWS_REGION's.
            proxy: URL of the proxy to a store with TLS; else SEGVIZ_STORE_PROXY or HTTPS_PROXY names it.
            connections: those to use, as build_connections makes them for this server; else some of its own.
        """
        parts, bucket, prefix = parse_url(url)
        provider = credentials or credentials_from_environment()
        try:
            client = Minio(
                parts.netloc,
                secure=parts.scheme == "s3",
                region=region or region_of(parts),
                credentials=provider,
                http_client=connections or build_connections(address_of(parts), ca_pem, ca_file, proxy),
            )
        except ValueError as error:
            raise Refusal(f"store {url!r}: {error}. Write s3://HOST[:PORT]/BUCKET.") from error
        return cls(client, provider, f"{parts.scheme}://{parts.netloc}", bucket, prefix)

    def __str__(self) -> str:
        return self._name("").rstrip("/")

    def create(self, key: str, data: bytes) -> None:
        _until_decided(self._create_once, key, data)

    def put(self, key: str, data: bytes) -> None:
        name = self._object(key)
        stored = self._ask(
            key, lambda: self._client.put_object(self._bucket, name, io.BytesIO(data), len(data))
        )
        self._check_etag(key, stored.etag)

    def upload(self, key: str, path: Path) -> None:
        name = self._object(key)
        try:
            stored = self._ask(
                key, lambda: self._client.fput_object(self._bucket, name, str(path), part_size=PART_BYTES)
            )
        except ValueError as error:
            raise self._foreign(key, str(error)) from error
        self._check_etag(key, stored.etag)

    def get(self, key: str) -> bytes:
        with self.open(key) as stream:
            return read_object(stream, key)

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        name = self._object(key)
        response = self._ask(key, lambda: self._client.get_object(self._bucket, name))
        try:
            self._check_etag(key, response.headers.get("ETag"))
            yield io.BufferedReader(_Body(response, self, key), CHUNK_BYTES)
        finally:
            response.close()  # what is left unread would block the connection's next user
            response.release_conn()

    def list(self, prefix: str) -> list[Entry]:
        entries = self._ask(prefix, lambda: self._entries(prefix))
        return sorted(entries, key=lambda entry: entry.key)

    def delete(self, key: str) -> None:
        try:
            name = self._object(key)
            # One level below the client's remove_object, which keeps the answer to itself.
            answer = self._ask(key, lambda: self._client._execute("DELETE", self._bucket, name))
        except NotFound:
            return  # S3 itself does not tell; some gateways do
        if answer.data:
            raise self._foreign(key, "a page where S3 says nothing")

    def now(self) -> datetime:
        # Every answer carries a Date, also the one that an object is missing or out of reach.
        with self._errors("clock"):
            try:
                headers = self._client._execute("HEAD", self._bucket, self._object("clock")).headers
            except S3Error as error:
                headers = error.response.headers
        if "Date" not in headers:
            raise StoreError(f"{self}: its answers have no Date header, so no deadline can be computed")
        return parsedate_to_datetime(headers["Date"]).astimezone(UTC)

    def scoped(self, prefix: str) -> "S3Store":
        check_key(prefix.removesuffix("/"))
        return S3Store(self._client, self._credentials, self._url, self._bucket, self._prefix + prefix)

    def _entries(self, prefix: str) -> builtins.list[Entry]:
        try:
            return listed(self._client, self._bucket, self._prefix, prefix)
        except ValueError as error:
            # A page of a captive portal or a console is XML enough to parse, without what a listing has.
            raise self._foreign(prefix, str(error)) from error

    def _create_once(self, key: str, data: bytes) -> None:
        # The client's put_object turns every header it does not know into x-amz-meta-…, and the condition
        # is silently lost. One level below it, headers are sent as they are.
        headers = {"If-None-Match": "*", "Content-Type": "application/octet-stream"}
        name = self._object(key)
        answer = self._ask(
            key,
            lambda: self._client._execute("PUT", self._bucket, name, body=data, headers={**headers}),
        )
        self._check_etag(key, answer.headers.get("ETag"))

    def _check_etag(self, key: str, etag: str | None) -> None:
        """Every object that S3 takes or gives has one; a captive portal or a console says 200 to anything."""
        if not etag:
            raise self._foreign(key, "no ETag")

    def _foreign(self, key: str, why: str) -> Unavailable:
        return Unavailable(f"{self._name(key)}: an answer that is not S3's ({why})")

    def _object(self, key: str) -> str:
        check_key(key)
        return self._prefix + key

    def _name(self, key: str) -> str:
        return f"{self._url}/{self._bucket}/{self._prefix}{key}"

    def _ask(self, key: str, act: Callable[[], _T]) -> _T:
        """Do it; once more where the credentials were refused, and have been renewed meanwhile."""
        used = self._credentials.retrieve()
        try:
            with self._errors(key):
                return act()
        except (Denied, Outdated):
            if self._credentials.retrieve() == used:
                raise
        with self._errors(key):
            return act()

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        """Say what a failure means for a caller, and where it happened."""
        try:
            yield
        except ParseError as error:
            raise self._foreign(key, "no XML") from error
        except (MinioException, HTTPError) as error:
            failure = meaning(error, self._name(key))
            if isinstance(failure, Rejected) and isinstance(self._credentials, CredentialsFile):
                raise Outdated(
                    f"{str(failure).rstrip('.')}. Waiting for new ones in {self._credentials.path}"
                ) from error
            raise failure from error


class _Body(io.RawIOBase):
    """An answer's body, whose reads fail as the store's other calls do."""

    def __init__(self, response: BaseHTTPResponse, store: S3Store, key: str) -> None:
        self._response = response
        self._store = store
        self._key = key

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer)
        with self._store._errors(self._key):
            data = self._response.read(len(view))
        view[: len(data)] = data
        return len(data)
