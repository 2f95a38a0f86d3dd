"""Every mistake that an update can have, and what it is called."""

import hashlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from msgspec import structs

from builders.disturbances import Around
from builders.synthetic import (
    BASEL,
    BERN,
    CHUR,
    DIGEST,
    control_of,
    groups_of,
    initial_metadata,
    model_of,
    shared_part,
    update_of,
    upload_tensors,
)
from segviz_aggregator import reasons
from segviz_aggregator.models import GlobalModel
from segviz_aggregator.schema import Schema
from segviz_aggregator.scratch import Scratch
from segviz_aggregator.verify import Candidate, Delivered, Fault, check_size, check_values, square_sum, verify
from segviz_exchange.contract import codec, keys, sharing, thin
from segviz_exchange.contract.choices import Objective, UpdatePrecision
from segviz_exchange.contract.codec import MAX_HEADER_BYTES, Array, info_of, open_tensors, save
from segviz_exchange.contract.records import Control
from segviz_exchange.contract.sharing import GROUPS, NORM, TensorGroup
from segviz_exchange.contract.spec import Updates
from segviz_exchange.stores.folder import FolderStore
from segviz_exchange.stores.store import MAX_BLOB_BYTES, Entry, Store, StoreError, Unavailable

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
CONTROL = control_of({BASEL: ("liver",), BERN: ("liver",), CHUR: ("spleen",)})
Tensors = dict[str, Array]


def good(site: str = BASEL) -> Tensors:
    return shared_part(model_of(CONTROL, seed=1), site, CONTROL)


def with_value(name: str, value: Array) -> Tensors:
    return {**good(), name: value}


def with_element(name: str, element: float) -> Tensors:
    value = good()[name].copy()
    value[2] = element
    return with_value(name, value)


def without(name: str) -> Tensors:
    return {key: value for key, value in good().items() if key != name}


def lease_taken(number: int, moment: datetime) -> Entry:
    return Entry(keys.lease(BASEL, number), 1, moment)


@dataclass(frozen=True)
class Case:
    reason: str | None
    says: str = ""
    """A part of the message."""
    tensors: Callable[[], Tensors] = good
    record: dict[str, Any] = field(default_factory=dict)
    """Changes to the update's record."""
    candidate: dict[str, Any] = field(default_factory=dict)
    """Changes to what is known of it."""
    break_blob: Callable[[Path], object] = lambda path: None


