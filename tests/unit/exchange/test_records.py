"""Records as bytes, and committing them to a store that may lose its answer."""

import json
import os
from pathlib import Path

import pytest

from builders.federations import build_control, build_spec
from segviz_exchange.contract import fingerprint, ledger, progress, records
from segviz_exchange.stores.folder import FolderStore
from segviz_exchange.stores.store import Unavailable

DIGEST = "0123456789abcdef" * 4
DICE = records.Dice(0.9, 0.05, 12)
SURFACE = records.Surface(4.5, 1.5, 0.875, 0.125, 1)
CASE = records.CaseScore("c1", "liver", 0.875, 3.25, 0.75, False)
VARIANT = records.VariantOutcome({"liver": DICE}, (CASE,), DIGEST, {"liver": SURFACE})
ENVIRONMENT = records.Environment("2.15.0", "cpu", "FP32", "Contiguous", 2)

SPREAD = fingerprint.Spread(0.75, 1.5, 3.0)
QUANTILES = (-100.0, -80.0, 0.0, 40.0, 60.0, 80.0, 120.0, 160.0, 200.0)
INTENSITIES = fingerprint.Intensities(1000, 60.5, 20.25, QUANTILES)
SIZE = fingerprint.OrganSize(12, SPREAD)
AXES = (SPREAD, SPREAD, SPREAD)

FINDING = progress.Finding("Disk", progress.Severity.WARNING, "/state has 3 GiB free")

EXAMPLES: list[records.Record] = [
    records.Member(("liver", "spleen"), "SiteSuspended"),
    build_control(excluded={"bern": "SiteSuspended"}),
    records.Holder(2, "1a2b3c4d-0000-4000-8000-000000000000"),
    records.Lease(7),
    ENVIRONMENT,
    records.Update("basel", 3, 1, 7, 2, DIGEST, 19_200_000, 40, 0.25, 61.5, ENVIRONMENT),
    records.Rejection("basel", 3, 1, "NotFinite", "heads.liver.weight has 2 NaN"),
    records.Participant("basel", 1, DIGEST, 40),
    records.Exclusion("bern", "NoUpdate", "no update before the deadline"),
    records.Closing(
        3,
        2,
        (records.Participant("basel", 1, DIGEST, 40),),
        (records.Exclusion("bern", "Rejected", "3 times"),),
    ),
    records.Round(3, 2, DIGEST, 19_200_000, ("basel", "bern")),
    records.Failure(3, 2, "QuorumLost", "ü: a message may be in any language"),
    DICE,
    SURFACE,
    records.RoundScores("basel", 3, {"liver": DICE}),
    records.Final(3, 2, {"liver": 0.9, "spleen": 0.1 + 0.2}),
    records.CaseScore("c1", "liver", 0.875),
    VARIANT,
    records.Outcome("basel", 3, {"base": VARIANT}),
    records.Exported("base", 3, DIGEST, 19_200_000, ("liver",), ("liver", "spleen"), build_spec()),
    records.ExternalScores("zurich", {"base": VARIANT}),
    records.Spent(1.0, 0.8, 3, 1e-5, 2.5),
    SPREAD,
    INTENSITIES,
    SIZE,
    fingerprint.Fingerprint("basel", 12, AXES, AXES, AXES, {"LPS": 12}, True, INTENSITIES, {"liver": SIZE}),
    FINDING,
    progress.Preflight(7, (FINDING,)),
    progress.Progress(7, progress.Phase.TRAINING, "epoch 2 of 5", 3, 2, 10, 40, 0.25, 3.5, 60.0),
]


def test_every_record_has_an_example() -> None:
    assert {type(example) for example in EXAMPLES} == set(records.Record.__subclasses__())


@pytest.fixture(params=EXAMPLES, ids=lambda example: type(example).__name__)
def record(request: pytest.FixtureRequest) -> records.Record:
    example: records.Record = request.param
    return example


def test_a_record_comes_back_equal(record: records.Record) -> None:
    assert ledger.decode(ledger.encode(record), type(record), "key") == record


def test_the_same_record_gives_the_same_line(record: records.Record) -> None:
    line = ledger.encode(record)
    again = ledger.encode(ledger.decode(line, type(record), "key"))
    assert again == line
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1


def test_an_unknown_key_is_refused(record: records.Record) -> None:
    fields = {**json.loads(ledger.encode(record)), "sites": 1, "extra": 1}
    with pytest.raises(ledger.InvalidRecord, match=f"global/x.json: not a {type(record).__name__} record"):
        ledger.decode(json.dumps(fields).encode(), type(record), "global/x.json")


def test_a_record_never_changes(record: records.Record) -> None:
    with pytest.raises(AttributeError):
        setattr(record, record.__struct_fields__[0], None)


UPDATE = records.Update("basel", 3, 1, 7, 2, DIGEST, 1, 40, None, 1.0, ENVIRONMENT)


