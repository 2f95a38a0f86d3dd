"""Ports that servers of tests may have."""

import contextlib
import random
import socket

# Below what Linux gives to outgoing connections (32768 and up) and Kubernetes to node ports (30000 and up):
# between the look and the server's own bind, no connection of another test may take one of them.
_RANGE = range(12_000, 30_000)


def free_ports(count: int) -> list[int]:
    """On 127.0.0.1, held all at once, so that they differ."""
    # Not the tests' own seeded generator: workers with one seed would choose the same.
    chance = random.SystemRandom()
    with contextlib.ExitStack() as held:
        found: list[int] = []
        while len(found) < count:
            port = chance.choice(_RANGE)
            probe = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                found.append(port)
        return found


def free_port() -> int:
    return free_ports(1)[0]


def free_address() -> str:
    return f"127.0.0.1:{free_port()}"
