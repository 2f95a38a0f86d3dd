"""A federation on one machine whose records are signed, against whoever runs its bucket."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from here import Here, end_of, round_is

from builders.rig import Rig, small_federation
from segviz_aggregator.loop import Aggregator
from segviz_exchange.contract import codec, keys
from segviz_exchange.contract.choices import Start
from segviz_exchange.contract.ledger import encode, newest_round, read
from segviz_exchange.contract.records import Closing, Rejection, Update
from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.folder import FolderStore
from segviz_exchange.stores.keyring import Keyring, Trusted, Writers
from segviz_exchange.stores.signed import SignedStore, Tampered
from segviz_exchange.stores.signing import split
from segviz_exchange.stores.store import Store
from segviz_trainer.models.pretrained import start_from
from segviz_trainer.participation.rounds import RoundLoop

TWO = {"basel": ("liver",), "bern": ("spleen",)}


# --- `segviz run` -------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    federation = Here(tmp_path)
    yield federation
    for runner in federation.runners:
        runner.kill()
        runner.communicate()


def bucket_of(here: Here) -> Store:
    """As whoever runs it sees it."""
    identity = here.workdir.identity()
    assert identity is not None
    return FolderStore(here.workdir.bucket).scoped(identity.prefix)


def interrupted(here: Here, after: int) -> Store:
    """A run that was stopped once this round was committed."""
    runner = here.start()
    here.wait(round_is(after))
    os.killpg(runner.pid, signal.SIGINT)
    end_of(runner)
    return bucket_of(here)


def test_every_record_of_a_run_is_signed_by_who_may_write_it(here: Here) -> None:
    code, said = here.finish()
    assert code == 0, said
    assert here.weight() == 4.0  # as without signatures
    bucket = bucket_of(here)
    records = [entry.key for entry in bucket.list("") if entry.key.endswith(".json")]
    signers = {key: json.loads(split(bucket.get(key))[1])["signed"]["by"] for key in records}
    by_folder = {
        folder: {signer for key, signer in signers.items() if key.startswith(folder)}
        for folder in ("control/", "global/", "export/", "sites/basel/", "sites/bern/")
    }
    assert sum(map(len, by_folder.values())) == 5
    assert by_folder["global/"] == by_folder["export/"]
    assert len(set.union(*by_folder.values())) == 4
    private = [*here.workdir.root.rglob("private.pem")]
    assert len(private) == 4
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in private)


def test_a_round_that_somebody_else_has_rewritten_stops_the_run_with_a_sentence(here: Here) -> None:
    here.describe("basel", "bern", rounds=50)
    bucket = interrupted(here, after=2)
    latest = newest_round(bucket)
    key = keys.round_record(latest.round)
    bucket.put(key, split(bucket.get(key))[0])
    code, said = here.finish()
    assert code == 2, said
    assert f"{key}: it is not signed. The bucket was set back, or somebody else" in said


def test_a_bucket_that_was_set_back_stops_the_run_with_a_sentence(here: Here) -> None:
    here.describe("basel", "bern", rounds=50)
    bucket = interrupted(here, after=3)
    for number in range(2, newest_round(bucket).round + 1):
        for key in (keys.round_record(number), keys.closing(number)):
            bucket.delete(key)
    code, said = here.finish()
    assert code == 2, said
    assert "global/rounds/0002.json was there before, and is gone" in said


def test_a_run_of_an_earlier_version_ends_as_it_began(here: Here) -> None:
    """Unsigned, and with nothing lost: its keys would prove nothing of what was written before."""
    bucket = interrupted(here, after=1)
    file = here.workdir.root / "federation.json"
    identity = json.loads(file.read_text(encoding="utf-8"))
    del identity["keys"]
    file.write_text(json.dumps(identity), encoding="utf-8")
    for folder in [*here.workdir.root.rglob("keys")]:
        shutil.rmtree(folder)
    for entry in bucket.list(""):
        if entry.key.endswith(".json"):
            bucket.put(entry.key, split(bucket.get(entry.key))[0])
    code, said = here.finish()
    assert code == 0, said
    assert here.weight() == 4.0
    assert not list(here.workdir.root.rglob("private.pem"))


# --- each party alone ---------------------------------------------------------------------------------------


class Signed:
    """A rig in which each party has a disk of its own, and a bucket that somebody else runs."""

    def __init__(self, folder: Path, **changes: object) -> None:
        self.rig = Rig(folder, small_federation(**changes), TWO)
        self.bucket = self.rig.store
        public = {party: self.ring(party).public for party in ("coordinator", "aggregator", *TWO)}
        beside = (public["aggregator"],)
        writers = {
            keys.CONTROLS: Writers((public["coordinator"],), decides=True, first=1),
            keys.GLOBAL: Writers(beside, decides=True),
            keys.ROUNDS: Writers(beside, decides=True, first=0),
            **{keys.site(alias): Writers((public[alias],)) for alias in TWO},
        }
        for party in public:
            self.ring(party).trust(Trusted("", writers))
        self.rig.store = self.store("coordinator")
        self.rig.control()

    def ring(self, party: str) -> Keyring:
        return Keyring(self.rig.folder / "disks" / party)

    def store(self, party: str) -> SignedStore:
        return SignedStore(self.bucket, self.ring(party))

    def site(self, alias: str) -> RoundLoop:
        return self.rig.site(alias, self.store(alias))

    def sites(self) -> dict[str, RoundLoop]:
        return {alias: self.site(alias) for alias in TWO}

    def aggregator(self) -> Aggregator:
        return self.rig.aggregator(self.store("aggregator"))


def test_signatures_change_no_model(tmp_path: Path) -> None:
    plain = Rig(tmp_path / "plain", small_federation(rounds=1), TWO)
    plain.control()
    plain.run()
    signed = Signed(tmp_path / "signed", rounds=1)
    sites = signed.sites()
    signed.rig.drive(sites, signed.aggregator())
    signed.rig.conclude(sites)
    assert signed.rig.digests() == plain.digests()


def test_an_update_that_is_rewritten_with_its_blob_is_merged_by_nobody(tmp_path: Path) -> None:
    """Its record and its file agree with each other, and are not the site's."""
    signed = Signed(tmp_path, rounds=1)
    sites, aggregator = signed.sites(), signed.aggregator()
    signed.rig.drive(sites, aggregator, until_round=0)
    for site in sites.values():
        while site.take_turn():
            pass
    honest = read(signed.bucket, keys.update("basel", 1, 1), Update)
    forged = forge(signed, honest)
    aggregator.step()
    rejection = read(signed.store("basel"), keys.rejection("basel", 1, 1), Rejection)
    assert "is not signed" in rejection.message
    # The site itself delivers again, and is in the round by what it has signed.
    signed.rig.drive(sites, aggregator, until_round=1)
    closing = read(signed.store("bern"), keys.closing(1), Closing)
    assert [(each.site, each.attempt) for each in closing.participants] == [("basel", 2), ("bern", 1)]
    assert forged not in {each.blob for each in closing.participants}