@pytest.mark.parametrize(
    "change",
    [
        {"blob": "../../../etc/passwd"},
        {"blob": DIGEST.upper()},
        {"blob": DIGEST + "\n"},
        {"blob": DIGEST[:-1]},
        {"cases": 0},
        {"cases": 10**7},
        {"round": "3"},
        {"round": 3.5},
        {"loss": "low"},
        {"environment": None},
    ],
    ids=str,
)
def test_a_value_out_of_bounds_is_refused(change: dict[str, object]) -> None:
    fields = {**json.loads(ledger.encode(UPDATE)), **change}
    with pytest.raises(ledger.InvalidRecord):
        ledger.decode(json.dumps(fields).encode(), records.Update, "key")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b'{"number": 1} trailing', b'{"number": "\xff"}', b'{"\xff": 1}', b"\x80\x04",
     b'{"number": NaN}', b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"],
    ids=range(10),
)  # fmt: skip
def test_bytes_that_are_no_record_are_refused(content: bytes) -> None:
    with pytest.raises(ledger.InvalidRecord, match="key: not a Lease record"):
        ledger.decode(content, records.Lease, "key")


def refuses(kind: type[records.Record], value: records.Record, **changes: object) -> None:
    fields = {**json.loads(ledger.encode(value)), **changes}
    with pytest.raises(ledger.InvalidRecord):
        ledger.decode(json.dumps(fields).encode(), kind, "key")


@pytest.mark.parametrize("change", [{"mean": 1e308}, {"mean": -0.1}, {"sd": 1.5}, {"cases": -1}], ids=str)
def test_a_dice_out_of_bounds_is_refused(change: dict[str, object]) -> None:
    refuses(records.Dice, DICE, **change)


def test_a_case_s_dice_out_of_bounds_is_refused() -> None:
    refuses(records.CaseScore, records.CaseScore("c1", "liver", 0.5), dice=1.5)


@pytest.mark.parametrize("variant", ["../base", "tuned2", "base\n", ""])
def test_a_variant_that_nobody_knows_is_refused(variant: str) -> None:
    by_variant = {variant: json.loads(ledger.encode(VARIANT))}
    exported = records.Exported("base", 3, DIGEST, 1, ("liver",), ("liver",), build_spec())
    refuses(records.Outcome, records.Outcome("basel", 3, {}), variants=by_variant)
    refuses(records.ExternalScores, records.ExternalScores("zurich", {}), variants=by_variant)
    refuses(records.Exported, exported, variant=variant)


def test_an_object_too_large_for_a_record_is_not_read_whole(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    (tmp_path / "lease.json").touch()
    os.truncate(tmp_path / "lease.json", 50 << 30)  # sparse: it takes no room
    with pytest.raises(ledger.InvalidRecord, match=r"lease\.json: not a Lease record: .* larger than"):
        ledger.read(store, "lease.json", records.Lease)


class LosesAnswers(FolderStore):
    """Acts, and then fails to say so, once."""

    def create(self, key: str, data: bytes) -> None:
        existed = bool(self.list(key))
        super().create(key, data)
        if not existed:
            raise Unavailable(f"{key}: connection reset")


def test_a_commit_returns_what_it_wrote(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    assert ledger.commit(store, "lease.json", records.Lease(7)) == records.Lease(7)
    assert ledger.read(store, "lease.json", records.Lease) == records.Lease(7)


def test_a_commit_that_comes_second_returns_the_first(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    ledger.commit(store, "lease.json", records.Lease(7))
    assert ledger.commit(store, "lease.json", records.Lease(8)) == records.Lease(7)


def test_a_commit_repeated_after_a_lost_answer_finds_itself(tmp_path: Path) -> None:
    store = LosesAnswers(tmp_path)
    with pytest.raises(Unavailable):
        ledger.commit(store, "lease.json", records.Lease(7))
    assert ledger.commit(store, "lease.json", records.Lease(7)) == records.Lease(7)


def test_a_commit_onto_something_else_is_refused(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.create("lease.json", ledger.encode(UPDATE))
    with pytest.raises(ledger.InvalidRecord, match=r"lease\.json: not a Lease record"):
        ledger.commit(store, "lease.json", records.Lease(7))


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    assert ledger.find(FolderStore(tmp_path), "lease.json", records.Lease) is None
    assert ledger.newest_round(FolderStore(tmp_path)) is None


def test_the_newest_is_the_highest_number_right_below(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    for key in ("leases/000009.json", "leases/000010.json", "leases/1000000.json", "leases/of/9999999.json"):
        store.create(key, b"{}")
    assert ledger.newest(store, "leases/") == "leases/1000000.json"


FOREIGN = ("notes.json", "2.json~", ".3.json.swp", "x4.json", "5", "-6.json", "७.json", f"{'9' * 30}.json")


def test_what_is_no_numbered_record_is_skipped(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    assert ledger.numbered(store, "updates/0001/") == {}
    for name in ("10.json", "02.json", "2.json", *FOREIGN):  # 2 has two names
        store.create(f"updates/0001/{name}", b"{}")
    found = ledger.numbered(store, "updates/0001/")
    assert [(number, entry.key) for number, entry in found.items()] == [
        (2, "updates/0001/2.json"),
        (10, "updates/0001/10.json"),
    ]
    assert ledger.newest(store, "updates/0001/") == "updates/0001/10.json"


def test_among_nothing_but_foreign_files_none_is_newest(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.create("leases/abc.json", b"{}")
    assert ledger.newest(store, "leases/") is None
