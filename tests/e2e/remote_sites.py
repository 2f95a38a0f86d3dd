"""What a coordinator sends to a site outside."""

import base64

from federation import Federation
from kube import Kube


def join_secret(kube: Kube, federation: Federation, alias: str) -> bytes | None:
    """The join file that the operator keeps for the site, once it is there."""
    labels = {"segviz.dev/federation-uid": federation.uid(), "segviz.dev/site": alias}
    for found in kube.selected("secrets", labels):
        if "join.json" in found["data"]:
            return base64.b64decode(found["data"]["join.json"])
    return None
