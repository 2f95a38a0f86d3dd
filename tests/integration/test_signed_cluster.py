"""A federation in a cluster whose records are signed, against whoever runs its bucket."""

import base64
import json
import sys
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console

from integration.job_runner import STAND_IN
from integration.operator_rig import Rig
from segviz_exchange.contract import keys
from segviz_exchange.process.errors import Refusal
from segviz_exchange.process.stopping import Stop
from segviz_exchange.process.writing import write_private
from segviz_exchange.stores.signing import load_or_make, private_pem, public_key, sign, split
from segviz_operator.cluster.api.client import FEDERATIONS, JOBS, SECRETS, SITES
from segviz_operator.cluster.api.names import SIGNED
from segviz_operator.joining.attend import Joining
from segviz_operator.joining.seat import Seat, take_seat
from segviz_operator.joining.view import open_join_view

OPERATOR_KEY = "segviz-operator-key"


@pytest.fixture
def signed(rig: Rig) -> Rig:
    """A rig whose operator has a Secret for its key, as its chart makes it: without one in it."""
    metadata = {"name": OPERATOR_KEY, "namespace": rig.tag}
    rig.cluster.create(SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
    rig.options = ("--key-secret", f"{rig.tag}/{OPERATOR_KEY}")
    return rig


def give_key(rig: Rig, alias: str) -> Ed25519PrivateKey:
    key = Ed25519PrivateKey.generate()
    metadata = {"name": "site-key", "namespace": f"{rig.tag}-{alias}"}
    data = {"private.pem": base64.b64encode(private_pem(key)).decode()}
    rig.cluster.create(SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})
    return key


def begin(rig: Rig, *aliases: str) -> dict[str, str]:
    """A federation of sites that sign; their public keys."""
    made = {alias: public_key(give_key(rig, alias)) for alias in aliases}
    rig.give_store()
    for alias, key in made.items():
        rig.give_site(alias, signing={"publicKey": key, "secretRef": {"name": "site-key"}})
        rig.consent(alias)
    rig.describe(*aliases)
    return made


def slow(rig: Rig, seconds: float) -> None:
    for folder in rig.data.values():
        (folder / "seconds").write_text(str(seconds), encoding="utf-8")


def signers_below(rig: Rig, folder: str) -> set[str]:
    bucket = rig.store()
    records = [entry.key for entry in bucket.list(folder) if entry.key.endswith(".json")]
    return {json.loads(split(bucket.get(key))[1] or b"{}")["signed"]["by"] for key in records}


def test_every_party_signs_and_a_new_operator_goes_on_with_the_same_key(signed: Rig) -> None:
    slow(signed, 0.3)
    sites = begin(signed, "basel", "bern")
    signed.start_operator()
    signed.until(lambda: signed.status().get("currentRound", -1) >= 1)
    signed.stop_operator(kill=True)
    signed.start_operator()
    signed.until_condition("Complete")
    by_folder = {folder: signers_below(signed, folder) for folder in ("control/", "global/", "export/")}
    assert {alias: signers_below(signed, f"sites/{alias}/") for alias in sites} == {
        alias: {key} for alias, key in sites.items()
    }
    assert all(len(signers) == 1 for signers in by_folder.values())
    assert by_folder["global/"] == by_folder["export/"] != by_folder["control/"]
    found = signed.federation()
    assert found is not None
    assert by_folder["control/"] == {found["metadata"]["annotations"][SIGNED]}
    private = signed.cluster.get(SECRETS, signed.tag, OPERATOR_KEY)
    assert private is not None
    assert list(private["data"]) == ["private.pem"]


