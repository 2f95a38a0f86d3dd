"""Parties that trust the coordinator's key alone, and whom its controls name."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from builders.synthetic import control_of, update_of
from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import commit, encode, newest_control, read
from segviz_exchange.contract.records import Round, Update
from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.certified import Certified, Party
from segviz_exchange.stores.folder import FolderStore
from segviz_exchange.stores.keyring import Writers
from segviz_exchange.stores.opening import open_store
from segviz_exchange.stores.signed import Forged, SignedStore, Tampered
from segviz_exchange.stores.signing import private_pem, public_key, sign, split

PREFIX = "radiology/abdomen-11111111/"
COORDINATOR, AGGREGATOR, BASEL, BERN, STRANGER = (Ed25519PrivateKey.generate() for _ in range(5))
UPDATE = keys.update("basel", 1, 1)
ROUND = Round(0, 1, "0" * 64, 1, ("basel",))


class Bucket:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.raw = FolderStore(folder / "bucket").scoped(PREFIX)

    def of(
        self, own: Ed25519PrivateKey | None, disk: str | None = None, root: Ed25519PrivateKey = COORDINATOR
    ) -> SignedStore:
        party = Party(PREFIX, public_key(root))
        folder = None if disk is None else self.folder / disk
        return SignedStore(FolderStore(self.folder / "bucket"), Certified(party, own, folder)).scoped(PREFIX)

    def control(self, number: int, *aliases: str) -> None:
        known = {"basel": BASEL, "bern": BERN}
        writers = {
            "global/": Writers((public_key(AGGREGATOR),), decides=True),
            keys.ROUNDS: Writers((public_key(AGGREGATOR),), decides=True, first=0),
            **{keys.site(alias): Writers((public_key(known[alias]),)) for alias in aliases},
        }
        control = replace(control_of(number=number), writers=writers)
        commit(self.of(COORDINATOR), keys.control(number), control)


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    made = Bucket(tmp_path)
    made.control(1, "basel")
    return made


def test_whom_a_control_names_may_write_and_be_read(bucket: Bucket) -> None:
    commit(bucket.of(BASEL), UPDATE, update_of("basel"))
    commit(bucket.of(AGGREGATOR), keys.round_record(0), ROUND)
    assert read(bucket.of(None), UPDATE, Update) == update_of("basel")
    assert read(bucket.of(BASEL), keys.round_record(0), Round) == ROUND


def test_a_control_that_the_coordinator_has_not_signed_names_nobody(bucket: Bucket) -> None:
    forged = replace(control_of(number=2), writers={"": Writers((public_key(STRANGER),))})
    body = encode(forged)
    bucket.raw.create(keys.control(2), sign(STRANGER, f"{PREFIX}{keys.control(2)}", body, None))
    with pytest.raises(Tampered, match="may not write there"):
        newest_control(bucket.of(BASEL))


def test_an_update_that_is_rewritten_is_the_site_s_no_more(bucket: Bucket) -> None:
    commit(bucket.of(BASEL), UPDATE, update_of("basel"))
    body = split(bucket.raw.get(UPDATE))[0].replace(b'"cases":10', b'"cases":99')
    place = f"{PREFIX}{UPDATE}"
    for forged in (body, sign(STRANGER, place, body, None), sign(AGGREGATOR, place, body, None)):
        bucket.raw.put(UPDATE, forged)
        with pytest.raises(Forged, match=r"not signed|may not write there"):
            bucket.of(AGGREGATOR).get(UPDATE)


def test_who_joins_is_known_by_the_newest_control_without_a_new_start(bucket: Bucket) -> None:
    reader = bucket.of(AGGREGATOR)
    newest_control(reader)
    bucket.control(2, "basel", "bern")
    commit(bucket.of(BERN), keys.update("bern", 1, 1), update_of("bern"))
    assert read(reader, keys.update("bern", 1, 1), Update).site == "bern"


def test_nobody_writes_before_there_is_a_control(tmp_path: Path) -> None:
    empty = Bucket(tmp_path)
    empty.raw.create(UPDATE, encode(update_of("basel")))
    with pytest.raises(Forged, match="nobody may write there"):
        empty.of(AGGREGATOR).get(UPDATE)


def test_a_site_refuses_a_round_that_is_gone_or_was_replaced_after_a_new_start(bucket: Bucket) -> None:
    commit(bucket.of(AGGREGATOR), keys.round_record(0), ROUND)
    read(bucket.of(BASEL, "basel"), keys.round_record(0), Round)
    kept = bucket.raw.get(keys.round_record(0))
    bucket.raw.delete(keys.round_record(0))
    with pytest.raises(Tampered, match="was there before, and is gone"):
        bucket.of(BASEL, "basel").list(keys.ROUNDS)
    # Even the aggregator itself writes no other history for those who have seen this one.
    commit(bucket.of(AGGREGATOR), keys.round_record(0), replace(ROUND, blob="1" * 64))
    with pytest.raises(Tampered, match="another record than the one that was there before"):
        bucket.of(BASEL, "basel").get(keys.round_record(0))
    bucket.raw.put(keys.round_record(0), kept)
    assert bucket.of(BASEL, "basel").get(keys.round_record(0))


def test_a_site_refuses_another_coordinator_than_the_first(bucket: Bucket) -> None:
    bucket.of(BASEL, "basel")
    bucket.of(BASEL, "basel")
    with pytest.raises(Refusal, match=r"the coordinator's key is .*Ask the coordinator"):
        bucket.of(BASEL, "basel", STRANGER)


def test_a_process_is_told_by_its_environment(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, own = tmp_path / "party.json", tmp_path / "own.pem"
    told.write_text(
        f'{{"federation": "{PREFIX}", "coordinator": "{public_key(COORDINATOR)}"}}', encoding="utf-8"
    )
    own.write_bytes(private_pem(BASEL))
    monkeypatch.setenv("SEGVIZ_PARTY", str(told))
    monkeypatch.setenv("SEGVIZ_SIGNING_KEY", str(own))
    store = open_store(str(bucket.folder / "bucket"), seen=tmp_path / "seen").scoped(PREFIX)
    commit(store, UPDATE, update_of("basel"))
    assert public_key(BASEL).encode() in bucket.raw.get(UPDATE)
    assert (tmp_path / "seen/coordinator.json").exists()
    monkeypatch.delenv("SEGVIZ_PARTY")
    with pytest.raises(Refusal, match="remembers that the records of this federation are signed"):
        open_store(str(bucket.folder / "bucket"), seen=tmp_path / "seen")
    monkeypatch.setenv("SEGVIZ_PARTY", str(told))
    told.write_text("{", encoding="utf-8")
    with pytest.raises(Refusal, match="is damaged"):
        open_store(str(bucket.folder / "bucket"))
    told.unlink()
    with pytest.raises(Refusal, match="No such file"):
        open_store(str(bucket.folder / "bucket"))
