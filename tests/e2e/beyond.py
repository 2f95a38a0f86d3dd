"""What is beyond the cluster, where Pods alone see it: a cloud's metadata service, and anybody's server.

A network namespace of this machine has both. Only what comes from Pods is routed there: the machine's
own way to such an address stays as it is.
"""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kube import until
from node import Node

METADATA, ANYBODY = "169.254.169.254", "203.0.113.7"
PORTS = (80, 443, 9000)
LINK, TABLE = "seg2", "198"
HERE, THERE = "10.196.0.1", "10.196.0.2"
LISTEN = """\
import socket, sys, time
held = [socket.create_server(("", int(port)), backlog=256) for port in sys.argv[1:]]
time.sleep(86400)
"""
"""Connections are the kernel's to accept."""


@contextmanager
def beyond(node: Node) -> Iterator[None]:
    # A network namespace without a name: `ip netns add` hides those of the Pods from whoever ends them.
    server = subprocess.Popen(("unshare", "--net", "python3", "-c", LISTEN, *map(str, PORTS)))
    try:
        _build(node.pods, server.pid)
        yield
    finally:
        server.kill()
        server.wait()
        _remove(node.pods)


def answers(address: str, port: int, seconds: float = 20) -> bool:
    """From this machine, whose connections no policy keeps out."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        with suppress(OSError), socket.create_connection((address, port), timeout=2):
            return True
        time.sleep(0.2)
    return False


def _build(pods: str, server: int) -> None:
    there = Path(f"/proc/{server}/ns/net")
    until("a network namespace", 10, lambda: there.readlink() != Path("/proc/self/ns/net").readlink())
    inside = ("nsenter", f"--net={there}", "ip")
    _run("ip", "link", "add", LINK, "type", "veth", "peer", "name", "eth0", "netns", str(server))
    _run("ip", "address", "add", f"{HERE}/30", "dev", LINK)
    _run("ip", "link", "set", LINK, "up")
    _run(*inside, "address", "add", f"{THERE}/30", "dev", "eth0")
    for device in ("lo", "eth0"):
        _run(*inside, "link", "set", device, "up")
    _run(*inside, "route", "add", "default", "via", HERE)
    for address in (METADATA, ANYBODY):
        _run(*inside, "address", "add", f"{address}/32", "dev", "lo")
        _run("ip", "route", "add", address, "via", THERE, "table", TABLE)
        _run("ip", "rule", "add", "from", pods, "to", address, "lookup", TABLE)


def _remove(pods: str) -> None:
    for address in (METADATA, ANYBODY):
        _run("ip", "rule", "delete", "from", pods, "to", address, "lookup", TABLE, check=False)
    _run("ip", "route", "flush", "table", TABLE, check=False)
    _run("ip", "link", "delete", LINK, check=False)


def _run(*command: str, check: bool = True) -> None:
    subprocess.run(command, check=check, capture_output=True)
