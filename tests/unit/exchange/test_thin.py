"""Updates as changes: how far off they are, what is left over, and every way in which a file can lie."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segviz_exchange.contract import codec, thin
from segviz_exchange.contract.choices import UpdatePrecision
from segviz_exchange.contract.codec import Array, InvalidTensors, open_tensors, save
from segviz_exchange.contract.thin import BLOCK_ELEMENTS, Base, decode, encode, precision_of

AGAINST = "a" * 64
INT8, FLOAT16 = UpdatePrecision.INT8_DELTA, UpdatePrecision.FLOAT16_DELTA
BOTH = pytest.mark.parametrize("precision", [INT8, FLOAT16], ids=str)
WORST = {INT8: 0.5 / 127, FLOAT16: 2.0**-11}
"""Of a block's largest change."""


def model(elements: int = 1000, seed: int = 0) -> dict[str, Array]:
    chance = np.random.default_rng(seed)
    return {
        "conv": chance.standard_normal((elements // 10, 10)).astype(np.float32),
        "norm": np.abs(chance.standard_normal(4)).astype(np.float32),
    }


def moved(base: Mapping[str, Array], by: float = 1e-3, seed: int = 1) -> dict[str, Array]:
    chance = np.random.default_rng(seed)
    return {
        name: (value + by * chance.standard_normal(value.shape)).astype(np.float32)
        for name, value in base.items()
    }


def there_and_back(
    folder: Path,
    values: Mapping[str, Array],
    base: Mapping[str, Array],
    precision: UpdatePrecision,
    late: Mapping[str, Array] | None = None,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """What the other end reads, and what is left over."""
    _, left_over = encode(folder / "sent", values, {"conv"}, Base(AGAINST, base), late or {}, precision)
    save(folder / "base", base)
    decode(open_tensors(folder / "sent"), open_tensors(folder / "base"), AGAINST, folder / "whole")
    return open_tensors(folder / "whole").read_all(), left_over


@BOTH
def test_a_change_is_off_by_no_more_than_half_a_step_of_its_block(
    tmp_path: Path, precision: UpdatePrecision
) -> None:
    base = model()
    values = moved(base)
    read, _ = there_and_back(tmp_path, values, base, precision)
    off = np.abs(read["conv"].astype(np.float64) - values["conv"]).ravel()
    change = np.abs(values["conv"].astype(np.float64) - base["conv"]).ravel()
    for start in range(0, off.size, BLOCK_ELEMENTS):
        block = slice(start, start + BLOCK_ELEMENTS)
        # And the rounding to float32 at the end.
        assert off[block].max() <= WORST[precision] * change[block].max() + 3e-7


@BOTH
def test_what_batch_norm_owns_and_what_the_model_lacks_come_back_bit_for_bit(
    tmp_path: Path, precision: UpdatePrecision
) -> None:
    base, head = model(), np.float32([1e-30, -7.0])
    values = {**moved(base), "head": head}
    read, left_over = there_and_back(tmp_path, values, base, precision)
    assert read.keys() == values.keys()
    assert read["norm"].tobytes() == values["norm"].tobytes()
    assert read["head"].tobytes() == head.tobytes()
    assert left_over.keys() == {"conv"}


@BOTH
def test_what_did_not_move_comes_back_bit_for_bit(tmp_path: Path, precision: UpdatePrecision) -> None:
    base = model()
    read, left_over = there_and_back(tmp_path, base, base, precision)
    assert read["conv"].tobytes() == base["conv"].tobytes()
    assert not left_over["conv"].any()


@pytest.mark.parametrize(("precision", "share"), [(INT8, 0.27), (FLOAT16, 0.52)])
def test_a_file_is_as_small_as_promised(tmp_path: Path, precision: UpdatePrecision, share: float) -> None:
    base = model(400_000)
    there_and_back(tmp_path, moved(base), base, precision)
    assert (tmp_path / "sent").stat().st_size <= share * (tmp_path / "base").stat().st_size


@BOTH
def test_nothing_is_lost_over_many_updates(tmp_path: Path, precision: UpdatePrecision) -> None:
    """A step too small for its block's scale arrives all the same, some rounds later."""
    base = {"conv": np.zeros(BLOCK_ELEMENTS, np.float32), "norm": np.zeros(1, np.float32)}
    step = np.full(BLOCK_ELEMENTS, 1e-6, np.float32)
    step[0] = 1.0  # what coarsens the block
    at, late, rounds = base["conv"].astype(np.float64), {}, 2000
    for _ in range(20):
        now = {"conv": at.astype(np.float32), "norm": base["norm"]}
        values = {**now, "conv": (at + rounds * step / 20).astype(np.float32)}
        read, late = there_and_back(tmp_path, values, now, precision, late)
        at = read["conv"].astype(np.float64)
    wanted = rounds * 1e-6
    assert abs(at[1] + late["conv"][1] - wanted) < 0.02 * wanted


@BOTH
def test_the_same_numbers_give_the_same_bytes(tmp_path: Path, precision: UpdatePrecision) -> None:
    base, late = model(), {"conv": model(seed=9)["conv"] * np.float32(1e-6)}
    digests = {
        encode(tmp_path / "sent", moved(base), {"conv"}, Base(AGAINST, base), late, precision)[0]
        for _ in range(2)
    }
    assert len(digests) == 1


@BOTH
def test_chunks_do_not_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: UpdatePrecision
) -> None:
    base = model(2000)
    values = moved(base)
    whole, _ = there_and_back(tmp_path, values, base, precision)
    monkeypatch.setattr(codec, "CHUNK_ELEMENTS", 7)
    monkeypatch.setattr(thin, "_SPAN_ELEMENTS", 2 * BLOCK_ELEMENTS)
    again, _ = there_and_back(tmp_path, values, base, precision)
    assert again["conv"].tobytes() == whole["conv"].tobytes()


@settings(max_examples=50)
@given(
    before=arrays(np.float32, 5, elements=st.floats(-1e6, 1e6, width=32)),
    after=arrays(np.float32, 5, elements=st.floats(width=32)),
    precision=st.sampled_from([INT8, FLOAT16]),
)
def test_what_is_left_over_is_finite_whatever_comes(
    tmp_path_factory: pytest.TempPathFactory, before: Array, after: Array, precision: UpdatePrecision
) -> None:
    folder = tmp_path_factory.mktemp("any")
    read, left_over = there_and_back(folder, {"conv": after}, {"conv": before}, precision)
    assert np.isfinite(left_over["conv"]).all()
    if not np.isfinite(after).all():
        assert not np.isfinite(read["conv"]).all(), "a training that has diverged must not look sound"


def file_of(folder: Path, tensors: Mapping[str, Array], **metadata: str) -> codec.TensorFile:
    save(folder / "sent", tensors, {thin.PRECISION: INT8.value, thin.AGAINST: AGAINST, **metadata})
    return open_tensors(folder / "sent")


CHANGE, SCALE = np.zeros((100, 10), np.int8), np.ones(4, np.float32)
LIES = {
    "another model": (
        {"change/conv": CHANGE, "scale/conv": SCALE},
        {thin.AGAINST: "b" * 64},
        "bbbb, not against",
    ),
    "no place": ({"conv": CHANGE}, {}, "'conv' has no place"),
    "no name": ({"whole/": SCALE}, {}, "'whole/' has no place"),
    "no scales": ({"change/conv": CHANGE}, {}, "'conv' is not stored as Int8Delta"),
    "too few scales": ({"change/conv": CHANGE, "scale/conv": SCALE[:3]}, {}, "is not stored as Int8Delta"),
    "scales of another kind": (
        {"change/conv": CHANGE, "scale/conv": SCALE.astype(np.float64)},
        {},
        "is not stored as Int8Delta",
    ),
    "another width": (
        {"change/conv": CHANGE.astype(np.float16), "scale/conv": SCALE},
        {},
        "is not stored as",
    ),
    "another shape": (
        {"change/conv": CHANGE.T, "scale/conv": SCALE},
        {},
        "is no change of the round's model",
    ),
    "not in the model": ({"change/x": CHANGE, "scale/x": SCALE}, {}, "'x' is no change of the round's model"),
    "twice": ({"change/conv": CHANGE, "scale/conv": SCALE, "whole/conv": SCALE}, {}, "'conv' is there twice"),
    "scales alone": ({"scale/conv": SCALE}, {}, "'conv' has scales and no change"),
    "an unknown precision": ({}, {thin.PRECISION: "Int4"}, "'Int4', which nobody knows"),
}


@pytest.mark.parametrize(("tensors", "metadata", "says"), LIES.values(), ids=LIES)
def test_a_file_that_lies_is_refused(
    tmp_path: Path, tensors: dict[str, Array], metadata: dict[str, str], says: str
) -> None:
    save(tmp_path / "base", model())
    with pytest.raises(InvalidTensors, match=says):
        decode(
            file_of(tmp_path, tensors, **metadata), open_tensors(tmp_path / "base"), AGAINST, tmp_path / "x"
        )


def test_a_file_without_a_word_about_it_is_whole(tmp_path: Path) -> None:
    save(tmp_path / "sent", model())
    assert precision_of(open_tensors(tmp_path / "sent")) is UpdatePrecision.FLOAT32
