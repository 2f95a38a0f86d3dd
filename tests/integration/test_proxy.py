"""A store that only a proxy reaches, as at a hospital: a real proxy, real TLS, and what meddling breaks."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from minio.credentials.providers import StaticProvider

pytest.importorskip("proxy", reason="proxy.py, the proxy, is not installed; run: make install")
from integration.proxies import running_proxy
from integration.secure_store import BUCKET, HOST, Secure
from segviz_exchange.contract.join import Invitation, encode_invitation
from segviz_exchange.stores.conformance import race
from segviz_exchange.stores.patient import PatientStore
from segviz_exchange.stores.proxy import PROXY, PROXY_SECRET
from segviz_exchange.stores.s3 import PART_BYTES, S3Store
from segviz_exchange.stores.store import AlreadyExists, Denied, StoreError, Unavailable

LARGE = 64 << 20


@pytest.fixture(autouse=True)
def without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", PROXY, PROXY_SECRET):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hidden(secure: Secure) -> Iterator[str]:
    """HOST:PORT of the store, by a name that this machine cannot look up."""
    with secure.running():
        yield f"{HOST}:{secure.server.address.rpartition(':')[2]}"


def store_at(address: str, secure: Secure, proxy: str | None = None) -> S3Store:
    provider = StaticProvider(secure.root.access_key, secure.root.secret_key)
    url = f"s3://{address}/{BUCKET}"
    return S3Store.from_url(url, provider, ca_pem=secure.ca.read_text(encoding="utf-8"), proxy=proxy)


def proxy_secret(folder: Path, **files: str) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text + "\n", encoding="utf-8")
    return folder


def test_a_store_is_whole_through_a_proxy_that_allows_it_alone(
    secure: Secure, hidden: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unavailable):
        store_at(hidden, secure).list("")  # nobody here knows its name
    with running_proxy(tmp_path / "proxy", hidden) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        store = store_at(hidden, secure)
        store.create("record", b"first")
        with pytest.raises(AlreadyExists):
            store.create("record", b"second")
        assert sum(race(store, "raced", (b"one", b"two"))) == 1
        blob = tmp_path / "blob"
        blob.write_bytes(os.urandom(LARGE))
        store.upload("blob", blob)
        with store.open("blob") as stream:
            assert stream.read() == blob.read_bytes()
    assert f"saw CONNECT {HOST}" in proxy.said()
    assert "saw PUT" not in proxy.said()  # TLS hides the requests from it


def test_the_proxy_wants_a_user_and_a_password(
    secure: Secure, hidden: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_proxy(tmp_path / "proxy", hidden, "--basic-auth", "segviz:p@ss:word") as proxy:
        with pytest.raises(StoreError, match=f"the proxy {proxy.url} does not accept the user and password"):
            store_at(hidden, secure, proxy.url).list("")
        secret = proxy_secret(tmp_path / "secret", username="segviz", password="p@ss:word")
        monkeypatch.setenv(PROXY_SECRET, str(secret))
        store_at(hidden, secure, proxy.url).put("by-secret", b"1")
        monkeypatch.delenv(PROXY_SECRET)
        # As people write it into HTTPS_PROXY; the password never shows.
        wrong = proxy.url.replace("//", "//segviz:wrong@")
        with pytest.raises(StoreError) as refused:
            store_at(hidden, secure, wrong).list("")
        assert "wrong" not in str(refused.value)
        store_at(hidden, secure, proxy.url.replace("//", "//segviz:p%40ss%3Aword@")).get("by-secret")


def test_another_place_than_the_store_is_refused(secure: Secure, hidden: str, tmp_path: Path) -> None:
    with (
        running_proxy(tmp_path / "proxy", "elsewhere.example:443") as proxy,
        pytest.raises(StoreError, match=r"refuses to connect to the store \(403\); ask who runs it to allow"),
    ):
        store_at(hidden, secure, proxy.url).list("")


def test_a_proxy_that_is_started_again_is_waited_for(secure: Secure, hidden: str, tmp_path: Path) -> None:
    with running_proxy(tmp_path / "proxy", hidden) as proxy:
        hasty = store_at(hidden, secure, proxy.url)
        hasty.put("before", b"1")
    with pytest.raises(Unavailable, match=r"the proxy http://127\.0\.0\.1:[0-9]+ does not answer"):
        hasty.get("before")
    with running_proxy(tmp_path / "proxy", hidden, port=proxy.port):
        assert PatientStore(hasty, 60).get("before") == b"1"


@pytest.fixture
def interception(secure: Secure, tmp_path: Path) -> tuple[Path, tuple[object, ...]]:
    """The authority of a proxy that opens TLS, and its options."""
    key, ca, signing = (tmp_path / name for name in ("proxy.key", "proxy.crt", "signing.key"))
    for file in (key, signing):
        _openssl("genrsa", "-out", file, "2048")
    _openssl(
        "req", "-x509", "-new", "-key", key, "-days", "2", "-subj", "/CN=the hospital's proxy", "-out", ca
    )
    certificates = tmp_path / "opened"
    certificates.mkdir()
    options = ("--ca-key-file", key, "--ca-cert-file", ca, "--ca-signing-key-file", signing)
    return ca, (*options, "--ca-cert-dir", certificates, "--ca-file", secure.ca)


def test_a_proxy_that_opens_tls_is_trusted_once_its_authority_is_named(
    secure: Secure,
    hidden: str,
    tmp_path: Path,
    interception: tuple[Path, tuple[object, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ca, options = interception
    with running_proxy(tmp_path / "proxy", hidden, *options) as proxy:
        with pytest.raises(StoreError) as stranger:
            # It makes a certificate when it is first asked, which may take a while here.
            PatientStore(store_at(hidden, secure, proxy.url), 60).list("")
        assert f"if the proxy {proxy.url} opens TLS, put its authority into the file ca.crt" in str(
            stranger.value
        )
        secret = proxy_secret(tmp_path / "secret", ca_crt=ca.read_text(encoding="utf-8"))
        monkeypatch.setenv(PROXY_SECRET, str(secret))
        store = PatientStore(store_at(hidden, secure, proxy.url), 60)
        store.create("opened", b"first")
        with pytest.raises(AlreadyExists):
            store.create("opened", b"second")
        assert store.get("opened") == b"first"
    assert "saw PUT" in proxy.said()


def test_a_proxy_that_loses_the_condition_of_a_write_is_refused(
    secure: Secure,
    hidden: str,
    tmp_path: Path,
    interception: tuple[Path, tuple[object, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The condition is signed, so that a store notices."""
    ca, options = interception
    secret = proxy_secret(tmp_path / "secret", ca_crt=ca.read_text(encoding="utf-8"))
    monkeypatch.setenv(PROXY_SECRET, str(secret))
    with running_proxy(tmp_path / "proxy", hidden, *options, rules=("Forgetful",)) as proxy:
        store = PatientStore(store_at(hidden, secure, proxy.url), 60)
        store.put("whole", b"1")
        with pytest.raises(
            Denied, match="Something on the way changes requests, such as a proxy that opens TLS"
        ):
            store.create("record", b"first")
        assert [entry.key for entry in store.list("")] == ["whole"]


