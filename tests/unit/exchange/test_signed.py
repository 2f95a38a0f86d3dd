"""Records that say who wrote them, and readers who hold them to it."""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from builders.synthetic import control_of, update_of
from segviz_exchange.contract import keys
from segviz_exchange.contract.ledger import Ledger, commit, encode, find, newest_control, read
from segviz_exchange.contract.records import Control, Round, Update
from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.changes import FolderAlarm, alarm_of
from segviz_exchange.stores.folder import FolderStore
from segviz_exchange.stores.keyring import Keyring, Trusted, Writers
from segviz_exchange.stores.opening import open_store
from segviz_exchange.stores.signed import Forged, SignedStore, Tampered
from segviz_exchange.stores.signing import sign, split
from segviz_exchange.stores.store import NotFound

PREFIX, OTHER = "radiology/abdomen-11111111/", "radiology/abdomen-22222222/"
PARTIES = ("coordinator", "aggregator", "basel", "bern")


@dataclass
class Bucket:
    """A bucket, and the disk of each party."""

    folder: Path

    def __post_init__(self) -> None:
        self.raw = FolderStore(self.folder / "bucket").scoped(PREFIX)
        """What whoever runs the bucket has."""
        self.trust()

    def trust(self, prefix: str = PREFIX, **more: Writers) -> None:
        public = {party: self.ring(party).public for party in PARTIES}
        beside = (public["aggregator"], public["coordinator"])
        writers = {
            keys.CONTROLS: Writers((public["coordinator"],), decides=True, first=1),
            keys.GLOBAL: Writers(beside, decides=True),
            keys.ROUNDS: Writers(beside, decides=True, first=0),
            **{keys.site(alias): Writers((public[alias],)) for alias in ("basel", "bern")},
            keys.site("chur"): Writers(),
            **more,
        }
        for party in PARTIES:
            self.ring(party).trust(Trusted(prefix, writers))

    def ring(self, party: str) -> Keyring:
        return Keyring(self.folder / "disks" / party)

    def of(self, party: str, prefix: str = PREFIX) -> SignedStore:
        """A process of this party, as it starts."""
        return SignedStore(FolderStore(self.folder / "bucket"), self.ring(party)).scoped(prefix)

    def write_controls(self, count: int) -> None:
        store = self.of("coordinator")
        for number in range(1, count + 1):
            commit(store, keys.control(number), control_of(number=number))

    def write_rounds(self, count: int) -> None:
        store = self.of("aggregator")
        for number in range(count):
            commit(store, keys.round_record(number), round_of(number))


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return Bucket(tmp_path)


def round_of(number: int, content: str = "") -> Round:
    return Round(number, 1, hashlib.sha256(f"{number}{content}".encode()).hexdigest(), 1, ("basel",))


UPDATE = keys.update("basel", 1, 1)


# --- what is written is read --------------------------------------------------------------------------------


def test_what_one_party_writes_every_other_reads(bucket: Bucket) -> None:
    bucket.write_controls(2)
    bucket.write_rounds(3)
    commit(bucket.of("basel"), UPDATE, update_of("basel"))
    for party in PARTIES:
        store = bucket.of(party)
        assert newest_control(store) == control_of(number=2)
        assert read(store, UPDATE, Update) == update_of("basel")
        assert [read(store, keys.round_record(number), Round).round for number in range(3)] == [0, 1, 2]


def test_a_reader_that_knows_no_signatures_reads_the_same(bucket: Bucket) -> None:
    bucket.write_controls(1)
    assert bucket.raw.get(keys.control(1)).startswith(encode(control_of()))
    assert read(bucket.raw, keys.control(1), Control) == control_of()


def test_the_same_record_has_the_same_bytes_whoever_was_killed(bucket: Bucket) -> None:
    commit(bucket.of("basel"), UPDATE, update_of("basel"))
    first = bucket.raw.get(UPDATE)
    bucket.raw.delete(UPDATE)
    commit(bucket.of("basel"), UPDATE, update_of("basel"))
    assert bucket.raw.get(UPDATE) == first


def test_a_record_without_a_last_newline_gets_one(bucket: Bucket) -> None:
    bucket.of("basel").put(UPDATE, b"{}")
    assert bucket.of("bern").get(UPDATE) == b"{}\n"


def test_a_record_that_is_there_already_is_verified_and_adopted(bucket: Bucket) -> None:
    store = bucket.of("basel")
    commit(store, UPDATE, update_of("basel"))
    assert commit(bucket.of("basel"), UPDATE, update_of("basel", cases=7)) == update_of("basel")


def test_blobs_and_what_nobody_in_particular_writes_are_left_as_they_are(bucket: Bucket) -> None:
    store = bucket.of("basel")
    for key in (keys.site_blob("basel", "0" * 64), keys.credential("chur", 1), "sites/basel/preflight/probe"):
        store.put(key, b"anything")
        assert bucket.raw.get(key) == store.get(key) == b"anything"


def test_a_folder_still_tells_of_its_changes(bucket: Bucket) -> None:
    assert isinstance(alarm_of(bucket.of("basel"), ("",), lambda key: True, None), FolderAlarm)


