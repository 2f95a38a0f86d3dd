"""Where the cluster keeps its state, and the addresses that it gives out. Nothing lies in the checkout."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segviz"
LOCK = CACHE / "cluster.lock"  # beside the cluster's folder, which `down` removes

BRIDGE = "seg0"
NODE = "segviz"
NODE_IP = "10.199.0.1"
POD_BRIDGE = "seg1"
POD_CIDR = "10.198.0.0/16"
SERVICE_CIDR = "10.197.0.0/16"
API_SERVICE_IP = "10.197.0.1"
API_URL = f"https://{NODE_IP}:6443"
STORE_ADDRESS = f"{NODE_IP}:9000"
DOMAIN = "cluster.local"


@dataclass(frozen=True)
class Layout:
    root: Path

    @classmethod
    def default(cls) -> Layout:
        return cls(Path(os.environ.get("SEGVIZ_CLUSTER_DIR") or CACHE / "cluster"))

    @property
    def certificates(self) -> Path:
        return self.root / "certificates"

    @property
    def processes(self) -> Path:
        """One file a process: how it is stopped."""
        return self.root / "processes"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def settings(self) -> Path:
        return self.root / "settings"

    @property
    def volumes(self) -> Path:
        return self.root / "volumes"

    @property
    def containerd_socket(self) -> Path:
        return self.root / "containerd" / "containerd.sock"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def store_credentials(self) -> Path:
        return self.root / "store.json"