def forge(signed: Signed, honest: Update) -> str:
    path = signed.rig.folder / "forged"
    path.write_bytes(signed.bucket.get(keys.site_blob("basel", honest.blob)))
    tensors = codec.open_tensors(path).read_all()
    moved = {name: (value + np.float32(0.01)).astype(value.dtype) for name, value in tensors.items()}
    digest = codec.save(path, moved, {})
    signed.bucket.upload(keys.site_blob("basel", digest), path)
    fields = {name: getattr(honest, name) for name in honest.__struct_fields__}
    record = Update(**{**fields, "blob": digest, "size_bytes": path.stat().st_size})
    signed.bucket.put(keys.update("basel", 1, 1), encode(record))
    return digest


def test_a_site_trains_by_no_control_and_from_no_model_that_somebody_else_wrote(tmp_path: Path) -> None:
    signed = Signed(tmp_path, rounds=2)
    sites, aggregator = signed.sites(), signed.aggregator()
    signed.rig.drive(sites, aggregator, until_round=1)
    control = signed.bucket.get(keys.control(1))
    signed.bucket.put(keys.control(2), split(control)[0].replace(b'"number":1', b'"number":2'))
    with pytest.raises(Tampered, match=r"control/0002.json: it is not signed"):
        aggregator.step()
    signed.bucket.delete(keys.control(2))
    key = keys.round_record(1)
    signed.bucket.put(key, split(signed.bucket.get(key))[0])
    with pytest.raises(Tampered, match=r"rounds/0001.json: it is not signed"):
        while True:
            signed.site("basel").take_turn()
    assert not signed.bucket.list(keys.updates("basel", 2))


def test_a_start_from_which_nobody_would_train_is_refused_at_once(tmp_path: Path) -> None:
    model = msgspec.structs.replace(small_federation().model, start=Start.PRETRAINED)
    signed = Signed(tmp_path, model=model)
    with pytest.raises(Refusal, match=r"Add --keys WORKDIR/keys/coordinator"):
        start_from(signed.bucket, tmp_path)


def test_no_attempt_is_made_because_somebody_else_asks_for_it(tmp_path: Path) -> None:
    """A noisy update could be had three times otherwise."""
    signed = Signed(tmp_path, rounds=1)
    sites = signed.sites()
    signed.rig.drive(sites, signed.aggregator(), until_round=0)
    signed.bucket.put(keys.rejection("basel", 1, 1), encode(Rejection("basel", 1, 1, "NotFinite", "")))
    with pytest.raises(Tampered, match=r"rejections/basel/0001/1.json: it is not signed"):
        while sites["basel"].take_turn():
            pass
    assert not signed.bucket.list(keys.updates("basel", 1))