def test_an_update_that_is_rewritten_with_its_blob_is_refused_and_named(signed: Rig) -> None:
    slow(signed, 0.5)
    begin(signed, "basel", "bern")
    signed.runner.held.add(signed.tag)  # no aggregator yet
    signed.start_operator()
    key = keys.update("basel", 0, 1)
    signed.until(lambda: key in {entry.key for entry in signed.store().list("sites/basel/")})
    bucket = signed.store()
    body = split(bucket.get(key))[0]
    forged = sign(Ed25519PrivateKey.generate(), f"{signed.subject().prefix}{key}", body, None)
    bucket.put(key, forged)
    signed.runner.held.clear()
    rejection = keys.rejection("basel", 0, 1)
    signed.until(lambda: rejection in {entry.key for entry in bucket.list("global/rejections/")})
    said = bucket.get(rejection).decode()
    assert "basel" in said
    assert "may not write there" in said


def test_a_round_that_was_rewritten_stops_the_federation_with_a_sentence(signed: Rig) -> None:
    slow(signed, 0.4)
    begin(signed, "basel", "bern")
    signed.start_operator()
    signed.until(lambda: signed.status().get("currentRound", -1) >= 0)
    bucket = signed.store()
    key = keys.round_record(0)
    body = split(bucket.get(key))[0]
    bucket.put(key, sign(Ed25519PrivateKey.generate(), f"{signed.subject().prefix}{key}", body, None))
    signed.stop_operator()
    signed.start_operator()  # it has seen nothing, and verifies all
    said = signed.until(
        lambda: [
            each for each in signed.status().get("conditions", ()) if "global/rounds/0000" in each["message"]
        ]
    )
    assert "The bucket was set back, or somebody else" in said[0]["message"]


def test_a_site_refuses_a_bucket_that_was_set_back(signed: Rig) -> None:
    slow(signed, 0.4)
    begin(signed, "basel", "bern")
    signed.start_operator()
    signed.until(lambda: signed.status().get("currentRound", -1) >= 1)
    signed.stop_operator()
    bucket = signed.store()
    for folder in ("global/rounds/", "global/closings/"):
        for entry in bucket.list(folder):
            if "0001" in entry.key or "0002" in entry.key:
                bucket.delete(entry.key)
    trainer = next(name for name in signed.jobs() if "trainer-basel" in name)
    where = f"{signed.tag}-basel"
    run = signed.until(
        lambda: next(
            (
                job
                for job in signed.cluster.list(JOBS, where)
                if job["metadata"]["name"] == trainer and job.get("status", {}).get("failed")
            ),
            None,
        )
    )
    log = (signed.runner.root / run["metadata"]["uid"] / "log").read_text(encoding="utf-8")
    assert "was there before, and is gone" in log


def test_what_an_operator_without_a_key_began_ends_unsigned(signed: Rig) -> None:
    """A federation of the version before: nothing of it is lost."""
    slow(signed, 0.3)
    options, signed.options = signed.options, ()
    begin(signed, "basel", "bern")
    signed.start_operator()
    signed.until(lambda: signed.status().get("currentRound", -1) >= 0)
    signed.stop_operator()
    signed.options = options
    signed.start_operator()
    signed.until_condition("Complete")
    assert split(signed.store().get(keys.control(1)))[1] is None
    assert signed.status()["currentRound"] == 3


def test_an_operator_with_another_key_waits_and_says_so(signed: Rig) -> None:
    slow(signed, 0.5)
    begin(signed, "basel", "bern")
    signed.start_operator()
    signed.until(lambda: signed.status().get("currentRound") is not None)
    signed.stop_operator()
    found = signed.cluster.get(SECRETS, signed.tag, OPERATOR_KEY)
    assert found is not None
    other = base64.b64encode(private_pem(Ed25519PrivateKey.generate())).decode()
    signed.cluster.merge(SECRETS, signed.tag, OPERATOR_KEY, {"data": {"private.pem": other}})
    signed.start_operator()
    accepted = signed.until_condition("Accepted", status="False")
    assert accepted["reason"] == "KeyMissing"
    assert "Restore the Secret" in accepted["message"]
    signed.stop_operator()
    signed.cluster.merge(SECRETS, signed.tag, OPERATOR_KEY, {"data": found["data"]})
    signed.start_operator()
    signed.until_condition("Complete")