def test_a_proxy_that_changes_etags_is_refused_where_they_matter(
    secure: Secure,
    hidden: str,
    tmp_path: Path,
    interception: tuple[Path, tuple[object, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ca, options = interception
    secret = proxy_secret(tmp_path / "secret", ca_crt=ca.read_text(encoding="utf-8"))
    monkeypatch.setenv(PROXY_SECRET, str(secret))
    with running_proxy(tmp_path / "proxy", hidden, *options, rules=("Relabelling",)) as proxy:
        store = PatientStore(store_at(hidden, secure, proxy.url), 60)
        store.create("record", b"first")
        assert store.get("record") == b"first"  # records and blobs have digests of their own
        blob = tmp_path / "blob"
        blob.write_bytes(bytes(PART_BYTES + 1))
        with pytest.raises(StoreError, match="Something on the way changes answers, such as a proxy that"):
            store.upload("blob", blob)
        assert [entry.key for entry in store.list("")] == ["record"]


def test_a_proxy_that_keeps_answers_is_told_by_the_doctor(
    secure: Secure, hidden: str, tmp_path: Path, interception: tuple[Path, tuple[object, ...]]
) -> None:
    ca, options = interception
    secret = proxy_secret(tmp_path / "secret", ca_crt=ca.read_text(encoding="utf-8"))
    words = ("doctor", "--join", *_site_of(secure, hidden, tmp_path))
    with running_proxy(tmp_path / "proxy", hidden, *options, rules=("Caching",)) as proxy:
        done = subprocess.run(
            (Path(sys.executable).with_name("segviz"), *map(str, words)),
            capture_output=True,
            encoding="utf-8",
            env={**os.environ, "COLUMNS": "300", PROXY: proxy.url, PROXY_SECRET: str(secret)},
            timeout=200,
        )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "what lies between here and the store changes or keeps objects" in done.stdout


def _site_of(secure: Secure, address: str, folder: Path) -> tuple[object, ...]:
    """What `segviz doctor --join` is told."""
    data_set = {"name": "ct", "path": ".", "layout": "List", "organs": {"liver": [1]}}
    spec = {
        "remote": True,
        "volume": {"hostPath": {"path": "/data"}},
        "dataSets": [data_set],
        "allowedFederations": [{"namespace": "radiology", "name": "abdomen"}],
    }
    kind = {"apiVersion": "segviz.dev/v1alpha1", "kind": "SegVizSite", "metadata": {"name": "basel"}}
    (folder / "site.yaml").write_text(yaml.safe_dump({**kind, "spec": spec}), encoding="utf-8")
    given = Invitation(
        *(f"s3://{address}/{BUCKET}", "radiology", "abdomen", "0a1b2c3d", "basel", secure.root),
        ca=secure.ca.read_text(encoding="utf-8"),
    )
    joinfile = folder / "join.json"
    joinfile.write_bytes(encode_invitation(given))
    joinfile.chmod(0o600)
    return joinfile, "--site-file", folder / "site.yaml", "--data", folder


def _openssl(*words: object) -> None:
    subprocess.run(("openssl", *map(str, words)), check=True, capture_output=True)
