"""The Secret with a remote site's join file: who reads it can take part as the site."""

import base64
from typing import Any

from segviz_exchange.contract.join import Invitation, encode_invitation
from segviz_operator.cluster.api import names
from segviz_operator.cluster.api.names import Subject
from segviz_operator.cluster.objects.pod import Owner
from segviz_operator.plan.workload import WorkloadRole

JOIN_FILE = "join.json"


def build_join_secret(
    subject: Subject, namespace: str, owner: Owner, role: WorkloadRole, invitation: Invitation
) -> dict[str, Any]:
    data = encode_invitation(invitation)
    expiration = invitation.credentials.expiration
    annotations = {} if expiration is None else {names.EXPIRES_AT: expiration.isoformat(timespec="seconds")}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": names.join_secret_name(subject, invitation.alias),
            "namespace": namespace,
            "labels": names.role_labels(subject, role, invitation.alias),
            "annotations": annotations,
            "ownerReferences": [owner.reference()],
        },
        "type": "Opaque",
        "data": {JOIN_FILE: base64.b64encode(data).decode()},
    }
