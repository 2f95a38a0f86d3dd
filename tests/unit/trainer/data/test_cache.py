"""A case is prepared once, again only if it changed or its copy is damaged, and never half."""

import os
from pathlib import Path

import numpy as np
import pytest

from builders.volumes import ORGANS, WINDOWED, liver_label, ramp, write_case
from segviz_exchange.contract.choices import OnBadCase
from segviz_exchange.contract.spec import Preprocessing
from segviz_trainer.data import cache
from segviz_trainer.data.cache import PreparedCase, prepare, prepare_case
from segviz_trainer.data.layouts import Case
from segviz_trainer.process.errors import BadCase, BadCases

CAP_MEBIBYTES = 64


def cached(case: Case, folder: Path, preprocessing: Preprocessing = WINDOWED) -> PreparedCase:
    return prepare_case(case, preprocessing, ORGANS, CAP_MEBIBYTES, folder)


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, preparing anew is an error."""
    monkeypatch.delattr(cache, "preprocess")


def test_a_prepared_case_says_all_that_training_and_scoring_need(tmp_path: Path) -> None:
    case = cached(write_case(tmp_path), tmp_path / "cache")
    assert (case.organs, case.annotated) == ({"liver"}, {ORGANS.index("liver")})
    assert case.image().shape == (1, 8, 10, 6)
    np.testing.assert_array_equal(case.image().numpy(), case.mapped_image())
    np.testing.assert_array_equal(case.mapped_label()[0], liver_label() * 2)
    np.testing.assert_array_equal(case.mapped_foreground(), np.flatnonzero(liver_label()))
    np.testing.assert_array_equal(case.native_label(), liver_label() * 2)
    assert case.native.shape == (8, 10, 6)
    np.testing.assert_allclose(case.native.matrix, np.diag([2, 2, 3, 1]))


def test_a_second_start_reads_the_cache(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    case = write_case(tmp_path)
    first = cached(case, tmp_path / "cache")
    os.utime(case.image, (1, 1))  # touched, not changed
    request.getfixturevalue("frozen")
    assert cached(case, tmp_path / "cache") == first


def test_what_goes_in_decides_the_place(tmp_path: Path) -> None:
    case = write_case(tmp_path)
    places = {cached(case, tmp_path / "cache").folder}
    spaced = Preprocessing(intensity=WINDOWED.intensity, spacing_millimetres=(3.0, 3.0, 3.0))
    places.add(cached(case, tmp_path / "cache", spaced).folder)
    places.add(prepare_case(case, WINDOWED, ("liver",), CAP_MEBIBYTES, tmp_path / "cache").folder)
    places.add(cached(write_case(tmp_path, image=ramp() + 1), tmp_path / "cache").folder)
    places.add(cached(write_case(tmp_path, label=np.roll(liver_label(), 1)), tmp_path / "cache").folder)
    assert len(places) == 5


@pytest.mark.parametrize(
    "name", ["image.npy", "label.npy", "foreground.npy", "native_label.zlib", "case.json"]
)
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_a_damaged_copy_is_made_again(name: str, damage: str, tmp_path: Path) -> None:
    case = write_case(tmp_path)
    first = cached(case, tmp_path / "cache")
    file = first.folder / name
    whole = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(whole[:-5] if damage == "cut" else bytes([whole[0] ^ 1]) + whole[1:])
    assert cached(case, tmp_path / "cache") == first
    assert file.read_bytes() == whole


def test_a_kill_while_writing_leaves_nothing_that_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = write_case(tmp_path)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            cached(case, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    assert cached(case, tmp_path / "cache").mapped_image().shape == (1, 8, 10, 6)


def test_refusing_lists_every_bad_case_after_looking_at_all(tmp_path: Path) -> None:
    good, empty, odd = (
        write_case(tmp_path, id="a"),
        write_case(tmp_path, id="b", label=liver_label() * 9),
        write_case(tmp_path, id="c", label=liver_label() * 5),
    )
    told: list[tuple[int, int, str]] = []
    with pytest.raises(BadCases) as caught:
        prepare(
            (empty, odd, good), WINDOWED, ORGANS, CAP_MEBIBYTES, tmp_path / "cache", OnBadCase.REFUSE,
            lambda *progress: told.append(progress),
        )  # fmt: skip
    assert [bad.path for bad in caught.value.cases] == [empty.label, odd.label]
    assert [str(bad) in str(caught.value) for bad in caught.value.cases] == [True, True]
    assert told == [(1, 3, "b"), (2, 3, "c"), (3, 3, "a")]


def test_skipping_leaves_bad_cases_out_and_lists_them(tmp_path: Path) -> None:
    cases = (write_case(tmp_path, id="a"), write_case(tmp_path, id="b", label=liver_label() * 9))
    prepared = prepare(
        cases, WINDOWED, ORGANS, CAP_MEBIBYTES, tmp_path / "cache", OnBadCase.SKIP, lambda *_: None
    )
    assert [case.id for case in prepared.cases] == ["a"]
    assert [bad.path for bad in prepared.skipped] == [cases[1].label]


def test_a_missing_file_is_a_bad_case(tmp_path: Path) -> None:
    case = write_case(tmp_path)
    case.image.unlink()
    with pytest.raises(BadCase, match="cannot be read"):
        cached(case, tmp_path / "cache")
