"""What was lost comes back: a cluster, a bucket, a store's address. Real API server, real MinIO."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from integration.operator_rig import Rig
from integration.turns import reconciler, seen
from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import newest_round, read
from segviz_exchange.contract.records import Holder
from segviz_exchange.stores.store import Store
from segviz_operator.cluster.api.client import FEDERATIONS, JOBS, SECRETS, ClusterError
from segviz_operator.cluster.api.names import STORE_DIGEST

SILENT = ("--silent-after-seconds", "3")


def store_of(rig: Rig, **changes: Any) -> dict[str, Any]:
    endpoint = {"endpoint": f"http://{rig.minio.address}", "bucket": rig.bucket}
    return {**endpoint, "secretRef": {"name": "bucket"}, **changes}


def slow(rig: Rig, seconds: str) -> None:
    for folder in rig.data.values():
        (folder / "seconds").write_text(seconds, encoding="utf-8")


def lose_cluster(rig: Rig) -> None:
    """All that etcd held of the federation; its bucket and the sites' volumes stay."""
    rig.stop_operator(kill=True)
    for kind in (JOBS, SECRETS):
        for each in rig.objects(kind):
            rig.cluster.delete(kind, each["metadata"]["namespace"], each["metadata"]["name"])
    rig.cluster.merge(FEDERATIONS, rig.tag, "abdomen", {"metadata": {"finalizers": None}})
    rig.cluster.delete(FEDERATIONS, rig.tag, "abdomen")
    rig.until(lambda: rig.federation() is None and not rig.objects(JOBS))


def accepted(rig: Rig) -> str:
    found = [each for each in rig.status().get("conditions", ()) if each["type"] == "Accepted"]
    return found[0]["reason"] if found else ""


def copied(store: Store) -> dict[str, bytes]:
    return {entry.key: store.get(entry.key) for entry in store.list("")}


def test_a_federation_goes_on_in_another_cluster_with_the_records_of_the_lost_one(rig: Rig) -> None:
    rig.options = SILENT
    slow(rig, "0.5")
    rig.begin("basel", "bern")
    rig.start_operator()
    rig.until(lambda: rig.status().get("currentRound", -1) >= 1)
    earlier, store = rig.subject(), rig.store()
    before = newest_round(store)
    lose_cluster(rig)
    rig.describe("basel", "bern", store=store_of(rig, adoptUid=earlier.uid), seed=7)
    rig.start_operator()
    # Once nobody has written a heartbeat for long enough, it looks at what it is to go on with.
    rig.until(lambda: accepted(rig) == "AdoptedDiffers")
    rig.describe("basel", "bern", store=store_of(rig, adoptUid=earlier.uid))
    slow(rig, "0.02")
    rig.until_condition("Complete")
    assert rig.subject().uid != earlier.uid
    assert rig.subject().prefix == earlier.prefix
    assert read(store, keys.holder(1), Holder).uid == rig.subject().uid
    after = newest_round(store)
    assert before is not None
    assert after is not None
    assert after.round > before.round
    assert rig.minio.store(rig.bucket).list(f"{rig.tag}/abdomen-{rig.subject().uid}/") == []


def test_a_federation_whose_bucket_was_emptied_waits_until_it_is_brought_back(rig: Rig) -> None:
    slow(rig, "0.5")
    rig.begin("basel", "bern")
    rig.start_operator()
    rig.until(lambda: rig.status().get("currentRound", -1) >= 1)
    rig.stop_operator(kill=True)
    for each in rig.objects(JOBS):
        rig.cluster.delete(JOBS, each["metadata"]["namespace"], each["metadata"]["name"])
    rig.until(lambda: not rig.objects(JOBS))
    store = rig.store()
    backup = copied(store)
    for key in backup:
        store.delete(key)
    rig.start_operator()
    rig.until(lambda: accepted(rig) == "RecordsMissing")
    assert store.list("") == []
    assert not rig.objects(JOBS)
    # Blobs first, then the records that name them.
    for key in sorted(backup, key=lambda each: each.endswith(".json")):
        store.put(key, backup[key])
    slow(rig, "0.02")
    rig.until_condition("Complete")


def test_the_stores_address_and_secret_may_change_while_it_runs_and_its_bucket_not(rig: Rig) -> None:
    slow(rig, "0.5")
    rig.begin("basel", "bern")
    rig.start_operator()
    rig.until(lambda: rig.status().get("currentRound", -1) >= 0)
    with pytest.raises(ClusterError, match="the bucket cannot change while the federation runs"):
        rig.edit({"spec": {"store": {"bucket": "another"}}})
    with pytest.raises(ClusterError, match="adoptUid cannot change once training has begun"):
        rig.edit({"spec": {"store": {"adoptUid": rig.subject().uid}}})
    before = {name: job["metadata"]["uid"] for name, job in rig.jobs().items()}
    rig.give_keys_as("other", accessKey="ID", secretKey="KEY")
    moved = f"http://localhost:{rig.minio.address.rpartition(':')[2]}"
    keys_there = {"name": "other", "keys": {"accessKey": "ID", "secretKey": "KEY"}}
    rig.edit({"spec": {"store": {"endpoint": moved, "secretRef": keys_there}}})
    rig.until(lambda: len(rig.jobs()) == 3 and not {*before.values()} & uids(rig))
    slow(rig, "0.02")
    rig.until_condition("Complete")
    assert len({job["metadata"]["annotations"][STORE_DIGEST] for job in rig.jobs().values()}) == 1


def uids(rig: Rig) -> set[str]:
    return {job["metadata"]["uid"] for job in rig.jobs().values()}


def test_a_failed_federation_keeps_its_bucket_when_its_time_is_over(rig: Rig) -> None:
    """Under deletionPolicy Delete the records would go with it, and what may be mended with them."""
    rig.begin("basel", "bern", deletionPolicy="Delete", ttlSecondsAfterFinished=0)
    turn = reconciler(rig.cluster)
    ended = (datetime.now(UTC) - timedelta(hours=1)).isoformat(timespec="seconds")
    failed = {
        "type": "Failed",
        "status": "True",
        "lastTransitionTime": ended,
        "reason": "CannotGoOn",
        "message": "no round can close",
    }
    rig.cluster.merge(FEDERATIONS, rig.tag, "abdomen", {"status": {"conditions": [failed]}}, "status")
    turn.reconcile(seen(rig))
    found = rig.federation()
    assert found is not None
    assert "deletionTimestamp" not in found["metadata"]
    rig.edit({"spec": {"deletionPolicy": "Retain"}})
    rig.cluster.merge(FEDERATIONS, rig.tag, "abdomen", {"status": {"conditions": [failed]}}, "status")
    turn.reconcile(seen(rig))
    gone = rig.federation()
    assert gone is None or "deletionTimestamp" in gone["metadata"]
