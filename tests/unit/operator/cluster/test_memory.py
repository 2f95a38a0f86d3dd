"""What is kept between two turns: for how long, and what makes it be read again."""

import base64
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from segviz_exchange.contract.choices import CredentialSource
from segviz_exchange.contract.spec import Retention, SecretRef, StoreSpec, StsSpec
from segviz_exchange.stores.folder import FolderStore
from segviz_operator.access.sts import Sts
from segviz_operator.access.web_identity import WebIdentity
from segviz_operator.cluster.api.client import PODS, Forbidden, Kind
from segviz_operator.cluster.api.names import EXPIRES_AT, SITE, Subject
from segviz_operator.cluster.credentials.store_access import LOOK_SECONDS, NoCredentials
from segviz_operator.cluster.objects.jobs import JobSeen, job_seen
from segviz_operator.cluster.objects.pods import End
from segviz_operator.cluster.reconcile.memory import SECRETS_SECONDS, WAITING_SECONDS, Memory
from segviz_operator.progress.observe import Observer

SUBJECT = Subject("radiology", "abdomen", "uid-1")
STORE = StoreSpec(
    endpoint="http://minio:9000",
    bucket="segviz",
    region="us-east-1",
    secret_ref=SecretRef("bucket"),
    credentials=CredentialSource.EXISTING_SECRETS,
    credential_seconds=3600,
    retention=Retention(),
)


@dataclass
class Objects:
    """An API server with these objects, that counts what it is asked for."""

    there: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    pods: list[dict[str, Any]] = field(default_factory=list)
    forbidden: bool = False
    asked: Counter[str] = field(default_factory=Counter)

    def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None:
        self.asked[kind.plural] += 1
        return self.there.get((kind.plural, namespace, name))

    def list(self, kind: Kind, namespace: str, **selectors: str) -> list[dict[str, Any]]:
        self.asked[kind.plural] += 1
        if self.forbidden:
            raise Forbidden("403")
        return self.pods if kind == PODS else []

    def put_secret(self, namespace: str, name: str, keys: dict[str, str], **metadata: Any) -> None:
        data = {key: base64.b64encode(value.encode()).decode() for key, value in keys.items()}
        secret = {"metadata": {"namespace": namespace, "name": name, **metadata}, "data": data}
        self.there["secrets", namespace, name] = secret


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory(clock: Clock) -> Memory:
    return Memory(SUBJECT, lambda store: store, clock)


@pytest.fixture
def server() -> Objects:
    objects = Objects()
    objects.put_secret("radiology", "bucket", {"accessKey": "key", "secretKey": "secret"})
    return objects


# --- the store --------------------------------------------------------------------------------------


def test_records_are_read_again_only_where_newer_ones_are_asked_for(
    memory: Memory, clock: Clock, tmp_path: Path
):
    observer = Observer(FolderStore(tmp_path))
    first = memory.read(observer, clock.now - 10)
    assert memory.read(observer, clock.now) is first
    clock.now += 5
    assert memory.read(observer, clock.now - 10) is first
    assert memory.read(observer, clock.now) is not first


def test_records_are_as_old_as_the_beginning_of_their_reading(memory: Memory, clock: Clock, tmp_path: Path):
    """What was written meanwhile may be missing."""

    class Slow(Observer):
        def read(self):
            clock.now += 7
            return super().read()

    memory.read(Slow(FolderStore(tmp_path)), clock.now)
    assert memory.read_at == clock.now - 7


def test_the_key_of_the_store_is_looked_at_now_and_then(memory: Memory, server: Objects, clock: Clock):
    for passed, asked in ((0.0, 1), (LOOK_SECONDS - 1, 1), (1.0, 2)):
        clock.now += passed
        memory.access(server, STORE)
        assert server.asked["secrets"] == asked


def test_an_identity_of_the_operators_own_needs_no_secret(memory: Memory, server: Objects, tmp_path: Path):
    own = msgspec.structs.replace(STORE, credentials=CredentialSource.WEB_IDENTITY, secret_ref=None)
    with pytest.raises(NoCredentials, match="Set webIdentity") as error:
        memory.access(server, own)
    assert error.value.reason == "NoIdentity"
    identity = WebIdentity("https://sts.example", tmp_path / "token", "arn:aws:iam::1:role/segviz")
    assert Memory(SUBJECT, lambda store: store, identity=identity).access(server, own).source is identity
    assert server.asked["secrets"] == 0


def test_a_token_service_and_a_role_of_its_own_are_asked(memory: Memory, server: Objects):
    aws = msgspec.structs.replace(
        STORE,
        credentials=CredentialSource.ASSUME_ROLE,
        sts=StsSpec("https://sts.eu-central-1.amazonaws.com", "arn:aws:iam::123456789012:role/segviz"),
    )
    sts = memory.access(server, aws).token_service
    assert isinstance(sts, Sts)
    assert sts.endpoint == "https://sts.eu-central-1.amazonaws.com"
    assert sts.role_arn == "arn:aws:iam::123456789012:role/segviz"
    minio = msgspec.structs.replace(aws, sts=None)
    assert memory.access(server, minio).token_service == Sts(minio.endpoint, sts.parent, minio.region)
    assert memory.access(server, STORE).token_service is None


Change = Callable[[Memory, Objects], None]


def refused_by_the_store(memory: Memory, server: Objects) -> None:
    memory.distrust_store()


def another_key(memory: Memory, server: Objects) -> None:
    server.put_secret("radiology", "bucket", {"accessKey": "new", "secretKey": "secret"})
    memory.distrust_store()