def test_a_process_finds_its_keys_by_its_environment(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGVIZ_KEYS", str(bucket.folder / "disks/basel"))
    commit(open_store(str(bucket.folder / "bucket")).scoped(PREFIX), UPDATE, update_of("basel"))
    assert read(bucket.of("aggregator"), UPDATE, Update) == update_of("basel")


# --- what somebody else has written -------------------------------------------------------------------------


def unsigned(bucket: Bucket) -> bytes:
    return encode(update_of("basel"))


def by_another_site(bucket: Bucket) -> bytes:
    return sign(bucket.ring("bern").own, f"{PREFIX}{UPDATE}", encode(update_of("basel")), None)


def by_a_key_of_nobody(bucket: Bucket) -> bytes:
    return sign(Keyring(bucket.folder / "eve").own, f"{PREFIX}{UPDATE}", encode(update_of("basel")), None)


def of_another_place(bucket: Bucket) -> bytes:
    place = f"{PREFIX}{keys.update('basel', 2, 1)}"
    return sign(bucket.ring("basel").own, place, encode(update_of("basel")), None)


def of_another_federation(bucket: Bucket) -> bytes:
    return sign(bucket.ring("basel").own, f"{OTHER}{UPDATE}", encode(update_of("basel")), None)


def changed(bucket: Bucket) -> bytes:
    return honest(bucket).replace(b'"cases":10', b'"cases":11')


def under_another_name(bucket: Bucket) -> bytes:
    mine, theirs = (bucket.ring(party).public.encode() for party in ("bern", "basel"))
    return by_another_site(bucket).replace(mine, theirs)


def with_a_torn_signature(bucket: Bucket) -> bytes:
    return honest(bucket)[:-40] + b"\n"


def of_a_later_version(bucket: Bucket) -> bytes:
    return honest(bucket).replace(b'"version":1', b'"version":2')


def honest(bucket: Bucket) -> bytes:
    return sign(bucket.ring("basel").own, f"{PREFIX}{UPDATE}", encode(update_of("basel")), None)


FORGERIES = {
    unsigned: "it is not signed",
    by_another_site: "may not write there",
    by_a_key_of_nobody: "may not write there",
    of_another_place: "not that of its content and place",
    of_another_federation: "not that of its content and place",
    changed: "not that of its content and place",
    under_another_name: "not that of its content and place",
    with_a_torn_signature: "its signature cannot be read",
    of_a_later_version: "signed by version 2 of the rules; this program knows 1",
}


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
def test_a_forged_record_of_a_site_is_none(bucket: Bucket, forge) -> None:
    bucket.raw.put(UPDATE, forge(bucket))
    for party in PARTIES:
        with pytest.raises(Forged, match=FORGERIES[forge]):
            bucket.of(party).get(UPDATE)
    bucket.raw.put(UPDATE, honest(bucket))
    assert read(bucket.of("aggregator"), UPDATE, Update) == update_of("basel")


@pytest.mark.parametrize("key", [keys.control(1), keys.round_record(0), keys.FINAL, keys.closing(1)])
def test_nobody_follows_a_record_that_somebody_else_wrote(bucket: Bucket, key: str) -> None:
    record = encode(control_of())
    for forged in (record, sign(bucket.ring("basel").own, f"{PREFIX}{key}", record, None)):
        bucket.raw.put(key, forged)
        with pytest.raises(Tampered, match=f"{key}: it is .*The bucket was set back, or somebody else"):
            bucket.of("basel").get(key)


def test_where_nobody_may_write_nothing_is_believed(bucket: Bucket) -> None:
    bucket.raw.put("sites/eve/outcome.json", b"{}\n")
    with pytest.raises(Forged, match="nobody may write there"):
        bucket.of("aggregator").get("sites/eve/outcome.json")


def test_a_site_that_joins_is_believed_without_a_restart(bucket: Bucket) -> None:
    reader, dora = bucket.of("aggregator"), Keyring(bucket.folder / "disks/dora")
    place = keys.update("dora", 1, 1)
    bucket.raw.put(place, sign(dora.own, f"{PREFIX}{place}", encode(update_of("dora")), None))
    with pytest.raises(Forged):
        reader.get(place)
    bucket.trust(**{keys.site("dora"): Writers((dora.public,))})
    assert read(reader, place, Update) == update_of("dora")


# --- series: no gap, no fork, no way back -------------------------------------------------------------------


def test_a_record_that_was_there_does_not_go(bucket: Bucket) -> None:
    bucket.write_controls(2)
    running = bucket.of("basel")
    assert newest_control(running).number == 2
    bucket.raw.delete(keys.control(2))
    for store in (running, bucket.of("basel")):  # also after a restart: it is on the site's own disk
        ledger = Ledger(store, (keys.CONTROLS,))
        with pytest.raises(Tampered, match=r"control/0002.json was there before, and is gone"):
            ledger.look()
    # Who has never seen it can't know.
    assert newest_control(bucket.of("bern")).number == 1


def test_a_record_that_was_there_is_not_replaced_even_by_its_writer(bucket: Bucket) -> None:
    bucket.write_rounds(2)
    read(bucket.of("basel"), keys.round_record(1), Round)
    bucket.raw.delete(keys.round_record(1))
    (bucket.folder / "disks/aggregator/seen.json").unlink()
    commit(bucket.of("aggregator"), keys.round_record(1), round_of(1, "other"))
    with pytest.raises(Tampered, match="another record than the one that was there before"):
        read(bucket.of("basel"), keys.round_record(1), Round)


def test_two_histories_are_not_mixed(bucket: Bucket, tmp_path: Path) -> None:
    """Round 2 of one history after round 1 of the other: each alone is well signed."""
    bucket.write_rounds(1)
    other = Bucket(tmp_path / "other")
    shutil.copytree(bucket.folder / "disks", other.folder / "disks", dirs_exist_ok=True)
    shutil.copytree(bucket.folder / "bucket", other.folder / "bucket")
    for each, content in ((bucket, "one"), (other, "other")):
        for number in (1, 2):
            commit(each.of("aggregator"), keys.round_record(number), round_of(number, content))
    bucket.raw.put(keys.round_record(2), other.raw.get(keys.round_record(2)))
    with pytest.raises(Tampered, match="it does not follow the record before it"):
        read(bucket.of("basel"), keys.round_record(2), Round)


def test_who_comes_late_verifies_all_that_was_before(bucket: Bucket) -> None:
    bucket.write_rounds(400)  # more than Python's stack would hold at once
    late = bucket.of("basel")
    assert read(late, keys.round_record(399), Round).round == 399
    bucket.raw.put(keys.round_record(7), encode(round_of(7)))
    with pytest.raises(Tampered, match=r"rounds/0007.json: it is not signed"):
        read(bucket.of("bern"), keys.round_record(399), Round)
    bucket.raw.delete(keys.round_record(7))
    with pytest.raises(Tampered, match=r"rounds/0007.json, which came before it, is gone"):
        read(bucket.of("bern"), keys.round_record(399), Round)


def test_nothing_is_written_after_a_gap(bucket: Bucket) -> None:
    bucket.write_rounds(2)
    bucket.raw.delete(keys.round_record(1))
    (bucket.folder / "disks/aggregator/seen.json").unlink()
    with pytest.raises(Tampered, match=r"rounds/0002.json cannot be written: .*rounds/0001.json"):
        commit(bucket.of("aggregator"), keys.round_record(2), round_of(2))


def test_killed_between_a_record_and_its_memory_it_goes_on(bucket: Bucket) -> None:
    bucket.write_rounds(2)
    (bucket.folder / "disks/aggregator/seen.json").unlink()
    commit(bucket.of("aggregator"), keys.round_record(2), round_of(2))
    assert read(bucket.of("basel"), keys.round_record(2), Round) == round_of(2)


def test_what_is_not_there_is_not_there(bucket: Bucket) -> None:
    assert find(bucket.of("basel"), keys.round_record(0), Round) is None
    with pytest.raises(NotFound):
        bucket.of("basel").get(UPDATE)


# --- keys on disk -------------------------------------------------------------------------------------------


def test_a_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    assert Keyring(tmp_path / "a").public == Keyring(tmp_path / "a").public != Keyring(tmp_path / "b").public
    assert (tmp_path / "a/private.pem").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "a").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("damage", ["readable", "cut", "no key"])
