"""What the machine must bring: Debian packages, installed where they are missing."""

from __future__ import annotations

import os
import shutil

from cluster.command import run
from cluster.failure import ClusterFailed

# One program of each package tells whether it is there.
PROGRAMS = {
    "containerd": "containerd",
    "runc": "runc",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "buildah": "buildah",
    "nftables": "nft",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ipset": "ipset",
    "busybox-static": "busybox",
    "debootstrap": "debootstrap",
    "docker-registry": "docker-registry",
    "iproute2": "ip",
    "openssl": "openssl",
}


def ensure_packages() -> None:
    if os.geteuid() != 0:
        raise ClusterFailed(
            "A cluster on this machine needs root: run make as root, "
            "or set KUBECONFIG to a cluster of yours (docs/how-to/test-on-a-cluster.md)."
        )
    missing = [package for package, program in PROGRAMS.items() if shutil.which(program) is None]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise ClusterFailed(
            f"Missing on this machine: {', '.join(missing)}. Install them and run this again."
        )
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", "-q", env=quiet)
    run("apt-get", "install", "-q", "-y", "--no-install-recommends", *missing, env=quiet)
