"""Credentials that somebody else renews: a mounted Secret, or a file that `segviz join` keeps up to date.

The file is read for every request. Its few hundred bytes cost nothing beside one, and nobody has to guess
when kubelet will have replaced them.
"""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec
from minio.credentials.credentials import Credentials as MinioCredentials
from minio.credentials.providers import Provider

from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.malformed import malformation

Text = Annotated[str, msgspec.Meta(min_length=1)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Credentials(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """credentials.json"""

    access_key: Text
    secret_key: Text
    session_token: Text | None = None
    expiration: Moment | None = None
    """None where they do not expire: a store without STS."""

    def __repr__(self) -> str:
        # Tracebacks and logs show reprs.
        return f"Credentials({self.access_key!r}, …, expiration={self.expiration})"

    def for_minio(self) -> MinioCredentials:
        return MinioCredentials(self.access_key, self.secret_key, self.session_token, self.expiration)


def encode_credentials(credentials: Credentials) -> bytes:
    return msgspec.json.encode(credentials) + b"\n"


def decode_credentials(data: bytes, name: str) -> Credentials:
    """Raises Refusal, which quotes nothing of what it read."""
    try:
        return msgspec.json.decode(data, type=Credentials)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(
            f"{name}: not a credentials file: {malformation(error)}. It must hold "
            '{"accessKey", "secretKey", "sessionToken", "expiration"}, as the operator writes it.'
        ) from error


class CredentialsFile(Provider):
    """The newest credentials in a file, for the minio client.

    While the file is away or being written, the last good ones are used: the store judges them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read: tuple[bytes, MinioCredentials] | None = None
        self.retrieve()

    def retrieve(self) -> MinioCredentials:
        """Raises Refusal where there have never been any credentials."""
        try:
            data = self.path.read_bytes()
        except OSError as error:
            if self._read is not None:
                return self._read[1]
            raise Refusal(
                f"{self.path}: cannot read the store's credentials: {error.strerror}. "
                "SEGVIZ_STORE_CREDENTIALS must name the file that holds them."
            ) from error
        if self._read is None or data != self._read[0]:
            try:
                self._read = (data, decode_credentials(data, str(self.path)).for_minio())
            except Refusal:
                if self._read is None:
                    raise
        return self._read[1]
