"""Up and down, from top to bottom."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from cluster import dns, policies
from cluster.binaries import SERVERS, binary
from cluster.certificates import make_certificates
from cluster.command import run
from cluster.controlplane import start_control_plane
from cluster.daemons import Daemons
from cluster.images import import_busybox
from cluster.layout import Layout
from cluster.network import make_network, remove_network
from cluster.node import remove_pods, start_node, start_runtime, wait_for_node
from cluster.packages import ensure_packages
from cluster.store import start_store
from cluster.volumes import STORAGE_CLASS

# The node before what it asks, the API server before its database.
STOP_ORDER = (
    "kubelet",
    "volumes",
    "kube-router",
    "kube-proxy",
    "coredns",
    "kube-scheduler",
    "kube-controller-manager",
    "containerd",
    "kube-apiserver",
    "etcd",
    "minio",
)


def up(layout: Layout) -> None:
    """Whatever of it runs already stays as it is."""
    ensure_packages()
    for name in SERVERS:
        binary(name)
    layout.root.mkdir(parents=True, exist_ok=True, mode=0o711)
    daemons = Daemons(layout)
    make_certificates(layout)
    make_network(layout)
    start_store(layout, daemons)
    start_control_plane(layout, daemons)
    start_runtime(layout, daemons)
    import_busybox(layout)
    start_node(layout, daemons)
    items = [*dns.MANIFESTS, *policies.MANIFESTS, STORAGE_CLASS]
    objects = {"apiVersion": "v1", "kind": "List", "items": items}
    kubectl = (binary("kubectl"), f"--kubeconfig={layout.kubeconfig}")
    run(*kubectl, "apply", "--server-side", "-f", "-", text=json.dumps(objects))
    dns.start_dns(layout, daemons)
    daemons.start(
        "volumes",
        sys.executable,
        "-m",
        "cluster.volumes",
        env={"PYTHONPATH": str(Path(__file__).parents[1]), "SEGVIZ_CLUSTER_DIR": str(layout.root)},
    )
    wait_for_node(layout)
    policies.start_policies(layout, daemons)
    # A server without an address of its own may have met a port in use meanwhile.
    daemons.check_all_run()


def down(layout: Layout) -> None:
    daemons = Daemons(layout)
    others = [name for name in daemons.names() if name not in STOP_ORDER]
    for name in (*others, *STOP_ORDER):
        daemons.stop(name)
    if layout.root.exists():
        remove_pods(layout)
        policies.remove_policies()
        remove_network(layout)
        shutil.rmtree(layout.root)
