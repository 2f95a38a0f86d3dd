"""What a failed S3 request means for its caller."""

import re
import ssl
from http import HTTPStatus

from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3.exceptions import HTTPError, MaxRetryError, ProxyError, SSLError

from segviz_exchange.process.words import plain
from segviz_exchange.stores.proxy import PROXY_SECRET
from segviz_exchange.stores.store import AlreadyExists, Denied, NotFound, StoreError, Unavailable

# Codes that S3 gives the status 400, where the status alone would say less than the code.
_EXPIRED = {"ExpiredToken", "InvalidToken", "InvalidTokenId", "TokenRefreshRequired"}
_UNKNOWN = {"InvalidAccessKeyId", "SignatureDoesNotMatch"}
_SLOW = {"RequestTimeout", "SlowDown", "SlowDownRead", "SlowDownWrite"}
_CONFLICT = {"ConditionalRequestConflict", "OperationAborted"}
_CODE = re.compile(r"[A-Za-z0-9._]{1,64}")
_MOST_SAID = 200
"""Characters of what a store says."""
_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})")
_PROXY_CA = f"put its authority into the file ca.crt of the folder that {PROXY_SECRET} names"


class Rejected(Denied):
    """Not a right is missing: the credentials themselves hold no longer, or never did."""


class Outdated(Unavailable):
    """Credentials hold no longer which somebody renews: for the patient, as a store that is away."""


class Conflict(Unavailable):
    """Another request for the same key was under way; who won is not decided yet."""


def meaning(error: MinioException | HTTPError, name: str) -> StoreError:
    """One class per reaction: go on without, adopt, come again, ask for rights, stop."""
    if isinstance(error, HTTPError):
        return _without_answer(error, name)
    code, status, message = _answer(error)
    said = f"{name}: {code or status}: {message}"
    if code == "NoSuchBucket":
        return StoreError(f"{name}: this bucket does not exist; create it, or correct the store's URL")
    if code in _CONFLICT:
        return Conflict(said)
    if code in _SLOW or status == HTTPStatus.TOO_MANY_REQUESTS:
        return Unavailable(said)
    if status == HTTPStatus.NOT_IMPLEMENTED:
        return StoreError(said)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Unavailable(said)
    if code == "RequestTimeTooSkewed":
        return Denied(f"{said}. This machine's clock is off: set it by NTP")
    if code == "AccessDenied" and "not signed" in (message or ""):
        # A header that was signed, such as the condition of a write, is not the one that arrived.
        return Denied(
            f"{said}. Something on the way changes requests, such as a proxy that opens TLS: it must pass "
            "them on as they are"
        )
    if code == "InvalidPart":
        # The ETags that came with the answers are not those that the store gave.
        return StoreError(
            f"{said}. Something on the way changes answers, such as a proxy that opens TLS: it must pass "
            "them on as they are"
        )
    if code in _EXPIRED or code in _UNKNOWN:
        return Rejected(said)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return Denied(said)
    if status == HTTPStatus.PRECONDITION_FAILED:
        return AlreadyExists(name)
    if code == "NoSuchKey":
        return NotFound(name)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and code is None:
        return StoreError(
            f"{said}. Something before the store, such as a proxy, refuses requests of this size: it must "
            "let 8 MiB pass"
        )
    return StoreError(said)


def _answer(error: MinioException) -> tuple[str | None, int, str | None]:
    """S3's code, HTTP's status, and what the store says."""
    if isinstance(error, S3Error):
        return code_of(error.code), error.response.status, plain(error.message or "", _MOST_SAID)
    if isinstance(error, ServerError):
        return None, error.status_code, "no further explanation"
    if isinstance(error, InvalidResponseError):
        # Often a proxy's page of HTML. The client keeps the status to itself.
        return None, error._code, "not an S3 answer"
    raise error


def code_of(said: str | None) -> str | None:
    """Where it can be one: whoever answers at an endpoint may say anything."""
    return said if said and _CODE.fullmatch(said) else None


def _without_answer(error: HTTPError, name: str) -> StoreError:
    # MaxRetryError would repeat the whole address, and hides what happened behind it.
    reason = error.reason if isinstance(error, MaxRetryError) else error
    proxy = getattr(error.pool, "proxy", None) if isinstance(error, MaxRetryError) else None
    if isinstance(reason, ProxyError):
        return _at_the_proxy(reason, f"{name}: the proxy {proxy}")
    if isinstance(reason, SSLError) and isinstance(reason.args[0], ssl.SSLCertVerificationError):
        opened = f"; if the proxy {proxy} opens TLS, {_PROXY_CA}" if proxy else ""
        return StoreError(
            f"{name}: its certificate is not trusted; name its authority in SEGVIZ_STORE_CA{opened}"
        )
    if isinstance(reason, SSLError) and "WRONG_VERSION_NUMBER" in str(reason):
        return StoreError(f"{name}: the server speaks no TLS there; for plain HTTP write s3+http://")
    return Unavailable(f"{name}: {reason}")


def _at_the_proxy(error: ProxyError, proxy: str) -> StoreError:
    """Nothing has reached the store."""
    cause = error.original_error
    answer = _TUNNEL.search(str(cause))
    status = int(answer.group(1)) if answer else None
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return StoreError(
            f"{proxy} does not accept the user and password; put them into the files username and password "
            f"of the folder that {PROXY_SECRET} names"
        )
    if status is not None and status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return StoreError(
            f"{proxy} refuses to connect to the store ({status}); ask who runs it to allow CONNECT to its "
            "host and port"
        )
    if isinstance(cause, SSLError | ssl.SSLCertVerificationError) and "CERTIFICATE_VERIFY" in str(cause):
        return StoreError(f"{proxy} has a certificate that is not trusted; {_PROXY_CA}")
    if status is not None:
        return Unavailable(f"{proxy} does not reach the store ({status})")
    return Unavailable(f"{proxy} does not answer: {cause}")