def overwrite(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


CASES = {
    "a good update": Case(None),
    # The record.
    "another site's record": Case(reasons.INVALID_RECORD, "('bern', 1, 1)", record={"site": BERN}),
    "another round's record": Case(reasons.INVALID_RECORD, "('basel', 2, 1)", record={"round": 2}),
    "another attempt's record": Case(reasons.INVALID_RECORD, "('basel', 1, 2)", record={"attempt": 2}),
    "a control that does not exist": Case(
        reasons.UNKNOWN_CONTROL, "control 9", record={"control": 9}, candidate={"made_under": None}
    ),
    "written after a newer lease was taken": Case(
        reasons.STALE_LEASE, "lease 2", candidate={"newest_lease": lease_taken(2, NOON - MINUTE)}
    ),
    "written at the very moment a newer lease was taken": Case(
        None, candidate={"newest_lease": lease_taken(2, NOON)}
    ),
    "made before a restart": Case(None, candidate={"newest_lease": lease_taken(2, NOON + MINUTE)}),
    "written under the newest lease": Case(
        None, record={"lease": 2}, candidate={"newest_lease": lease_taken(2, NOON - MINUTE)}
    ),
    # The blob.
    "no blob": Case(reasons.BLOB_MISSING, "there is no sites/basel/blobs/", break_blob=Path.unlink),
    "a blob changed in place": Case(reasons.BLOB_CORRUPT, "its bytes hash to", break_blob=overwrite),
    "a blob cut short": Case(
        reasons.BLOB_CORRUPT, "has 3 bytes", break_blob=lambda path: path.write_bytes(b"abc")
    ),
    "a blob larger than its tensors": Case(
        reasons.BLOB_TOO_LARGE,
        "at most",
        tensors=lambda: with_value("body.conv", np.zeros(5_000_000, np.float32)),
    ),
    # The tensors.
    "a tensor is missing": Case(
        reasons.WRONG_TENSORS, "'heads.liver.conv' is missing", lambda: without("heads.liver.conv")
    ),
    "a tensor that stays at home": Case(
        reasons.WRONG_TENSORS,
        "'heads.spleen.conv' is not shared by basel",
        lambda: with_value("heads.spleen.conv", np.zeros(4, np.float32)),
    ),
    "a name that is a path": Case(
        reasons.WRONG_TENSORS, "'../../x'", lambda: with_value("../../x", np.zeros(4, np.float32))
    ),
    "a wrong shape": Case(
        reasons.WRONG_SHAPE,
        "'body.norm' has shape [2, 2], expected [4]",
        lambda: with_value("body.norm", np.ones((2, 2), np.float32)),
    ),
    "a wrong dtype": Case(
        reasons.WRONG_DTYPE,
        "'body.conv' has dtype F16, expected F32",
        lambda: with_value("body.conv", np.ones(4, np.float16)),
    ),
    # The values.
    "NaN": Case(reasons.NOT_FINITE, "'body.conv'", lambda: with_element("body.conv", np.nan)),
    "NaN in the statistics": Case(
        reasons.NOT_FINITE, "'body.norm'", lambda: with_element("body.norm", np.nan)
    ),
    "an infinity above": Case(reasons.NOT_FINITE, "'body.conv'", lambda: with_element("body.conv", np.inf)),
    "an infinity": Case(reasons.NOT_FINITE, "'body.norm'", lambda: with_element("body.norm", -np.inf)),
    "too large": Case(reasons.NORM_TOO_LARGE, "at most 10 times", lambda: with_element("body.conv", 1e3)),
    "statistics that no image gives": Case(
        reasons.NORM_TOO_LARGE, "'body.norm' holds 1e+30", lambda: with_element("body.norm", 1e30)
    ),
    "statistics as far below": Case(
        reasons.NORM_TOO_LARGE, "'body.norm' holds 1e+30", lambda: with_element("body.norm", -1e30)
    ),
    "no values but an infinity in the statistics": Case(
        reasons.NOT_FINITE, "'body.norm'", lambda: with_value("body.norm", np.float32([1, 1, 1, np.inf]))
    ),
    "the largest float is finite": Case(
        reasons.NORM_TOO_LARGE, "moved by 3.4", lambda: with_element("body.conv", 3.4e38)
    ),
    "statistics have a limit of their own": Case(None, tensors=lambda: with_element("body.norm", 1e6)),
    "denormals are fine": Case(None, tensors=lambda: with_element("body.conv", 1e-45)),
}


def candidate_for(case: Case, folder: Path, control: Control = CONTROL) -> Candidate:
    store = FolderStore(folder / "store")
    blob, size_bytes = upload_tensors(store, BASEL, case.tensors())
    case.break_blob(store.root / keys.site_blob(BASEL, blob))
    save(folder / "global", model_of(control, seed=0))
    previous = open_tensors(folder / "global")
    schema = Schema(dict(previous.infos), groups_of(control))
    candidate = Candidate(
        site=BASEL,
        round=1,
        attempt=1,
        update=structs.replace(update_of(BASEL, blob=blob, size_bytes=size_bytes), **case.record),
        committed=NOON,
        newest_lease=None,
        blob=None,
        control=control,
        made_under=control,
        reference=GlobalModel(previous, schema, DIGEST),
    )
    return replace(candidate, **case.candidate)


def judged(
    candidate: Candidate, folder: Path, around: Callable[[Store], Store] = lambda store: store
) -> Fault | None:
    """As the collector does: with the blob as the store lists it."""
    store = around(FolderStore(folder / "store"))
    listed = next((entry for entry in store.list(candidate.key) if entry.key == candidate.key), None)
    return verify(replace(candidate, blob=listed), store, Scratch(folder / "scratch"))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_verify(case: Case, tmp_path: Path) -> None:
    fault = judged(candidate_for(case, tmp_path), tmp_path)
    assert (fault.reason if fault else None) == case.reason
    assert case.says in (fault.message if fault else "")


ZERO_CASES: dict[str, tuple[str | None, Tensors, dict[str, str]]] = {
    "a whole model": (None, model_of(CONTROL), initial_metadata(CONTROL)),
    "no groups": (reasons.INVALID_TENSORS, model_of(CONTROL), {}),
    "unreadable groups": (reasons.INVALID_TENSORS, model_of(CONTROL), {GROUPS: "["}),
    "a tensor without a group": (
        reasons.INVALID_TENSORS,
        {**model_of(CONTROL), "extra": np.ones(1, np.float32)},
        initial_metadata(CONTROL),
    ),
    "integers that would be averaged": (
        reasons.INVALID_TENSORS,
        {**model_of(CONTROL), "body.norm": np.ones(1, np.int64)},
        initial_metadata(CONTROL),
    ),
    "a head is missing": (
        reasons.WRONG_TENSORS,
        {name: value for name, value in model_of(CONTROL).items() if "spleen" not in name},
        {
            GROUPS: sharing.encode_groups(
                {name: group for name, group in groups_of(CONTROL).items() if "spleen" not in name}
            )
        },
    ),
    "not finite": (
        reasons.NOT_FINITE,
        {**model_of(CONTROL), "heads.liver.conv": np.full(4, np.nan, np.float32)},
        initial_metadata(CONTROL),
    ),
}


@pytest.mark.parametrize(("reason", "tensors", "metadata"), ZERO_CASES.values(), ids=ZERO_CASES)
def test_verify_of_round_0(
    reason: str | None, tensors: Tensors, metadata: dict[str, str], tmp_path: Path
) -> None:
    candidate = candidate_for(Case(None), tmp_path)
    blob, size_bytes = upload_tensors(FolderStore(tmp_path / "store"), BASEL, tensors, metadata)
    update = update_of(BASEL, 0, blob=blob, size_bytes=size_bytes)
    fault = judged(replace(candidate, round=0, update=update, reference=None), tmp_path)
    assert (fault.reason if fault else None) == reason


def test_a_blob_of_round_0_has_a_limit_too(tmp_path: Path) -> None:
    candidate = candidate_for(Case(None), tmp_path)
    update = update_of(BASEL, 0, size_bytes=MAX_BLOB_BYTES + 1)
    FolderStore(tmp_path / "store").put(keys.site_blob(BASEL, update.blob), b"")
    os.truncate(tmp_path / "store" / keys.site_blob(BASEL, update.blob), update.size_bytes)  # sparse
    fault = judged(replace(candidate, round=0, update=update, reference=None), tmp_path)
    assert fault is not None
    assert fault.reason == reasons.BLOB_TOO_LARGE


def test_a_blob_that_grows_after_it_was_listed_is_not_downloaded_whole(tmp_path: Path) -> None:
    candidate = candidate_for(Case(None), tmp_path)
    key = keys.site_blob(BASEL, candidate.update.blob)

    class Growing(Around):
        def open(self, opened: str) -> AbstractContextManager[BinaryIO]:
            if opened == key:
                os.truncate(tmp_path / "store" / key, 50 << 30)
            return super().open(opened)

    fault = judged(candidate, tmp_path, Growing)
    assert fault is not None
    assert fault.reason == reasons.BLOB_CORRUPT
    assert "more than" in fault.message


def test_a_blob_that_only_its_writer_can_read_is_the_sites_fault(tmp_path: Path) -> None:
    class Encrypted(Around):
        def open(self, opened: str) -> AbstractContextManager[BinaryIO]:
            raise StoreError("needs a key")

    fault = judged(candidate_for(Case(None), tmp_path), tmp_path, Encrypted)
    assert fault is not None
    assert fault.reason == reasons.BLOB_CORRUPT
    assert fault.message.endswith("cannot be read: needs a key")


def test_a_store_that_is_away_is_nobodys_fault(tmp_path: Path) -> None:
    class Away(Around):
        def open(self, opened: str) -> AbstractContextManager[BinaryIO]:
            raise Unavailable("no answer")

    with pytest.raises(Unavailable):
        judged(candidate_for(Case(None), tmp_path), tmp_path, Away)


def test_what_a_fault_quotes_is_one_line() -> None:
    assert Fault(reasons.WRONG_TENSORS, "tensor 'a\nb'").message == "tensor 'a b'"


THIN = structs.replace(
    CONTROL, spec=structs.replace(CONTROL.spec, updates=Updates(UpdatePrecision.INT8_DELTA))
)


def thin_update(tmp_path: Path, against: str) -> Candidate:
    """Basel's changes of a global model, rounded."""
    candidate = candidate_for(Case(None), tmp_path, THIN)
    groups = groups_of(THIN)
    parameters = [name for name in good() if groups[name].kind == sharing.PARAMETER]
    base = thin.Base(against, model_of(THIN, seed=0))
    blob, _ = thin.encode(tmp_path / "thin", good(), parameters, base, {}, UpdatePrecision.INT8_DELTA)
    FolderStore(tmp_path / "store").upload(keys.site_blob(BASEL, blob), tmp_path / "thin")
    size_bytes = (tmp_path / "thin").stat().st_size
    return replace(candidate, update=update_of(BASEL, blob=blob, size_bytes=size_bytes))


def test_changes_are_judged_as_the_values_that_they_stand_for(tmp_path: Path) -> None:
    assert judged(thin_update(tmp_path, DIGEST), tmp_path) is None


def test_changes_of_another_model_are_refused(tmp_path: Path) -> None:
    fault = judged(thin_update(tmp_path, "f" * 64), tmp_path)
    assert fault is not None
    assert fault.reason == reasons.INVALID_TENSORS


def test_values_where_changes_are_wanted_are_refused(tmp_path: Path) -> None:
    fault = judged(candidate_for(Case(None), tmp_path, THIN), tmp_path)
    assert fault is not None
    assert "travel as Float32, where spec.updates.precision says Int8Delta" in fault.message


def test_round_0_is_whole_though_updates_are_changes(tmp_path: Path) -> None:
    candidate = candidate_for(Case(None), tmp_path, THIN)
    store = FolderStore(tmp_path / "store")
    blob, size_bytes = upload_tensors(store, BASEL, model_of(THIN), initial_metadata(THIN))
    update = update_of(BASEL, 0, blob=blob, size_bytes=size_bytes)
    assert judged(replace(candidate, round=0, update=update, reference=None), tmp_path) is None


def statistics(tmp_path: Path, name: str, values: list[float]) -> Delivered:
    """An update of round 0 that holds nothing else."""
    save(tmp_path / "statistics", {name: np.float32(values)})
    file = open_tensors(tmp_path / "statistics")
    candidate = replace(candidate_for(Case(None), tmp_path), reference=None)
    return Delivered(candidate, file, Schema(dict(file.infos), {name: TensorGroup("body", NORM)}))


def test_negative_variances_are_refused(tmp_path: Path) -> None:
    fault = check_values(statistics(tmp_path, "body.running_var", [1.0, -1.0]))
    assert fault is not None
    assert "negative variances" in fault.message


def test_statistics_of_no_channels_are_fine(tmp_path: Path) -> None:
    assert check_values(statistics(tmp_path, "body.running_mean", [])) is None


def test_a_file_that_is_no_safetensors(tmp_path: Path) -> None:
    candidate = candidate_for(Case(None), tmp_path)
    path = tmp_path / "pickle"
    path.write_bytes(b"\x80\x04K\x01." * 20)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    FolderStore(tmp_path / "store").upload(keys.site_blob(BASEL, digest), path)
    update = update_of(BASEL, blob=digest, size_bytes=path.stat().st_size)
    fault = judged(replace(candidate, update=update), tmp_path)
    assert fault is not None
    assert fault.reason == reasons.INVALID_TENSORS


def test_from_a_global_model_of_zeros_nothing_moves(tmp_path: Path) -> None:
    """Nobody starts from it, and it would bound nothing: 3e38 was accepted."""
    candidate = candidate_for(Case(None), tmp_path)
    zeros = {name: np.zeros_like(value) for name, value in model_of(CONTROL).items()}
    save(tmp_path / "zeros", zeros)
    file = open_tensors(tmp_path / "zeros")
    schema = Schema({name: info_of(value) for name, value in zeros.items()}, groups_of(CONTROL))
    fault = judged(replace(candidate, reference=GlobalModel(file, schema, DIGEST)), tmp_path)
    assert fault is not None
    assert fault.reason == reasons.NORM_TOO_LARGE


def measured(tmp_path: Path, update: Tensors, before: Tensors, control: Control = CONTROL) -> Fault | None:
    """An update by basel to a global model of `before`."""
    candidate = candidate_for(Case(None, tensors=lambda: update), tmp_path, control)
    save(tmp_path / "before", before)
    file = open_tensors(tmp_path / "before")
    schema = Schema({**candidate.reference.schema.infos, **file.infos}, groups_of(control))
    return judged(replace(candidate, reference=GlobalModel(file, schema, DIGEST)), tmp_path)


def filled(conv: float, head: float = 0.0, dtype: type = np.float32) -> Tensors:
    values = {"body.conv": conv, "body.norm": 1.0, "heads.liver.conv": head, "heads.liver.norm": 1.0}
    return {name: np.full(4, value, dtype) for name, value in values.items()}


@pytest.mark.parametrize(
    ("value", "reason"),
    [(22.0, None), (22.1, reasons.NORM_TOO_LARGE), (-18.0, None), (-18.1, reasons.NORM_TOO_LARGE)],
)
def test_parameters_may_move_ten_times_the_global_norm_and_no_more(
    tmp_path: Path, value: float, reason: str | None
) -> None:
    # √(4·2²) = 4 before; from there to 22 it is √(4·20²) = 40, as it is to -18.
    fault = measured(tmp_path, filled(value), filled(2.0))
    assert (fault.reason if fault else None) == reason


def test_the_message_gives_both_norms(tmp_path: Path) -> None:
    fault = measured(tmp_path, filled(50.0), filled(2.0))
    assert fault is not None
    assert "moved by 96, the global model's norm is 4; at most 10 times" in fault.message


def test_the_norm_is_that_of_all_parameters_together(tmp_path: Path) -> None:
    # The head grows a hundredfold, yet all in all it moves by √(4·9.9²) = 19.8, from √(4·20² + 4·0.1²) = 40.
    assert measured(tmp_path, filled(20.0, 10.0), filled(20.0, 0.1)) is None


@pytest.mark.parametrize(("head", "reason"), [(20.0, None), (20.1, reasons.NORM_TOO_LARGE)])
def test_a_head_that_the_global_model_does_not_have_yet_comes_from_zero(
    tmp_path: Path, head: float, reason: str | None
) -> None:
    before = {name: value for name, value in filled(2.0).items() if "liver" not in name}
    fault = measured(tmp_path, filled(2.0, head), before)
    assert (fault.reason if fault else None) == reason


@pytest.mark.parametrize(
    ("newest", "made_under", "reason"),
    [
        (1000.0, 10.0, None),
        (10.0, 1000.0, reasons.NORM_TOO_LARGE),
    ],
)
def test_the_norm_limit_is_the_newest_control_s(
    tmp_path: Path, newest: float, made_under: float, reason: str | None
) -> None:
    limits = [
        control_of({BASEL: ("liver",), BERN: ("liver",), CHUR: ("spleen",)}, max_norm_ratio=ratio)
        for ratio in (newest, made_under)
    ]
    case = Case(None, tensors=lambda: with_value("body.conv", 100 * model_of(CONTROL, seed=0)["body.conv"]))
    candidate = replace(candidate_for(case, tmp_path), control=limits[0], made_under=limits[1])
    fault = judged(candidate, tmp_path)
    assert (fault.reason if fault else None) == reason


def test_finite_values_whose_squares_overflow_are_too_large_and_not_called_infinite(tmp_path: Path) -> None:
    fault = measured(tmp_path, filled(1e200, dtype=np.float64), filled(2.0, dtype=np.float64))
    assert fault is not None
    assert fault.reason == reasons.NORM_TOO_LARGE


def test_what_an_update_holds_follows_from_the_control_it_was_made_under(tmp_path: Path) -> None:
    """Bern leaves: liver has one owner, and its head is shared no longer."""
    alone = control_of({BASEL: ("liver",), CHUR: ("spleen",)}, number=2)
    case = Case(None, tensors=lambda: shared_part(model_of(CONTROL, seed=1), BASEL, alone))
    candidate = candidate_for(case, tmp_path)
    assert judged(replace(candidate, made_under=alone), tmp_path) is None
    assert judged(replace(candidate, control=alone), tmp_path).reason == reasons.WRONG_TENSORS


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        (("heads.liver.conv", "body.norm"), "tensor 'body.norm' is missing"),
        (("heads.liver.conv",), "tensor 'heads.liver.conv' is missing"),
    ],
)
def test_of_several_missing_tensors_the_first_by_name_is_told(
    tmp_path: Path, missing: tuple[str, ...], named: str
) -> None:
    tensors = {name: value for name, value in good().items() if name not in missing}
    fault = judged(candidate_for(Case(None, tensors=lambda: tensors), tmp_path), tmp_path)
    assert fault == Fault(reasons.WRONG_TENSORS, named)


