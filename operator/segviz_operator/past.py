"""What a federation has been built upon so far: an edit is compared with it, and may not take it away."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from segviz_exchange.spec import SiteSpec

_FIXED = {
    "role": "role",
    "dataSets": "data_sets",
    "split": "split",
    "maxCaseMebibytes": "max_case_mebibytes",
}
"""Fields of a site, in YAML and in Python, that say which cases it uses for what, and what labels mean."""


class KnownSite(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A site as its manifest was last accepted."""

    key: str
    """namespace/name"""
    spec: SiteSpec


@dataclass(frozen=True)
class Past:
    key: str
    """namespace/name of the federation."""
    manifest: Mapping[str, Any]
    """The federation's, as it was last accepted."""
    sites: Mapping[str, KnownSite]
    """Every site that was ever accepted, by alias."""
    bound: frozenset[str]
    """Aliases of sites whose data have gone into the federation, or go into it now."""
    organs: frozenset[str]
    """Those that the first control names; what one head for all organs was built for."""

    @property
    def consented(self) -> frozenset[str]:
        """Sites whose owners once consented, by namespace/name."""
        return frozenset(site.key for site in self.sites.values())

    def bound_site(self, alias: str) -> KnownSite | None:
        return self.sites.get(alias) if alias in self.bound else None


def changed_fields(before: SiteSpec, now: SiteSpec) -> tuple[str, ...]:
    """Fields that have changed and must not. Release, consent and the like are the owner's to change."""
    return tuple(field for field, name in _FIXED.items() if getattr(before, name) != getattr(now, name))
