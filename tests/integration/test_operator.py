"""The operator against a real API server and a real MinIO: manifests in, objects, records and status out."""

import base64
import os
import subprocess
import sys

from integration.job_runner import STAND_IN
from integration.ministry import Ministry
from integration.operator_rig import Rig
from segviz_exchange.contract import keys
from segviz_exchange.contract.join import read_invitation
from segviz_exchange.stores.credentials import encode_credentials
from segviz_operator.cluster.api.client import FEDERATIONS, JOBS, SECRETS, SITES
from segviz_operator.cluster.api.names import ATTEMPT, FEDERATION_UID, FINALIZER, RENEW_AT, RETRY, SITE
from segviz_operator.cluster.reconcile.deletion import end
from segviz_operator.cluster.reconcile.memory import Memory
from segviz_operator.manifests.manifest import Federation, from_server


def test_a_federation_reaches_its_end(rig: Rig):
    rig.begin("basel", "bern")
    rig.start_operator()
    rig.until_condition("Complete")
    status = rig.status()
    assert (status["phase"], status["currentRound"], status["sitesReady"]) == ("Complete", 3, "2/2")
    assert {site["alias"]: site["round"] for site in status["sites"]} == {"basel": 3, "bern": 3}
    assert {each["group"]: each["owners"] for each in status["sharing"]}["liver"] == ["basel"]
    assert {"Accepted", "RoundCommitted", "Complete"} <= set(rig.events())


def test_a_killed_operator_goes_on_where_it_was(rig: Rig):
    for folder in rig.data.values():
        (folder / "seconds").write_text("0.3", encoding="utf-8")
    rig.begin("basel", "bern")
    rig.start_operator()
    rig.until(lambda: rig.status().get("currentRound", -1) >= 1)
    before = {name: job["metadata"]["uid"] for name, job in rig.jobs().items()}
    secrets_before = {each["metadata"]["resourceVersion"] for each in rig.objects(SECRETS)}
    rig.stop_operator(kill=True)
    rig.start_operator()
    rig.until_condition("Complete")
    after = {name: job["metadata"]["uid"] for name, job in rig.jobs().items()}
    assert {name: after[name] for name in before} == before
    assert {each["metadata"]["resourceVersion"] for each in rig.objects(SECRETS)} >= secrets_before
    assert [entry.key for entry in rig.store().list(keys.CONTROLS)] == [keys.control(1)]


def test_what_the_operator_makes_says_whose_it_is(rig: Rig):
    rig.begin("basel", "bern")
    rig.start_operator()
    rig.until(lambda: len(rig.jobs()) == 3)
    uid = rig.subject().uid
    for each in (*rig.objects(JOBS), *rig.objects(SECRETS)):
        metadata = each["metadata"]
        assert metadata["labels"]["segviz.dev/federation-uid"] == uid
        (owner,) = metadata["ownerReferences"]
        expected = "SegVizFederation" if metadata["namespace"] == rig.tag else "RoleBinding"
        assert owner["kind"] == expected
        assert "blockOwnerDeletion" not in owner
    found = rig.federation()
    assert found is not None
    assert found["metadata"]["finalizers"] == [FINALIZER]
    assert "last-handled" not in str(found["metadata"]["annotations"])


def test_deletion_leaves_nothing_but_the_bucket(rig: Rig):
    for folder in rig.data.values():
        (folder / "seconds").write_text("0.5", encoding="utf-8")
    rig.begin("basel", "bern")
    rig.start_operator()
    rig.until(lambda: rig.status().get("currentRound") is not None)
    store = rig.store()
    rig.cluster.delete(FEDERATIONS, rig.tag, "abdomen")
    rig.until(lambda: rig.federation() is None)
    rig.until(lambda: not rig.objects(JOBS) and not rig.objects(SECRETS))
    assert store.list(keys.CONTROLS)


def test_deletion_takes_the_bucket_along_where_the_policy_says_so(rig: Rig):
    rig.begin("basel", "bern", deletionPolicy="Delete")
    rig.start_operator()
    rig.until(lambda: rig.status().get("currentRound") is not None)
    store = rig.store()
    rig.cluster.delete(FEDERATIONS, rig.tag, "abdomen")
    rig.until(lambda: rig.federation() is None, seconds=120)
    assert store.list("") == []
    assert "PrefixDeleted" in rig.events()


