"""Which federation a folder holds, and what it has been built upon: what a later run must agree with."""

import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from segviz_exchange.contract import keys
from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.opening import open_store
from segviz_exchange.stores.store import Store
from segviz_operator.manifests.accepted import Accepted
from segviz_operator.manifests.past import KnownSite, Past

KEYS = "keys"
"""The folder of those keys, beside the run's own bucket."""
COORDINATOR = "coordinator"
"""Its part of the keys."""


class Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """federation.json"""

    namespace: str
    name: str
    uid: str
    store: str
    manifests: tuple[str, ...]
    accepted: dict[str, Any]
    """The federation's manifest as it was last accepted: what an edit is compared with."""
    sites: dict[str, KnownSite] = {}
    """Every site that was ever accepted, by alias, to the same end."""
    keys: str | None = None
    """Folder of the keys that its records are signed with; none where an earlier version has begun it."""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def prefix(self) -> str:
        return keys.federation_prefix(self.namespace, self.name, self.uid)

    @property
    def suspended_sites(self) -> frozenset[str]:
        """As their owners last said."""
        return frozenset(alias for alias, site in self.sites.items() if site.spec.suspend)

    def open_store(self) -> Store:
        """As the coordinator, who is whoever runs it."""
        return open_store(self.store, keys=self.own_keys).scoped(self.prefix)

    @property
    def own_keys(self) -> Path | None:
        """The coordinator's."""
        return None if self.keys is None else Path(self.keys) / COORDINATOR

    def accepting(self, accepted: Accepted) -> "Identity":
        """The same, with what was accepted just now."""
        sites = {alias: KnownSite(site.key, site.spec) for alias, site in accepted.everyone.items()}
        raw = dict(accepted.federation.raw)
        return msgspec.structs.replace(self, accepted=raw, sites={**self.sites, **sites})

    def past(self, bound: Iterable[str], organs: Iterable[str], carriers: frozenset[str]) -> Past:
        return Past(self.key, self.accepted, self.sites, frozenset(bound), frozenset(organs), carriers)


def claim(
    known: Identity | None, accepted: Accepted, manifests: Iterable[Path], store: str | None, bucket: Path
) -> Identity:
    """The folder's own identity, or a new one. `bucket` is where records go unless `store` says otherwise.

    Raises:
        Refusal: the folder belongs to another federation, or to another store.
    """
    federation = accepted.federation
    if known is None:
        place = str(bucket) if store is None else _absolute(store)
        files = tuple(str(path.resolve()) for path in manifests)
        uid = secrets.token_hex(4)
        kept = str(bucket.parent / KEYS)
        fresh = Identity(federation.namespace, federation.name, uid, place, files, {}, keys=kept)
        return fresh.accepting(accepted)
    if known.key != federation.key:
        raise Refusal(
            f"{bucket.parent}: holds the federation {known.key}, not {federation.key}. "
            "Choose another --workdir."
        )
    if store is not None and _absolute(store) != known.store:
        raise Refusal(
            f"--store {store}: this run keeps its records in {known.store}. Leave --store out, or choose "
            "another --workdir."
        )
    return known.accepting(accepted)


def _absolute(store: str) -> str:
    """`segviz status` may be called from anywhere."""
    if not store.strip():
        raise Refusal("--store: is empty. Give s3://HOST/BUCKET or a folder, or leave it out.")
    return store if "://" in store else str(Path(store).resolve())
