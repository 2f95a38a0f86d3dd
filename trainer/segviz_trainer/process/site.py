"""One site as its own process sees it: manifest, data, disk."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from segviz_exchange.contract.site_spec import SitePolicy, SiteSpec
from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.malformed import malformation

log = logging.getLogger(__name__)


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


def read_site_spec(path: Path) -> SiteSpec:
    """The site's spec; what SEGVIZ_SITE_POLICY names is the site's own word, where it is there.

    Raises:
        Refusal: that is no policy. What cannot be read allows nothing.
    """
    told = msgspec.json.decode(path.read_bytes(), type=SiteSpec)
    own = os.environ.get("SEGVIZ_SITE_POLICY")
    if own is None or not Path(own).exists():
        return told
    try:
        policy = msgspec.json.decode(Path(own).read_bytes(), type=SitePolicy)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(
            f"the site's policy ({Path(own).name} of its ConfigMap): {malformation(error)}. Install the "
            "site's chart again, of the trainer's version."
        ) from error
    spec = told.under(policy)
    for name in SitePolicy.__struct_fields__:
        if getattr(spec, name) != getattr(told, name):
            log.warning("spec.%s: the site's own policy holds, not what the operator tells", name)
    return spec