def test_deletion_empties_the_bucket_however_long_the_operator_was_away(rig: Rig):
    rig.give_store()
    raw = rig.describe("basel", "bern", deletionPolicy="Delete")
    raw["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [FINALIZER]}
    store = rig.store()
    for number in range(250):
        store.put(keys.site_blob("basel", f"{number:064x}"), b"update")
    federation = from_server(raw)
    assert isinstance(federation, Federation)
    memory = Memory(rig.subject(), lambda store: store)
    turns = [end(rig.cluster, memory, raw, federation, (), frozenset()).released for _ in range(3)]
    assert turns == [False, False, True]
    assert store.list("") == []


def test_a_federation_waits_for_a_consent_that_it_cannot_do_without(rig: Rig):
    rig.give_store()
    for alias in ("basel", "bern"):
        rig.give_site(alias)
    rig.consent("basel")
    rig.describe("basel", "bern")
    rig.start_operator()
    accepted = rig.until_condition("Accepted", status="False")
    assert accepted["reason"] == "NotConsented"
    assert f"{rig.tag}-bern" in accepted["message"]
    assert not rig.jobs()


def test_others_go_on_without_a_site_that_has_not_consented_until_it_does(rig: Rig):
    for alias in ("basel", "bern"):
        (rig.data[f"{rig.tag}-{alias}"] / "seconds").write_text("0.3", encoding="utf-8")
    rig.begin("basel", "bern", participation={"minSites": 1}, rounds=60)
    rig.edit_site("bern", {"spec": {"allowedFederations": []}})
    rig.start_operator()
    rig.until(lambda: rig.status().get("currentRound", 0) >= 1)
    assert rig.site("bern")["phase"] == "Absent"
    assert "allowedFederations" in rig.site("bern")["message"]
    assert {job["metadata"]["labels"].get(SITE) for job in rig.objects(JOBS)} == {None, "basel"}
    rig.edit_site("bern", {"spec": {"allowedFederations": [{"namespace": rig.tag, "name": "abdomen"}]}})
    rig.until(lambda: rig.site("bern").get("round"))
    rig.edit_site("bern", {"spec": {"allowedFederations": []}})
    rig.until(lambda: {job["metadata"]["labels"].get(SITE) for job in rig.objects(JOBS)} == {None, "basel"})
    rig.until(lambda: rig.site("bern")["phase"] == "Absent")


def test_a_site_that_refuses_is_left_out_until_a_person_asks_for_another_try(rig: Rig):
    bern = rig.data[f"{rig.tag}-bern"]
    (rig.data[f"{rig.tag}-basel"] / "seconds").write_text("0.3", encoding="utf-8")
    (bern / "refuse").write_text("the labels are of another organ", encoding="utf-8")
    rig.begin("basel", "bern", participation={"minSites": 1}, rounds=100)
    rig.start_operator()
    rig.until(lambda: rig.site("bern").get("phase") == "LeftOut")
    assert "the labels are of another organ" in rig.site("bern")["message"]
    rig.until(lambda: rig.status().get("currentRound", 0) >= 1)
    (bern / "refuse").unlink()
    rig.edit({"metadata": {"annotations": {RETRY: "yes"}}})
    rig.until(lambda: rig.site("bern").get("round"))
    found = rig.federation()
    assert found is not None
    # Whoever keeps manifests in git would put it back; what was handled is remembered instead.
    assert found["metadata"]["annotations"][RETRY] == "yes"
    rig.until(lambda: rig.status().get("lastHandledRetry") == "yes")
    assert {"SiteLeftOut", "SiteRejoined", "Retried"} <= set(rig.events())


def test_all_sites_may_be_replaced_but_not_by_one_edit(rig: Rig):
    for folder in rig.data.values():
        (folder / "seconds").write_text("0.3", encoding="utf-8")
    rig.begin("basel", rounds=60)
    rig.give_site("chur")
    rig.consent("chur")
    rig.start_operator()
    rig.until(lambda: rig.status().get("currentRound", 0) >= 1)
    rig.describe("chur", rounds=60)
    refused = rig.until_condition("Accepted", status="False")
    assert refused["reason"] == "NoSiteStays"
    assert "(basel)" in refused["message"]
    round_ = rig.status()["currentRound"]
    rig.until(lambda: rig.status()["currentRound"] > round_)
    rig.describe("basel", "chur", rounds=60)
    rig.until_condition("Accepted")
    rig.until(lambda: rig.site("chur").get("round"))
    rig.describe("chur", rounds=60)
    rig.until(lambda: not rig.site("basel"))
    round_ = rig.status()["currentRound"]
    rig.until(lambda: rig.status()["currentRound"] > round_ + 1)
    assert rig.until_condition("Accepted")["reason"] == "Fits"


def test_a_suspended_federation_has_no_pods_until_it_is_resumed(rig: Rig):
    rig.begin("basel", "bern")
    rig.edit({"spec": {"rounds": 30}})
    rig.start_operator()
    rig.until(lambda: rig.status().get("currentRound", 0) >= 1)
    rig.edit({"spec": {"suspend": True}})
    rig.until_condition("Suspended")
    rig.until(lambda: not rig.jobs())
    rig.edit({"spec": {"suspend": False}})
    rig.until_condition("Suspended", status="False")
    rig.until(lambda: len(rig.jobs()) == 3)


def test_a_crashed_trainer_gets_another_attempt(rig: Rig):
    (rig.data[f"{rig.tag}-bern"] / "crash").write_text("1", encoding="utf-8")
    rig.begin("basel", "bern")
    rig.start_operator()
    rig.until_condition("Complete")
    attempts = {
        job["metadata"]["labels"][SITE]: job["metadata"]["labels"][ATTEMPT]
        for job in rig.objects(JOBS)
        if SITE in job["metadata"]["labels"]
    }
    assert attempts == {"basel": "1", "bern": "2"}


def test_a_missing_secret_is_named(rig: Rig):
    rig.give_site("basel")
    rig.consent("basel")
    rig.describe("basel")
    rig.start_operator()
    accepted = rig.until_condition("Accepted", status="False")
    assert (accepted["reason"], accepted["message"]) == (
        "SecretNotFound",
        f"Secret {rig.tag}/bucket does not exist. Create it, or correct the name in the manifest",
    )


def test_a_site_outside_takes_part_with_what_its_join_secret_holds(rig: Rig):
    rig.begin("basel", "bern")
    rig.edit_site("bern", {"spec": {"remote": True}})
    rig.start_operator()
    secret = rig.until(
        lambda: next((s for s in rig.objects(SECRETS) if "join.json" in (s.get("data") or {})), None)
    )
    assert secret["metadata"]["namespace"] == f"{rig.tag}-bern"
    file = rig.root / "join.json"
    file.write_bytes(base64.b64decode(secret["data"]["join.json"]))
    invitation = read_invitation(file)
    (rig.root / "credentials.json").write_bytes(encode_credentials(invitation.credentials))
    state = rig.root / "outside"
    state.mkdir()
    words = [
        *(sys.executable, str(STAND_IN), "participate", "--store", invitation.store),
        *("--prefix", invitation.prefix, "--site", "bern", "--data-root", str(rig.data[f"{rig.tag}-bern"])),
        *("--state", str(state)),
    ]
    environment = {**os.environ, "SEGVIZ_STORE_CREDENTIALS": str(rig.root / "credentials.json")}
    with subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL) as process:
        rig.until_condition("Complete")
        assert process.wait(30) == 0
    assert {job["metadata"]["namespace"] for job in rig.objects(JOBS)} == {rig.tag, f"{rig.tag}-basel"}


