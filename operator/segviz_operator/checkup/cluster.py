"""What `segviz doctor` looks at in a cluster."""

from collections.abc import Iterator

from segviz_exchange.process.errors import Refusal
from segviz_operator.checkup.federation import check_federation
from segviz_operator.checkup.finding import Finding
from segviz_operator.checkup.installation import check_installation
from segviz_operator.checkup.rights import Account
from segviz_operator.checkup.site import SiteName, check_site
from segviz_operator.cluster.api.client import Cluster, ClusterError
from segviz_operator.cluster.api.connection import connect

Pair = tuple[str, str]
"""Namespace and name."""


def findings_of(
    operator: Pair, namespace: str, name: str | None, sites: tuple[Pair, ...], *, asks_store: bool
) -> Iterator[Finding]:
    """Raises Refusal: the API server does not answer."""
    account = Account(*operator)
    try:
        cluster = Cluster(connect())
        yield from check_installation(cluster, account)
        if name is not None:
            yield from check_federation(cluster, account, namespace, name, asks_store=asks_store)
        for each in sites:
            yield from check_site(cluster, account, SiteName(*each))
    except ClusterError as error:
        raise Refusal(f"The API server could not be asked: {error}.") from error