def test_of_several_tensors_too_many_the_first_by_name_is_told(tmp_path: Path) -> None:
    tensors = {**good(), "z": np.ones(1, np.float32), "a": np.ones(1, np.float32)}
    fault = judged(candidate_for(Case(None, tensors=lambda: tensors), tmp_path), tmp_path)
    assert fault == Fault(reasons.WRONG_TENSORS, "tensor 'a' is not shared by basel")


def sized(candidate: Candidate, size_bytes: int) -> Candidate:
    update = structs.replace(candidate.update, size_bytes=size_bytes)
    return replace(candidate, update=update, blob=Entry(candidate.key, size_bytes, NOON))


@pytest.mark.parametrize(("more", "reason"), [(0, None), (1, reasons.BLOB_TOO_LARGE)])
def test_a_blob_may_be_as_large_as_its_tensors_and_the_longest_header(
    tmp_path: Path, more: int, reason: str | None
) -> None:
    # Four tensors of four float32.
    candidate = sized(candidate_for(Case(None), tmp_path), MAX_HEADER_BYTES + 64 + more)
    fault = check_size(candidate)
    assert (fault.reason if fault else None) == reason


@pytest.mark.parametrize(("more", "reason"), [(0, None), (1, reasons.BLOB_TOO_LARGE)])
def test_a_blob_of_round_0_may_be_as_large_as_any(tmp_path: Path, more: int, reason: str | None) -> None:
    candidate = replace(candidate_for(Case(None), tmp_path), reference=None)
    fault = check_size(sized(candidate, MAX_BLOB_BYTES + more))
    assert (fault.reason if fault else None) == reason


