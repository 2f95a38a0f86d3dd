"""Under which names a page for people answers: a foreign one may be made to lead to it (DNS rebinding)."""

import http.client
from collections.abc import Iterator

import pytest

from segviz_exchange.process.http_pages import Answer, Pages, own_hosts

OWN = [
    "127.0.0.1",
    "127.0.0.1:8600",
    "localhost",
    "localhost:8081",
    "LOCALHOST.",
    "[::1]:8600",
    "10.1.2.3:80",
]
FOREIGN = [
    "evil.example",
    "evil.example:8600",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "",
    "[::1",
]


@pytest.fixture
def port() -> Iterator[int]:
    pages = Pages({"/": lambda _: Answer(b"how it stands")}, 0, hosts=own_hosts())
    yield pages.port
    pages.close()


def ask(port: int, host: str, path: str = "/") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest("GET", path, skip_host=True)
    connection.putheader("Host", host)
    connection.endheaders()
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


@pytest.mark.parametrize("host", OWN)
def test_a_page_answers_to_addresses_and_to_localhost(port: int, host: str) -> None:
    assert ask(port, host) == (200, b"how it stands")


@pytest.mark.parametrize("host", FOREIGN)
@pytest.mark.parametrize("path", ["/", "/none"])
def test_it_tells_nothing_under_a_name_that_is_not_its_own(port: int, host: str, path: str) -> None:
    status, body = ask(port, host, path)
    assert status == 421
    assert b"how it stands" not in body


def test_the_name_that_it_was_bound_to_is_its_own() -> None:
    assert own_hosts("gpu7.hospital.example")("GPU7.hospital.example:8600")
    assert not own_hosts("gpu7.hospital.example")("gpu8.hospital.example")
