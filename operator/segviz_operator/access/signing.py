"""The coordinator's key in a cluster, and all that follows from it.

The aggregator's keys are derived from it, one for each federation: so the Secret that holds the operator's
key is all that a backup needs, and a federation that goes on in another cluster finds its keys again.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from segviz_exchange.contract import keys
from segviz_exchange.stores.certified import Certified, Party
from segviz_exchange.stores.keyring import Writers
from segviz_exchange.stores.signing import PublicKey, private_pem, public_key


@dataclass(frozen=True)
class Signing:
    """The operator signs controls, which say who signs what else."""

    own: Ed25519PrivateKey

    @property
    def public(self) -> PublicKey:
        return public_key(self.own)

    def keyring(self, prefix: str) -> Certified:
        """The operator's, of a federation. What it has seen it forgets when it ends."""
        return Certified(self.party(prefix), self.own)

    def party(self, prefix: str, *, aggregates: bool = False) -> Party:
        """What a Pod is told. The export writes as the aggregator does."""
        private = private_pem(self._aggregator(prefix)).decode() if aggregates else None
        return Party(prefix, self.public, private)

    def writers(self, prefix: str, sites: Mapping[str, PublicKey | None]) -> dict[str, Writers]:
        """Who may write below which folder.

        Args:
            sites: the key of each by its alias; none of one that does not sign.
        """
        aggregator = (public_key(self._aggregator(prefix)),)
        own = {keys.site(alias): Writers(() if key is None else (key,)) for alias, key in sites.items()}
        return {
            keys.GLOBAL: Writers(aggregator, decides=True),
            keys.ROUNDS: Writers(aggregator, decides=True, first=0),
            keys.EXPORTS: Writers(aggregator, decides=True),
            **own,
            # The next credentials of a site outside are no record.
            **{keys.credentials(alias): Writers() for alias in sites},
        }

    def _aggregator(self, prefix: str) -> Ed25519PrivateKey:
        info = f"SegViz aggregator {prefix}".encode()
        seed = HKDF(SHA256(), 32, None, info).derive(self.own.private_bytes_raw())
        return Ed25519PrivateKey.from_private_bytes(seed)
