"""Expiring credentials for each role: from the store's STS, limited by a session policy, or by a Secret of
its own where a store has no STS."""

import base64
import binascii
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from urllib.parse import urlencode, urlsplit
from xml.etree import ElementTree

import msgspec
from minio.helpers import sha256_hash
from minio.signer import sign_v4_sts
from minio.time import to_amz_date
from urllib3.exceptions import HTTPError

from segviz_exchange.contract.spec import SecretKeys
from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.words import plain
from segviz_exchange.stores.credentials import Credentials
from segviz_exchange.stores.s3_access import build_connections
from segviz_exchange.stores.s3_errors import code_of
from segviz_exchange.stores.store import Denied, StoreError, Unavailable
from segviz_operator.access.rights import Access, policy

_MAX_ANSWER_BYTES = 1 << 20
OWN_ENTRIES = SecretKeys()

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sts:
    """A store's token service, and the credentials that sessions descend from."""

    endpoint: str
    """http(s)://HOST:PORT; S3 stores answer at their own address."""
    parent: Credentials
    region: str = "us-east-1"
    ca_pem: str | None = None
    role_arn: str = "arn:aws:iam::segviz:role/segviz"
    """MinIO reads none and needs one."""

    def mint(self, access: Access, bucket: str, prefix: str, seconds: int, session: str) -> Credentials:
        """Credentials for `access`, good for `seconds`.

        Args:
            session: a name for the store's audit log, where it keeps one.

        Raises:
            Denied: the parent's credentials do not hold, or may not assume a role.
            Unavailable: nobody answered; worth trying later.
            StoreError: this store has no STS.
        """
        # Not minio's AssumeRoleProvider: it raises any duration below an hour to an hour.
        wanted = session_of(access, bucket, prefix, seconds, session)
        body = urlencode({"Action": "AssumeRole", **wanted, "RoleArn": self.role_arn})
        status, answer = post(self.endpoint, body, self._signed(body), self.ca_pem)
        if status != HTTPStatus.OK:
            raise self._refused(status, answer)
        return credentials_of(answer, self.endpoint)

    def _signed(self, body: str) -> Mapping[str, str]:
        url = urlsplit(self.endpoint)
        now = datetime.now(UTC)
        headers = sign_v4_sts(
            method="POST",
            url=url,
            region=self.region,
            headers={
                "Content-Type": "application/x-www-form-urlencoded",
                "Host": _host(self.endpoint),
                "X-Amz-Date": to_amz_date(now),
            },
            credentials=self.parent.for_minio(),
            content_sha256=sha256_hash(body),
            date=now,
        )
        return {name: str(value) for name, value in headers.items()}

    def _refused(self, status: int, answer: bytes) -> StoreError:
        said = f"{self.endpoint}: STS AssumeRole: {error_of(answer) or f'status {status}'}"
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.NOT_IMPLEMENTED:
            return Unavailable(said)
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return Denied(
                f"{said}. The Secret in spec.store.secretRef must hold a user that may assume a role "
                "(spec.store.sts.roleArn, where the store asks for one)"
            )
        return StoreError(
            f"{said}. A store without STS needs spec.store.credentials: ExistingSecrets and a Secret per site"
        )


def session_of(access: Access, bucket: str, prefix: str, seconds: int, session: str) -> dict[str, str]:
    """What a token service is asked for, whoever asks."""
    return {
        "Version": "2011-06-15",
        "DurationSeconds": str(seconds),
        "Policy": policy(access, bucket, prefix),
        "RoleSessionName": session[:64],
    }


def post(endpoint: str, body: str, headers: Mapping[str, str], ca_pem: str | None) -> tuple[int, bytes]:
    """Status and answer. Raises Unavailable."""
    with build_connections(endpoint, ca_pem) as connections:
        try:
            answer = connections.request(
                "POST", endpoint, body=body, headers=dict(headers), preload_content=False
            )
            data = answer.read(_MAX_ANSWER_BYTES)
        except HTTPError as error:
            raise Unavailable(f"{endpoint}: STS: {error}") from error
    return answer.status, data


def credentials_of_secret(
    data: Mapping[str, str], name: str, entries: SecretKeys = OWN_ENTRIES
) -> Credentials:
    """A Secret's `data`, as the API server gives it: base64 values under the names in `entries`.

    Raises:
        Refusal: one of the two is missing or empty.
    """
    values = []
    for key in (entries.access_key, entries.secret_key):
        try:
            values.append(base64.b64decode(data.get(key, ""), validate=True).decode().strip())
        except (binascii.Error, UnicodeDecodeError) as error:
            raise Refusal(f"{name}: {key} is not text: {error}.") from error
        if not values[-1]:
            raise Refusal(
                f"{name}: has no {key}. It must hold {entries.access_key} and {entries.secret_key} of a user "
                "of the store, or secretRef.keys must say which of its entries do."
            )
    return Credentials(values[0], values[1])


def _host(endpoint: str) -> str:
    url = urlsplit(endpoint)
    if (url.scheme, url.port) in (("http", 80), ("https", 443)):
        return url.netloc.removesuffix(f":{url.port}")
    return url.netloc


def credentials_of(answer: bytes, name: str) -> Credentials:
    try:
        root = ElementTree.fromstring(answer)
        found = root.find(".//{*}Credentials")
        assert found is not None
        return msgspec.convert(
            {
                "accessKey": found.findtext("{*}AccessKeyId"),
                "secretKey": found.findtext("{*}SecretAccessKey"),
                "sessionToken": found.findtext("{*}SessionToken"),
                "expiration": found.findtext("{*}Expiration"),
            },
            Credentials,
        )
    except (ElementTree.ParseError, AssertionError, msgspec.ValidationError) as error:
        raise StoreError(f"{name}: STS: the answer holds no credentials") from error


def error_of(answer: bytes) -> str | None:
    """The code of an S3 or STS error. Its message is whatever answers at the endpoint has written: it goes to
    the log alone, or a federation's status would read out what only the operator can reach."""
    try:
        root = ElementTree.fromstring(answer)
    except ElementTree.ParseError:
        return None
    if message := root.findtext(".//{*}Message"):
        log.info("STS: %s", plain(message))
    return code_of(root.findtext(".//{*}Code"))
