"""A site's own hold on what is trained there: a control is what somebody else has written."""

from collections.abc import Sized

from segviz_exchange.contract.limits import beyond, too_little
from segviz_exchange.contract.site_spec import SiteSpec
from segviz_exchange.contract.spec import FederationSpec
from segviz_exchange.process.errors import Refusal
from segviz_trainer.batches.sampling import steps_per_epoch


def round_of(spec: FederationSpec, train: Sized) -> tuple[int, int]:
    """With how many cases the site trains in a round, and in how many steps."""
    return len(train), spec.local_epochs * steps_per_epoch(len(train), spec.training)


def hold_to_limits(site: SiteSpec, spec: FederationSpec, train: Sized) -> None:
    """Before a control is trained by: it may be another one than preflight has seen.

    Raises:
        Refusal: it is beyond what the site's owner has agreed to.
    """
    if found := (*beyond(site.limits, spec), *too_little(site.limits, *round_of(spec, train))):
        raise Refusal(f"{'; '.join(found)}. Change the federation, or ask the site's owner.")
