"""When credentials are renewed, and what a Secret must hold."""

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from segviz_exchange.contract import keys
from segviz_exchange.contract.spec import SecretKeys
from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.credentials import Credentials
from segviz_exchange.stores.folder import FolderStore
from segviz_operator.access.handover import hand_over, is_due, newest_remote
from segviz_operator.access.rights import AGGREGATOR, EXPORT, OPERATOR, policy, site_access
from segviz_operator.access.sts import _host, credentials_of_secret, error_of

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = Credentials("key", "secret", "token", NOON + timedelta(hours=1))


@pytest.mark.parametrize(
    ("minutes", "due"), [(-5, False), (29, False), (30, True), (45, True), (60, True), (500, True)]
)
def test_credentials_are_due_from_half_their_life_on(minutes: int, due: bool) -> None:
    assert is_due(HOUR, 3600, NOON + timedelta(minutes=minutes)) is due


def test_what_does_not_expire_is_never_due() -> None:
    assert not is_due(Credentials("key", "secret"), 3600, NOON + timedelta(days=3650))


ANSWERS = {
    "a code": (b"<E><Error><Code>AccessDenied</Code><Message>x</Message></Error></E>", "AccessDenied"),
    "text of somebody else": (b"<E><Code>secret of an inner page</Code><Message>x</Message></E>", None),
    "a cursor that moves": (b"<E><Message>&#27;[2J</Message></E>", None),
    "no XML": (b"<html>a proxy", None),
}


@pytest.mark.parametrize(("answer", "said"), ANSWERS.values(), ids=ANSWERS)
def test_of_a_refusal_no_more_than_the_code_is_told(answer: bytes, said: str | None) -> None:
    assert error_of(answer) == said


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [
        ("https://store.example:443", "store.example"),
        ("https://store.example", "store.example"),
        ("http://[fd00::9]:9000", "[fd00::9]:9000"),
        ("http://[fd00::9]:80", "[fd00::9]"),
    ],
)
def test_the_host_that_is_signed_is_the_one_that_is_sent(endpoint: str, host: str) -> None:
    assert _host(endpoint) == host


def encoded(**values: str) -> dict[str, str]:
    return {name: base64.b64encode(value.encode()).decode() for name, value in values.items()}


def test_a_secret_holds_two_keys() -> None:
    assert credentials_of_secret(encoded(accessKey="a", secretKey="b\n"), "x") == Credentials("a", "b")


def test_a_secret_of_somebody_else_may_name_them_otherwise() -> None:
    rook = SecretKeys("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    data = encoded(AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b", accessKey="c", secretKey="d")
    assert credentials_of_secret(data, "x", rook) == Credentials("a", "b")
    with pytest.raises(Refusal, match=r"has no AWS_ACCESS_KEY_ID.*secretRef\.keys"):
        credentials_of_secret(encoded(accessKey="a", secretKey="b"), "x", rook)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "has no accessKey"),
        (encoded(accessKey="a"), "has no secretKey"),
        (encoded(accessKey="a", secretKey=" "), "has no secretKey"),
        ({"accessKey": "?"}, "accessKey is not text"),
    ],
)
def test_a_secret_that_lacks_one_is_refused(data: dict[str, str], message: str) -> None:
    with pytest.raises(Refusal, match=f"^Secret ns/s: {message}"):
        credentials_of_secret(data, "Secret ns/s")


def test_a_remote_site_is_left_numbered_credentials(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    assert newest_remote(store, "chur") == (0, None)
    hand_over(store, "chur", 1, Credentials("one", "s"))
    hand_over(store, "chur", 2, HOUR)
    hand_over(store, "chur", 2, Credentials("another operator's", "s"))
    assert newest_remote(store, "chur") == (2, HOUR)
    store.put(keys.credential("chur", 3), b"broken")
    assert newest_remote(store, "chur") == (3, None)


@pytest.mark.parametrize(
    "access", [AGGREGATOR, EXPORT, OPERATOR, site_access("basel"), site_access("basel", reads_export=True)]
)
def test_a_policy_is_no_longer_than_aws_takes(access) -> None:
    text = policy(access, "segviz-federations", f"radiology/abdomen-2026-{'0' * 36}/")
    assert len(text) <= 2048
    for statement in json.loads(text)["Statement"]:
        assert statement["Resource"], "an empty list is malformed"
        assert "s3:*" not in statement["Action"]
