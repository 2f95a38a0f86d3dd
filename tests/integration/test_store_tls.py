"""A store behind a hospital's own authority: `segviz store check`, STS, and a store that is away."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from minio.credentials.providers import StaticProvider

from integration.secure_store import BUCKET, Secure
from segviz_exchange.stores.credentials import encode_credentials
from segviz_exchange.stores.opening import open_store
from segviz_exchange.stores.patient import PatientStore
from segviz_exchange.stores.s3 import S3Store
from segviz_exchange.stores.store import StoreError
from segviz_operator.access.rights import site_access
from segviz_operator.access.sts import Sts

SEGVIZ = Path(sys.executable).with_name("segviz")
PREFIX = "radiology/abdomen-1/"


def check(secure: Secure, *options: object) -> subprocess.CompletedProcess[str]:
    file = secure.folder / "credentials.json"
    file.write_bytes(encode_credentials(secure.root))
    words = (SEGVIZ, "store", "check", secure.url, "--credentials", file, *options)
    own = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "SEGVIZ_"))}
    return subprocess.run(tuple(map(str, words)), capture_output=True, encoding="utf-8", env=own, timeout=120)


def test_an_authority_that_is_named_is_trusted_and_no_other(secure: Secure) -> None:
    with secure.running():
        stranger = check(secure)
        assert stranger.returncode == 2
        assert "its certificate is not trusted; name its authority in SEGVIZ_STORE_CA" in stranger.stderr
        named = check(secure, "--ca", secure.ca)
        assert named.returncode == 0, named.stdout + named.stderr
        assert "this store can hold a federation" in named.stdout
        nonsense = check(secure, "--ca", secure.folder / "credentials.json")
        assert nonsense.returncode == 2
        assert "cannot be read as PEM certificates" in nonsense.stderr


def test_sts_and_store_trust_the_same_bundle(secure: Secure) -> None:
    pem = secure.ca.read_text(encoding="utf-8")
    with secure.running():
        sts = Sts(f"https://{secure.server.address}", secure.root, ca_pem=pem)
        minted = sts.mint(site_access("basel"), BUCKET, PREFIX, 900, "basel")
        provider = StaticProvider(minted.access_key, minted.secret_key, minted.session_token)
        store = S3Store.from_url(secure.url, provider, ca_pem=pem).scoped(PREFIX)
        store.create("sites/basel/x", b"content")
        assert store.get("sites/basel/x") == b"content"
        with pytest.raises(StoreError):
            Sts(f"https://{secure.server.address}", secure.root).mint(
                site_access("basel"), BUCKET, PREFIX, 900, "basel"
            )


def test_a_store_that_is_away_for_a_while_is_waited_for(secure: Secure) -> None:
    """The server is stopped and started again, with all its connections, in the middle of a site's work."""
    file = secure.folder / "credentials.json"
    file.write_bytes(encode_credentials(secure.root))
    hasty = open_store(secure.url, credentials=file, ca=secure.ca)
    store = PatientStore(hasty, 120)
    with secure.running():
        store.create("before", b"content")
    done = threading.Event()
    thread = threading.Thread(target=lambda: (store.create("during", b"content"), done.set()))
    thread.start()
    time.sleep(8)
    assert not done.is_set()
    with secure.running():
        assert done.wait(100)
        assert store.get("during") == b"content"
    thread.join()
