"""What S3Store makes of answers that healthy servers seldom give: a server with prepared ones."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner
from minio.credentials.providers import StaticProvider

from segviz_exchange.cli import main
from segviz_exchange.stores import s3
from segviz_exchange.stores.credentials import Credentials, CredentialsFile, encode_credentials
from segviz_exchange.stores.s3 import S3Store
from segviz_exchange.stores.s3_errors import Rejected
from segviz_exchange.stores.store import AlreadyExists, Denied, NotFound, StoreError, Unavailable

Answer = tuple[int, str | None]


class Prepared(ThreadingHTTPServer):
    """Gives each request the next answer, and the last one for ever."""

    answers: list[Answer]
    conditions: list[str | None]
    on_request: Callable[[], object] = staticmethod(lambda: None)
    page: bytes | None = None
    """Given to every request with 200, as a captive portal, a console or a proxy's cache does."""

    def store(self, *answers: Answer) -> S3Store:
        self.answers, self.conditions = list(answers), []
        return S3Store.from_url(
            f"s3+http://127.0.0.1:{self.server_port}/bucket", StaticProvider("key", "word")
        )


class Handler(BaseHTTPRequestHandler):
    server: Prepared

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.server.page is not None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(self.server.page)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(self.server.page)
            return
        self.server.on_request()
        self.server.conditions.append(self.headers["If-None-Match"])
        answers = self.server.answers
        status, code = answers.pop(0) if len(answers) > 1 else answers[0]
        body = (
            f"<Error><Code>{code}</Code><Message>said</Message></Error>" if code else "<html>a proxy</html>"
        )
        self.send_response(status)
        self.send_header("Content-Type", "application/xml" if code else "text/html")
        if status == 200:
            self.send_header("ETag", '"9a0364b9e99bb480dd25e1f0284c8555"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    do_GET = do_HEAD = do_POST = do_DELETE = do_PUT  # noqa: N815

    def log_message(self, format: str, *arguments: object) -> None:
        """Stay silent."""


@pytest.fixture
def server() -> Iterator[Prepared]:
    with Prepared(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3._until_decided, "sleep", lambda seconds: None)


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        ((412, "PreconditionFailed"), AlreadyExists),
        ((403, "AccessDenied"), Denied),
        ((403, "RequestTimeTooSkewed"), Denied),
        ((403, "SignatureDoesNotMatch"), Rejected),
        ((400, "ExpiredToken"), Rejected),
        ((404, "NoSuchKey"), NotFound),
        ((404, "NoSuchBucket"), StoreError),
        ((501, "NotImplemented"), StoreError),
        ((400, "InvalidArgument"), StoreError),
        ((404, None), StoreError),
        ((413, None), StoreError),
        ((503, "SlowDown"), Unavailable),
        ((429, "TooManyRequests"), Unavailable),
        ((400, "RequestTimeout"), Unavailable),
        ((500, "InternalError"), Unavailable),
        ((502, None), Unavailable),
        ((503, None), Unavailable),
    ],
    ids=str,
)
def test_an_answer_has_one_meaning(server: Prepared, answer: Answer, meaning: type[StoreError]) -> None:
    with pytest.raises(StoreError, match=f"127.0.0.1:{server.server_port}/bucket/a/key") as raised:
        server.store(answer).create("a/key", b"content")
    assert type(raised.value) is meaning
    assert "word" not in str(raised.value)
    assert server.conditions == ["*"]


def test_a_proxys_limit_on_sizes_is_told_as_such(server: Prepared) -> None:
    with pytest.raises(StoreError, match="such as a proxy, refuses requests of this size: it must let 8 MiB"):
        server.store((413, None)).put("key", b"content")


def test_a_conflict_is_tried_again_until_it_is_decided(server: Prepared) -> None:
    conflict = (409, "ConditionalRequestConflict")
    server.store(conflict, conflict, (200, "None")).create("key", b"content")
    assert server.conditions == ["*"] * 3
    with pytest.raises(AlreadyExists):
        server.store(conflict, (412, "PreconditionFailed")).create("key", b"content")


def test_a_conflict_without_end_is_worth_trying_later(server: Prepared) -> None:
    with pytest.raises(Unavailable, match="ConditionalRequestConflict"):
        server.store((409, "ConditionalRequestConflict")).create("key", b"content")
    assert len(server.conditions) == 8


def test_only_a_create_is_conditional(server: Prepared) -> None:
    server.store((200, "None")).put("key", b"content")
    assert server.conditions == [None]


def test_refused_credentials_that_are_renewed_are_awaited(server: Prepared, tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    path.write_bytes(encode_credentials(Credentials("old", "word")))
    address = f"s3+http://127.0.0.1:{server.server_port}/bucket"
    server.answers, server.conditions = [(400, "ExpiredToken")], []
    store = S3Store.from_url(address, CredentialsFile(path))
    with pytest.raises(Unavailable, match=rf"ExpiredToken.*Waiting for new ones in {path}"):
        store.create("key", b"content")
    assert len(server.conditions) == 1
    server.answers = [(403, "AccessDenied")]
    with pytest.raises(Denied):
        store.create("key", b"content")


def test_credentials_renewed_while_a_request_was_under_way_get_another_try(
    server: Prepared, tmp_path: Path
) -> None:
    path = tmp_path / "credentials.json"
    path.write_bytes(encode_credentials(Credentials("old", "word")))
    address = f"s3+http://127.0.0.1:{server.server_port}/bucket"
    store = S3Store.from_url(address, CredentialsFile(path))
    for code in ("ExpiredToken", "AccessDenied"):
        new = Credentials(f"after-{code}", "word")
        server.answers, server.conditions = [(403, code), (200, "None")], []
        server.on_request = lambda new=new: path.write_bytes(encode_credentials(new))
        store.create("key", b"content")
        assert len(server.conditions) == 2


PAGES = {
    "a login page": b"<html><body>Please log in</body></html>",
    "a page that is no XML": b"<!doctype html><p>Please log in<br>",
    "nothing": b"",
    "text": b"OK",
    "JSON": b'{"status": "ok"}',
    "XML of something else": b'<?xml version="1.0"?><Status>up</Status>',
}


def uploading(store: S3Store, folder: Path, size: int) -> None:
    path = folder / "blob"
    path.write_bytes(bytes(size))
    store.upload("key", path)


ASKED: dict[str, Callable[[S3Store, Path], object]] = {
    "create": lambda store, folder: store.create("key", b"content"),
    "put": lambda store, folder: store.put("key", b"content"),
    "upload": lambda store, folder: uploading(store, folder, 10),
    "upload in parts": lambda store, folder: uploading(store, folder, s3.PART_BYTES + 1),
    "get": lambda store, folder: store.get("key"),
    "list": lambda store, folder: store.list("global/"),
}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_a_page_is_never_taken_for_an_answer(
    server: Prepared, ask: Callable[[S3Store, Path], object], page: bytes, tmp_path: Path
) -> None:
    store = server.store()
    server.page = page
    with pytest.raises(Unavailable, match="an answer that is not S3's"):
        ask(store, tmp_path)


def test_a_page_does_not_delete(server: Prepared) -> None:
    store = server.store()
    server.page = PAGES["a login page"]
    with pytest.raises(Unavailable, match="an answer that is not S3's"):
        store.delete("key")


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_the_check_of_a_store_says_that_it_is_none(
    server: Prepared, page: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "word-of-eight")
    server.page = page
    done = CliRunner().invoke(main, ["store", "check", f"s3+http://127.0.0.1:{server.server_port}/bucket"])
    assert done.exit_code == 2, done.output
    assert "an answer that is not S3's" in done.output
