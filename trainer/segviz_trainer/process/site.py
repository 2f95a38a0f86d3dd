"""One site as its own process sees it: manifest, data, disk."""

from dataclasses import dataclass
from pathlib import Path

from segviz_exchange.contract.site_spec import SiteSpec


@dataclass(frozen=True)
class Site:
    alias: str
    spec: SiteSpec
    data_root: Path
    """Where the site's volume is mounted."""
    state: Path
    """Private, on the site's own disk: checkpoints, data cache, heads and BN by round."""
    home: Path | None = None
    """The same for all federations of the site; beside `state`, if left out."""
    federation: str = ""
    """Its prefix in the store, where the site takes part in one: no two have the same."""

    @property
    def account(self) -> Path:
        """What its data have told so far."""
        return (self.home or self.state.parent / "_site") / "account"

    @property
    def organs(self) -> tuple[str, ...]:
        """The site's organs, sorted; 1 + an organ's index is its value in prepared labels."""
        return self.spec.organs