def test_a_key_that_cannot_be_used_is_refused_in_a_sentence(tmp_path: Path, damage: str) -> None:
    _ = Keyring(tmp_path).own
    path = tmp_path / "private.pem"
    if damage == "readable":
        path.chmod(0o640)
    else:
        path.write_bytes(path.read_bytes()[:60] if damage == "cut" else b"")
    said = "chmod 600" if damage == "readable" else "Restore it from a backup"
    with pytest.raises(Refusal, match=said):
        _ = Keyring(tmp_path).own


@pytest.mark.parametrize("name", ["trusted.json", "seen.json"])
def test_a_damaged_file_of_the_keyring_is_refused_in_a_sentence(bucket: Bucket, name: str) -> None:
    bucket.raw.put(UPDATE, honest(bucket))
    (bucket.folder / "disks/basel" / name).write_text("{", encoding="utf-8")
    with pytest.raises(Refusal, match=rf"{name}: is damaged: it is empty or cut short"):
        bucket.of("basel").get(UPDATE)


def test_what_cannot_be_remembered_is_refused_in_a_sentence(bucket: Bucket) -> None:
    bucket.write_rounds(1)
    (bucket.folder / "disks/basel" / f".seen.json.{os.getpid()}.partial").mkdir()
    with pytest.raises(Refusal, match=r"seen.json: cannot be written: Is a directory"):
        read(bucket.of("basel"), keys.round_record(0), Round)


def test_a_body_that_looks_like_a_signature_is_one_no_more_than_its_line(bucket: Bucket) -> None:
    body, line = split(honest(bucket))
    assert body == encode(update_of("basel"))
    assert split(body) == (body, None)
    assert line is not None
    assert split(line) == (line, None)
