"""What is beyond the cluster, where Pods alone see it: a cloud's metadata service, and anybody's server.

A network namespace of this machine has both. Only what comes from Pods is routed there: the machine's
own way to such an address stays as it is.
"""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from node import Node

METADATA, ANYBODY = "169.254.169.254", "203.0.113.7"
PORTS = (80, 443, 9000)
NAMESPACE, LINK, TABLE = "segviz-beyond", "seg2", "198"
HERE, THERE = "10.196.0.1", "10.196.0.2"
LISTEN = """\
import socket, sys, time
held = [socket.create_server(("", int(port)), backlog=256) for port in sys.argv[1:]]
time.sleep(86400)
"""
"""Connections are the kernel's to accept."""


@contextmanager
def beyond(node: Node) -> Iterator[None]:
    try:
        _build(node.pods)
        command = ("ip", "netns", "exec", NAMESPACE, "python3", "-c", LISTEN, *map(str, PORTS))
        server = subprocess.Popen(command)
        try:
            yield
        finally:
            server.kill()
            server.wait()
    finally:
        _remove(node.pods)


def answers(address: str, port: int, seconds: float = 20) -> bool:
    """From this machine, whose connections no policy keeps out."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        with suppress(OSError), socket.create_connection((address, port), timeout=2):
            return True
        time.sleep(0.2)
    return False


def _build(pods: str) -> None:
    inside = ("-n", NAMESPACE)
    _ip("netns", "add", NAMESPACE)
    _ip("link", "add", LINK, "type", "veth", "peer", "name", "eth0", "netns", NAMESPACE)
    _ip("address", "add", f"{HERE}/30", "dev", LINK)
    _ip("link", "set", LINK, "up")
    _ip(*inside, "address", "add", f"{THERE}/30", "dev", "eth0")
    for device in ("lo", "eth0"):
        _ip(*inside, "link", "set", device, "up")
    _ip(*inside, "route", "add", "default", "via", HERE)
    for address in (METADATA, ANYBODY):
        _ip(*inside, "address", "add", f"{address}/32", "dev", "lo")
        _ip("route", "add", address, "via", THERE, "table", TABLE)
        _ip("rule", "add", "from", pods, "to", address, "lookup", TABLE)


def _remove(pods: str) -> None:
    for address in (METADATA, ANYBODY):
        _ip("rule", "delete", "from", pods, "to", address, "lookup", TABLE, check=False)
    _ip("route", "flush", "table", TABLE, check=False)
    _ip("link", "delete", LINK, check=False)
    _ip("netns", "delete", NAMESPACE, check=False)


def _ip(*arguments: str, check: bool = True) -> None:
    subprocess.run(("ip", *arguments), check=check, capture_output=True)
