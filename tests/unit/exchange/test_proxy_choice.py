"""Which proxy leads to a store, if any, and what is told of one that is written wrongly."""

from pathlib import Path

import pytest

from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.proxy import PROXY, PROXY_SECRET, Proxy, proxy_to

STORE = "https://store.hospital.example:9000"
OURS = "http://proxy.hospital.example:3128"


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", PROXY, PROXY_SECRET):
        monkeypatch.delenv(name, raising=False)


def test_none_is_used_where_none_is_named() -> None:
    assert proxy_to(STORE) is None


def test_plain_http_goes_through_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", OURS)
    monkeypatch.setenv("HTTP_PROXY", OURS)
    monkeypatch.setenv(PROXY, OURS)
    assert proxy_to("http://store.hospital.example:9000", OURS) is None


def test_what_is_named_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy:1")
    assert proxy_to(STORE) == Proxy("http://proxy:1")
    monkeypatch.setenv(PROXY, "https://proxy:2")
    assert proxy_to(STORE) == Proxy("https://proxy:2")
    assert proxy_to(STORE, "http://proxy:3") == Proxy("http://proxy:3")


@pytest.mark.parametrize(
    ("left_out", "address"),
    [
        ("store.hospital.example", STORE),
        (".hospital.example", STORE),
        ("localhost, hospital.example", STORE),
        ("*", STORE),
        ("10.0.0.0/8,192.168.0.0/16", "https://10.1.2.3:9000"),
        ("fd00::/8", "https://[fd00::1]:9000"),
    ],
)
def test_no_proxy_leaves_out(left_out: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", OURS)
    monkeypatch.setenv("NO_PROXY", "elsewhere.example,10.9.0.0/16")
    assert proxy_to(address) == Proxy(OURS)
    monkeypatch.setenv("NO_PROXY", left_out)
    assert proxy_to(address) is None


def test_a_login_is_never_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://basel:se%40cret@proxy:3128")
    found = proxy_to(STORE)
    assert found is not None
    assert (found.url, found.login) == ("http://proxy:3128", "basel:se@cret")
    assert "se@cret" not in repr(found)
    (tmp_path / "username").write_text("bern\n", encoding="utf-8")
    (tmp_path / "password").write_text("other\n", encoding="utf-8")
    monkeypatch.setenv(PROXY_SECRET, str(tmp_path))
    by_secret = proxy_to(STORE)
    assert by_secret is not None
    assert by_secret.login == "bern:other"


@pytest.mark.parametrize(
    "url", ["proxy.hospital.example", "socks5://proxy:1080", "http://:3128", "http://u:se@p:x"]
)
def test_what_is_no_proxy_is_refused_without_its_password(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", url)
    with pytest.raises(Refusal, match=r"\(HTTPS_PROXY\) is not http://HOST:PORT") as refused:
        proxy_to(STORE)
    assert url not in str(refused.value)


def test_a_secret_that_cannot_be_right_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(PROXY, OURS)
    monkeypatch.setenv(PROXY_SECRET, str(tmp_path / "away"))
    with pytest.raises(Refusal, match="which is no folder"):
        proxy_to(STORE)
    monkeypatch.setenv(PROXY_SECRET, str(tmp_path))
    assert proxy_to(STORE) == Proxy(OURS)
    (tmp_path / "username").write_text("basel", encoding="utf-8")
    with pytest.raises(Refusal, match="holds the proxy's username without its password"):
        proxy_to(STORE)
    (tmp_path / "password").write_text("secret", encoding="utf-8")
    (tmp_path / "ca.crt").write_text("no certificate", encoding="utf-8")
    with pytest.raises(Refusal, match=r"ca\.crt \(SEGVIZ_STORE_PROXY_SECRET\): cannot be read as PEM"):
        proxy_to(STORE)
