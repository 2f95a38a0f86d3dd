"""A model with numbers that none has, or whose file is not its record's, is refused wherever it comes in."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from builders.exported_model import ORGANS, SPEC, write_model
from segviz_exchange.contract import codec, keys
from segviz_exchange.contract.choices import Start
from segviz_exchange.contract.codec import Array, InvalidTensors
from segviz_exchange.contract.ledger import encode, newest_round
from segviz_exchange.contract.records import Control, Member
from segviz_exchange.process.errors import Refusal
from segviz_exchange.stores.folder import FolderStore
from segviz_trainer.models.export import checked
from segviz_trainer.models.pretrained import start_from
from segviz_trainer.models.trained import TrainedModel

Door = Callable[[Path], object]


def begin(folder: Path) -> None:
    """`segviz init`, in a federation that waits for its initial model."""
    store = FolderStore(folder.parent / "bucket")
    spec = msgspec.structs.replace(SPEC, model=msgspec.structs.replace(SPEC.model, start=Start.PRETRAINED))
    store.create(keys.control(1), encode(Control(1, spec, {"basel": Member(ORGANS)}, False)))
    try:
        start_from(store, folder)
    finally:
        if newest_round(store) is None:
            assert store.list("global/") == []


def release(folder: Path) -> None:
    """The export, for which a site's release is a file of tensors."""
    file = codec.open_tensors(folder / "model.safetensors")
    checked(file, file.infos)


DOORS: dict[str, Door] = {"predict and evaluate": TrainedModel.open, "init": begin, "export": release}


def first(tensors: dict[str, Array], ending: str, beginning: str = "") -> Array:
    return next(
        value for name, value in sorted(tensors.items()) if name.endswith(ending) and beginning in name
    )


def setting(value: float, ending: str, beginning: str = "") -> Callable[[dict[str, Array]], None]:
    def spoil(tensors: dict[str, Array]) -> None:
        first(tensors, ending, beginning).ravel()[-1] = value

    return spoil


FINITE, NEGATIVE = "holds NaN or an infinity", "holds negative variances"
FAULTS: dict[str, tuple[Callable[[dict[str, Array]], None], str]] = {
    "NaN in a weight": (setting(np.nan, "conv.weight"), FINITE),
    "infinity in a weight": (setting(np.inf, "conv.weight"), FINITE),
    "minus infinity in a bias": (setting(-np.inf, "conv.bias"), FINITE),
    "NaN in a head": (setting(np.nan, "conv.bias", "heads.liver"), FINITE),
    "NaN in a mean": (setting(np.nan, "running_mean"), FINITE),
    "infinity in a mean": (setting(np.inf, "running_mean"), FINITE),
    "NaN in a variance": (setting(np.nan, "running_var"), FINITE),
    "infinity in a variance": (setting(np.inf, "running_var"), FINITE),
    "a negative variance": (setting(-1.0, "running_var"), NEGATIVE),
    "a variance below zero by a hair": (setting(-1e-38, "running_var"), NEGATIVE),
    "a negative variance in a head": (setting(-1.0, "running_var", "heads."), NEGATIVE),
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
@pytest.mark.parametrize(("spoil", "told"), FAULTS.values(), ids=FAULTS)
def test_a_number_that_no_model_has_is_refused(
    spoil: Callable[[dict[str, Array]], None], told: str, door: Door, tmp_path: Path
) -> None:
    with pytest.raises((Refusal, InvalidTensors), match=told):
        door(write_model(tmp_path / "model", spoil))


SOUND: dict[str, Callable[[dict[str, Array]], None]] = {
    "as it is": lambda tensors: None,
    "a variance of zero": setting(0.0, "running_var"),
    "a variance of minus zero": setting(-0.0, "running_var"),
    "a negative mean": setting(-5.0, "running_mean"),
    "a denormal weight": setting(1e-45, "conv.weight"),
    "the largest weight": setting(3.4e38, "conv.weight"),
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
@pytest.mark.parametrize("change", SOUND.values(), ids=SOUND)
def test_other_odd_numbers_are_numbers(
    change: Callable[[dict[str, Array]], None], door: Door, tmp_path: Path
) -> None:
    door(write_model(tmp_path / "model", change))


# --- the digest -------------------------------------------------------------------------------------------


def flip_signs(file: Path) -> None:
    """Of a hundred weights in the middle of the file: still a model, and no longer this one."""
    raw = bytearray(file.read_bytes())
    middle = len(raw) // 2 // 4 * 4
    for at in range(middle + 3, middle + 403, 4):
        raw[at] ^= 0x80
    file.write_bytes(raw)


def flip_one_bit(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 0x01
    file.write_bytes(raw)


def swap(file: Path) -> None:
    other = write_model(file.parent.parent / "other", setting(1.0, "running_mean"))
    file.write_bytes((other / "model.safetensors").read_bytes())


DAMAGED: dict[str, Callable[[Path], object]] = {
    "signs of a hundred weights": flip_signs,
    "one bit of the last weight": flip_one_bit,
    "another model's file": swap,
}


@pytest.mark.parametrize("door", ["predict and evaluate", "init"])
@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_file_that_is_not_the_one_of_its_record_is_refused(
    damage: Callable[[Path], object], door: str, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "model")
    damage(folder / "model.safetensors")
    with pytest.raises(Refusal, match=r"model\.safetensors: is damaged, or not this model's: its SHA-256 is"):
        DOORS[door](folder)


@pytest.mark.parametrize("door", ["predict and evaluate", "init"])
@pytest.mark.parametrize("size", [0, 4, 1000, -1])
def test_a_file_that_is_cut_short_is_refused(size: int, door: str, tmp_path: Path) -> None:
    file = write_model(tmp_path / "model") / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(Refusal, match=r"model\.safetensors"):
        DOORS[door](file.parent)
