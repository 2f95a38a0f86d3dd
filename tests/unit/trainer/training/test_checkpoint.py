"""A site's checkpoints: the newest one counts, and none is ever half there."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from segviz_trainer.training.checkpoint import Checkpoint, Checkpoints, Position

MODEL = {
    "conv.weight": torch.arange(2 * 3 * 2 * 2 * 2).reshape(2, 3, 2, 2, 2) / 7,
    "norm.num_batches_tracked": torch.tensor(5),
}
MOMENTS = {"exp_avg/conv.weight": torch.full((2, 3), -0.0), "step/conv.weight": torch.tensor(12.0)}


def checkpoint(*position: int) -> Checkpoint:
    return Checkpoint(Position(*position), MODEL, MOMENTS, loss=1 / 3, loss_sum=0.1, seconds=12.5)


def saved(folder: Path, *positions: tuple[int, int, int, int]) -> Checkpoints:
    checkpoints = Checkpoints(folder)
    for position in positions:
        checkpoints.save(checkpoint(*position))
    return checkpoints


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, (3, 1, 2, 4))
    held = checkpoints.of(3, 1)
    assert held.position == Position(3, 1, 2, 4)
    assert (held.loss, held.loss_sum, held.seconds) == (1 / 3, 0.1, 12.5)
    assert same(held.model, MODEL)
    assert same(held.optimizer, MOMENTS)
    assert torch.signbit(held.optimizer["exp_avg/conv.weight"]).all()


def test_a_memory_layout_is_no_part_of_it(tmp_path: Path) -> None:
    turned = {"w": MODEL["conv.weight"].contiguous(memory_format=torch.channels_last_3d)}
    for name, tensors in (("rows", {"w": MODEL["conv.weight"]}), ("turned", turned)):
        Checkpoints(tmp_path / name).save(Checkpoint(Position(1, 1, 0, 0), tensors, {}, 0.0, 0.0, 0.0))
    files = [next((tmp_path / name).iterdir()).read_bytes() for name in ("rows", "turned")]
    assert files[0] == files[1]


def test_positions_are_ordered_by_round_attempt_epoch_and_step(tmp_path: Path) -> None:
    order = [(1, 1, 1, 5), (1, 2, 0, 0), (2, 1, 0, 999_999), (2, 1, 1, 0), (2, 1, 10, 0), (10_000, 1, 0, 0)]
    checkpoints = saved(tmp_path, *reversed(order))
    assert checkpoints.positions() == [Position(*position) for position in order]


def test_a_file_name_says_its_position(tmp_path: Path) -> None:
    position = Position(12, 3, 45, 678)
    assert saved(tmp_path, (12, 3, 45, 678)).positions() == [position]
    assert [path.name for path in tmp_path.iterdir()] == [position.file_name]


def test_before_a_round_is_the_newest_of_any_earlier_one(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, (1, 1, 2, 0), (2, 1, 2, 0), (2, 2, 1, 0), (3, 1, 0, 1), (4, 1, 0, 1))
    assert checkpoints.before(3).position == Position(2, 2, 1, 0)


def test_before_the_first_round_there_is_none(tmp_path: Path) -> None:
    assert saved(tmp_path, (1, 1, 0, 1)).before(1) is None


def test_of_an_attempt_is_the_newest_of_that_very_attempt(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, (2, 1, 0, 3), (2, 1, 1, 0), (2, 2, 0, 1), (3, 1, 5, 0))
    assert checkpoints.of(2, 1).position == Position(2, 1, 1, 0)


@pytest.mark.parametrize(("round_", "attempt"), [(2, 3), (5, 1)], ids=["attempt", "round"])
def test_of_an_attempt_that_has_not_begun_there_is_none(tmp_path: Path, round_: int, attempt: int) -> None:
    assert saved(tmp_path, (2, 1, 0, 3), (2, 2, 0, 1)).of(round_, attempt) is None


def test_what_is_not_kept_is_removed(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, (1, 1, 2, 0), (2, 1, 1, 0), (2, 1, 1, 4), (2, 1, 2, 0))
    kept = (Position(1, 1, 2, 0), Position(2, 1, 2, 0))
    checkpoints.keep(*kept)
    assert checkpoints.positions() == list(kept)


def test_nothing_starts_from_a_model_that_has_diverged(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, (1, 1, 2, 0), (2, 1, 2, 0))
    assert checkpoints.before(3).position == Position(2, 1, 2, 0)
    diverged = checkpoint(2, 2, 2, 0)
    checkpoints.save(replace(diverged, model={name: v * torch.nan for name, v in diverged.model.items()}))
    assert checkpoints.before(3).position == Position(2, 1, 2, 0)


def test_a_rejected_attempt_is_dropped_and_the_one_after_it_stays(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, (1, 1, 2, 0), (2, 1, 2, 0), (2, 2, 0, 3))
    checkpoints.drop(2, attempts=1)
    assert checkpoints.positions() == [Position(1, 1, 2, 0), Position(2, 2, 0, 3)]


def test_a_partial_file_is_not_there(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, (2, 1, 0, 3))
    name = Position(2, 1, 1, 0).file_name
    (tmp_path / name).with_suffix(".partial").write_bytes(b"cut sho")
    assert checkpoints.of(2, 1).position == Position(2, 1, 0, 3)


def test_a_write_that_breaks_off_leaves_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = saved(tmp_path, (2, 1, 0, 3))

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        checkpoints.save(checkpoint(2, 1, 1, 0))
    assert checkpoints.of(2, 1).position == Position(2, 1, 0, 3)
