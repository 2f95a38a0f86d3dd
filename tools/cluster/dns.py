"""CoreDNS beside the cluster, on the node's address."""

from __future__ import annotations

from cluster.binaries import binary
from cluster.daemons import Daemons
from cluster.layout import DOMAIN, NODE_IP, Layout

ROLE = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRole",
    "metadata": {"name": "system:coredns"},
    "rules": [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ],
}
BINDING = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRoleBinding",
    "metadata": {"name": "system:coredns"},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"},
    "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:coredns"}],
}
MANIFESTS = (ROLE, BINDING)


def start_dns(layout: Layout, daemons: Daemons) -> None:
    zones = layout.settings / "Corefile"
    zones.write_text(
        f"""\
{DOMAIN}:53 {{
    bind {NODE_IP}
    errors
    kubernetes {DOMAIN} {{
        kubeconfig {layout.certificates / "coredns.kubeconfig"}
    }}
}}
""",
        encoding="utf-8",
    )
    daemons.start("coredns", binary("coredns"), "-conf", zones)
    daemons.wait_for_port("coredns", 53, "udp")
