"""A federation of one site beside the store and one behind a proxy, whose link fails: the same bytes."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from minio.credentials.providers import StaticProvider

pytest.importorskip("proxy", reason="proxy.py, the proxy, is not installed; run: make install")
from builders.disturbances import Around
from builders.rig import Rig, small_federation
from integration.hospital_link import Link, link
from integration.secure_store import BUCKET, HOST, Secure
from segviz_exchange.stores.patient import PatientStore
from segviz_exchange.stores.s3 import S3Store

ORGANS = {"basel": ("liver",), "chur": ("spleen",)}
__all__ = ["link"]

PATIENCE_SECONDS = 120.0
AWAY_SECONDS = 1.0


class Struck(Around):
    """Does something to the link before its nth upload."""

    def __init__(self, inner: PatientStore, nth: int, strike: Callable[[], None]) -> None:
        super().__init__(inner)
        self.left = nth
        self.strike = strike

    def upload(self, key: str, path: Path) -> None:
        self.left -= 1
        if self.left == 0:
            self.strike()
        super().upload(key, path)


def store_at(address: str, secure: Secure, proxy: str | None = None) -> S3Store:
    provider = StaticProvider(secure.root.access_key, secure.root.secret_key)
    url = f"s3://{address}/{BUCKET}/bucket"
    return S3Store.from_url(url, provider, ca_pem=secure.ca.read_text(encoding="utf-8"), proxy=proxy)


def federation(folder: Path) -> Rig:
    return Rig(folder, small_federation(), ORGANS)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """On one machine, in a folder."""
    rig = federation(tmp_path_factory.mktemp("undisturbed"))
    rig.control()
    rig.run()
    return rig.digests()


def restarted(link: Link) -> Callable[[], None]:
    def again() -> None:
        link.start_proxy(link.proxy.port)

    def strike() -> None:
        link.stop_proxy()
        threading.Timer(AWAY_SECONDS, again).start()

    return strike


def broken(link: Link) -> Callable[[], None]:
    def strike() -> None:
        link.line.break_after(4096)
        threading.Timer(AWAY_SECONDS, link.line.mend).start()

    return strike


@pytest.mark.parametrize("fault", [restarted, broken], ids=["proxy restarted", "line broken in an upload"])
def test_a_link_that_fails_in_mid_round_changes_no_byte(
    secure: Secure,
    link: Link,
    tmp_path: Path,
    undisturbed: dict[str, str],
    fault: Callable[[Link], Callable[[], None]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = federation(tmp_path / "rig")
    rig.store = store_at(secure.server.address, secure)
    rig.control()
    remote = PatientStore(store_at(link.store, secure, link.line.url), PATIENCE_SECONDS)
    sites = {"basel": rig.site("basel"), "chur": rig.site("chur", Struck(remote, 2, fault(link)))}
    with caplog.at_level(logging.WARNING):
        rig.drive(sites, rig.aggregator())
        rig.conclude(sites)
    assert "answers again" in caplog.text
    assert rig.digests() == undisturbed
    assert f"saw CONNECT {HOST}" in link.proxy.said()
