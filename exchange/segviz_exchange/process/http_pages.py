"""A small read-only HTTP server beside the real work: metrics for Prometheus, a page for people.

It never stops the work: a port that is taken is a warning, a page that fails is a 500.
"""

import ipaddress
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from prometheus_client import CollectorRegistry, generate_latest

log = logging.getLogger(__name__)

PORT = "SEGVIZ_METRICS_PORT"
ADDRESS = "SEGVIZ_METRICS_ADDRESS"
"""Every interface where it is not set: in a Pod, whoever may connect is a NetworkPolicy's business."""
LOOPBACK = "127.0.0.1"
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class Answer:
    body: bytes
    content_type: str = "text/html; charset=utf-8"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Hosts = Callable[[str], bool]
"""Whether a request's Host names this server."""
Page = Callable[[Mapping[str, str]], Answer]
"""From the query's parameters to what is answered."""
NOT_FOUND = Answer(b"There is no such page.\n", "text/plain; charset=utf-8", 404)
MISDIRECTED = Answer(
    b"This page is not known by that name. Use the address that it was started with, or localhost.\n",
    "text/plain; charset=utf-8",
    HTTPStatus.MISDIRECTED_REQUEST,
)


def own_hosts(address: str = LOOPBACK) -> Hosts:
    """Addresses, localhost, the name a page was bound to and that of this machine.

    A name of somebody else's may be made to lead here: the browser then takes our page for a part of theirs,
    and lets their script read it (DNS rebinding). With an address in its place that cannot be.
    """
    names = {"localhost", address.lower(), socket.gethostname().lower()}

    def is_own(host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in names
        return True

    return is_own


class Pages:
    """A running server; `close` frees its port."""

    def __init__(
        self, pages: Mapping[str, Page], port: int, address: str = LOOPBACK, hosts: Hosts | None = None
    ) -> None:
        """Args:
            port: 0 takes a free one.
            hosts: by which names people may call it; any where it is left out.

        Raises OSError where the port cannot be had.
        """
        self._server = _Server((address, port), _handler(pages, hosts))
        self.port: int = self._server.server_address[1]
        thread = threading.Thread(target=self._server.serve_forever, name="pages", daemon=True)
        thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, place: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        # "::" hears IPv4 too, and a cluster may have only IPv6; where there is no IPv6, IPv4 alone.
        self.address_family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
        super().__init__(place, handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def handle_error(self, request: object, client_address: object) -> None:
        log.debug("a reader went away", exc_info=True)


def _handler(pages: Mapping[str, Page], hosts: Hosts | None) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "segviz", ""
        timeout = 30  # a reader that says nothing holds its thread no longer

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            page = pages.get(url.path)
            given = {name: values[-1] for name, values in parse_qs(url.query).items()}
            try:
                called = self.headers.get("Host", "")
                if hosts is not None and not hosts(called):
                    answer = MISDIRECTED
                else:
                    answer = NOT_FOUND if page is None else page(given)
            except Exception:
                log.exception("%s cannot be shown", url.path)
                answer = Answer(b"This cannot be shown now; the log says why.\n", "text/plain", 500)
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

        do_HEAD = do_GET  # noqa: N815 - http.server's name

        def log_message(self, format: str, *args: object) -> None:
            log.debug(format, *args)

    return Handler


def metrics_page(*registries: CollectorRegistry) -> Page:
    def page(_: Mapping[str, str]) -> Answer:
        return Answer(b"".join(map(generate_latest, registries)), METRICS_TYPE)

    return page


def serve_metrics(registry: CollectorRegistry) -> Pages | None:
    """Serve a process's own metrics where its environment asks for it."""
    port = os.environ.get(PORT, "")
    if not port:
        return None
    address = os.environ.get(ADDRESS) or every_interface()
    try:
        return Pages({"/metrics": metrics_page(registry)}, int(port), address)
    except (OSError, ValueError, OverflowError) as error:
        log.warning("metrics are off: %s=%s: %s", PORT, port, error)
        return None


def every_interface() -> str:
    return "::" if socket.has_dualstack_ipv6() else ""
