"""What a hospital's proxy does beside passing bytes on, as plugins of proxy.py, which runs them."""

import logging
import os

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
