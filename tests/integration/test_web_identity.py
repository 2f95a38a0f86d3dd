"""Credentials from the operator's own identity: MinIO's token service, and an issuer as a cluster has one."""

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from integration.ministry import PREFIX, Ministry
from integration.object_stores import running_minio
from segviz_exchange.process.http_pages import Answer, Pages
from segviz_exchange.stores.store import Denied, Unavailable
from segviz_operator.access.rights import OPERATOR, site_access
from segviz_operator.access.web_identity import WebIdentity

AUDIENCE = "sts.amazonaws.com"


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(frozen=True)
class Issuer:
    """Signs service accounts' tokens, and serves the key that they are checked with."""

    folder: Path
    url: str

    def token(self, subject: str, **claims: object) -> str:
        now = int(time.time())
        known = {"iss": self.url, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + 3600}
        parts = ({"alg": "RS256", "kid": "one", "typ": "JWT"}, {**known, **claims})
        text = ".".join(base64url(json.dumps(part).encode()) for part in parts)
        sign = ["openssl", "dgst", "-sha256", "-sign", str(self.folder / "key.pem")]
        signed = subprocess.run(sign, input=text.encode(), capture_output=True, check=True).stdout
        return f"{text}.{base64url(signed)}"


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuer]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which signs the tokens, is not installed")
    folder = tmp_path_factory.mktemp("issuer")
    make = ["openssl", "genrsa", "-out", str(folder / "key.pem"), "2048"]
    subprocess.run(make, check=True, capture_output=True)
    show = ["openssl", "rsa", "-in", str(folder / "key.pem"), "-noout", "-modulus"]
    modulus = subprocess.run(show, check=True, capture_output=True, encoding="ascii").stdout
    number = bytes.fromhex(modulus.strip().partition("=")[2])
    key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "one", "n": base64url(number), "e": "AQAB"}
    documents: dict[str, object] = {"/keys": {"keys": [key]}}

    def page(path: str) -> Answer:
        return Answer(json.dumps(documents[path]).encode(), "application/json")

    discovery = "/.well-known/openid-configuration"
    pages = Pages({path: lambda _, path=path: page(path) for path in ("/keys", discovery)}, 0)
    url = f"http://127.0.0.1:{pages.port}"
    documents[discovery] = {"issuer": url, "jwks_uri": f"{url}/keys", "token_endpoint": f"{url}/none"}
    yield Issuer(folder, url)
    pages.close()


@pytest.fixture(scope="module")
def trusting(issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ministry]:
    """A MinIO that takes the issuer's tokens, and goes by their claim `policy`: here, all of one bucket."""
    settings = {
        "MINIO_IDENTITY_OPENID_CONFIG_URL": f"{issuer.url}/.well-known/openid-configuration",
        "MINIO_IDENTITY_OPENID_CLIENT_ID": AUDIENCE,
        "MINIO_IDENTITY_OPENID_CLAIM_NAME": "policy",
    }
    with running_minio(tmp_path_factory.mktemp("trusting"), settings) as server:
        yield Ministry(server)


@pytest.fixture
def operator(trusting: Ministry, issuer: Issuer, tmp_path: Path) -> WebIdentity:
    file = tmp_path / "token"
    subject = "system:serviceaccount:segviz-system:segviz-operator"
    file.write_text(f"{issuer.token(subject, policy=trusting.bucket)}\n", encoding="utf-8")
    return WebIdentity(f"http://{trusting.server.address}", file)


def test_a_token_gives_a_role_its_own_folders_and_no_others(
    trusting: Ministry, operator: WebIdentity
) -> None:
    minted = operator.mint(site_access("basel"), trusting.bucket, PREFIX, 900, "segviz-basel")
    assert minted.session_token
    assert minted.expiration is not None
    site = trusting.store(minted)
    site.create(f"{PREFIX}sites/basel/x", b"mine")
    assert site.get(f"{PREFIX}sites/basel/x") == b"mine"
    for foreign in ("sites/bern/x", "control/0001.json"):
        with pytest.raises(Denied):
            site.create(f"{PREFIX}{foreign}", b"not mine")
    own = operator.mint(OPERATOR, trusting.bucket, PREFIX, 900, "segviz-operator")
    trusting.store(own).create(f"{PREFIX}control/0001.json", b"{}")


def test_a_renewed_token_is_read(trusting: Ministry, operator: WebIdentity, issuer: Issuer) -> None:
    bucket = trusting.bucket
    good = operator.token_file.read_text(encoding="utf-8")
    operator.token_file.write_text(issuer.token("x", policy=bucket, exp=1), encoding="utf-8")
    with pytest.raises(Denied, match="must trust the cluster's issuer"):
        operator.mint(OPERATOR, bucket, PREFIX, 900, "segviz-operator")
    operator.token_file.write_text(good, encoding="utf-8")
    assert operator.mint(OPERATOR, bucket, PREFIX, 900, "segviz-operator").access_key


def test_no_token_and_no_service_are_told_apart(operator: WebIdentity, tmp_path: Path) -> None:
    with pytest.raises(Denied, match="Set webIdentity"):
        WebIdentity(operator.endpoint, tmp_path / "none").mint(OPERATOR, "b", PREFIX, 900, "x")
    with pytest.raises(Unavailable):
        WebIdentity("http://127.0.0.1:1", operator.token_file).mint(OPERATOR, "b", PREFIX, 900, "x")
