"""The store behind a proxy whose clock is an hour late: what a machine sees whose own clock is off."""

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

LATE = timedelta(hours=1)
PORT = 443
"""One that the charts' policies let through; TLS is not spoken there."""


@contextmanager
def late_store(endpoint: str) -> Iterator[str]:
    """Args:
    endpoint: of the store, on an address of this machine.
    """
    store = urlsplit(endpoint)
    assert store.hostname is not None

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            # Byte for byte, the Host too: it is signed.
            there = http.client.HTTPConnection(store.hostname or "", store.port or 80, timeout=60)
            there.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                there.putheader(name, value)
            there.endheaders(body or None)
            answer = there.getresponse()
            data = answer.read()
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("date", "content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Date", format_datetime(datetime.now(UTC) - LATE, usegmt=True))
            length = answer.getheader("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            there.close()

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = pass_on  # noqa: N815 - http.server's names

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer((store.hostname, PORT), Proxy)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{store.hostname}:{PORT}"
    finally:
        server.shutdown()
        server.server_close()
