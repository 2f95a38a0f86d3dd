"""Who may do what in the bucket: every identity, at every place, for every verb, against real servers.

`rights.md` beside this file is the table for people; it is what was observed, and the test compares it.
"""

import secrets
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from integration.ministry import PREFIX, Ministry
from integration.object_stores import Server
from segviz_exchange.stores.credentials import Credentials, CredentialsFile, encode_credentials
from segviz_exchange.stores.patient import PatientStore
from segviz_exchange.stores.s3 import S3Store
from segviz_exchange.stores.s3_errors import Rejected
from segviz_exchange.stores.store import Denied, Store, StoreError, Unavailable
from segviz_operator.access.rights import AGGREGATOR, EXPORT, OPERATOR, Access, policy, site_access
from segviz_operator.access.sts import Sts

OTHER = "radiology/pelvis-4e5f6a7b/"
TABLE = Path(__file__).with_name("rights.md")

PLACES = {
    "control/": PREFIX + "control/",
    "global/": PREFIX + "global/",
    "export/": PREFIX + "export/",
    "sites/basel/": PREFIX + "sites/basel/",
    "sites/basel/credentials/": PREFIX + "sites/basel/credentials/",
    "sites/bern/": PREFIX + "sites/bern/",
    "sites/bern/credentials/": PREFIX + "sites/bern/credentials/",
    "sites/basel-2/": PREFIX + "sites/basel-2/",
    "the prefix itself": PREFIX,
    "another federation's": OTHER + "global/",
    "the bucket": "",
}
IDENTITIES: dict[str, Access] = {
    "site basel": site_access("basel"),
    "site bern": site_access("bern"),
    "evaluation site basel": site_access("basel", reads_export=True),
    "aggregator": AGGREGATOR,
    "export": EXPORT,
    "operator": OPERATOR,
}
VERBS = ("get", "put", "delete", "list")


@pytest.fixture(scope="module")
def ministry(minio: Server) -> Ministry:
    return Ministry(minio)


def tried(verb: str, store: Store, root: Store, place: str) -> str:
    """yes, no (forbidden), or invalid (the credentials themselves)."""
    key = f"{place}probe-{secrets.token_hex(4)}"
    there = f"{key}-there"
    root.put(there, b"content")
    acts: dict[str, Callable[[], object]] = {
        "get": lambda: store.get(there),
        "put": lambda: store.put(key, b"content"),
        "delete": lambda: store.delete(there),
        "list": lambda: store.list(place),
    }
    try:
        acts[verb]()
    except Rejected:
        return "invalid"
    except Denied:
        return "no"
    finally:
        root.delete(there)
        root.delete(key)
    return "yes"


def matrix(stores: dict[str, Store], root: Store) -> str:
    lines = [
        "| identity | place | get | put | delete | list |",
        "|---|---|---|---|---|---|",
    ]
    for identity, store in stores.items():
        for name, place in PLACES.items():
            cells = " | ".join(tried(verb, store, root, place) for verb in VERBS)
            lines.append(f"| {identity} | {name} | {cells} |")
    return "\n".join(lines) + "\n"


def test_every_identity_at_every_place(ministry: Ministry) -> None:
    stores: dict[str, Store] = {
        name: ministry.store(ministry.mint(access)) for name, access in IDENTITIES.items()
    }
    # A token lives 15 minutes at least: taking its parent away ends one now.
    lost = ministry.user()
    stores["no longer valid"] = ministry.store(ministry.mint(site_access("basel"), parent=lost))
    ministry.remove(lost)
    observed = matrix(stores, ministry.root())
    expected = "| identity" + TABLE.read_text(encoding="utf-8").partition("| identity")[2]
    assert observed == expected


def test_a_parent_gives_no_more_than_it_has(ministry: Ministry) -> None:
    """A session policy is an intersection: a wide one under a narrow user opens nothing."""
    ministry.add_policy("narrow", policy(site_access("basel"), ministry.bucket, PREFIX))
    store = ministry.store(ministry.mint(OPERATOR, parent=ministry.user("narrow")))
    with pytest.raises(Denied):
        store.put(f"{PREFIX}control/x", b"content")
    with pytest.raises(Denied):
        store.delete(f"{PREFIX}sites/basel/x")


