"""How to reach a cluster: as kubectl would, or as a Pod does."""

import os

from kubernetes import client, config
from kubernetes.config import ConfigException

from segviz_exchange.process.errors import Refusal


def connect(connections: int = 4) -> client.ApiClient:
    """By KUBECONFIG or ~/.kube/config; in a Pod by its own service account.

    Raises:
        Refusal: neither is there.
    """
    settings = client.Configuration()
    try:
        if os.environ.get("KUBERNETES_SERVICE_HOST") and not os.environ.get("KUBECONFIG"):
            config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
        else:
            config.load_kube_config(client_configuration=settings)  # type: ignore[no-untyped-call]
    except ConfigException as error:
        raise Refusal(
            f"cannot find a cluster: {error} Set KUBECONFIG to a kubeconfig file, as for kubectl."
        ) from error
    settings.connection_pool_maxsize = connections
    settings.retries = False
    return client.ApiClient(settings)
