"""A part of an upload on a line that takes longer for it than a connection may take to be made."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from segviz_exchange.stores import s3_access

BODY = bytes(8 << 20)
SECONDS = 3.0
CONNECT_SECONDS = 1


@contextmanager
def slow_server() -> Iterator[int]:
    """Takes BODY in SECONDS, and answers with 200."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                data, read = connection.recv(1 << 14), 0
                read = len(data) - data.index(b"\r\n\r\n") - 4
                while read < len(BODY):
                    got = len(connection.recv(1 << 16))
                    assert got, "the client has gone"
                    read += got
                    time.sleep(SECONDS * got / len(BODY))
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(30)


def test_a_thin_line_may_take_longer_for_a_body_than_for_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_access, "CONNECT_SECONDS", CONNECT_SECONDS)
    with slow_server() as port:
        began = time.monotonic()
        address = f"http://127.0.0.1:{port}"
        answer = s3_access.build_connections(address).request("PUT", f"{address}/key", body=BODY)
        assert answer.status == 200
        assert time.monotonic() - began > 2 * CONNECT_SECONDS
