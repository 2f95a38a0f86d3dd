"""containerd, kubelet and kube-proxy: the one node."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from pathlib import Path

import psutil

from cluster.binaries import binary
from cluster.command import run, succeeds
from cluster.daemons import Daemons
from cluster.failure import ClusterFailed
from cluster.layout import DOMAIN, NODE, NODE_IP, POD_CIDR, Layout

PAUSE_IMAGE = "localhost/segviz/busybox:pause"
NAMESPACE = "k8s.io"
READY_SECONDS = 90.0


def start_runtime(layout: Layout, daemons: Daemons) -> None:
    settings = layout.settings / "containerd.toml"
    settings.write_text(
        f"""\
version = 2
root = "{layout.root / "containerd" / "root"}"
state = "{layout.root / "containerd" / "state"}"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "{layout.containerd_socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Without CAP_SYS_RESOURCE no sandbox may lower its score.
  restrict_oom_score_adj = true
  disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{layout.root / "cni" / "net.d"}"
""",
        encoding="utf-8",
    )
    (layout.root / "containerd").mkdir(parents=True, exist_ok=True)
    daemons.start("containerd", "containerd", "--config", settings)
    daemons.wait("containerd", lambda: succeeds([*ctr(layout), "version"]))


def ctr(layout: Layout) -> list[str]:
    return ["ctr", f"--address={layout.containerd_socket}", f"--namespace={NAMESPACE}"]


def start_node(layout: Layout, daemons: Daemons) -> None:
    certificates = layout.certificates
    kubelet = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_IP,
        "readOnlyPort": 0,
        "healthzBindAddress": NODE_IP,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(certificates / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(certificates / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(certificates / "kubelet-server.key"),
        "containerRuntimeEndpoint": f"unix://{layout.containerd_socket}",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "clusterDomain": DOMAIN,
        "clusterDNS": [NODE_IP],
        "resolvConf": "",  # names outside the cluster are none of the pods' business
        "podLogsDir": str(layout.root / "pods"),
        "maxPods": 200,
        "makeIPTablesUtilChains": False,
        # The machine's disk may be nearly full of other things; nothing is pulled, so nothing is collected.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "serializeImagePulls": False,
        "nodeStatusUpdateFrequency": "5s",
        "shutdownGracePeriod": "0s",
    }
    settings = _write(layout.settings / "kubelet.json", kubelet)
    daemons.start(
        "kubelet",
        binary("kubelet"),
        f"--config={settings}",
        f"--kubeconfig={certificates / 'kubelet.kubeconfig'}",
        f"--root-dir={layout.root / 'kubelet'}",
        f"--hostname-override={NODE}",
        f"--node-ip={NODE_IP}",
    )
    proxy = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": POD_CIDR,
        "hostnameOverride": NODE,
        "clientConnection": {"kubeconfig": str(certificates / "proxy.kubeconfig")},
        "healthzBindAddress": f"{NODE_IP}:10256",
        "metricsBindAddress": f"{NODE_IP}:10249",
        "conntrack": {"maxPerCore": 0},
    }
    settings = _write(layout.settings / "kube-proxy.json", proxy)
    daemons.start("kube-proxy", binary("kube-proxy"), f"--config={settings}")


def _write(path: Path, settings: object) -> Path:
    """Not again what is there: a kube-proxy that runs ends where its file is written."""
    text = json.dumps(settings)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
    return path


def wait_for_node(layout: Layout) -> None:
    kubectl = [str(binary("kubectl")), f"--kubeconfig={layout.kubeconfig}"]
    give_up = time.monotonic() + READY_SECONDS
    while not succeeds([*kubectl, "get", "node", NODE]):
        if time.monotonic() > give_up:
            raise ClusterFailed(f"No node after {READY_SECONDS:.0f} s: see {layout.logs / 'kubelet.log'}.")
        time.sleep(0.2)
    run(*kubectl, "wait", "--for=condition=Ready", f"node/{NODE}", f"--timeout={READY_SECONDS:.0f}s")


def remove_pods(layout: Layout) -> None:
    """What outlives kubelet: shims with their containers, mounts, network namespaces, links."""
    # By the socket they serve, which no other containerd has.
    shims = [
        process
        for process in psutil.process_iter(["cmdline"])
        if "containerd-shim" in " ".join((process.info["cmdline"] or [])[:1])
        and str(layout.containerd_socket) in (process.info["cmdline"] or [])
    ]
    networks: set[int] = set()
    for shim in shims:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in shim.children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError):
                    networks.add(Path(f"/proc/{child.pid}/ns/net").stat().st_ino)
                    child.kill()
            shim.kill()
            shim.wait(10)
    below = f"{layout.root}/"
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    for mount in sorted((point for point in mounts if point.startswith(below)), reverse=True):
        subprocess.run(["umount", "--lazy", mount], capture_output=True)
    # The host's own is no file of that folder.
    for space in Path("/run/netns").glob("cni-*"):
        if space.stat().st_ino in networks:
            subprocess.run(["umount", "--lazy", space], capture_output=True)
            space.unlink()
    results = Path("/var/lib/cni/results")
    for result in results.glob("segviz-*-eth0"):
        container = result.name.removeprefix("segviz-").removesuffix("-eth0")
        (results / f"cni-loopback-{container}-lo").unlink(missing_ok=True)
        result.unlink()
    for link in Path("/var/log/containers").glob("*.log"):
        if link.is_symlink() and str(link.readlink()).startswith(below):
            link.unlink()
    _remove_control_groups()


def _remove_control_groups() -> None:
    for root in Path("/sys/fs/cgroup").glob("**/kubepods"):
        for folder in sorted(root.glob("**/"), reverse=True):
            with contextlib.suppress(OSError):
                folder.rmdir()
