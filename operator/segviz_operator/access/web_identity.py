"""Expiring credentials from the operator's own identity: no store's key lies in any Secret.

The cluster signs a token for the operator's service account, and a token service that trusts the cluster
takes it for a role (AssumeRoleWithWebIdentity). Where it is sent is said by whoever installs the operator,
never by a federation: whoever gets the token can be the operator at that service.
"""

from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlencode

from segviz_exchange.stores.credentials import Credentials
from segviz_exchange.stores.store import Denied, StoreError, Unavailable
from segviz_operator.access.rights import Access
from segviz_operator.access.sts import credentials_of, error_of, post, session_of

_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass(frozen=True)
class WebIdentity:
    endpoint: str
    """http(s)://HOST[:PORT] of the token service."""
    token_file: Path
    """Read each time, for the kubelet renews it."""
    role_arn: str = ""
    """AWS and Ceph ask for one; MinIO goes by a claim of the token, unless its role has an ARN."""

    def mint(self, access: Access, bucket: str, prefix: str, seconds: int, session: str) -> Credentials:
        """As `Sts.mint`."""
        try:
            token = self.token_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise Denied(
                f"{self.token_file}: no token of the operator's own identity: {error.strerror}. "
                "Set webIdentity in the values of its chart"
            ) from error
        wanted = session_of(access, bucket, prefix, seconds, session)
        role = {"RoleArn": self.role_arn} if self.role_arn else {}
        body = urlencode({"Action": "AssumeRoleWithWebIdentity", "WebIdentityToken": token, **wanted, **role})
        status, answer = post(self.endpoint, body, _FORM, None)
        if status == HTTPStatus.OK:
            return credentials_of(answer, self.endpoint)
        said = f"{self.endpoint}: STS AssumeRoleWithWebIdentity: {error_of(answer) or f'status {status}'}"
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.NOT_IMPLEMENTED:
            raise Unavailable(said)
        if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise Denied(
                f"{said}. The token service must trust the cluster's issuer, the token's audience and the "
                "operator's service account"
            )
        raise StoreError(said)
