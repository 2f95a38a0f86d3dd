"""The operator's own key, in a Secret that the chart makes empty and the operator fills once."""

import base64
import binascii

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.signing import parse_private, private_pem
from segviz_operator.cluster.api.client import SECRETS, Cluster, Conflicting
from segviz_operator.cluster.objects.pod import KEY_ENTRY


def load_own_key(cluster: Cluster, namespace: str, name: str) -> Ed25519PrivateKey:
    """
    Raises:
        Refusal: the Secret is missing or holds no key.
        ClusterError: the API server did not answer, or does not allow it.
    """
    where = f"Secret {namespace}/{name}"
    secret = cluster.get(SECRETS, namespace, name)
    if secret is None:
        raise Refusal(
            f"{where} does not exist, and is to hold the operator's key. Upgrade the operator's chart, or "
            "restore the Secret from a backup."
        )
    held = (secret.get("data") or {}).get(KEY_ENTRY)
    if not held:
        made = Ed25519PrivateKey.generate()
        entry = {KEY_ENTRY: base64.b64encode(private_pem(made)).decode()}
        # Of two operators that start at once, one fills it.
        seen = {"resourceVersion": secret["metadata"]["resourceVersion"]}
        try:
            cluster.merge(SECRETS, namespace, name, {"metadata": seen, "data": entry})
        except Conflicting:
            return load_own_key(cluster, namespace, name)
        return made
    try:
        return parse_private(base64.b64decode(held, validate=True), f"{where}: {KEY_ENTRY}")
    except binascii.Error as error:
        raise Refusal(f"{where}: {KEY_ENTRY} is not base64. Restore it from a backup.") from error
