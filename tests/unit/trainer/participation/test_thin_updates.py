"""What is owed from one update to the next: of which it is taken, and that a repeat changes nothing."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from segviz_exchange.contract import codec
from segviz_exchange.contract.choices import UpdatePrecision
from segviz_exchange.contract.thin import Base
from segviz_trainer.participation.thin_updates import ThinUpdates

BASE = Base("a" * 64, {"conv": np.zeros(600, np.float32)})


def updates(folder: Path, rejections: Callable[[int], int] = lambda round_: 0) -> ThinUpdates:
    return ThinUpdates(UpdatePrecision.INT8_DELTA, folder / "left-over", rejections)


def write(thin: ThinUpdates, round_: int, attempt: int = 1, seed: int = 0) -> str:
    values = {"conv": np.random.default_rng(seed).standard_normal(600).astype(np.float32)}
    return thin.write(thin.folder.parent / "sent", (round_, attempt), values, {"conv"}, BASE)


def held(thin: ThinUpdates) -> list[str]:
    return sorted(path.stem for path in thin.folder.iterdir())


def test_a_repeat_gives_the_same_bytes_whatever_came_between(tmp_path: Path) -> None:
    thin = updates(tmp_path)
    write(thin, 1)
    first = write(thin, 2, seed=2)
    assert write(updates(tmp_path), 2, seed=2) == first


def test_what_was_left_over_changes_the_next(tmp_path: Path) -> None:
    alone = write(updates(tmp_path / "one"), 2, seed=2)
    after = updates(tmp_path / "other")
    write(after, 1)
    assert write(after, 2, seed=2) != alone


def test_of_a_rejected_update_nothing_is_owed(tmp_path: Path) -> None:
    rejected = updates(tmp_path, lambda round_: {3: 1}.get(round_, 0))
    write(rejected, 2, seed=2)
    write(rejected, 3, seed=3)
    never = updates(tmp_path / "other")
    write(never, 2, seed=2)
    assert write(rejected, 4, seed=4) == write(never, 4, seed=4)


def test_the_second_attempt_starts_where_the_first_did(tmp_path: Path) -> None:
    thin = updates(tmp_path, lambda round_: {2: 1}.get(round_, 0))
    write(thin, 1)
    first = write(thin, 2, attempt=1, seed=2)
    assert write(thin, 2, attempt=2, seed=2) == first


def test_two_are_kept_and_no_more(tmp_path: Path) -> None:
    thin = updates(tmp_path)
    for round_ in range(1, 6):
        write(thin, round_, seed=round_)
    assert held(thin) == ["0004-1", "0005-1"]


def test_what_is_left_over_is_on_disk_when_the_update_is(tmp_path: Path) -> None:
    thin = updates(tmp_path)
    write(thin, 1)
    left_over = codec.open_tensors(thin.folder / "0001-1.safetensors").read("conv")
    assert 0 < np.abs(left_over).max() < 0.5 * 4 / 127
