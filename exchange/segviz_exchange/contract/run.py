"""What a run on this machine leaves for its report: where its records are, and where its sites' images lie.

Written by the runner (operator), read by the report (trainer).
"""

from pathlib import Path

import msgspec

from segviz_exchange.contract.site_spec import SiteSpec
from segviz_exchange.stores.opening import open_store
from segviz_exchange.stores.store import Store

INDEX = "run.json"
"""In the run's folder."""


class SiteHere(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A site whose images lie on this machine."""

    spec: SiteSpec
    data_root: str
    state: str
    """Relative to the index's folder."""


class RunHere(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A federation whose records can be read from this machine: a run of its own, or a row of a study."""

    name: str
    """namespace/name; in a study, the row's."""
    store: str
    """A URL, or a folder relative to the index's."""
    prefix: str
    sites: dict[str, SiteHere]
    """Training and external sites by alias, as far as their images lie here."""
    fold: int | None = None
    """Of a study that rotates its cases."""

    def open_store(self, folder: Path) -> Store:
        """The federation's prefix; `folder` is the index's."""
        url = self.store if "://" in self.store else str(folder / self.store)
        return open_store(url).scoped(self.prefix)