def test_a_site_is_told_who_uses_it(rig: Rig):
    rig.begin("basel")
    rig.start_operator()
    rig.until_condition("Complete")
    status = rig.until(
        lambda: (
            (found := rig.cluster.get(SITES, f"{rig.tag}-basel", "basel"))
            and (found.get("status") or {}).get("federations", [{}])[0].get("phase") == "Done"
            and found["status"]
        )
    )
    assert status["federations"][0]["federation"] == f"{rig.tag}/abdomen"
    assert [(each["type"], each["status"]) for each in status["conditions"]] == [
        ("Ready", "True"),
        ("Accepted", "True"),
        ("Degraded", "False"),
    ]
    rig.cluster.delete(FEDERATIONS, rig.tag, "abdomen")
    rig.until(lambda: not rig.cluster.get(SITES, f"{rig.tag}-basel", "basel")["status"].get("federations"))


def test_two_federations_share_sites_and_do_not_touch(rig: Rig):
    rig.give_store()
    for alias in ("basel", "bern"):
        rig.give_site(alias, federations=("abdomen", "twin"))
        for name in ("abdomen", "twin"):
            rig.consent(alias, name)
    for name in ("abdomen", "twin"):
        rig.describe("basel", "bern", name=name)
    rig.start_operator()
    for name in ("abdomen", "twin"):
        rig.until_condition("Complete", name)
    twin = rig.subject("twin").uid
    rig.cluster.delete(FEDERATIONS, rig.tag, "abdomen")
    rig.until(lambda: rig.federation() is None)
    rig.until(lambda: {j["metadata"]["labels"][FEDERATION_UID] for j in rig.objects(JOBS)} == {twin})
    assert {s["metadata"]["labels"][FEDERATION_UID] for s in rig.objects(SECRETS)} == {twin}


