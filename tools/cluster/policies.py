"""kube-router beside the cluster: the one part that makes NetworkPolicies hold."""

from __future__ import annotations

import subprocess

from cluster.binaries import binary
from cluster.command import run, succeeds
from cluster.daemons import Daemons
from cluster.layout import NODE, SERVICE_CIDR, Layout

CHAIN = "KUBE-ROUTER-FORWARD"
MARKS = ("KUBE-ROUTER-", "KUBE-POD-FW-", "KUBE-NWPLCY-")
ROLE = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRole",
    "metadata": {"name": "system:kube-router"},
    "rules": [
        {
            "apiGroups": [""],
            "resources": ["namespaces", "pods", "services", "nodes", "endpoints"],
            "verbs": ["get", "list", "watch"],
        },
        {
            "apiGroups": ["networking.k8s.io"],
            "resources": ["networkpolicies"],
            "verbs": ["get", "list", "watch"],
        },
        {
            "apiGroups": ["discovery.k8s.io"],
            "resources": ["endpointslices"],
            "verbs": ["get", "list", "watch"],
        },
    ],
}
BINDING = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRoleBinding",
    "metadata": {"name": "system:kube-router"},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:kube-router"},
    "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:kube-router"}],
}
MANIFESTS = (ROLE, BINDING)


def start_policies(layout: Layout, daemons: Daemons) -> None:
    """Needs the node's object."""
    daemons.start(
        "kube-router",
        binary("kube-router"),
        f"--kubeconfig={layout.certificates / 'router.kubeconfig'}",
        "--run-firewall=true",
        # Routes and Services are the bridge's and kube-proxy's.
        "--run-router=false",
        "--run-service-proxy=false",
        "--run-loadbalancer=false",
        f"--hostname-override={NODE}",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        "--health-port=0",
        "--metrics-port=0",
    )
    daemons.wait("kube-router", lambda: succeeds(["iptables", "--wait", "--list-rules", CHAIN]))


def remove_policies() -> None:
    """kube-router leaves its rules, so that policies hold while it is away."""
    if not succeeds(["iptables", "--wait", "--list-rules", CHAIN]):
        return
    rules = run("iptables-save", "--table", "filter").splitlines()
    kept = [line for line in rules if not any(mark in line for mark in MARKS)]
    run("iptables-restore", "--wait", "--table", "filter", text="\n".join(kept) + "\n")
    for name in run("ipset", "list", "-name").split():
        if name.startswith(("KUBE-SRC-", "KUBE-DST-")):
            subprocess.run(["ipset", "destroy", name], capture_output=True)
