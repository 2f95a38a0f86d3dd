"""What a federation has been built upon so far: an edit is compared with it, and may not take it away."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from segviz_exchange.contract.site_spec import SiteSpec
from segviz_operator.manifests.digest import digest

_FIXED = {
    "role": "role",
    "dataSets": "data_sets",
    "split": "split",
    "maxCaseMebibytes": "max_case_mebibytes",
}
"""Fields of a site, in YAML and in Python, that say which cases it uses for what, and what labels mean."""


class Remembered(Protocol):
    """A site as it was when it was last accepted, or enough of it."""

    @property
    def key(self) -> str:
        """namespace/name"""

    def changed(self, now: SiteSpec) -> tuple[str, ...]:
        """Fields that have changed and must not."""


class KnownSite(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A site as its manifest was last accepted."""

    key: str
    """namespace/name"""
    spec: SiteSpec

    def changed(self, now: SiteSpec) -> tuple[str, ...]:
        # Release, consent and the like are the owner's to change.
        return tuple(
            field for field, name in _FIXED.items() if getattr(self.spec, name) != getattr(now, name)
        )


class DigestedSite(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The same without what it says, for a place where people may read who may not read the site."""

    key: str
    fixed: dict[str, str]
    """Digest of each field that must not change."""

    @classmethod
    def of(cls, key: str, spec: SiteSpec) -> "DigestedSite":
        return cls(key, _digests(spec))

    def changed(self, now: SiteSpec) -> tuple[str, ...]:
        return tuple(field for field, now_so in _digests(now).items() if self.fixed.get(field) != now_so)


def _digests(spec: SiteSpec) -> dict[str, str]:
    return {field: digest(getattr(spec, name)) for field, name in _FIXED.items()}


@dataclass(frozen=True)
class Past:
    key: str
    """namespace/name of the federation."""
    manifest: Mapping[str, Any]
    """The federation's, as it was last accepted."""
    sites: Mapping[str, Remembered]
    """Every site that was ever accepted, by alias."""
    bound: frozenset[str]
    """Aliases of sites whose data have gone into the federation, or go into it now."""
    organs: frozenset[str]
    """Those that the first control names; what one head for all organs was built for."""
    carriers: frozenset[str] = frozenset()
    """Aliases of members by whom the open round can close; who joins begins with the round after it."""

    @property
    def consented(self) -> frozenset[str]:
        """Sites whose owners once consented, by namespace/name."""
        return frozenset(site.key for site in self.sites.values())

    def bound_site(self, alias: str) -> Remembered | None:
        return self.sites.get(alias) if alias in self.bound else None
