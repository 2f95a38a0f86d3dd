"""A party's folder of keys: its own, whom it trusts to write where, and how far it has seen the federation.

private.pem     its own, mode 0600
trusted.json    which keys may write below which prefix
seen.json       digests of the records of each series that it has seen: what was once there stays there
"""

from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.malformed import malformation
from segviz_exchange.process.writing import write_whole
from segviz_exchange.stores.signing import PublicKey, load_or_make, public_key

_Value = TypeVar("_Value")


class Writers(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Who may write below a prefix."""

    keys: tuple[PublicKey, ...] = ()
    """Nobody in particular, where it is empty: what lies there is not signed."""
    decides: bool = False
    """Whether others do what is written there: then they stop at a record that is not signed."""
    first: int | None = None
    """Of numbered records that follow each other without a gap, each naming the one before."""


class Trusted(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    federation: str
    """Its prefix in the store, to which the others are relative."""
    writers: dict[str, Writers]
    """By prefix; the longest that fits counts."""

    def of(self, key: str) -> Writers | None:
        """None where nobody may write."""
        fitting = [prefix for prefix in self.writers if key.startswith(prefix)]
        return self.writers[max(fitting, key=len)] if fitting else None


class Seen:
    """Digests of records of a series, by their place in the bucket. Kept on this party's own disk."""

    def __init__(self, path: Path | None) -> None:
        """
        Args:
            path: none, where they are forgotten when the process ends.

        Raises:
            Refusal: what is kept there cannot be read.
        """
        self._path = path
        self._digests = self._kept()

    def below(self, prefix: str) -> list[str]:
        return [place for place in sorted(self._digests) if place.startswith(prefix)]

    def digest(self, place: str) -> str | None:
        return self._digests.get(place)

    def add(self, place: str, digest: str) -> None:
        """Raises Refusal."""
        if place in self._digests:
            return
        # Another process of this party may have seen more.
        self._digests = {**self._kept(), **self._digests, place: digest}
        if self._path is None:
            return
        try:
            write_whole(self._path, msgspec.json.encode(self._digests, order="deterministic") + b"\n")
        except OSError as error:
            raise Refusal(f"{self._path}: cannot be written: {error.strerror}. Make room there.") from error

    def _kept(self) -> dict[str, str]:
        there = self._path is not None and self._path.exists()
        return _read(self._path, dict[str, str]) if self._path is not None and there else {}


class Keys(Protocol):
    """What a party knows: its own key, whose word counts where, and what it has seen."""

    @property
    def own(self) -> Ed25519PrivateKey: ...
    @property
    def public(self) -> str | None:
        """None of a party that has no key, and only reads."""

    @property
    def trusted(self) -> Trusted: ...
    @property
    def seen(self) -> Seen: ...
    @property
    def certificates(self) -> str | None:
        """The folder whose newest record says who may write, if that is what says it."""

    def learn(self, place: str, body: bytes) -> None:
        """Take a record that was verified: it may say who may write."""


class Keyring:
    certificates = None

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read_last: tuple[tuple[int, int], Trusted] | None = None

    def trust(self, trusted: Trusted) -> None:
        """Raises OSError."""
        written = msgspec.json.format(msgspec.json.encode(trusted, order="deterministic")) + b"\n"
        if not self._trusted.exists() or self._trusted.read_bytes() != written:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(self._trusted, written)

    @cached_property
    def own(self) -> Ed25519PrivateKey:
        """Raises Refusal."""
        return load_or_make(self._folder / "private.pem")

    @property
    def public(self) -> str:
        return public_key(self.own)

    @property
    def trusted(self) -> Trusted:
        """As the file says now: sites join and leave. Raises Refusal."""
        try:
            stat = self._trusted.stat()
        except OSError as error:
            raise Refusal(f"{self._trusted}: {error.strerror}. Restore it from a backup.") from error
        state = (stat.st_mtime_ns, stat.st_ino)
        if self._read_last is None or self._read_last[0] != state:
            self._read_last = (state, _read(self._trusted, Trusted))
        return self._read_last[1]

    @cached_property
    def seen(self) -> Seen:
        """Raises Refusal."""
        return Seen(self._folder / "seen.json")

    def learn(self, place: str, body: bytes) -> None:
        """Nothing: whom to trust is told by a file."""

    @property
    def _trusted(self) -> Path:
        return self._folder / "trusted.json"


def _read(path: Path, kind: type[_Value]) -> _Value:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise Refusal(f"{path}: {error.strerror}. Restore it from a backup.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(f"{path}: is damaged: {malformation(error)}. Restore it from a backup.") from error