@pytest.mark.parametrize("change", [refused_by_the_store, another_key])
def test_a_store_that_refused_is_opened_with_what_the_secret_says_now(
    memory: Memory, server: Objects, change: Change
):
    store, observer = memory.open(memory.access(server, STORE))
    assert memory.open(memory.access(server, STORE))[0] is store
    change(memory, server)
    again, same_observer = memory.open(memory.access(server, STORE))
    assert again is not store
    # It has read what never changes.
    assert same_observer is observer


def test_another_store_in_the_spec_is_another_access(memory: Memory, server: Objects):
    first = memory.access(server, STORE)
    moved = memory.access(server, msgspec.structs.replace(STORE, bucket="elsewhere"))
    assert (first.spec.bucket, moved.spec.bucket) == ("segviz", "elsewhere")


def test_a_secret_that_is_not_there_is_named(memory: Memory):
    with pytest.raises(NoCredentials, match="radiology/bucket"):
        memory.access(Objects(), STORE)


# --- Secrets ----------------------------------------------------------------------------------------


def test_a_secret_is_looked_for_now_and_then_and_missed_when_somebody_deletes_it(
    memory: Memory, server: Objects, clock: Clock
):
    server.put_secret("basel", "store", {}, labels={SITE: "basel"})
    assert memory.secret(server, "basel", "store") is not None
    del server.there["secrets", "basel", "store"]
    clock.now += SECRETS_SECONDS - 1
    assert memory.secret(server, "basel", "store") is not None
    clock.now += 1
    assert memory.secret(server, "basel", "store") is None
    assert memory.secrets == {}


def test_credentials_expire_as_their_secrets_say(memory: Memory, server: Objects):
    end = "2026-11-24T13:00:00+00:00"
    server.put_secret("basel", "store", {}, labels={SITE: "basel"}, annotations={EXPIRES_AT: end})
    server.put_secret("radiology", "store", {}, annotations={EXPIRES_AT: end})
    server.put_secret("bern", "store", {}, labels={SITE: "bern"})
    for namespace in ("basel", "radiology", "bern"):
        memory.secret(server, namespace, "store")
    moment = datetime.fromisoformat(end)
    assert memory.expirations() == {"basel": moment, "": moment}


# --- Pods -------------------------------------------------------------------------------------------


def job(**changes: Any) -> JobSeen:
    labels = {"segviz.dev/role": "trainer", "segviz.dev/site": "basel", "segviz.dev/attempt": "1"}
    seen = job_seen(
        {"metadata": {"namespace": "basel", "name": "job", "uid": "job-1", "labels": labels}, "spec": {}}
    )
    assert seen is not None
    return replace(seen, **changes)


def pod(**state: Any) -> dict[str, Any]:
    metadata = {"creationTimestamp": "2026-11-24T12:00:00Z"}
    return {"metadata": metadata, "status": {"containerStatuses": [{"name": "trainer", "state": state}]}}


def test_how_a_pod_ended_is_read_until_it_is_known_and_then_no_more(memory: Memory, server: Objects):
    assert memory.end_of(server, job()) is None
    server.pods = [pod(terminated={"exitCode": 3, "message": "disk full"})]
    assert memory.end_of(server, job()) == End(3, "disk full")
    server.pods = []
    assert memory.end_of(server, job()) == End(3, "disk full")
    assert server.asked["pods"] == 2


def test_where_pods_may_not_be_seen_their_end_is_unknown(memory: Memory):
    assert memory.end_of(Objects(forbidden=True), job()) is None


LONG_AGO = datetime.now(UTC) - timedelta(seconds=WAITING_SECONDS + 60)
PULLS = [pod(waiting={"reason": "ImagePullBackOff", "message": "not found"})]
WAITS: dict[str, tuple[dict[str, Any], str]] = {
    "it runs": ({"started_at": LONG_AGO, "ready": True}, ""),
    "it goes": ({"started_at": LONG_AGO, "deleting": True}, ""),
    "it is queued": ({"suspended": True}, "queued"),
    "it has only begun": ({"started_at": datetime.now(UTC) + timedelta(hours=1)}, ""),
    "nobody has taken it up": ({"started_at": None}, ""),
    "it had time to start": ({"started_at": LONG_AGO}, "ImagePullBackOff: not found"),
}


@pytest.mark.parametrize(("state", "says"), WAITS.values(), ids=WAITS)
def test_why_a_pod_does_not_run(memory: Memory, state: dict[str, Any], says: str):
    said = memory.waiting(Objects(pods=PULLS), job(**state), timedelta(days=99_999)).message
    assert said.startswith(says)
    assert bool(said) == bool(says)


def test_what_runs_is_settled_after_a_while(memory: Memory, clock: Clock):
    running = job(ready=True)
    assert not memory.settled(running)
    clock.now += 59
    assert not memory.settled(running)
    clock.now += 1
    assert memory.settled(running)
    assert not memory.settled(job(ready=False))
    assert not memory.settled(running), "another Pod has begun"


def test_a_job_without_a_pod_is_stuck_only_after_it_was_seen_so(memory: Memory):
    """Its last Pod may have been drained a moment ago, and no Event says since when there is none."""
    podless, patience = job(started_at=LONG_AGO), timedelta(seconds=30)
    assert memory.waiting(Objects(), podless, patience).stuck == ""
    assert memory.waiting(Objects(), podless, timedelta()).stuck == "PodMissing"


def test_where_pods_may_not_be_seen_nothing_is_said_to_be_missing(memory: Memory):
    said = memory.waiting(Objects(forbidden=True), job(started_at=LONG_AGO), timedelta())
    assert (said.message, said.stuck) == ("", "")