def test_deletion_empties_a_bucket_of_signed_records(signed: Rig) -> None:
    begin(signed, "basel", "bern")
    signed.edit({"spec": {"deletionPolicy": "Delete"}})
    signed.start_operator()
    signed.until_condition("Complete")
    store = signed.store()
    signed.cluster.delete(FEDERATIONS, signed.tag, "abdomen")
    signed.until(lambda: signed.federation() is None)
    assert not store.list("")


# --- a site outside -------------------------------------------------------------------------------


@dataclass
class Laptop:
    """Where `segviz join` runs, with the stand-in as its trainer."""

    rig: Rig
    said: StringIO = field(default_factory=StringIO)

    def __post_init__(self) -> None:
        self.folder = self.rig.root / "laptop"
        self.folder.mkdir()
        self.key = load_or_make(self.folder / "_site/private.pem")

    def invited(self) -> Path:
        secret = self.rig.until(
            lambda: next((s for s in self.rig.objects(SECRETS) if "join.json" in (s.get("data") or {})), None)
        )
        file = self.folder / "join.json"
        write_private(file, base64.b64decode(secret["data"]["join.json"]))
        return file

    def sit_down(self, joinfile: Path, **changes: Any) -> Seat:
        site = self.rig.cluster.get(SITES, f"{self.rig.tag}-bern", "bern")
        assert site is not None
        manifest = self.folder / "site.yaml"
        described = {**site, "metadata": {"name": "bern"}, "spec": {**site["spec"], **changes}}
        described.pop("status", None)
        manifest.write_text(yaml.safe_dump(described), encoding="utf-8")
        console = Console(file=self.said, width=400)
        return take_seat(joinfile, manifest, self.rig.data[f"{self.rig.tag}-bern"], self.folder, console)

    def join(self, seat: Seat) -> int:
        with open_join_view(Console(file=self.said, width=400), seat.alias) as view:
            return Joining(seat, view, Stop(), (sys.executable, str(STAND_IN))).run()


def begin_with_bern_outside(rig: Rig) -> Laptop:
    laptop = Laptop(rig)
    basel = public_key(give_key(rig, "basel"))
    rig.give_store()
    rig.give_site("basel", signing={"publicKey": basel, "secretRef": {"name": "site-key"}})
    rig.give_site("bern", remote=True, signing={"publicKey": public_key(laptop.key)})
    for alias in ("basel", "bern"):
        rig.consent(alias)
    rig.describe("basel", "bern")
    return laptop


def test_a_site_outside_signs_and_verifies(signed: Rig) -> None:
    laptop = begin_with_bern_outside(signed)
    signed.start_operator()
    seat = laptop.sit_down(laptop.invited())
    assert laptop.join(seat) == 0
    signed.until_condition("Complete")
    records = [entry.key for entry in signed.store().list("sites/bern/") if "/credentials/" not in entry.key]
    by = {split(signed.store().get(key))[1] for key in records if key.endswith(".json")}
    assert all(public_key(laptop.key).encode() in (line or b"") for line in by)

    # What it has seen it does not forget, and the key is its own.
    signed.stop_operator()
    signed.store().delete(keys.round_record(1))
    with pytest.raises(Refusal, match="was there before, and is gone"):
        seat.open_store().list(keys.ROUNDS)
    with pytest.raises(Refusal, match=r"spec.signing.publicKey is 00.*Write this one"):
        laptop.sit_down(laptop.folder / "join.json", signing={"publicKey": "0" * 64})


def test_a_site_outside_refuses_a_round_that_was_rewritten(signed: Rig) -> None:
    slow(signed, 0.5)
    laptop = begin_with_bern_outside(signed)
    signed.start_operator()
    seat = laptop.sit_down(laptop.invited())
    bucket, key = signed.store(), keys.control(1)
    signed.stop_operator()
    body = split(bucket.get(key))[0].replace(b'"rounds":3', b'"rounds":9')
    bucket.put(key, sign(Ed25519PrivateKey.generate(), f"{signed.subject().prefix}{key}", body, None))
    with pytest.raises(Refusal, match=r"control/0001.json.*may not write there"):
        laptop.join(seat)
