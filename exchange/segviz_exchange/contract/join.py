"""The join file: all that a site outside the cluster is given to take part with."""

import codecs
from pathlib import Path
from typing import Annotated

import msgspec

from segviz_exchange.contract import keys
from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.malformed import malformation
from segviz_exchange.stores.credentials import Credentials
from segviz_exchange.stores.signing import PublicKey

Label = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z", max_length=63)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][-.a-z0-9]*\Z", max_length=253)]


class Invitation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """To be kept as a password is: until they expire, its credentials are the site's."""

    store: Annotated[str, msgspec.Meta(pattern=r"^s3(\+http)?://")]
    """As `open_store` reads it."""
    namespace: Label
    name: Name
    """The federation's."""
    uid: Annotated[str, msgspec.Meta(pattern=r"^[-a-zA-Z0-9]+\Z", max_length=63)]
    alias: Label
    """The site's, in this federation."""
    credentials: Credentials
    region: str = "us-east-1"
    ca: str | None = None
    """The authorities behind the store's certificate, as PEM; the public ones, if left out."""
    coordinator: PublicKey | msgspec.UnsetType = msgspec.UNSET
    """The key that signs the federation's controls; left out, where its records are not signed."""

    @property
    def federation(self) -> str:
        """As a site's allowedFederations names it."""
        return f"{self.namespace}/{self.name}"

    @property
    def prefix(self) -> str:
        return keys.federation_prefix(self.namespace, self.name, self.uid)


def encode_invitation(invitation: Invitation) -> bytes:
    return msgspec.json.format(msgspec.json.encode(invitation), indent=2) + b"\n"


def read_invitation(path: Path) -> Invitation:
    """Raises Refusal: it is not there, or is no join file."""
    try:
        return msgspec.json.decode(path.read_bytes().removeprefix(codecs.BOM_UTF8), type=Invitation)
    except OSError as error:
        raise Refusal(f"{path}: {error.strerror}. Name the join file that the coordinator sent.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(
            f"{path}: not a join file: {malformation(error)}. Ask the coordinator to send it again."
        ) from error
