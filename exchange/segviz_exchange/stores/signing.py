"""Who wrote a record: an Ed25519 signature on a line below it.

It holds for one key in the bucket, so that no record can be passed off as another. Records of a series also
name the digest of the one before, so that none can be left out. A reader that knows nothing of signatures
finds the record in the first line, as it always was.
"""

import hashlib
from pathlib import Path
from typing import Annotated

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.writing import write_private

VERSION = 1
"""Of what is signed, and how."""
_DOMAIN = "SegViz record"
_BEGIN = b'{"signed":'

PublicKey = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Signature(msgspec.Struct, frozen=True):
    """Fields that are not known here are of a later version, which says so where they must be."""

    by: PublicKey
    signature: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{128}\Z")]
    version: int
    previous: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")] | None = None
    """Digest of the record before this one in its series, its signature included."""


class _Line(msgspec.Struct, frozen=True):
    signed: Signature


class Unsigned(Exception):
    """An object is not what a party that may write it has signed; the message says why."""


def split(data: bytes) -> tuple[bytes, bytes | None]:
    """A record's own line or lines, and the line of its signature, if there is one."""
    body, newline, last = data.removesuffix(b"\n").rpartition(b"\n")
    return (body + newline, last) if newline and last.startswith(_BEGIN) else (data, None)


def sign(key: Ed25519PrivateKey, place: str, body: bytes, previous: str | None) -> bytes:
    """The record with its signature below it.

    Args:
        place: where it lies in the bucket.
        body: ends with a newline.
    """
    made = key.sign(_message(place, body, previous, VERSION)).hex()
    line = _Line(Signature(public_key(key), made, VERSION, previous))
    return body + msgspec.json.encode(line) + b"\n"


def verify(place: str, data: bytes, allowed: tuple[str, ...]) -> Signature:
    """
    Args:
        allowed: public keys of those who may write there.

    Raises:
        Unsigned: none of them has signed this object for this place.
    """
    body, line = split(data)
    if line is None:
        raise Unsigned("it is not signed")
    try:
        found = msgspec.json.decode(line, type=_Line).signed
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unsigned("its signature cannot be read") from error
    if found.version != VERSION:
        raise Unsigned(f"it is signed by version {found.version} of the rules; this program knows {VERSION}")
    if found.by not in allowed:
        raise Unsigned(f"it is signed with the key {found.by[:12]}…, which may not write there")
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(found.by))
        key.verify(bytes.fromhex(found.signature), _message(place, body, found.previous, VERSION))
    except (InvalidSignature, ValueError) as error:
        raise Unsigned("its signature is not that of its content and place") from error
    return found


def public_key(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


def load_or_make(path: Path) -> Ed25519PrivateKey:
    """A party's own key, made once, for its owner's eyes alone.

    Raises:
        Refusal: the file is no such key, or others may read it.
    """
    if not path.exists():
        write_private(path, private_pem(Ed25519PrivateKey.generate()))
    if path.stat().st_mode & 0o077:
        raise Refusal(f"{path}: others can read this private key. Run: chmod 600 {path}")
    return parse_private(path.read_bytes(), str(path))


def parse_private(pem: bytes, name: str) -> Ed25519PrivateKey:
    """Raises Refusal."""
    try:
        key = load_pem_private_key(pem, None)
    except ValueError as error:
        raise Refusal(f"{name}: is not a private key. Restore it from a backup.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise Refusal(f"{name}: is not an Ed25519 key. Restore it from a backup.")
    return key


def private_pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _message(place: str, body: bytes, previous: str | None, version: int) -> bytes:
    """The last two lines have a fixed form, so no two records have one message."""
    return f"{_DOMAIN} {version}\n{place}\n{previous or '-'}\n{digest_of(body)}".encode()
