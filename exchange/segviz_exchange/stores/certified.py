"""The keys of a party that trusts one key, the coordinator's: its controls say who else may write.

Nothing is taken on trust from the bucket: a control counts once the coordinator's signature is verified.
"""

from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.malformed import malformation
from segviz_exchange.process.writing import write_whole
from segviz_exchange.stores.keyring import Seen, Trusted, Writers
from segviz_exchange.stores.signing import PublicKey, parse_private, public_key

CONTROLS = "control/"
"""Where the coordinator writes, below the federation's prefix."""


class Party(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What a process is told of a federation whose records are signed."""

    federation: str
    """Its prefix in the store."""
    coordinator: PublicKey
    private: str | None = None
    """Its own key as PEM; none where it only reads, or has the key in a file of its own."""


class _Certificate(msgspec.Struct, frozen=True):
    """What of a control says who may write."""

    number: int
    writers: dict[str, Writers] = {}


class Certified:
    """As a Keyring, with the coordinator's controls in place of a file that says whom to trust."""

    def __init__(self, party: Party, own: Ed25519PrivateKey | None, folder: Path | None = None) -> None:
        """
        Args:
            folder: on this party's own disk, where it remembers what it has seen; only until the process
                ends, where there is none.

        Raises:
            Refusal: it has known the federation by another key of the coordinator.
        """
        self._private = own
        self._controls = Writers((party.coordinator,), decides=True, first=1)
        self._trusted = Trusted(party.federation, {CONTROLS: self._controls})
        self._number = 0
        self._seen = Seen(None if folder is None else folder / "seen.json")
        if folder is not None:
            _hold_to(folder / "coordinator.json", party)

    @property
    def own(self) -> Ed25519PrivateKey:
        assert self._private is not None, "nobody lists the key of a party that has none"
        return self._private

    @property
    def public(self) -> str | None:
        return None if self._private is None else public_key(self._private)

    @property
    def trusted(self) -> Trusted:
        """As the newest control says that was read."""
        return self._trusted

    @property
    def certificates(self) -> str | None:
        """The folder, from the root of the bucket, whose newest record says who may write."""
        return self._trusted.federation + CONTROLS

    @property
    def seen(self) -> Seen:
        return self._seen

    def learn(self, place: str, body: bytes) -> None:
        """Take a record that was verified; only a newer control changes anything."""
        folder, _, name = place.rpartition("/")
        if f"{folder}/" != self.certificates or not name.removesuffix(".json").isdecimal():
            return
        try:
            found = msgspec.json.decode(body, type=_Certificate)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return  # which its reader says better
        if found.number > self._number:
            self._number = found.number
            writers = {**found.writers, CONTROLS: self._controls}
            self._trusted = Trusted(self._trusted.federation, writers)


def read_party(path: Path) -> Party:
    """Raises Refusal."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Party)
    except OSError as error:
        raise Refusal(f"{path}: {error.strerror}. Whoever starts this process writes it.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(f"{path}: is damaged: {malformation(error)}.") from error


def certified(party: Party, key_file: Path | None, folder: Path | None) -> Certified:
    """
    Args:
        key_file: with the party's own key, where `party` does not hold it.

    Raises:
        Refusal: the key cannot be read, or the coordinator's is another than it was.
    """
    own = None
    if party.private is not None:
        own = parse_private(party.private.encode(), "the key that this process was given")
    elif key_file is not None:
        try:
            own = parse_private(key_file.read_bytes(), str(key_file))
        except OSError as error:
            raise Refusal(f"{key_file}: {error.strerror}. Restore it from a backup.") from error
    return Certified(party, own, folder)


def _hold_to(path: Path, party: Party) -> None:
    try:
        if path.exists():
            known = msgspec.json.decode(path.read_bytes(), type=PublicKey)
            if known != party.coordinator:
                raise Refusal(
                    f"the coordinator's key is {party.coordinator[:12]}…, and {path} remembers {known[:12]}… "
                    "of this federation. Ask the coordinator whether the key is new; if it is not, somebody "
                    "else gives the orders. If it is, remove that file and start again."
                )
            return
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(path, msgspec.json.encode(party.coordinator) + b"\n")
    except OSError as error:
        raise Refusal(f"{path}: {error.strerror}. Make room there.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(f"{path}: is damaged: {malformation(error)}. Restore it from a backup.") from error
