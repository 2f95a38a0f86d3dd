"""One site as its own process sees it: manifest, data, disk."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from segviz_exchange.contract.site_spec import SiteSpec


@dataclass(frozen=True)
class Site:
    alias: str
    spec: SiteSpec
    data_root: Path
    """Where the site's volume is mounted."""
    state: Path
    """Private, on the site's own disk: checkpoints, data cache, heads and BN by round."""

    @property
    def organs(self) -> tuple[str, ...]:
        """The site's organs, sorted; 1 + an organ's index is its value in prepared labels."""
        return self.spec.organs


def read_site_spec(path: Path) -> SiteSpec:
    return msgspec.json.decode(path.read_bytes(), type=SiteSpec)