@pytest.mark.parametrize(
    ("objective", "reason"),
    [
        (Objective.MARGINAL, None),
        (Objective.PER_ORGAN_HEAD, reasons.WRONG_TENSORS),
    ],
)
def test_round_0_has_the_heads_that_the_objective_asks_for(
    tmp_path: Path, objective: Objective, reason: str | None
) -> None:
    shared = control_of(objective=Objective.MARGINAL)
    candidate = candidate_for(Case(None), tmp_path)
    store = FolderStore(tmp_path / "store")
    blob, size_bytes = upload_tensors(store, BASEL, model_of(shared), initial_metadata(shared))
    update = update_of(BASEL, 0, blob=blob, size_bytes=size_bytes)
    made_under = control_of(objective=objective)
    fault = judged(
        replace(candidate, round=0, update=update, reference=None, made_under=made_under), tmp_path
    )
    assert (fault.reason if fault else None) == reason


def test_a_record_that_disqualifies_itself_is_not_downloaded(tmp_path: Path) -> None:
    candidate = candidate_for(Case(None, record={"round": 2}), tmp_path)
    assert judged(candidate, tmp_path) is not None
    assert list((tmp_path / "scratch").iterdir()) == []


def test_tensors_longer_than_a_chunk_are_measured_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "file", {"w": np.float32([1, 2, 3, 4, 5])})
    monkeypatch.setattr(codec, "CHUNK_ELEMENTS", 2)
    assert square_sum(open_tensors(tmp_path / "file"), "w") == 55.0
