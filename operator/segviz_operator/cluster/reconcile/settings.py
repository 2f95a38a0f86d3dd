"""What the operator is told when it starts, the same for all federations."""

from dataclasses import dataclass
from datetime import timedelta

import msgspec

from segviz_exchange.contract.site_spec import TrainerPod
from segviz_operator.access.signing import Signing
from segviz_operator.access.web_identity import WebIdentity


class Images(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the operator's own settings say of the Pods beside it, in the words of a site's manifest."""

    aggregator: TrainerPod
    export: TrainerPod


@dataclass(frozen=True)
class Settings:
    images: Images
    poll_seconds: float = 10.0
    """How often the bucket of a federation at work is read."""
    stuck_after: timedelta = timedelta(seconds=120)
    """How long a Pod may be missing or not run before its federation is Degraded for it."""
    silent_after: timedelta = timedelta(seconds=300)
    """How old the last heartbeat must be before another federation goes on with the records."""
    identity: WebIdentity | None = None
    """The operator's own, for federations with credentials: WebIdentity."""
    signing: Signing | None = None
    """The operator's key; none where the records of new federations are not signed."""