def test_a_session_mints_no_further_one(ministry: Ministry) -> None:
    with pytest.raises(StoreError):
        ministry.mint(OPERATOR, parent=ministry.mint(site_access("basel")))


def test_wrong_parents_are_named(ministry: Ministry) -> None:
    with pytest.raises(Denied, match="secretRef"):
        ministry.mint(OPERATOR, parent=Credentials("nobody", "knows-this-one"))


def test_a_site_works_on_through_rotations(ministry: Ministry, tmp_path: Path) -> None:
    """Each time the old key is dead before the new one is there: the site waits, and needs no restart."""
    file = tmp_path / "credentials.json"
    parent = ministry.user()
    file.write_bytes(encode_credentials(ministry.mint(site_access("basel"), parent=parent)))
    hasty = S3Store.from_url(ministry.url, CredentialsFile(file)).scoped(PREFIX)
    site = PatientStore(hasty, 60)
    blob = tmp_path / "blob"
    blob.write_bytes(secrets.token_bytes(20 << 20))
    for turn in range(3):
        site.upload(f"sites/basel/blobs/{turn}", blob)
        site.create(f"sites/basel/updates/{turn:04d}/1.json", b"{}")
        with site.open(f"sites/basel/blobs/{turn}") as stream:
            stream.read(1)
            new = ministry.user()
            fresh = ministry.mint(site_access("basel"), parent=new)
            ministry.remove(parent)
            parent = new
            file.write_bytes(encode_credentials(fresh))
            assert len(stream.read()) == (20 << 20) - 1
    assert len(site.list("sites/basel/updates/")) == 3


def test_a_store_without_sts_says_what_to_do(versitygw: Server) -> None:
    parent = Credentials(versitygw.access_key, versitygw.secret_key)
    with pytest.raises(StoreError, match="ExistingSecrets"):
        Sts(f"http://{versitygw.address}", parent).mint(OPERATOR, "bucket", PREFIX, 900, "test")


def test_a_secret_of_ones_own_works_where_there_is_no_sts(versitygw: Server, tmp_path: Path) -> None:
    """And a changed one is read again, as kubelet brings it."""
    file = tmp_path / "credentials.json"
    file.write_bytes(encode_credentials(Credentials(versitygw.access_key, "not-yet-right")))
    url = versitygw.url(versitygw.make_bucket())
    store = S3Store.from_url(url, CredentialsFile(file)).scoped(PREFIX)
    with pytest.raises(Unavailable, match="Waiting for new ones"):
        store.create("sites/basel/x", b"content")
    right = encode_credentials(Credentials(versitygw.access_key, versitygw.secret_key))
    threading.Timer(2, lambda: file.write_bytes(right)).start()
    PatientStore(store, 60).create("sites/basel/x", b"content")
    assert store.get("sites/basel/x") == b"content"


@pytest.mark.full
@pytest.mark.timeout(1100)
def test_a_token_that_has_expired_is_awaited(ministry: Ministry, tmp_path: Path) -> None:
    file = tmp_path / "credentials.json"
    first = ministry.mint(site_access("basel"))
    file.write_bytes(encode_credentials(first))
    hasty = S3Store.from_url(ministry.url, CredentialsFile(file)).scoped(PREFIX)
    hasty.put("sites/basel/x", b"content")
    assert first.expiration is not None
    time.sleep((first.expiration - datetime.now(UTC)).total_seconds() + 2)
    with pytest.raises(Unavailable, match="Waiting for new ones"):
        hasty.get("sites/basel/x")
    fresh = encode_credentials(ministry.mint(site_access("basel")))
    threading.Timer(5, lambda: file.write_bytes(fresh)).start()
    assert PatientStore(hasty, 60).get("sites/basel/x") == b"content"
