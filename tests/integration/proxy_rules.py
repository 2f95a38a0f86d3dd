"""What a hospital's proxy does beside passing bytes on, as plugins of proxy.py, which runs them."""

import logging
import os
import re
from typing import ClassVar

from proxy.http.exception import HttpRequestRejected
from proxy.http.parser import HttpParser
from proxy.http.proxy import HttpProxyBasePlugin

STORE = "TEST_PROXY_STORE"
"""HOST:PORT, the only place that may be reached."""

log = logging.getLogger(__name__)


class StoreAlone(HttpProxyBasePlugin):
    """Connects to the store and to nothing else. It alone knows where the store's name leads."""

    def before_upstream_connection(self, request: HttpParser) -> HttpParser | None:
        if f"{(request.host or b'').decode()}:{request.port}" != os.environ[STORE]:
            raise HttpRequestRejected(status_code=403, reason=b"Forbidden")
        return request

    def handle_client_request(self, request: HttpParser) -> HttpParser | None:
        log.info("saw %s %s", (request.method or b"").decode(), (request.host or b"").decode())
        return request

    def resolve_dns(self, host: str, port: int) -> tuple[str | None, tuple[str, int] | None]:
        return "127.0.0.1", None


class Forgetful(HttpProxyBasePlugin):
    """Loses the condition of a write."""

    def handle_client_request(self, request: HttpParser) -> HttpParser | None:
        if request.has_header(b"if-none-match"):
            request.del_header(b"if-none-match")
        return request


class Relabelling(HttpProxyBasePlugin):
    """Gives answers another ETag, as one that compresses or scans them does."""

    def handle_upstream_chunk(self, chunk: memoryview) -> memoryview | None:
        text = re.sub(rb'(?i)(\r\netag: )"[^"\r]*"', rb'\1"00000000000000000000000000000000"', bytes(chunk))
        return memoryview(text)


class Caching(HttpProxyBasePlugin):
    """Answers a GET as it has answered it before."""

    kept: ClassVar[dict[bytes, bytes]] = {}
    asked: bytes | None = None

    def handle_client_request(self, request: HttpParser) -> HttpParser | None:
        self.asked = request.path if request.method == b"GET" else None
        if self.asked in self.kept:
            self.client.queue(memoryview(self.kept[self.asked]))
            return None
        return request

    def handle_upstream_chunk(self, chunk: memoryview) -> memoryview | None:
        if self.asked is not None:
            self.kept[self.asked] = self.kept.get(self.asked, b"") + bytes(chunk)
        return chunk
