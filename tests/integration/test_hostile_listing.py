"""Listings that do not end, and sites that fill a bucket with very many small objects."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from minio.credentials import StaticProvider

from builders.disturbances import Around, Recorded, Shifted
from builders.rounds import TIMED, after_round_0, deliver_round_but, started, until_waiting
from builders.synthetic import BASEL, BERN, CHUR, deliver, model_of, shared_part
from segviz_aggregator.loop import Aggregator
from segviz_exchange.contract import keys, listing
from segviz_exchange.contract.ledger import read
from segviz_exchange.contract.records import Round
from segviz_exchange.stores import folder, s3_listing
from segviz_exchange.stores.folder import FolderStore
from segviz_exchange.stores.s3 import S3Store
from segviz_exchange.stores.store import Endless, Entry, Unavailable
from segviz_exchange.stores.timed import TimedStore
from segviz_operator.progress.observe import Observer
from segviz_operator.progress.retention import purge
from segviz_operator.progress.status import build_status

Page = Callable[[int], tuple[list[str], str]]
"""From the number of a request to its keys and the token of the next page."""


@contextmanager
def serving(page: Page) -> Iterator[tuple[S3Store, list[str]]]:
    """A store that answers every listing with another page, and says that there are more."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            names, token = page(len(asked))
            asked.append(self.path)
            contents = "".join(
                f"<Contents><Key>{name}</Key><Size>1</Size><ETag>x</ETag>"
                "<LastModified>2026-11-23T12:00:00.000Z</LastModified></Contents>"
                for name in names
            )
            body = (
                '<?xml version="1.0"?><ListBucketResult><Name>bucket</Name><EncodingType>url</EncodingType>'
                f"<IsTruncated>true</IsTruncated>{contents}"
                f"<NextContinuationToken>{token}</NextContinuationToken></ListBucketResult>"
            ).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"s3+http://127.0.0.1:{server.server_address[1]}/bucket"
        yield S3Store.from_url(url, StaticProvider("user", "password")), asked
    finally:
        server.shutdown()
        server.server_close()


ENDLESS: dict[str, Page] = {
    "pages without a key": lambda number: ([], f"t{number}"),
    "new keys for ever": lambda number: ([f"a/{number}-{key}" for key in range(40)], f"t{number}"),
    "the same page again": lambda number: (["a/1"], "t"),
    "no token": lambda number: ([], ""),
}


@pytest.mark.parametrize("page", ENDLESS.values(), ids=ENDLESS)
def test_a_bucket_that_says_for_ever_that_there_is_more_is_left(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_listing, "MAX_LISTED", 100)
    monkeypatch.setattr(s3_listing, "_MOST_PAGES", 5)
    with serving(page) as (store, asked):
        with pytest.raises(Endless):
            store.list("a/")
        assert len(asked) <= 5


def test_a_listing_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(0, 10_000, 25))
    with serving(ENDLESS["pages without a key"]) as (store, asked):
        with pytest.raises(Endless, match="60 s"):
            s3_listing.listed(store._client, "bucket", "", "a/", clock=lambda: float(next(times)))
        assert len(asked) == 3


def fill(store: FolderStore, site: str, objects: int) -> None:
    place = store.root / keys.SITES / site / "x"
    place.mkdir(parents=True)
    for number in range(objects):
        (place / str(number)).touch()


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "MAX_LISTED", 150)
    monkeypatch.setattr(listing, "MAX_SITE_KEYS", 40)
    monkeypatch.setattr(listing, "MAX_SITE_KEYS_A_ROUND", 4)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("objects", [120, 400])
def test_a_site_that_fills_its_folder_is_refused_and_the_others_go_on(objects: int, tmp_path: Path) -> None:
    store, _ = after_round_0(tmp_path, TIMED)
    fill(store, CHUR, objects)
    for site in (BASEL, BERN):
        deliver(store, site, 1, shared_part(model_of(TIMED, seed=1), site, TIMED))
    later = Shifted(store)
    later.later = timedelta(hours=2)
    until_waiting(Aggregator(later, tmp_path / "elsewhere"))
    assert read(store, keys.round_record(1), Round).participants == (BASEL, BERN)
    records = Observer(store).read()
    assert records.newest_round == 1
    if objects > 150:
        said = {site.alias: site.message for site in build_status("a/b", records).sites}
        assert f"sites/{CHUR}/ holds more than" in said[CHUR]
        assert "holds more" not in said[BASEL]
        assert records.sites[BASEL].newest_update == 1


@pytest.mark.usefixtures("narrow")
def test_a_folder_that_is_full_is_not_listed_again(tmp_path: Path) -> None:
    store = Recorded(started(tmp_path))
    fill(store.inner, CHUR, 400)
    observer = Observer(store)
    observer.read()
    store.listed.clear()
    observer.read()
    assert f"{keys.SITES}{CHUR}/" not in store.listed
    assert "" not in store.listed


@pytest.mark.usefixtures("narrow")
def test_many_leases_cost_their_site_an_attempt_and_nobody_else(tmp_path: Path) -> None:
    store, _ = after_round_0(tmp_path, TIMED)
    deliver_round_but(store, CHUR)

    class Full(Around):
        def list(self, prefix: str) -> list[Entry]:
            if prefix == keys.leases(CHUR):
                raise Endless(prefix, "holds more than 200000 objects", [])
            return super().list(prefix)

    deliver(store, CHUR, 1, shared_part(model_of(TIMED, seed=1), CHUR, TIMED))
    until_waiting(Aggregator(Full(store), tmp_path / "elsewhere"))
    assert [entry.key for entry in store.list(keys.REJECTIONS)] == [keys.rejection(CHUR, 1, 1)]


@pytest.mark.usefixtures("narrow")
def test_however_full_a_prefix_is_it_can_be_emptied(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    fill(store, CHUR, 400)
    for _ in range(10):
        purge(store)
    assert store.list("") == []


def test_a_turn_asks_nothing_more_once_its_time_is_up(tmp_path: Path) -> None:
    time = [0.0]
    store = TimedStore(Recorded(FolderStore(tmp_path)), 120.0, clock=lambda: time[0])
    store.put("a", b"1")
    scoped = store.scoped("b/")
    time[0] = 120.0
    assert store.get("a") == b"1"
    time[0] = 121.0
    for ask in (lambda: store.get("a"), lambda: store.list(""), store.now, lambda: scoped.list("")):
        with pytest.raises(Unavailable, match="120 s are over"):
            ask()
