"""What people want, from accepted manifests."""

from segviz_operator.manifests.accepted import Accepted
from segviz_operator.plan.decide import Desired


def desired_of(accepted: Accepted) -> Desired:
    return Desired(
        spec=accepted.federation.spec,
        organs={alias: site.spec.organs for alias, site in accepted.members.items()},
        paused=frozenset(alias for alias, site in accepted.everyone.items() if site.spec.suspend),
    )
