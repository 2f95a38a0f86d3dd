"""etcd, kube-apiserver, kube-controller-manager and kube-scheduler."""

from __future__ import annotations

from cluster.binaries import binary
from cluster.command import succeeds
from cluster.daemons import Daemons
from cluster.layout import NODE_IP, POD_CIDR, SERVICE_CIDR, Layout

ETCD_URL = f"http://{NODE_IP}:2379"
PEER_URL = f"http://{NODE_IP}:2380"


def start_control_plane(layout: Layout, daemons: Daemons) -> None:
    certificates = layout.certificates
    daemons.start(
        "etcd",
        binary("etcd"),
        f"--data-dir={layout.root / 'etcd'}",
        "--unsafe-no-fsync",  # what a crash of this machine loses is a test
        f"--listen-client-urls={ETCD_URL}",
        f"--advertise-client-urls={ETCD_URL}",
        f"--listen-peer-urls={PEER_URL}",
        f"--initial-advertise-peer-urls={PEER_URL}",
        f"--initial-cluster=default={PEER_URL}",
        "--log-level=warn",
    )
    daemons.wait_for_port("etcd", 2379)
    daemons.start(
        "kube-apiserver",
        binary("kube-apiserver"),
        f"--etcd-servers={ETCD_URL}",
        f"--bind-address={NODE_IP}",
        f"--advertise-address={NODE_IP}",
        "--secure-port=6443",
        "--allow-privileged=true",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--client-ca-file={certificates / 'ca.crt'}",
        f"--tls-cert-file={certificates / 'apiserver.crt'}",
        f"--tls-private-key-file={certificates / 'apiserver.key'}",
        f"--kubelet-certificate-authority={certificates / 'ca.crt'}",
        f"--kubelet-client-certificate={certificates / 'apiserver-kubelet.crt'}",
        f"--kubelet-client-key={certificates / 'apiserver-kubelet.key'}",
        # The node's name is in no DNS: logs and exec go to its address.
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={certificates / 'accounts.key'}",
        f"--service-account-signing-key-file={certificates / 'accounts.key'}",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        "--profiling=false",
    )
    daemons.wait_for_port("kube-apiserver", 6443)
    kubectl = [str(binary("kubectl")), f"--kubeconfig={layout.kubeconfig}"]
    daemons.wait("kube-apiserver", lambda: succeeds([*kubectl, "get", "--raw", "/readyz"]))
    daemons.start(
        "kube-controller-manager",
        binary("kube-controller-manager"),
        f"--kubeconfig={certificates / 'controller-manager.kubeconfig'}",
        f"--root-ca-file={certificates / 'ca.crt'}",
        f"--service-account-private-key-file={certificates / 'accounts.key'}",
        "--use-service-account-credentials=true",
        f"--cluster-cidr={POD_CIDR}",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        "--allocate-node-cidrs=false",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        "--secure-port=0",
    )
    daemons.start(
        "kube-scheduler",
        binary("kube-scheduler"),
        f"--kubeconfig={certificates / 'scheduler.kubeconfig'}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        "--secure-port=0",
    )