def test_a_federation_that_has_ended_goes_after_its_time(rig: Rig):
    rig.begin("basel", ttlSecondsAfterFinished=1)
    rig.start_operator()
    rig.until(lambda: rig.federation() is None)
    rig.until(lambda: not rig.objects(JOBS) and not rig.objects(SECRETS))
    assert "Complete" in rig.events()


def test_credentials_are_renewed_half_way_to_their_end_under_a_running_pod(rig: Rig):
    (rig.data[f"{rig.tag}-basel"] / "seconds").write_text("3", encoding="utf-8")
    rig.begin("basel", rounds=10)
    rig.start_operator()
    rig.until(lambda: rig.status().get("currentRound") is not None)
    rig.stop_operator()
    before = next(each for each in rig.objects(SECRETS) if each["metadata"]["namespace"] != rig.tag)
    place = (before["metadata"]["namespace"], before["metadata"]["name"])
    past = {"metadata": {"annotations": {RENEW_AT: "2026-01-01T00:00:00+00:00"}}}
    rig.cluster.merge(SECRETS, *place, past)
    jobs = {name: job["metadata"]["uid"] for name, job in rig.jobs().items()}
    rig.start_operator()

    def renewed() -> bool:
        now = rig.cluster.get(SECRETS, *place)
        return now is not None and now["data"]["credentials.json"] != before["data"]["credentials.json"]

    rig.until(renewed)
    assert {name: job["metadata"]["uid"] for name, job in rig.jobs().items()} == jobs


def test_a_key_that_somebody_has_changed_reaches_the_pod(rig: Rig):
    (rig.data[f"{rig.tag}-basel"] / "seconds").write_text("3", encoding="utf-8")
    ministry = Ministry(rig.minio)
    old, new = ministry.user("readwrite"), ministry.user("readwrite")
    rig.give_store()
    rig.give_keys(f"{rig.tag}-basel", "mine", old)
    rig.give_site("basel", storeSecretRef={"name": "mine"})
    rig.consent("basel")
    store = {
        "endpoint": f"http://{rig.minio.address}",
        "bucket": rig.bucket,
        "secretRef": {"name": "bucket"},
        "credentials": "ExistingSecrets",
    }
    rig.describe("basel", rounds=10, store=store)
    rig.start_operator()
    rig.until(lambda: rig.status().get("currentRound") is not None)

    def held() -> str:
        (secret,) = [each for each in rig.objects(SECRETS) if each["metadata"]["namespace"] != rig.tag]
        return base64.b64decode(secret["data"]["credentials.json"]).decode()

    assert old.access_key in held()
    rig.give_keys(f"{rig.tag}-basel", "mine", new)
    ministry.remove(old)
    # Its trainer can do nothing any more; the attempt after it has what its owner says now.
    rig.until(lambda: new.access_key in held())
    round_ = rig.status()["currentRound"]
    rig.until(lambda: rig.status()["currentRound"] > round_)


def test_a_new_image_starts_a_sites_pod_anew_and_other_data_do_not(rig: Rig):
    for folder in rig.data.values():
        (folder / "seconds").write_text("2", encoding="utf-8")
    rig.begin("basel", "bern", rounds=10)
    rig.start_operator()
    rig.until(lambda: rig.status().get("currentRound", 0) >= 1)

    def trainer(alias: str) -> str:
        found = [each for each in rig.objects(JOBS) if each["metadata"]["labels"].get(SITE) == alias]
        return found[0]["metadata"]["uid"] if len(found) == 1 else ""

    basel, bern = trainer("basel"), trainer("bern")
    image = "registry.example/segviz-trainer@sha256:" + "1" * 64
    rig.edit_site("basel", {"spec": {"trainer": {"image": image}}})
    rig.until(lambda: trainer("basel") not in ("", basel))
    assert trainer("bern") == bern
    rig.edit_site("bern", {"spec": {"split": {"train": 60, "validation": 20, "test": 20}}})
    refused = rig.until_condition("Accepted", status="False")
    assert refused["reason"] == "SiteChanged"
    round_ = rig.status()["currentRound"]
    rig.until(lambda: rig.status()["currentRound"] > round_)
    assert trainer("bern") == bern
