"""The node's address and the pods' network: two bridges, no tunnel and no rule that stays."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from cluster.command import run, succeeds
from cluster.layout import BRIDGE, NODE_IP, POD_BRIDGE, POD_CIDR, Layout

FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
PROXY_TABLES = (("ip", "kube-proxy"), ("ip6", "kube-proxy"))


def make_network(layout: Layout) -> None:
    # Not every kernel has dummy devices: a bridge without members carries the node's address.
    if not succeeds(["ip", "link", "show", BRIDGE]):
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "address", "add", f"{NODE_IP}/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
    layout.settings.mkdir(parents=True, exist_ok=True)
    before = layout.settings / "ip_forward"
    if not before.exists():
        before.write_text(FORWARDING.read_text(encoding="utf-8"), encoding="utf-8")
    FORWARDING.write_text("1\n", encoding="utf-8")
    bridge = {
        "type": "bridge",
        "bridge": POD_BRIDGE,
        "isGateway": True,
        "hairpinMode": True,
        # Pods reach the node and each other, nothing beyond: no address is translated.
        "ipMasq": False,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": POD_CIDR}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(layout.root / "cni" / "addresses"),
        },
    }
    folder = layout.root / "cni" / "net.d"
    folder.mkdir(parents=True, exist_ok=True)
    network = {"cniVersion": "0.4.0", "name": "segviz", "plugins": [bridge]}
    (folder / "10-segviz.conflist").write_text(json.dumps(network), encoding="utf-8")


def remove_network(layout: Layout) -> None:
    for name in (POD_BRIDGE, BRIDGE):
        if succeeds(["ip", "link", "show", name]):
            run("ip", "link", "delete", name)
    for family, table in PROXY_TABLES:
        subprocess.run(["nft", "delete", "table", family, table], capture_output=True)
    before = layout.settings / "ip_forward"
    if before.exists():
        FORWARDING.write_text(before.read_text(encoding="utf-8"), encoding="utf-8")
    shutil.rmtree(layout.root / "cni", ignore_errors=True)
